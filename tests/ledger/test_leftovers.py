"""What an append that did not end leaves behind, and who clears it away."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ledger.raw_logs import SEED, RawLog, raw_entry

from samebits.ledger.keys import SigningKey
from samebits.ledger.logkey import log_origin
from samebits.ledger.tile_audit import tile_problems
from samebits.ledger.tiles import tiles_of


class _CrashError(Exception):
    pass


def crash(tree_size: int, root_hash: bytes) -> bytes:
    """Sign nothing: the writer ends where its files are durable and its head is not."""
    raise _CrashError


@pytest.mark.parametrize(("size", "cut_short", "grown"), [(0, 64, 300), (20, 1, 240), (20, 64, 300), (20, 66_000, 600)])
def test_next_writer_clears_up_on_every_level(tmp_path: Path, size: int, cut_short: int, grown: int) -> None:
    """Partial hash tiles of a log that was empty stayed, and an audit took them for damage."""
    key = SigningKey(log_origin(SigningKey("x", SEED).public), SEED)
    first = RawLog(tmp_path / "log", tmp_path / "state", key)
    first.append([])
    other = first.again().grow(size)
    with pytest.raises(_CrashError):
        first.append([b"lost %d" % index for index in range(cut_short)], crash)
    other.append([raw_entry(index) for index in range(size, grown)])
    left = {
        path.relative_to(tmp_path / "log").as_posix()
        for path in (tmp_path / "log" / "tile").rglob("*")
        if path.is_file()
    }
    assert list(tile_problems(tmp_path / "log", grown)) == []
    published = {tile.path for tile in tiles_of(size)}  # partial tiles of older sizes may stay
    assert left - published == {tile.path for tile in tiles_of(grown)} - published
