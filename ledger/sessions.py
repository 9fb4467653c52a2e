"""The log while its state stands still for one operation: entries, index and checkpoint that belong together.

What a process knows goes on from operation to operation; each begins by catching up with what others appended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from samebits.cas.digest import Digest, hash_node
from samebits.ledger.entry import Entry, decode_entry
from samebits.ledger.errors import IndexFileError, LedgerError, StorageError
from samebits.ledger.index import LogIndex
from samebits.ledger.index_file import IndexCover, IndexFile, IndexView, is_damage
from samebits.ledger.keys import VerifierKey
from samebits.ledger.log_state import CatchUp, LogState, UnfitIndexError
from samebits.ledger.merkle import CompactRange
from samebits.ledger.search_rows import neighbours
from samebits.ledger.storage import LogReader, LogStorage, LogWriter

_INDEX_LAG: Final = 1024  # entries: the index file is written that often
_INDEX_PIECE: Final = 8192  # entries: an index is made in such pieces


_P = ParamSpec("_P")
_Result = TypeVar("_Result")


def retried(operation: Callable[_P, _Result]) -> Callable[_P, _Result]:
    """Do an operation once more where the index file turned out to be damaged: it has been replaced by then."""

    @wraps(operation)
    def done(*args: _P.args, **kwargs: _P.kwargs) -> _Result:
        try:
            return operation(*args, **kwargs)
        except IndexFileError:
            return operation(*args, **kwargs)

    return done


@dataclass(slots=True)
class Session:
    """The log during one operation."""

    path: Path
    state: LogState
    index: LogIndex
    view: LogReader
    writer: LogWriter | None

    def read(self, start: int, stop: int) -> list[tuple[Digest, Entry]]:
        """Return (address, entry) of [start, stop); raises StorageError for one that is not what was appended."""
        found = []
        for index, data in enumerate(self.view.entries(start, stop), start):
            address = hash_node(data)
            if self.index.find(address.raw) != index:
                raise StorageError(
                    self.path, f"damaged, run `samebits log verify`: entry {index} is not what was appended"
                )
            found.append((address, decode_entry(data)))
        return found

    def read_at(self, indexes: list[int]) -> list[tuple[int, Digest, Entry]]:
        """Return (index, address, entry) of entries anywhere, in their order; neighbours are read at once."""
        found: list[tuple[int, Digest, Entry]] = []
        for start, stop in neighbours(indexes):
            read = self.read(start, stop)
            found.extend((index, *item) for index, item in enumerate(read, start))
        return found

    def grew(self, note: bytes, tree: CompactRange, rows: dict[bytes, bytes]) -> None:
        """Remember what this session appended, with the rows that its entries have in the index."""
        self.state.rows.update(rows)
        self.state = replace(self.state, note=note, tree=tree)


class Sessions:
    """What this process knows of a log. Usable from several threads, one after the other."""

    def __init__(self, storage: LogStorage, verifier: VerifierKey, index_file: IndexFile | None) -> None:
        """Without a file the index is in memory."""
        self._storage = storage
        self._verifier = verifier
        self._index_file = index_file
        self._state = LogState()
        self._lock = threading.RLock()
        self._was_damaged = False

    @contextmanager
    def hold(self, *, write: bool = False) -> Iterator[Session]:
        """Hold the log still, with everything that others appended; keep it short. Raises LedgerError.

        Raises IndexFileError if the index file turns out to be damaged while it is read. By then it is replaced,
        so that the same works when done again: see `retried`.
        """
        while True:
            given = False
            with self._lock:
                try:
                    with ExitStack() as stack:
                        # A view of the index file is opened before one of the entries, so that it never is ahead of
                        # them; nobody else appends while we write.
                        writer = stack.enter_context(self._storage.writing()) if write else None
                        base = self._open_index(stack)
                        view = stack.enter_context(self._storage.reading()) if writer is None else writer
                        base = self._catch_up(view, base)
                        if self._state.note is not None:
                            index = self._state.index(self._verifier.name, base)
                            session = Session(self._storage.path, self._state, index, view, writer)
                            given = True
                            yield session
                            self._state = session.state
                            break
                except IndexFileError:
                    self._replace_index_file()
                    if given:
                        raise
                    continue
            self._store_index(1)  # much was to be read: piece by piece, so that the rows do not pile up in memory
        self._store_index(_INDEX_LAG)

    def _catch_up(self, view: LogReader, base: IndexView | None) -> IndexView | None:
        """Bring the state to the checkpoint, or nearer to it; returns the view of the index file if it is of use."""
        catch_up = CatchUp(self._storage.path, self._verifier, view)
        most = view.size() if self._index_file is None else _INDEX_PIECE
        try:
            try:
                self._state = catch_up.run(self._state, base, most)
            except UnfitIndexError:
                if self._index_file is not None:
                    self._index_file.clear()
                base = None
                self._state = catch_up.run(self._state, None, most)
        except LedgerError:
            if self._state.note is None:  # its entries were not under any checkpoint
                self._state = LogState()
            raise
        return base

    def _open_index(self, stack: ExitStack) -> IndexView | None:
        if self._index_file is None:
            return None
        try:
            return stack.enter_context(self._index_file.reading())
        except IndexFileError as error:
            if is_damage(error):
                raise
            self.close()
            return None

    def _replace_index_file(self) -> None:
        """Throw away a damaged index file, and begin a new one; the second time the index stays in memory."""
        file, self._index_file = self._index_file, None
        if file is None:
            return
        file.discard()
        if not self._was_damaged:
            self._was_damaged = True
            self._index_file = IndexFile.open(self._storage.path, create=True)

    def _store_index(self, lag: int) -> None:
        """Write the rows in memory to the index file if they are those of at least `lag` entries."""
        with self._lock:
            state, file = self._state, self._index_file
            if file is None or state.tree.tree_size - state.covered < lag:
                return
            cover = IndexCover(self._verifier.name, state.tree)
            try:
                if file.write(state.cover_row, cover, state.rows):
                    self._state = state.indexed(cover)
            except IndexFileError:  # a full disk: the entries are safe, the index goes on in memory
                self.close()

    def close(self) -> None:
        """Let go of the index file; the index goes on in memory."""
        if self._index_file is not None:
            self._index_file.close()
            self._index_file = None

    def reindex(self) -> None:
        """Make the index anew from the entries; raises StorageError for damaged ones."""
        with self._lock:
            if self._index_file is None:
                self._index_file = IndexFile.open(self._storage.path, create=True)
            if self._index_file is None:
                raise StorageError(self._storage.path, "may only be read here, so its index is in memory")
            try:
                self._index_file.clear()
            except IndexFileError:
                self._replace_index_file()
            with self.hold():
                pass
            self._store_index(1)
