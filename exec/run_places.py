"""Where a run is found: the chain of its entries, checked, and the objects that it names.

A place is a store with the ledger beside it. What comes out of `find` has been checked against the log's key; objects
are checked by whoever takes them, by their addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from samebits.cas import Digest, Store
from samebits.cas.remotes import StoreRemote
from samebits.cas.remotes.protocol import Remote
from samebits.exec.runner import log_directory
from samebits.ledger import Log, RunChain, VerifierKey


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run as a log tells it: every rule and every signature of its chain holds."""

    chain: RunChain
    log_key: VerifierKey  # of the log that the run is in
    checkpoint: str  # the log's signed note, under which the entries are
    audited: bool  # every entry of the log was checked, not those of the run alone


class RunPlace(Protocol):
    """Where runs and their objects are."""

    @property
    def name(self) -> str:
        """What errors call the place."""

    def find(self, run: Digest) -> FoundRun:
        """Return a run with its chain; raises LedgerError (RunNotFoundError) or RemoteError."""

    @property
    def remote(self) -> Remote | None:
        """Where missing objects are fetched from; None where they are in the verifier's own store already."""

    def close(self) -> None:
        """Let go of connections and files."""


class StorePlace:
    """A store on this machine, and the ledger in it."""

    def __init__(self, store: Store, *, is_own: bool = False) -> None:
        """`is_own`: it is the store into which objects would be fetched, so nothing has to be."""
        self._store = store
        self.name = str(store.path)
        self.remote: Remote | None = None if is_own else StoreRemote(store)

    def find(self, run: Digest) -> FoundRun:
        """Audit the whole ledger, and return the run's chain."""
        with Log.open(log_directory(self._store), read_only=True) as log:
            log.audit().check()
            return FoundRun(log.chain(run), log.verifier, log.checkpoint(), audited=True)

    def close(self) -> None:
        """Do nothing: the store is somebody else's to close."""
