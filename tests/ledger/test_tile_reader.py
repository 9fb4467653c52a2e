"""Reading through tiles: the same proofs as from all leaf hashes, and no wrong file is believed or misnamed."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cas.remote_places import QuietHandler, serving_files
from tests.ledger.raw_logs import RawLog, raw_entry, raw_log

from samebits.ledger.errors import EntryNotFoundError, TileError
from samebits.ledger.merkle import (
    EMPTY_ROOT,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
)
from samebits.ledger.subtrees import perfect_subtrees
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_source import DirectorySource, HttpSource, TileSource
from samebits.ledger.tiles import ENTRIES_LEVEL, Tile, TreeEdge, grow, tiles_of

SMALL = (1, 2, 3, 7, 8, 255, 256, 257, 513)
LARGE = (65_535, 65_536, 65_537, 70_000)


class MemorySource:
    """The files of a log in memory; counts what is read."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.reads = 0

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file."""
        self.reads += 1
        return self.files.get(path)


def open_reader(log: RawLog, source: TileSource | None = None) -> TileReader:
    return TileReader(source or log.storage.source, log.checkpoint)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RawLog:
    """A log of 70,000 entries that was published at every size in LARGE."""
    return raw_log(tmp_path_factory.mktemp("large"), *LARGE)


@pytest.mark.parametrize("size", SMALL)
def test_proofs_are_those_from_all_leaf_hashes(size: int, tmp_path: Path) -> None:
    log = raw_log(tmp_path, size)
    reader, leaves = open_reader(log), [leaf_hash(raw_entry(index)) for index in range(size)]
    assert list(reader.entries()) == [raw_entry(index) for index in range(size)]
    for index in range(size):
        assert reader.leaf_hash(index) == leaves[index]
        assert reader.inclusion_proof(index) == inclusion_proof(leaves, index)
    for old in range(size + 1):
        assert reader.consistency_proof(old) == consistency_proof(leaves, old)
        assert reader.root_hash(old) == root_hash(leaves[:old])


def test_proofs_in_older_trees_are_those_of_the_older_trees(tmp_path: Path) -> None:
    reader, leaves = open_reader(raw_log(tmp_path, 300)), [leaf_hash(raw_entry(index)) for index in range(300)]
    for size in (1, 2, 7, 255, 256, 257, 299, 300):
        for index in {0, size // 2, size - 1}:
            assert reader.inclusion_proof(index, size) == inclusion_proof(leaves[:size], index)
            assert reader.consistency_proof(index, size) == consistency_proof(leaves[:size], index)
        with pytest.raises(EntryNotFoundError, match=f"not in this log of {size} entries"):
            reader.inclusion_proof(size, size)
        with pytest.raises(ValueError, match="no prefix"):
            reader.consistency_proof(size + 1, size)
    for size in (-1, 301):
        with pytest.raises(ValueError, match="no prefix"):
            reader.inclusion_proof(0, size)


@pytest.mark.parametrize("size", LARGE)
def test_proofs_of_large_trees_check(size: int, large: RawLog) -> None:
    leaves = [leaf_hash(raw_entry(index)) for index in range(size)]
    edge, files = grow(TreeEdge(), [raw_entry(index) for index in range(size)])
    source = MemorySource({tile.path: data for tile, data in files.items()})
    reader = TileReader(source, replace(large.checkpoint, tree_size=size, root_hash=edge.root_hash()), cached_tiles=4)
    indexes = [0, 255, 256, size // 2, size - 2, size - 1, *random.Random(size).sample(range(size), 40)]
    for index in indexes:
        check_inclusion(index, size, leaves[index], reader.inclusion_proof(index), edge.root_hash())
        old = reader.root_hash(index + 1)
        check_consistency(index + 1, size, old, edge.root_hash(), reader.consistency_proof(index + 1))
        assert reader.entry(index) == raw_entry(index)
    assert list(reader.entries(size - 300, size - 3)) == [raw_entry(index) for index in range(size - 300, size - 3)]
    assert len(reader._cache) <= 4


def test_reader_names_what_is_outside(tmp_path: Path) -> None:
    reader = open_reader(raw_log(tmp_path, 5))
    for read in (reader.entry, reader.leaf_hash, reader.inclusion_proof):
        for index in (-1, 5):
            with pytest.raises(EntryNotFoundError, match=f"entry {index} is not in this log of 5"):
                read(index)
    for index in (-1, 6):
        with pytest.raises(ValueError, match="no prefix"):
            reader.consistency_proof(index)
        with pytest.raises(ValueError, match="no prefix"):
            reader.root_hash(index)
    assert reader.root_hash(0) == EMPTY_ROOT
    assert list(reader.entries(5)) == list(reader.entries(3, 3)) == []


def test_empty_tree_is_read(tmp_path: Path) -> None:
    log = raw_log(tmp_path)
    log.append([])
    reader = open_reader(log)
    assert reader.root_hash(0) == EMPTY_ROOT
    assert list(reader.entries()) == []
    with pytest.raises(TileError, match=r"^checkpoint: not what the checkpoint of 0"):
        TileReader(log.storage.source, replace(log.checkpoint, root_hash=bytes(32)))


def read_about(log: RawLog, tile: Tile) -> None:
    """Read entries that a tile or bundle vouches for."""
    first = tile.index << 8 * (1 + max(tile.level, 0))
    for _ in open_reader(log).entries(first, first + 1):
        pass


def test_every_wrong_file_is_named(tmp_path: Path, large: RawLog) -> None:
    """One bit of each kind of tile and bundle; everything else in the log is right."""
    for tile in (
        *(Tile(ENTRIES_LEVEL, index) for index in (0, 1, 272)),
        Tile(ENTRIES_LEVEL, 273, 112),
        *(Tile(0, index) for index in (0, 200, 272)),
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ):
        file = large.directory / tile.path
        data = file.read_bytes()
        assert data
        for place in (0, len(data) - 1):
            wrong = bytearray(data)
            wrong[place] ^= 4
            file.write_bytes(wrong)
            with pytest.raises(TileError) as caught:
                read_about(large, tile)
            assert caught.value.path == tile.path, (tile, place, str(caught.value))
        for cut in (data[:-1], data + b"\0"):
            file.write_bytes(cut)
            with pytest.raises(TileError) as caught:
                read_about(large, tile)
            assert caught.value.path == tile.path
        file.unlink()
        with pytest.raises(TileError) as caught:
            read_about(large, tile)
        assert str(caught.value) == f"{tile.path}: missing"
        file.write_bytes(data)
    assert sum(1 for _ in open_reader(large).entries()) == 70_000


def test_files_of_another_log_are_named(tmp_path: Path) -> None:
    """Every file fits the others, but not the checkpoint."""
    log, other = raw_log(tmp_path / "a", 300), raw_log(tmp_path / "b")
    other.append([b"other %d" % index for index in range(300)])
    message = r"^tile/0/001\.p/44, tile/1/000\.p/1: not what the checkpoint of 300 entries says"
    with pytest.raises(TileError, match=message):
        TileReader(other.storage.source, log.checkpoint)


def test_partial_tile_that_is_gone_is_read_from_the_full_one(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 200)
    checkpoint = log.checkpoint
    log.grow(257)
    assert not (log.directory / "tile/0/000.p").exists()
    reader = TileReader(log.storage.source, checkpoint)
    assert reader.entry(199) == raw_entry(199)
    assert list(reader.entries()) == [raw_entry(index) for index in range(200)]


def test_reader_keeps_tiles(tmp_path: Path, large: RawLog) -> None:
    files = {tile.path: (large.directory / tile.path).read_bytes() for tile in tiles_of(70_000)}
    source = MemorySource(files)
    reader = open_reader(large, source)
    assert source.reads == 3  # the edge
    reader.inclusion_proof(1000)
    assert source.reads == 3 + 2
    reader.inclusion_proof(1001)
    reader.consistency_proof(1001)
    assert source.reads == 3 + 2


def test_perfect_subtrees_are_those_of_a_tree() -> None:
    assert list(perfect_subtrees(0, 7)) == [(2, 0), (1, 2), (0, 6)]
    assert list(perfect_subtrees(4, 7)) == [(1, 2), (0, 6)]
    assert list(perfect_subtrees(8, 16)) == [(3, 1)]
    assert list(perfect_subtrees(3, 3)) == []


class GzipHandler(QuietHandler):
    """Sends every file compressed, whatever the client wants: tlog-tiles allows that."""

    bomb = False

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = gzip.compress(bytes(100_000_000) if self.bomb else path.read_bytes())
        self.send_response(200)
        self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class BombHandler(GzipHandler):
    bomb = True


@pytest.fixture
def served(tmp_path: Path, large: RawLog, request: pytest.FixtureRequest) -> Iterator[HttpSource]:
    with serving_files(large.directory, request.param) as url:
        source = HttpSource(url)
        yield source
        source.close()


@pytest.mark.parametrize("served", [QuietHandler, GzipHandler], indirect=True)
def test_http_source_reads_a_static_file_server(served: HttpSource, large: RawLog) -> None:
    reader = open_reader(large, served)
    assert list(reader.entries(65_000, 65_300)) == [raw_entry(index) for index in range(65_000, 65_300)]
    check_inclusion(17, 70_000, leaf_hash(raw_entry(17)), reader.inclusion_proof(17), large.checkpoint.root_hash)
    assert served.read("tile/0/x999/000", 1) is None
    with pytest.raises(TileError, match="has more than 8191 bytes"):
        served.read("tile/0/000", 8191)


@pytest.mark.parametrize("served", [BombHandler], indirect=True)
def test_http_source_bounds_what_it_inflates(served: HttpSource) -> None:
    with pytest.raises(TileError, match="has more than 8192 bytes"):
        served.read("tile/0/000", 8192)


def test_http_source_that_cannot_be_asked_is_one_line() -> None:
    with pytest.raises(TileError, match="want http"):
        HttpSource("ftp://example.com")
    source = HttpSource("http://127.0.0.1:9")
    with pytest.raises(TileError, match=r"^http://127.0.0.1:9/checkpoint: can't connect"):
        source.read("checkpoint", 10)


def test_directory_source_reads_regular_files_only(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 3)
    source = DirectorySource(log.directory)
    assert source.read("tile/0/000.p/3/x", 10) is None
    with pytest.raises(TileError, match=r"^tile/0: (not a regular file|Is a directory)"):
        source.read("tile/0", 10)
    with pytest.raises(TileError, match="has more than 95 bytes"):
        source.read("tile/0/000.p/3", 95)
    assert len(source.read("tile/0/000.p/3", 96) or b"") == 96
    shutil.rmtree(log.directory)
    assert source.read("checkpoint", 10) is None
