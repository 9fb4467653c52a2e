"""Appends the segments of one run to the ledger, each after everything that it names is durable in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from samebits.cas import Digest, Store
from samebits.exec.commits import Commit, commits_node
from samebits.ledger import Entry, Log, RunChain, SegmentBody, SigningKey, entry_address, sign_entry
from samebits.ledger.merkle import leaf_hash, root_hash


class SegmentWriter:
    """Goes on from a run's latest entry. Entries given as pending are appended together with the first segment."""

    def __init__(
        self, store: Store, log: Log, key: SigningKey, run: Digest, head: Digest, pending: Sequence[Entry] = ()
    ) -> None:
        """The ledger's rule has the last word: it refuses a segment that does not follow the run's latest entry."""
        self._store = store
        self._log = log
        self._key = key
        self._pending = list(pending)
        self.run = run
        self.head = head
        self.before_append: Callable[[], None] = _nothing
        self.next_step: int | None = None  # the first that no segment of this writer covers; None: it wrote none
        self._last_list: Digest | None = None

    @classmethod
    def after(cls, store: Store, log: Log, key: SigningKey, chain: RunChain) -> SegmentWriter:
        """Return what goes on with a run that is in the ledger."""
        return cls(store, log, key, chain.run_address, chain.head)

    def add_segment(
        self,
        first: int,
        stop: int,
        state_in: Digest,
        state_out: Digest,
        commits: list[Commit],
        device: str,
        kernels: Sequence[Digest],
    ) -> Digest:
        """Store the commits, append the segment entry; returns the state that the next segment starts from."""
        if commits[-1].state != state_out:
            raise AssertionError("the last commit of a segment is its final state")
        with self._store.batch():
            stored_commits = [self._store.put_node(commit.to_node()) for commit in commits]
            listed = [(commit.step, address) for commit, address in zip(commits, stored_commits, strict=True)]
            stored = self._store.put_node(commits_node(listed))
        root = root_hash([leaf_hash(address.raw) for address in stored_commits])
        body = SegmentBody(self.run, first, stop, state_in, state_out, stored, root, device, tuple(kernels))
        entry = sign_entry(self._log.origin, self.head, body, self._key, time=int(time.time()))
        self.before_append()
        self._log.append([*self._pending, entry])
        self._pending = []
        self.head, self.next_step, self._last_list = entry_address(entry), stop, stored
        return state_out

    @property
    def last_list(self) -> Digest:
        """The stored list of the commits of the segment that was added last."""
        if self._last_list is None:
            raise AssertionError("no segment was added")
        return self._last_list

    def close(self) -> None:
        """Let go of the ledger."""
        self._log.close()


def _nothing() -> None:
    pass
