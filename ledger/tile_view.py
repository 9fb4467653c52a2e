"""One state of a log's files: the entries under the checkpoint that was published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from samebits.ledger.errors import MissingEntryError, StorageError, TileError
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES
from samebits.ledger.tile_source import CHECKPOINT_PATH, DirectorySource, read_bundle
from samebits.ledger.tiles import ENTRIES_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, tile_at

_SIZE: Final = re.compile(rb"[^\n]*\n(0|[1-9][0-9]{0,18})\n")


class TileLogView:
    """`LogReader` under the checkpoint that is there when it is first asked for anything.

    Nothing is verified here: `Log` and the audit do that.
    """

    def __init__(self, path: Path, source: DirectorySource) -> None:
        self._path = path
        self._source = source
        self._note: bytes | None = None

    def checkpoint(self) -> bytes | None:
        """Return the signed note that was published last, or None."""
        if self._note is None:
            try:
                self._note = self._source.read(CHECKPOINT_PATH, MAX_NOTE_SIZE_BYTES)
            except TileError as error:
                raise StorageError(self._path, str(error)) from error
        return self._note

    def size(self) -> int:
        """Return the number of entries: those of the checkpoint, as far as there are files of them."""
        found = _SIZE.match(self.checkpoint() or b"")
        if found is None:
            return self._held()
        size = int(found.group(1))
        return size if self._has_last(size) else min(size, self._held())

    def entries(self, start: int, stop: int) -> list[bytes]:
        """Return the entries [start, stop); raises MissingEntryError naming the first that is not there."""
        entries: list[bytes] = []
        size = self.size() if start < stop else 0
        at = start
        while at < min(stop, size):
            tile = tile_at(ENTRIES_LEVEL, at >> TILE_HEIGHT, size)
            assert tile is not None
            first = tile.index << TILE_HEIGHT
            try:
                entries += read_bundle(self._source, tile)[at - first : stop - first]
            except TileError as error:
                raise MissingEntryError(self._path, at, str(error)) from error
            at = first + tile.width
        if at < stop:
            raise MissingEntryError(self._path, max(start, size))
        return entries

    def _has_last(self, size: int) -> bool:
        tile = tile_at(ENTRIES_LEVEL, (size - 1) >> TILE_HEIGHT, size) if size else None
        return tile is None or any((self._path / path).is_file() for path in (tile.path, tile.full.path))

    def _held(self) -> int:
        """Return how many entries there are files of, with nothing missing in between."""
        index = 0
        while (self._path / Tile(ENTRIES_LEVEL, index).path).is_file():
            index += 1
        path = self._path / Tile(ENTRIES_LEVEL, index).path
        widths = [int(file.name) for file in path.with_name(path.name + ".p").glob("*") if file.name.isdecimal()]
        return (index << TILE_HEIGHT) + max((width for width in widths if width < TILE_WIDTH), default=0)
