"""Files of a log that nobody needs any more: what a crash left, and partial tiles that have become full."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from samebits.ledger.tiles import ENTRIES_LEVEL, MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, tile_at


def remove_partials(directory: Path, written: Iterable[Tile], old_size: int) -> None:
    """Remove the partial tiles that became full since a size: readers find their hashes in the full ones."""
    for tile in written:
        last = tile_at(tile.level, tile.index, old_size)
        if tile.is_full and last is not None:
            shutil.rmtree((directory / last.path).parent, ignore_errors=True)


def remove_unsigned(directory: Path, tree_size: int, gap: int) -> None:
    """Remove what appends that did not end left beyond the right edge of the tree.

    A killed process leaves files without gaps; a loss of power may leave up to `gap` tiles out.
    """
    for level in range(ENTRIES_LEVEL, MAX_LEVEL + 1):
        hashes = tree_size >> TILE_HEIGHT * max(level, 0)
        index, absent = hashes >> TILE_HEIGHT, -1  # the tile at the edge need not be there
        while absent <= gap:
            width = hashes % TILE_WIDTH if index == hashes >> TILE_HEIGHT else 0
            absent = 0 if _remove_beyond(directory / Tile(level, index).path, width) else absent + 1
            index += 1


def _remove_beyond(full: Path, width: int) -> bool:
    """Remove the files of a tile that are wider than it is; returns whether there was one."""
    partials = full.with_name(full.name + ".p")
    names = [name for name in _names(partials) if name.isdecimal() and int(name) > width]
    found = [*(partials / name for name in names), *([full] if full.exists() else [])]
    for path in found:
        with suppress(OSError):
            path.unlink()
    return bool(found)


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []
