"""What programs by other people read in our tiles: Go's golang.org/x/mod/sumdb, and tlog-scales.

Both read the log from its directory and from our server, at sizes around the borders of bundles and tiles.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ledger.log_places import serving_log
from tests.ledger.raw_logs import RawLog, raw_entry, raw_log
from tests.ledger.test_go_interop import ENVIRONMENT, go  # noqa: F401  # a fixture

from samebits.ledger.merkle import check_consistency, check_inclusion, leaf_hash
from samebits.ledger.tile_reader import TileReader

PROGRAM = Path(__file__).parent / "go_tiles" / "main.go"
SIZES = (1, 255, 256, 257, 65_536, 70_000)


@pytest.fixture(scope="module", params=SIZES)
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RawLog:
    """A log of a size, published at every smaller one in SIZES on the way."""
    sizes = [size for size in SIZES if size <= request.param]
    return raw_log(tmp_path_factory.mktemp("log"), 0, *sizes)


@contextmanager
def place_of(log: RawLog, kind: str) -> Iterator[str]:
    """Yield the directory or the URL of a log."""
    if kind == "directory":
        yield str(log.directory)
    else:
        with serving_log(log.directory) as url:
            yield url


def sample(size: int) -> list[int]:
    """Return indexes of entries at the borders, and some others."""
    borders = {index for border in (*SIZES, 512) for index in (border - 1, border, border + 1)}
    return sorted({index for index in borders if index < size} | set(random.Random(size).choices(range(size), k=20)))


@pytest.fixture(scope="module")
def program(go: str, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    binary = tmp_path_factory.mktemp("go") / "tiles"
    subprocess.run([go, "build", "-o", str(binary), str(PROGRAM)], env=ENVIRONMENT, check=True, timeout=300)
    return binary


def ask_go(program: Path, place: str, log: RawLog, roots: dict[int, bytes]) -> subprocess.CompletedProcess[str]:
    """Have Go check a log: the roots of its trees, and a sample of its entries."""
    request = {
        "place": place,
        "vkey": log.key.verifier.vkey,
        "sizes": list(roots),
        "roots": [base64.b64encode(root).decode() for root in roots.values()],
        "entries": {str(index): base64.b64encode(raw_entry(index)).decode() for index in sample(max(roots))},
    }
    return subprocess.run(
        [program], input=json.dumps(request), text=True, capture_output=True, timeout=120, check=False
    )


def roots_of(log: RawLog) -> dict[int, bytes]:
    """Return the root of the log's tree at each of SIZES."""
    reader = TileReader(log.storage.source, log.checkpoint)
    return {size: reader.root_hash(size) for size in SIZES if size <= reader.tree_size}


@pytest.mark.parametrize("kind", ["directory", "server"])
def test_go_reads_our_tiles(program: Path, log: RawLog, kind: str) -> None:
    with place_of(log, kind) as place:
        done = ask_go(program, place, log, roots_of(log))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok ")


def test_go_refuses_what_is_not_ours(program: Path, tmp_path: Path) -> None:
    """The program above can fail: one bit in a tile, in a bundle, in the checkpoint."""
    log = raw_log(tmp_path, 255, 257)
    roots = roots_of(log)
    for name in ("checkpoint", "tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000"):
        data = (log.directory / name).read_bytes()
        wrong = bytearray(data)
        wrong[-3] ^= 1
        (log.directory / name).write_bytes(wrong)
        assert ask_go(program, str(log.directory), log, roots).returncode != 0, name
        (log.directory / name).write_bytes(data)
    assert ask_go(program, str(log.directory), log, roots).returncode == 0


@pytest.mark.parametrize("kind", ["directory", "server"])
def test_tlog_scales_reads_our_tiles(log: RawLog, kind: str) -> None:
    """Its root, proofs and entries are ours; its checks of ours, and ours of its, pass."""
    pytest.importorskip("tlog_scales", reason="tlog-scales is not installed")
    from tlog_scales.backend import make_backend
    from tlog_scales.reader import TilesReader
    from tlog_scales.signing import Vkey
    from tlog_scales.tlog import ConsistencyProof, InclusionProof

    ours, checkpoint, size = TileReader(log.storage.source, log.checkpoint), log.checkpoint, log.size
    with place_of(log, kind) as place:
        theirs = TilesReader(make_backend(place))
        note = theirs.get_checkpoint()
        note.verify(Vkey.from_string(log.key.verifier.vkey))
        assert (note.origin, note.size, note.root_hash) == (checkpoint.origin, size, checkpoint.root_hash)
        assert theirs.calculate_root_hash() == checkpoint.root_hash
        for index in sample(size):
            entry = theirs.get_entry(index)
            assert entry == raw_entry(index)
            proof = theirs.get_inclusion_proof(index, size)
            check_inclusion(index, size, leaf_hash(entry), proof.node_hashes, checkpoint.root_hash)
            assert list(ours.inclusion_proof(index)) == proof.node_hashes
            assert isinstance(proof, InclusionProof)
        for old in (old for old in SIZES if old < size):
            found = theirs.get_consistency_proof(old, size)
            check_consistency(old, size, ours.root_hash(old), checkpoint.root_hash, found.node_hashes)
            proved = ConsistencyProof(old, size, list(ours.consistency_proof(old)))
            proved.check(ours.root_hash(old), checkpoint.root_hash)
