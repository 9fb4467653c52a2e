"""What a process knows of a log under one checkpoint, and how it catches up with a later one.

The rows of the index are in two places: in the index file, which covers the first entries, and in memory for the rest.
The truth is the storage: the tree over all entries that were read must have the root hash that the checkpoint signs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from samebits.cas.digest import hash_node
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
from samebits.ledger.entry import decode_entry
from samebits.ledger.errors import ChainError, LedgerError, StorageError
from samebits.ledger.index import LogIndex
from samebits.ledger.index_file import IndexCover, IndexView
from samebits.ledger.keys import VerifierKey
from samebits.ledger.links import link_entry
from samebits.ledger.merkle import CompactRange, leaf_hash
from samebits.ledger.rows import Rows
from samebits.ledger.search_rows import add_search_rows
from samebits.ledger.storage import LogReader

READ_BATCH: Final = 256  # entries read at once


class UnfitIndexError(LedgerError):
    """The index file is not that of this log's entries."""


@dataclass(frozen=True, slots=True)
class LogState:
    """Everything under one checkpoint."""

    note: bytes | None = None  # None: nothing yet, or not up to the checkpoint yet
    tree: CompactRange = field(default_factory=CompactRange)
    cover_row: bytes | None = None  # of the index file that the rows in memory go on from
    covered: int = 0  # entries in the index file
    rows: dict[bytes, bytes] = field(default_factory=dict)  # of the entries [covered, tree_size)

    def index(self, origin: str, base: IndexView | None) -> LogIndex:
        """Return the index over all entries; what is added to it goes into the rows of this state."""
        return LogIndex(origin, Rows(base, self.rows))

    def indexed(self, cover: IndexCover) -> LogState:
        """Return the state whose rows have all gone into the index file."""
        return LogState(self.note, self.tree, cover.encode(), self.tree.tree_size)


class CatchUp:
    """Brings what is known of a log to its stored checkpoint."""

    def __init__(self, path: Path, verifier: VerifierKey, view: LogReader) -> None:
        self._path = path
        self._verifier = verifier
        self._view = view

    def run(self, known: LogState, base: IndexView | None, most: int) -> LogState:
        """Return the state under the stored checkpoint; after `most` entries, a state without a note, from which
        another call goes on: nothing in it may be believed before.

        Raises StorageError where entries and checkpoint disagree, and UnfitIndexError where without the index file they
        might agree.
        """
        note, cover_row = self._view.checkpoint(), None if base is None else base.cover_row
        if note is not None and note == known.note and cover_row == known.cover_row:
            return known
        if note is None:
            raise StorageError(self._path, "the checkpoint is missing")
        checkpoint = open_checkpoint(note, self._verifier)
        if self._view.size() != checkpoint.tree_size:
            said = checkpoint.tree_size
            raise StorageError(self._path, f"has {self._view.size()} entries, but its checkpoint says {said}")
        if checkpoint.tree_size < known.tree.tree_size:
            went = f"from {known.tree.tree_size} entries to {checkpoint.tree_size}"
            raise StorageError(self._path, f"went back {went}")
        if cover_row == known.cover_row:
            return self._extend(known, known.tree, base, note, checkpoint, most)
        if cover_row is None:
            return self._extend(LogState(), known.tree, None, note, checkpoint, most)
        try:
            return self._extend(self._adopt(cover_row, known, checkpoint), known.tree, base, note, checkpoint, most)
        except (LedgerError, struct.error) as error:
            raise UnfitIndexError(str(error)) from error

    def _adopt(self, cover_row: bytes, known: LogState, checkpoint: Checkpoint) -> LogState:
        """Return the state that an index file gives, which must cover the entries that were known before."""
        cover = IndexCover.decode(cover_row)
        if cover is None or cover.origin != checkpoint.origin or cover.tree.tree_size > checkpoint.tree_size:
            raise UnfitIndexError("another version, another log, or ahead of the checkpoint")
        if 0 < known.tree.tree_size < cover.tree.tree_size:
            tree = known.tree
            for data in self._read(tree.tree_size, cover.tree.tree_size):
                tree = tree.extended(leaf_hash(data))
            if tree != cover.tree:
                raise UnfitIndexError("made from other entries")
        return LogState(None, cover.tree, cover_row, cover.tree.tree_size)

    def _extend(
        self,
        start: LogState,
        known: CompactRange,
        base: IndexView | None,
        note: bytes,
        checkpoint: Checkpoint,
        most: int,
    ) -> LogState:
        """Read the entries after `start`; the rows of `start` grow only if all is well."""
        rows, tree = Rows(Rows(base, start.rows)), start.tree
        index = LogIndex(checkpoint.origin, rows)
        stop = min(checkpoint.tree_size, tree.tree_size + most)
        for data in self._read(tree.tree_size, stop):
            try:
                entry, address = decode_entry(data), hash_node(data)
                link = link_entry(address, entry)
                index.add(tree.tree_size, link)
            except LedgerError as error:
                named = error if isinstance(error, ChainError) else f"entry {tree.tree_size}: {error}"
                raise StorageError(self._path, f"damaged, run `samebits log verify`: {named}") from error
            add_search_rows(rows, tree.tree_size, link, entry)
            tree = tree.extended(leaf_hash(data))
            if tree.tree_size == known.tree_size and tree != known:
                raise StorageError(self._path, f"its first {tree.tree_size} entries are not those it had")
        if stop == checkpoint.tree_size and tree.root_hash() != checkpoint.root_hash:
            has = f"its {tree.tree_size} entries are not those of its checkpoint"
            raise StorageError(self._path, f"{has}; damaged, run `samebits log verify`")
        start.rows.update(rows.own)
        believed = note if stop == checkpoint.tree_size else None
        return LogState(believed, tree, start.cover_row, start.covered, start.rows)

    def _read(self, start: int, stop: int) -> Iterator[bytes]:
        for first in range(start, stop, READ_BATCH):
            yield from self._view.entries(first, min(first + READ_BATCH, stop))
