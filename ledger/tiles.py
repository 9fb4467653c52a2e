"""Tiles of a transparency log: their names, which of them a tree has, and what is in them, as pure functions.

A tile of level L and index N holds up to 256 hashes one after another, of 32 bytes each; hash i is the root of the
subtree over the leaves [(256 N + i) 256^L, (256 N + i + 1) 256^L). Level 0 holds leaf hashes. A bundle holds the
entries whose leaf hashes are in tile (0, N): before each entry its length, 2 bytes, big endian. Only the last tile of
a level may be partial; it is named for its width. Empty tiles do not exist.

Examples of names: ``tile/0/000``, ``tile/1/x001/x234/067.p/5`` (width 5), ``tile/entries/x001/x234/067`` (a bundle).
The bundle of the entries ``a`` and ``bc`` is ``0001 61 0002 6263``.

Source: https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from samebits.ledger.errors import TileError
from samebits.ledger.merkle import EMPTY_ROOT, HASH_SIZE_BYTES, leaf_hash, root_hash

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT  # hashes in a full tile, entries in a full bundle
MAX_LEVEL: Final = 63
ENTRIES_LEVEL: Final = -1  # the level that stands for bundles of entries
MAX_ENTRY_SIZE_BYTES: Final = 0xFFFF  # a bundle gives each entry a length of 2 bytes
ROOT_FOLDER: Final = "tile"
_LENGTH_SIZE_BYTES: Final = 2
_MAX_INDEX: Final = 1 << 63
_PATH: Final = re.compile(
    r"tile/(?:(?P<level>0|[1-9][0-9]?)|entries)/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """The coordinates of a tile, or of a bundle of entries (level -1)."""

    level: int  # -1 .. 63
    index: int  # 0 .. 2^63-1
    width: int = TILE_WIDTH  # hashes or entries in it: 1 .. 256

    def __post_init__(self) -> None:
        if not ENTRIES_LEVEL <= self.level <= MAX_LEVEL:
            raise ValueError(f"there is no level {self.level} of tiles")
        if not 0 <= self.index < _MAX_INDEX or not 1 <= self.width <= TILE_WIDTH:
            raise ValueError(f"there is no tile {self.index} of width {self.width}")

    @property
    def is_full(self) -> bool:
        """Whether it has all of its 256 hashes or entries."""
        return self.width == TILE_WIDTH

    @property
    def full(self) -> Tile:
        """The tile that this one becomes when the log grows."""
        return Tile(self.level, self.index)

    @property
    def path(self) -> str:
        """Its path below the log's directory or URL. Example: ``tile/0/x001/234.p/5``."""
        level = "entries" if self.level == ENTRIES_LEVEL else str(self.level)
        rest, last = divmod(self.index, 1000)
        groups = [f"{last:03d}"]
        while rest:
            rest, group = divmod(rest, 1000)
            groups.insert(0, f"x{group:03d}")
        partial = "" if self.is_full else f".p/{self.width}"
        return f"{ROOT_FOLDER}/{level}/{'/'.join(groups)}{partial}"

    @property
    def limit_bytes(self) -> int:
        """The most bytes that its file has."""
        if self.level == ENTRIES_LEVEL:
            return self.width * (_LENGTH_SIZE_BYTES + MAX_ENTRY_SIZE_BYTES)
        return self.width * HASH_SIZE_BYTES


def parse_tile_path(path: str) -> Tile:
    """Return the tile of this path; raises TileError for any text that `Tile.path` would not give."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise TileError(path[:80], "not the path of a tile")
    level = ENTRIES_LEVEL if found["level"] is None else int(found["level"])
    index = int(found["index"].replace("x", "").replace("/", ""))
    try:
        tile = Tile(level, index, int(found["width"] or TILE_WIDTH))
    except ValueError:
        raise TileError(path, "not the path of a tile") from None
    if tile.path != path:  # leading zero groups, a width of 256
        raise TileError(path, "not the path of a tile")
    return tile


def tile_at(level: int, index: int, tree_size: int) -> Tile | None:
    """Return the tile of these coordinates as a tree of `tree_size` has it, or None if it would be empty."""
    hashes = tree_size >> TILE_HEIGHT * max(level, 0)
    width = min(TILE_WIDTH, hashes - (index << TILE_HEIGHT))
    return Tile(level, index, width) if width > 0 else None


def edge_tiles(tree_size: int) -> list[Tile]:
    """Return the partial tiles at the right edge of a tree, the lowest first. They and nothing else give its root."""
    tiles = []
    for level in range(MAX_LEVEL + 1):
        hashes = tree_size >> TILE_HEIGHT * level
        if not hashes:
            break
        if hashes % TILE_WIDTH:
            tiles.append(Tile(level, hashes >> TILE_HEIGHT, hashes % TILE_WIDTH))
    return tiles


def tiles_of(tree_size: int) -> Iterator[Tile]:
    """Return every tile and bundle of a tree, bundles first, then the levels upwards."""
    for level in range(ENTRIES_LEVEL, MAX_LEVEL + 1):
        hashes = tree_size >> TILE_HEIGHT * max(level, 0)
        for index in range(hashes >> TILE_HEIGHT):
            yield Tile(level, index)
        if hashes % TILE_WIDTH:
            yield Tile(level, hashes >> TILE_HEIGHT, hashes % TILE_WIDTH)
        if not hashes:
            return


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the bundle of up to 256 entries; raises ValueError for an entry of more than 65,535 bytes."""
    if any(len(entry) > MAX_ENTRY_SIZE_BYTES for entry in entries):
        raise ValueError(f"an entry has at most {MAX_ENTRY_SIZE_BYTES} bytes")
    return b"".join(len(entry).to_bytes(_LENGTH_SIZE_BYTES, "big") + entry for entry in entries)


def decode_bundle(tile: Tile, data: bytes) -> list[bytes]:
    """Return the entries of a bundle; raises TileError unless there are as many as its width, and nothing more."""
    entries, at = [], 0
    for number in range(tile.width):
        found = entry_at(data, at)
        if found is None:
            raise TileError(tile.path, f"ends before its entry {number}")
        entry, at = found
        entries.append(entry)
    if at != len(data):
        raise TileError(tile.path, f"has {len(data) - at} bytes behind its {tile.width} entries")
    return entries


def entry_at(data: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the entry whose length is at this place of a bundle, and where it ends; None if it is cut short."""
    start = at + _LENGTH_SIZE_BYTES
    end = start + int.from_bytes(data[at:start], "big")
    return None if end > len(data) or start > len(data) else (data[start:end], end)


def decode_hashes(tile: Tile, data: bytes) -> list[bytes]:
    """Return the hashes of a tile; raises TileError unless there are as many as its width."""
    if len(data) != tile.width * HASH_SIZE_BYTES:
        raise TileError(tile.path, f"has {len(data)} bytes, want {tile.width * HASH_SIZE_BYTES}")
    return [data[at : at + HASH_SIZE_BYTES] for at in range(0, len(data), HASH_SIZE_BYTES)]


class TileTree:
    """The perfect subtrees inside one tile: the hashes in it, those of their pairs, and so on up."""

    __slots__ = ("levels",)

    def __init__(self, hashes: Sequence[bytes]) -> None:
        """Take the 1 to 256 hashes of a tile."""
        self.levels = [list(hashes)]
        hash_pair = sha256
        while len(self.levels[-1]) > 1:
            below = self.levels[-1]
            above = [hash_pair(b"\x01" + below[i] + below[i + 1]).digest() for i in range(0, len(below) - 1, 2)]
            self.levels.append(above)

    def node(self, height: int, index: int) -> bytes:
        """Return the root of the subtree over the hashes [index 2^height, (index + 1) 2^height) of the tile."""
        return self.levels[height][index]


@dataclass(frozen=True, slots=True)
class TreeEdge:
    """What an appender must know of a tree: the partial tiles at its right edge, and the partial bundle."""

    tree_size: int = 0
    hashes: tuple[tuple[bytes, ...], ...] = ()  # of the partial tile of each level, from level 0 up; may be empty
    bundle: bytes = b""  # the last tree_size % 256 entries

    def root_hash(self) -> bytes:
        """Return the root hash of the tree."""
        carry: list[bytes] = []  # what does not fill a tile is the last, incomplete child of the level above
        for level in self.hashes:
            nodes = [*level, *carry]
            carry = [root_hash(nodes)] if nodes else []
        return carry[0] if carry else EMPTY_ROOT


def grow(edge: TreeEdge, entries: Sequence[bytes]) -> tuple[TreeEdge, dict[Tile, bytes]]:
    """Return the edge of the tree with more entries, and the new files of bundles and tiles, bundles first.

    Raises ValueError for an entry of more than 65,535 bytes.
    """
    files: dict[Tile, bytes] = {}
    size, start, bundle = edge.tree_size, 0, edge.bundle
    while start < len(entries):
        stop = min(len(entries), start + TILE_WIDTH - size % TILE_WIDTH)
        bundle += encode_bundle(entries[start:stop])
        size += stop - start
        index = (size - 1) >> TILE_HEIGHT
        files[Tile(ENTRIES_LEVEL, index, size - (index << TILE_HEIGHT))] = bundle
        if size % TILE_WIDTH == 0:
            bundle = b""
        start = stop
    levels = [list(level) for level in edge.hashes]
    rising = [leaf_hash(entry) for entry in entries]
    level = 0
    while rising:
        if level == len(levels):
            levels.append([])
        first = (edge.tree_size >> TILE_HEIGHT * level) >> TILE_HEIGHT
        nodes = levels[level] + rising
        rising = []
        for index, at in enumerate(range(0, len(nodes), TILE_WIDTH), first):
            held = nodes[at : at + TILE_WIDTH]
            files[Tile(level, index, len(held))] = b"".join(held)
            if len(held) == TILE_WIDTH:
                rising.append(root_hash(held))
                held = []
            levels[level] = held
        level += 1
    return TreeEdge(size, tuple(map(tuple, levels)), bundle), files
