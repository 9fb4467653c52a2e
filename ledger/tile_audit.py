"""Check every published tile file of a log against its entries, which are known to be those of the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from samebits.ledger.errors import TileError
from samebits.ledger.merkle import leaf_hash, root_hash
from samebits.ledger.tile_source import DirectorySource, read_bundle
from samebits.ledger.tiles import ENTRIES_LEVEL, MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, encode_bundle, tile_at


def tile_problems(directory: Path, tree_size: int) -> Iterator[TileError]:
    """Return what is wrong with the tiles of a log of this size, partial ones of older sizes too, from the lowest up.

    A tile must be what the entries give. Files beyond the log's size are not looked at: they were never signed.
    """
    source, hashes = DirectorySource(directory), list[bytes]()
    for index in range((tree_size + TILE_WIDTH - 1) >> TILE_HEIGHT):
        tile = tile_at(ENTRIES_LEVEL, index, tree_size)
        assert tile is not None
        try:
            entries = read_bundle(source, tile)
        except TileError as error:
            yield error
            return
        ends = [0]
        for entry in entries:
            ends.append(ends[-1] + 2 + len(entry))
        yield from _wrong_files(directory, source, tile, encode_bundle(entries), ends)
        hashes += map(leaf_hash, entries)
    for level in range(MAX_LEVEL + 1):
        if not hashes:
            return
        for at in range(0, len(hashes), TILE_WIDTH):
            held = hashes[at : at + TILE_WIDTH]
            ends = [32 * count for count in range(len(held) + 1)]
            tile = Tile(level, at >> TILE_HEIGHT, len(held))
            yield from _wrong_files(directory, source, tile, b"".join(held), ends)
        full = range(0, len(hashes) - TILE_WIDTH + 1, TILE_WIDTH)
        hashes = [root_hash(hashes[at : at + TILE_WIDTH]) for at in full]


def _wrong_files(
    directory: Path, source: DirectorySource, tile: Tile, data: bytes, ends: list[int]
) -> Iterator[TileError]:
    """Check the file of a tile and those of its narrower forms; `ends` is where each of them stops in `data`."""
    path = directory / tile.full.path
    names = {file.name for file in path.with_name(path.name + ".p").glob("*")}
    widths = {width for width in range(1, tile.width) if str(width) in names}
    for width in sorted({*widths, tile.width}):
        narrow = Tile(tile.level, tile.index, width)
        try:
            found = source.read(narrow.path, narrow.limit_bytes)
        except TileError as error:
            yield error
            continue
        if found is None and width in widths:
            continue  # a writer removed it since: the tile has become full
        if found is None and not tile.is_full:
            yield from _wrong_full(source, tile, data)
        elif found is None:
            yield TileError(narrow.path, "missing")
        elif found != data[: ends[width]]:
            yield TileError(narrow.path, "not what the log's entries give")


def _wrong_full(source: DirectorySource, tile: Tile, data: bytes) -> Iterator[TileError]:
    """Check the full tile in whose favour a partial one was removed."""
    try:
        found = source.read(tile.full.path, tile.full.limit_bytes)
    except TileError as error:
        yield error
        return
    if found is None:
        yield TileError(tile.path, "missing")
    elif not found.startswith(data):
        yield TileError(tile.full.path, "not what the log's entries give")
