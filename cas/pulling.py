"""Pull: copy what is reachable from roots out of a remote into a store, each byte verified on arrival.

Plan: walk the nodes breadth first, from records that are checked against their addresses; small blobs come with their
records. Act: fetch the rows that the store lacks, many at once, and make each blob visible when its last row is there;
then the nodes, each behind all that it refers to. Rows stay when a pull ends early, so the next one goes on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from samebits.cas.arrivals import Arrivals, check_row
from samebits.cas.digest import Digest
from samebits.cas.errors import EncodingError, NodeError, RemoteError
from samebits.cas.node import decode_node, references
from samebits.cas.reachable import behind_references
from samebits.cas.records import address_hasher
from samebits.cas.remotes.protocol import Remote
from samebits.cas.row_values import MeasuredRow
from samebits.cas.store import Store
from samebits.cas.tally import Progress, Tally, TransferReport
from samebits.cas.wire import WireRecord, read_row

ROWS_IN_FLIGHT: Final = 32
FLUSH_EVERY_S: Final = 1.0  # what arrived longer ago survives a kill, however slow the remote
_RECORDS_AT_ONCE: Final = 64
_KEPT_RECORDS_BYTES: Final = 64 << 20  # records beyond that are asked for again when they are needed
_RECORD_COST_BYTES: Final = 512


def pull(
    remote: Remote, store: Store, roots: Iterable[Digest], *, progress: Progress | None = None, workers: int = 8
) -> TransferReport:
    """Copy everything reachable from `roots` that the store lacks.

    Raises ObjectNotFoundError, or RemoteError (BadRowError) naming what is wrong; nothing of a wrong object becomes
    visible, and what arrived intact stays. Memory: 32 rows, two times 64 MiB, and about 300 bytes per object.
    """
    tally = Tally(progress)
    with store.batch(join=True):
        puller = _Puller(remote, store, tally, workers)
        try:
            puller.walk(roots)
            puller.take_blobs()
            puller.take_nodes()
        finally:
            puller.close()
    return tally.report()


@dataclass(frozen=True, slots=True)
class _Step:
    """A row of an object that is to come, or (index None) the end of the object."""

    digest: Digest
    record: WireRecord
    index: int | None


class _Puller:
    """One pull."""

    def __init__(self, remote: Remote, store: Store, tally: Tally, workers: int) -> None:
        self._remote = remote
        self._store = store
        self._tally = tally
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "samebits-pull")
        self._arrivals = Arrivals(store, remote.name)
        self._blobs: list[Digest] = []
        self._nodes: dict[Digest, tuple[Digest, ...]] = {}  # missing ones, and what they refer to
        self._records: dict[Digest, WireRecord] = {}
        self._records_bytes = 0
        self._flushed = time.monotonic()

    def walk(self, roots: Iterable[Digest]) -> None:
        """Find what is missing, level by level; takes small blobs, and the rows of large nodes."""
        level = list(dict.fromkeys(roots))
        seen = set(level)
        kept: set[Digest] = set()  # of the level: what something refers to that is here and stays
        while level:
            below = list(self._walk_present(level, kept))
            kept = set(below)
            found = [*below, *self._walk_absent(self._store.missing(level))]
            level = []
            for digest in found:
                if digest not in seen:
                    seen.add(digest)
                    level.append(digest)

    def take_blobs(self) -> None:
        """Fetch the rows of the missing blobs, and make each blob visible."""
        self._take(self._blobs)

    def take_nodes(self) -> None:
        """Make the missing nodes visible, each behind those that it refers to."""
        order = list(behind_references(self._nodes, self._missing_below))
        for digest, record in self._read_again(order):
            self._arrivals.finish(digest, record)
            self._tally.objects += 1

    def close(self) -> None:
        """Write what has arrived; does not wait for requests that still run after an error."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._arrivals.flush()

    def _walk_present(self, level: Sequence[Digest], kept: Container[Digest]) -> Iterator[Digest]:
        """Yield what the nodes that the store has refer to: they may have been put there without it.

        From now on garbage collection leaves them alone.
        """
        for digest in level:
            if self._store.has(digest):
                self._tally.skipped_objects += 1
                if digest not in kept:
                    self._store.pending_writes().rely_on_object(digest)
                if self._store.stat(digest).kind == "node":
                    yield from references(self._store.get_node(digest))

    def _walk_absent(self, level: Sequence[Digest]) -> Iterator[Digest]:
        """Plan the objects of a level that the store lacks; yields what they refer to."""
        large: list[Digest] = []
        for digest, record in self._read_records(level):
            self._tally.total_bytes += record.size_bytes
            if record.kind == "blob" and record.inline is not None:
                self._arrivals.finish(digest, record)
                self._tally.objects += 1
                self._tally.inline(record.size_bytes)
                continue
            self._remember(digest, record)
            if record.kind == "blob":
                self._blobs.append(digest)
            elif record.inline is None:
                large.append(digest)
            else:
                self._tally.inline(record.size_bytes)
                yield from self._plan_node(digest, record.inline)
        self._take(large, finish=False)
        for digest, record in self._read_again(large):
            yield from self._plan_node(digest, self._joined(digest, record))

    def _plan_node(self, digest: Digest, encoded: bytes) -> tuple[Digest, ...]:
        try:
            found = references(decode_node(encoded))
        except (EncodingError, NodeError) as error:
            raise RemoteError(self._remote.name, f"object {digest} is not a node: {error}") from error
        self._nodes[digest] = found
        return found

    def _missing_below(self, digest: Digest) -> list[Digest]:
        return [child for child in self._nodes[digest] if child in self._nodes]

    def _joined(self, digest: Digest, record: WireRecord) -> bytes:
        """Return the bytes of a node whose rows have arrived; raises RemoteError unless they have its address."""
        encoded = b"".join(read_row(self._store, digest, key) for key in record.row_keys)
        if address_hasher("node").update(encoded).digest() != digest.raw:
            raise RemoteError(self._remote.name, f"the rows of object {digest} do not have its address")
        return encoded

    def _remember(self, digest: Digest, record: WireRecord) -> None:
        size = _RECORD_COST_BYTES + len(record.inline or b"") + 130 * len(record.row_keys)
        if self._records_bytes + size <= _KEPT_RECORDS_BYTES:
            self._records[digest] = record
            self._records_bytes += size

    def _read_records(self, digests: Sequence[Digest]) -> Iterator[tuple[Digest, WireRecord]]:
        """Yield the records of objects, in order, asked for in several requests at once."""
        waiting: deque[tuple[Sequence[Digest], Future[list[WireRecord]]]] = deque()
        starts = iter(range(0, len(digests), _RECORDS_AT_ONCE))
        while True:
            while len(waiting) < 2 * self._workers and (start := next(starts, None)) is not None:
                asked = digests[start : start + _RECORDS_AT_ONCE]
                waiting.append((asked, self._pool.submit(self._remote.read_records, asked)))
            if not waiting:
                return
            asked, answer = waiting.popleft()
            yield from zip(asked, answer.result(), strict=True)

    def _read_again(self, digests: Sequence[Digest]) -> Iterator[tuple[Digest, WireRecord]]:
        """Yield the records of planned objects, in order; those that were not kept are asked for again."""
        for start in range(0, len(digests), _RECORDS_AT_ONCE):
            some = digests[start : start + _RECORDS_AT_ONCE]
            again = [digest for digest in some if digest not in self._records]
            fresh = dict(self._read_records(again))
            for digest in some:
                yield digest, self._records.get(digest) or fresh[digest]

    def _take(self, digests: Sequence[Digest], *, finish: bool = True) -> None:
        """Fetch the missing rows of objects, and make the objects visible if `finish`."""
        waiting: deque[tuple[_Step, Future[MeasuredRow] | None]] = deque()
        coming: set[bytes] = set()  # keys of the rows in flight
        try:
            for step in self._steps(digests):
                while len(coming) >= ROWS_IN_FLIGHT or len(waiting) >= 4 * ROWS_IN_FLIGHT:
                    self._arrive(*waiting.popleft(), coming, finish=finish)
                waiting.append((step, self._request(step, coming)))
            while waiting:
                self._arrive(*waiting.popleft(), coming, finish=finish)
        finally:
            for _, answer in waiting:
                if answer is not None:
                    answer.cancel()

    def _steps(self, digests: Sequence[Digest]) -> Iterator[_Step]:
        for digest, record in self._read_again(digests):
            for index in range(len(record.row_keys)):
                yield _Step(digest, record, index)
            yield _Step(digest, record, None)

    def _request(self, step: _Step, coming: set[bytes]) -> Future[MeasuredRow] | None:
        """Ask for a row, unless the store has it or it is on its way already."""
        if step.index is None:
            return None
        key = step.record.row_keys[step.index]
        if key in coming:
            return None
        if not self._store.missing_rows([key]):
            self._store.pending_writes().rely_on_row(key)  # its turn comes later, behind a flush maybe
            return None
        coming.add(key)
        return self._pool.submit(self._read_row, step.digest, step.record, step.index)

    def _read_row(self, digest: Digest, record: WireRecord, index: int) -> MeasuredRow:
        """Return a row from the remote, checked; called from the pool, so that rows are hashed beside each other."""
        try:
            data = self._remote.read_row(record.row_keys[index], record.row_size_bytes(index))
        except RemoteError as error:
            raise RemoteError(error.remote, f"row {index} of object {digest}: {error.reason}") from error
        return check_row(self._remote.name, digest, record, index, data)

    def _arrive(self, step: _Step, answer: Future[MeasuredRow] | None, coming: set[bytes], *, finish: bool) -> None:
        """Take a row that was asked for or that is here already, or end an object."""
        if step.index is None:
            if finish:
                self._arrivals.finish(step.digest, step.record)
                self._tally.objects += 1
            return
        size = step.record.row_size_bytes(step.index)
        if answer is None:
            if not self._arrivals.use_row(step.digest, step.record, step.index):
                raise AssertionError("a row that was here, or on its way, is here now")
        else:
            coming.discard(step.record.row_keys[step.index])
            self._arrivals.add_row(step.digest, step.index, answer.result())
        self._tally.row(size, moved=answer is not None)
        if time.monotonic() - self._flushed >= FLUSH_EVERY_S:
            self._arrivals.flush()
            self._flushed = time.monotonic()
