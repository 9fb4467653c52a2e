"""Files of a log that nobody needs any more: what a crash left, and partial tiles that have become full."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from samebits.ledger.errors import TileError
from samebits.ledger.tiles import ENTRIES_LEVEL, MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, parse_tile_path, tile_at


def remove_partials(directory: Path, written: Iterable[Tile], old_size: int) -> None:
    """Remove the partial tiles that became full since a size: readers find their hashes in the full ones."""
    for tile in written:
        last = tile_at(tile.level, tile.index, old_size)
        if tile.is_full and last is not None:
            shutil.rmtree((directory / last.path).parent, ignore_errors=True)


def remove_unsigned(directory: Path, tree_size: int, *, has_gaps: bool) -> None:
    """Remove what appends that did not end left beyond the right edge of the tree.

    A killed process leaves files without gaps; a loss of power may leave any of them out (`has_gaps`: folders are
    listed).
    """
    for level in range(ENTRIES_LEVEL, MAX_LEVEL + 1):
        hashes = tree_size >> TILE_HEIGHT * max(level, 0)
        edge = hashes >> TILE_HEIGHT  # the tile at the edge need not be there
        _remove_beyond(directory / Tile(level, edge).path, hashes % TILE_WIDTH)
        if has_gaps:
            for index in set(_indices_beyond(directory, Tile(level, edge))):
                _remove_beyond(directory / Tile(level, index).path, 0)
        else:
            index = edge + 1
            while _remove_beyond(directory / Tile(level, index).path, 0):
                index += 1
        if not has_gaps and not hashes and not (directory / Tile(level, 0).path).parent.exists():
            return


def _indices_beyond(directory: Path, edge: Tile) -> Iterator[int]:
    """Return the indices of all files of a level that are behind its tile at the edge."""
    root, level, *groups = edge.path.split("/")
    waiting: list[list[str]] = [[]]
    while waiting:
        above = waiting.pop()
        for name in _names(directory.joinpath(root, level, *above)):
            path = [*above, name.removesuffix(".p")]
            # a folder before the edge has signed tiles only; but that of x001 is also where longer names begin
            if name.startswith("x") and (path >= groups[: len(path)] or name == "x001"):
                waiting.append(path)
            with suppress(TileError):
                index = parse_tile_path("/".join([root, level, *path])).index
                if index > edge.index:
                    yield index


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
