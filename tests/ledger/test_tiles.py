"""Tiles: names, which of them a tree has, their contents, and that a log may grow in any steps."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.raw_logs import raw_entry

from samebits.ledger.errors import TileError
from samebits.ledger.merkle import EMPTY_ROOT, leaf_hash, root_hash
from samebits.ledger.tiles import (
    ENTRIES_LEVEL,
    Tile,
    TileTree,
    TreeEdge,
    decode_bundle,
    decode_hashes,
    edge_tiles,
    encode_bundle,
    grow,
    parse_tile_path,
    tile_at,
    tiles_of,
)

SIZES = (0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(ENTRIES_LEVEL, 1_234_067), "tile/entries/x001/x234/067"),  # the example of the specification
        (Tile(0, 1_234_067, 1), "tile/0/x001/x234/067.p/1"),
        (Tile(63, 999, 255), "tile/63/999.p/255"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(0, (1 << 63) - 1, 9), "tile/0/x009/x223/x372/x036/x854/x775/807.p/9"),
    ],
)
def test_path_is_that_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile_path(path) == tile


BAD_PATHS = """tile/0/00 tile/0/0000 tile/00/000 tile/64/000 tile/-1/000 tile/entries tile/0/x000/000 tile/0/x001/x000
    tile/0/001/000 tile/0/000.p/0 tile/0/000.p/256 tile/0/000.p/01 tile/0/000.p/ tile/0/000.p tile/0/000/ /tile/0/000
    tile/data/000 tile/8/0/000 tile/0/x001/000.p/1000 tile/0/../checkpoint tile/0/٠٠٠ tile//000 tile
    tile/0/x009/x223/x372/x036/x854/x775/808 tile/0/x001/x001/x001/x001/x001/x001/x001/001"""


@pytest.mark.parametrize("path", [*BAD_PATHS.split(), "tile/0/000\n", ""])
def test_parse_tile_path_refuses_every_other_form(path: str) -> None:
    with pytest.raises(TileError, match="not the path of a tile"):
        parse_tile_path(path)


@given(st.integers(-1, 63), st.integers(0, (1 << 63) - 1), st.integers(1, 256))
def test_parse_tile_path_reads_back_every_tile(level: int, index: int, width: int) -> None:
    assert parse_tile_path(Tile(level, index, width).path) == Tile(level, index, width)


@given(st.text("tile/0123x.pentrs", max_size=30))
def test_parse_tile_path_takes_only_what_path_gives(text: str) -> None:
    with suppress(TileError):
        assert parse_tile_path(text).path == text


@pytest.mark.parametrize("what", [(-2, 0, 1), (64, 0, 1), (0, -1, 1), (0, 1 << 63, 1), (0, 0, 0), (0, 0, 257)])
def test_tile_refuses_what_cannot_be(what: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="there is no"):
        Tile(*what)


def test_tiles_of_a_tree_are_those_of_the_specification() -> None:
    assert list(tiles_of(0)) == []
    assert [tile.path for tile in tiles_of(256)] == ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    paths = [tile.path for tile in tiles_of(70_000)]
    assert len(paths) == 274 + 274 + 2 + 1
    assert [path for path in paths if ".p/" in path] == [
        "tile/entries/273.p/112",
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert [tile.path for tile in edge_tiles(70_000)] == [path for path in paths if ".p/" in path][1:]
    assert tile_at(1, 2, 70_000) is None
    assert tile_at(ENTRIES_LEVEL, 273, 70_000) == Tile(ENTRIES_LEVEL, 273, 112)


@pytest.mark.parametrize("size", SIZES)
def test_grow_makes_the_tiles_and_the_root_of_a_tree(size: int) -> None:
    entries = [raw_entry(index) for index in range(size)]
    edge, files = grow(TreeEdge(), entries)
    assert sorted(tile.path for tile in files) == sorted(tile.path for tile in tiles_of(size))
    leaves = [leaf_hash(entry) for entry in entries]
    assert edge.root_hash() == (root_hash(leaves) if leaves else EMPTY_ROOT)
    for tile, data in files.items():
        first = tile.index << 8
        if tile.level == ENTRIES_LEVEL:
            assert decode_bundle(tile, data) == entries[first : first + tile.width]
            continue
        for number, found in enumerate(decode_hashes(tile, data)):
            span = 256**tile.level
            start = (first + number) * span
            assert found == root_hash(leaves[start : start + span])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 700), max_size=4))
def test_grow_in_any_steps_ends_with_the_same_tiles(steps: list[int]) -> None:
    entries = [raw_entry(index) for index in range(sum(steps))]
    edge, files, at = TreeEdge(), dict[Tile, bytes](), 0
    for step in steps:
        edge, more = grow(edge, entries[at : at + step])
        assert not files.keys() & more.keys()  # no file is ever written twice
        assert edge.root_hash() == grow(TreeEdge(), entries[: at + step])[0].root_hash()
        assert {tile.path for tile in tiles_of(at + step)} <= {tile.path for tile in files | more}
        files, at = files | more, at + step
    whole, expected = grow(TreeEdge(), entries)
    assert edge == whole
    assert expected.items() <= files.items()


@pytest.mark.parametrize("entries", [[], [b""], [b"", b"a", b"b" * 65_535], [b"x"] * 256])
def test_bundle_reads_back(entries: list[bytes]) -> None:
    data = encode_bundle(entries)
    if entries:
        assert decode_bundle(Tile(ENTRIES_LEVEL, 0, len(entries)), data) == entries


def test_bundle_is_that_of_the_specification() -> None:
    assert encode_bundle([b"a", b"bc"]) == bytes.fromhex("0001 61 0002 6263")
    with pytest.raises(ValueError, match="at most 65535 bytes"):
        encode_bundle([bytes(65_536)])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "ends before its entry 0"),
        (b"\0", "ends before its entry 0"),
        (b"\0\1a", "ends before its entry 1"),
        (b"\0\1a\0", "ends before its entry 1"),
        (b"\0\1a\0\2b", "ends before its entry 1"),
        (b"\0\1a\0\1bc", "has 1 bytes behind its 2 entries"),
        (b"\0\0\0\0\0\0", "has 2 bytes behind its 2 entries"),
    ],
)
def test_decode_bundle_refuses_other_lengths(data: bytes, problem: str) -> None:
    with pytest.raises(TileError, match=rf"^tile/entries/000\.p/2: {problem}"):
        decode_bundle(Tile(ENTRIES_LEVEL, 0, 2), data)


def test_decode_hashes_refuses_other_lengths() -> None:
    for length in (0, 32, 63, 65, 96):
        with pytest.raises(TileError, match=rf"^tile/0/000\.p/2: has {length} bytes, want 64"):
            decode_hashes(Tile(0, 0, 2), bytes(length))


def test_tile_tree_has_the_roots_of_all_perfect_subtrees() -> None:
    leaves = [leaf_hash(raw_entry(index)) for index in range(256)]
    for width in (1, 2, 3, 255, 256):
        tree = TileTree(leaves[:width])
        for height in range(9):
            for index in range(width >> height):
                assert tree.node(height, index) == root_hash(leaves[index << height : (index + 1) << height])
