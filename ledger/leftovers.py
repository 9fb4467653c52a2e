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


def remove_unsigned(directory: Path, tree_size: int) -> None:
    """Remove what an append that did not end left beside the right edge of the tree; farther off it does no harm."""
    for level in range(ENTRIES_LEVEL, MAX_LEVEL + 1):
        hashes = tree_size >> TILE_HEIGHT * max(level, 0)
        full, width = directory / Tile(level, hashes >> TILE_HEIGHT).path, hashes % TILE_WIDTH
        with suppress(OSError):
            full.unlink(missing_ok=True)
        for partial in full.with_name(full.name + ".p").glob("*"):
            if partial.name.isdecimal() and int(partial.name) > width:
                with suppress(OSError):
                    partial.unlink()
        if not hashes:
            return
