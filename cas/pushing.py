"""Push: copy what is reachable from roots out of a store to a remote.

Plan: walk the nodes breadth first, and ask the remote what it lacks. Act: send the rows that it lacks, many at once,
each verified as it is read; a blob's record behind its rows, a node's behind all that it refers to. So the remote never
shows half an object, and a push that ended early goes on where it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from samebits.cas.digest import Digest
from samebits.cas.node import references
from samebits.cas.remotes.protocol import Remote
from samebits.cas.store import Store
from samebits.cas.tally import Progress, Tally, TransferReport
from samebits.cas.wire import WireRecord, read_row, wire_record

ROWS_IN_FLIGHT: Final = 32
_ASKED_AT_ONCE: Final = 4096


def push(
    store: Store, remote: Remote, roots: Iterable[Digest], *, progress: Progress | None = None, workers: int = 8
) -> TransferReport:
    """Copy everything reachable from `roots` that the remote lacks.

    Raises ObjectNotFoundError or DamagedObjectError for what the store has not, RemoteError if the remote does not
    take it; no request is under way then. Memory: 32 rows, and about 300 bytes per object.
    """
    tally = Tally(progress)
    pool = ThreadPoolExecutor(workers, "samebits-push")
    try:
        pusher = _Pusher(store, remote, tally, pool)
        pusher.walk(roots)
        pusher.send_blobs()
        pusher.send_nodes()
    finally:
        pool.shutdown(cancel_futures=True)  # waits for requests under way: what they write is whole or gone on return
    return tally.report()


class _Pusher:
    """One push."""

    def __init__(self, store: Store, remote: Remote, tally: Tally, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._remote = remote
        self._tally = tally
        self._pool = pool
        self._blobs: list[Digest] = []
        self._nodes: dict[Digest, tuple[Digest, ...]] = {}  # that the remote lacks, and what they refer to
        # requests under way, in order; what to do when each is answered
        # (None: nothing is asked, it is only to be done behind those before it)
        self._waiting: deque[tuple[Future[None] | None, Callable[[], None]]] = deque()
        self._in_flight = 0

    def walk(self, roots: Iterable[Digest]) -> None:
        """Find what the remote lacks, level by level; nodes that it has are walked too, they may lack parts."""
        level = list(dict.fromkeys(roots))
        seen = set(level)
        while level:
            found: list[Digest] = []
            for start in range(0, len(level), _ASKED_AT_ONCE):
                found += self._plan(level[start : start + _ASKED_AT_ONCE])
            level = [digest for digest in dict.fromkeys(found) if digest not in seen]
            seen.update(level)

    def send_blobs(self) -> None:
        """Send the missing blobs."""
        for digest in self._blobs:
            self._send(digest)
        self._drain()

    def send_nodes(self) -> None:
        """Send the missing nodes, each height when the one below it is there."""
        for height in _heights(self._nodes):
            for digest in height:
                self._send(digest)
            self._drain()

    def _send(self, digest: Digest) -> None:
        """Send the rows of an object that the remote lacks, and its record behind them."""
        record = wire_record(self._store, digest)
        sent = 0
        for indexes in self._missing_rows(record):
            for index in indexes:
                self._wait_for_room()
                self._send_row(digest, record, index)
            sent += len(indexes)
        if sent:
            self._waiting.append((None, lambda: self._send_record(digest, record)))
        else:
            self._wait_for_room()
            self._send_record(digest, record)

    def _plan(self, digests: Sequence[Digest]) -> Iterator[Digest]:
        absent = set(self._remote.missing(digests))
        for digest in digests:
            info = self._store.stat(digest)
            children = references(self._store.get_node(digest)) if info.kind == "node" else ()
            yield from children
            if digest not in absent:
                self._tally.skipped_objects += 1
                continue
            self._tally.total_bytes += info.size_bytes
            if info.kind == "node":
                self._nodes[digest] = children
            else:
                self._blobs.append(digest)

    def _missing_rows(self, record: WireRecord) -> Iterator[list[int]]:
        """Yield the indexes of rows to send, each row once."""
        for start in range(0, len(record.row_keys), _ASKED_AT_ONCE):
            places: dict[bytes, list[int]] = {}
            for index, key in enumerate(record.row_keys[start : start + _ASKED_AT_ONCE], start):
                places.setdefault(key, []).append(index)
            absent = set(self._remote.missing_rows(list(places)))
            for key, indexes in places.items():
                for index in indexes[key in absent :]:
                    self._tally.row(record.row_size_bytes(index), moved=False)
            yield [indexes[0] for key, indexes in places.items() if key in absent]

    def _send_row(self, digest: Digest, record: WireRecord, index: int) -> None:
        key = record.row_keys[index]

        def send() -> None:
            self._remote.write_row(key, read_row(self._store, digest, key))

        self._request(send, lambda: self._tally.row(record.row_size_bytes(index), moved=True))

    def _send_record(self, digest: Digest, record: WireRecord) -> None:
        def count() -> None:
            self._tally.objects += 1
            if record.inline is not None:
                self._tally.inline(record.size_bytes)

        self._request(lambda: self._remote.write_record(digest, record), count)

    def _request(self, send: Callable[[], None], then: Callable[[], None]) -> None:
        """Send something from another thread; `then` is called in this one, after those of all earlier requests."""
        self._in_flight += 1
        self._waiting.append((self._pool.submit(send), then))

    def _wait_for_room(self) -> None:
        while self._in_flight >= ROWS_IN_FLIGHT:
            self._finish_first()

    def _finish_first(self) -> None:
        answer, then = self._waiting.popleft()
        if answer is not None:
            answer.result()
            self._in_flight -= 1
        then()

    def _drain(self) -> None:
        while self._waiting:
            self._finish_first()


def _heights(nodes: dict[Digest, tuple[Digest, ...]]) -> list[list[Digest]]:
    """Return the nodes by height: those that refer to none of the others, those that refer to these alone, ..."""
    height: dict[Digest, int] = {}
    for root in nodes:
        pending = [root]
        while pending:
            digest = pending[-1]
            below = [child for child in nodes[digest] if child in nodes]
            open_ones = [child for child in below if child not in height]
            if digest in height or not open_ones:
                height[digest] = 1 + max((height[child] for child in below), default=-1)
                pending.pop()
            else:
                pending.extend(open_ones)
    levels: list[list[Digest]] = [[] for _ in range(1 + max(height.values(), default=-1))]
    for digest, level in height.items():
        levels[level].append(digest)
    return levels
