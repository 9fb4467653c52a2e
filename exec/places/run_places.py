"""Where a run is found: the chain of its entries, checked, and the objects that it names.

A place is a store with the ledger beside it, or anything that gives proofs of runs and objects (`remote_places.py`).
What comes out of `find` has been checked against the log's key; objects are checked by whoever takes them, by their
addresses.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from samebits.cas import Digest, Store
from samebits.cas.remotes import StoreRemote
from samebits.cas.remotes.protocol import Remote
from samebits.exec.ledger_folder import log_directory
from samebits.exec.places.run_record import read_run_record
from samebits.ledger import Log, RunChain, RunNotFoundError, VerifierKey
from samebits.ledger.logkey import has_log_verifier
from samebits.ledger.presence import is_being_made
from samebits.ledger.run_proof import RunProof, check_log_key, check_run_proof, make_run_proof


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run as a log tells it: every rule and every signature of its chain holds."""

    chain: RunChain
    log_key: VerifierKey  # of the log that the run is in; unless `is_key_known`, as the place itself says
    checkpoint: str  # the log's signed note, under which the entries are
    audited: (
        bool  # every entry of the log was checked; else the run's own, and there may be others that contradict them
    )
    is_key_known: bool = False  # the caller named the log's key, or the log is one on this machine


def found_by_proof(proof: RunProof, run: Digest, log_key: VerifierKey | None) -> FoundRun:
    """Return a run as its proof shows it; `log_key` is the key that the log must have. Raises LedgerError."""
    proved = check_run_proof(proof, run, log_key)
    known = log_key is not None
    return FoundRun(proved.chain, proved.log_key, proof.checkpoint, audited=False, is_key_known=known)


class RunPlace(Protocol):
    """Where runs and their objects are."""

    @property
    def name(self) -> str:
        """What errors call the place."""

    def find(self, run: Digest) -> FoundRun:
        """Return a run with its chain; raises LedgerError (RunNotFoundError) or RemoteError."""

    def prove(self, run: Digest) -> RunProof:
        """Return the proof of a run, of which only the log's key is checked; raises as `find` does."""

    @property
    def remote(self) -> Remote | None:
        """Where missing objects are fetched from; None where they are in the verifier's own store already."""


class StorePlace:
    """A store on this machine: the ledger in it, and runs that were taken home into it (`run_record.py`)."""

    def __init__(self, store: Store, *, is_own: bool = False, log_key: VerifierKey | None = None) -> None:
        """`is_own`: it is the store into which objects would be fetched, so nothing has to be.

        `log_key`: the key that the log of a run must have.
        """
        self.store = store
        self._log_key = log_key
        self._hint = "; PLACE/RUN is one elsewhere, `samebits pull PLACE/RUN` takes it home" if is_own else ""
        self.name = str(store.path)
        self.remote: Remote | None = None if is_own else StoreRemote(store)

    def find(self, run: Digest) -> FoundRun:
        """Return the run's chain: from the store's ledger, all of which is audited, or from the run's record."""
        if self._has_log():
            with self._open_log() as log:
                log.audit().check()
                chain = log.find_chain(run)
                if chain is not None:  # else it may have been taken home from the wanted log
                    check_log_key(log.verifier, self._log_key)
                    return FoundRun(chain, log.verifier, log.checkpoint(), audited=True, is_key_known=True)
        return found_by_proof(self.prove(run), run, self._log_key)

    def prove(self, run: Digest) -> RunProof:
        """Return a proof made from the ledger, or the one in the run's record."""
        proof = self.look_up(run)
        if proof is None:
            if log_directory(self.store).exists():
                self._open_log().close()  # says so if what is there is no log, or not all of one
            raise RunNotFoundError(run, f"the store {self.name}, neither in its ledger nor taken home{self._hint}")
        check_log_key(proof.log_key, self._log_key)
        return proof

    def look_up(self, run: Digest) -> RunProof | None:
        """Return the proof of a run, None if the store has neither an entry nor a record of it; raises as `find`."""
        if self._has_log():
            with self._open_log() as log, suppress(RunNotFoundError):
                return make_run_proof(log, run)
        return read_run_record(self.store, run)

    def _has_log(self) -> bool:
        directory = log_directory(self.store)
        return has_log_verifier(directory) and not is_being_made(directory)

    def _open_log(self) -> Log:
        return Log.open(log_directory(self.store), read_only=True)
