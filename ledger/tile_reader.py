"""Read entries and make proofs from the tiles of a log, each checked up to the root hash of a checkpoint.

The partial tiles at the right edge give the root together; every other tile is what its hash in the tile above says;
a bundle's entries have the leaf hashes of their tile. So what comes out is what the checkpoint vouches for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from samebits.ledger.checkpoint import Checkpoint
from samebits.ledger.errors import EntryNotFoundError, TileError
from samebits.ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from samebits.ledger.subtrees import Subtree, consistency_subtrees, inclusion_subtrees, perfect_subtrees
from samebits.ledger.tile_source import TileSource, read_bundle, read_hashes
from samebits.ledger.tiles import (
    ENTRIES_LEVEL,
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    TileTree,
    TreeEdge,
    edge_tiles,
    encode_bundle,
    tile_at,
)

CACHED_TILES: Final = 256  # of about 35 KiB each


class TileReader:
    """The log under one checkpoint. Usable from several threads at once. Every method raises TileError."""

    def __init__(self, source: TileSource, checkpoint: Checkpoint, *, cached_tiles: int = CACHED_TILES) -> None:
        """Read the right edge of the tree; raises TileError unless it gives the checkpoint's root hash."""
        self._source = source
        self._checkpoint = checkpoint
        self._cached_tiles = cached_tiles
        self._cache: OrderedDict[tuple[int, int], TileTree] = OrderedDict()
        self._lock = threading.Lock()
        self._edge = {tile.level: TileTree(read_hashes(source, tile)) for tile in edge_tiles(checkpoint.tree_size)}
        if self._edge_without_bundle().root_hash() != checkpoint.root_hash:
            problem = f"not what the checkpoint of {self.tree_size} entries says"
            raise TileError(self._wrong_edge_tile(), problem)

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that everything is checked against."""
        return self._checkpoint

    @property
    def tree_size(self) -> int:
        """The number of entries."""
        return self._checkpoint.tree_size

    def leaf_hash(self, index: int) -> bytes:
        """Return the hash of leaf `index`; raises EntryNotFoundError."""
        self._check_index(index)
        return self._node(0, index)

    def inclusion_proof(self, index: int, tree_size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that leaf `index` is in the tree, or in that over its first `tree_size` leaves.

        Raises EntryNotFoundError, and ValueError for a size outside.
        """
        size = self._prefix(tree_size)
        if not 0 <= index < size:
            raise EntryNotFoundError(index, size)
        return tuple(map(self._root_of, inclusion_subtrees(index, size)))

    def consistency_proof(self, old_size: int, tree_size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that the tree over the first `old_size` leaves is a prefix of the tree, or of that over its
        first `tree_size` leaves; raises ValueError for sizes outside.
        """
        return tuple(map(self._root_of, consistency_subtrees(old_size, self._prefix(tree_size))))

    def root_hash(self, size: int) -> bytes:
        """Return the root hash of the tree over the first `size` leaves; raises ValueError for a size outside."""
        return self._root_of((0, size)) if self._prefix(size) else EMPTY_ROOT

    def entry(self, index: int) -> bytes:
        """Return an entry; raises EntryNotFoundError."""
        self._check_index(index)
        return next(self.entries(index, index + 1))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the entries [start, stop), to the end if there is no stop, read a bundle at a time."""
        end = self.tree_size if stop is None else min(stop, self.tree_size)
        for index in range(max(start, 0) >> TILE_HEIGHT, (end + TILE_WIDTH - 1) >> TILE_HEIGHT):
            first = index << TILE_HEIGHT
            yield from self._bundle(index)[max(start - first, 0) : end - first]

    def edge(self) -> TreeEdge:
        """Return what an appender must know of the tree, with the entries of the partial bundle."""
        edge = self._edge_without_bundle()
        if not self.tree_size % TILE_WIDTH:
            return edge
        bundle = encode_bundle(self._bundle(self.tree_size >> TILE_HEIGHT))
        return TreeEdge(edge.tree_size, edge.hashes, bundle)

    def _prefix(self, size: int | None) -> int:
        """Return the size of a prefix of the tree, None for all of it; raises ValueError for one outside."""
        if size is None:
            return self.tree_size
        if not 0 <= size <= self.tree_size:
            raise ValueError(f"a tree of {self.tree_size} has no prefix of {size}")
        return size

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.tree_size:
            raise EntryNotFoundError(index, self.tree_size)

    def _bundle(self, index: int) -> list[bytes]:
        tile = tile_at(ENTRIES_LEVEL, index, self.tree_size)
        assert tile is not None
        entries, hashes = read_bundle(self._source, tile), self._tile(0, index).levels[0]
        for number, entry in enumerate(entries):
            if leaf_hash(entry) != hashes[number]:
                raise TileError(tile.path, f"entry {(index << TILE_HEIGHT) + number} is not the one that was signed")
        return entries

    def _root_of(self, subtree: Subtree) -> bytes:
        roots = [self._node(height, index) for height, index in perfect_subtrees(*subtree)]
        root = roots.pop()
        while roots:
            root = node_hash(roots.pop(), root)
        return root

    def _node(self, height: int, index: int) -> bytes:
        """Return the root of the perfect subtree of this height."""
        level, inside = divmod(height, TILE_HEIGHT)
        per_tile = TILE_HEIGHT - inside  # subtrees of this height in a tile, as a power of two
        return self._tile(level, index >> per_tile).node(inside, index & ((1 << per_tile) - 1))

    def _tile(self, level: int, index: int) -> TileTree:
        """Return a tile after checking it against the one above."""
        if index == self.tree_size >> TILE_HEIGHT * (level + 1):
            return self._edge[level]
        with self._lock:
            known = self._cache.get((level, index))
            if known is not None:
                self._cache.move_to_end((level, index))
                return known
        tile = Tile(level, index)
        found = TileTree(read_hashes(self._source, tile))
        above = self._tile(level + 1, index >> TILE_HEIGHT)
        if found.node(TILE_HEIGHT, 0) != above.node(0, index % TILE_WIDTH):
            raise TileError(tile.path, "its hashes are not those that were signed")
        with self._lock:
            self._cache[level, index] = found
            if len(self._cache) > self._cached_tiles:
                self._cache.popitem(last=False)
        return found

    def _edge_without_bundle(self) -> TreeEdge:
        levels: list[tuple[bytes, ...]] = []
        for level, tile in sorted(self._edge.items()):
            levels += [()] * (level - len(levels))
            levels.append(tuple(tile.levels[0]))
        return TreeEdge(self.tree_size, tuple(levels))

    def _wrong_edge_tile(self) -> str:
        """Return the path of the edge tile that contradicts what is below it, or of all of them."""
        tiles = edge_tiles(self.tree_size)
        for tile in tiles:
            if self._below(tile) != self._edge[tile.level].levels[0]:
                return tile.path
        return ", ".join(tile.path for tile in tiles) or "checkpoint"

    def _below(self, tile: Tile) -> list[bytes]:
        """Return the hashes of a tile as the tiles or entries below it give them; raises TileError."""
        if tile.level == 0:
            bundle = Tile(ENTRIES_LEVEL, tile.index, tile.width)
            return [leaf_hash(entry) for entry in read_bundle(self._source, bundle)]
        first = tile.index << TILE_HEIGHT
        children = (Tile(tile.level - 1, index) for index in range(first, first + tile.width))
        return [TileTree(read_hashes(self._source, child)).node(TILE_HEIGHT, 0) for child in children]
