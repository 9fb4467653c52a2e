"""Job files: round trip, what is inside, and refusal of everything malformed."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.exec.small_job import make_job

import samebits
from samebits.cas import Digest, Node, encode_node
from samebits.cas.encoding import decode, encode
from samebits.exec.errors import JobError
from samebits.exec.job_file import list_tensors


@pytest.mark.parametrize(("embed", "blobs"), [("none", 0), ("state", 1), ("data", 3), ("all", 4)])
def test_load_job_round_trips(tmp_path: Path, embed: str, blobs: int) -> None:
    job = make_job()
    size = samebits.save_job(job, tmp_path / "a.job", embed=embed)
    loaded = samebits.load_job(tmp_path / "a.job")
    assert loaded.address == job.address
    assert len(loaded.blobs) == blobs
    assert size == (tmp_path / "a.job").stat().st_size
    assert [part.embedded for part in list_tensors(loaded)].count(True) == blobs
    assert [part.name for part in list_tensors(loaded)] == ["state/w", "data/x", "data/y", "evaluation/target"]


def test_run_of_a_loaded_job_gives_the_same_final_state(tmp_path: Path) -> None:
    job = make_job()
    samebits.save_job(job, tmp_path / "a.job", embed="all")
    with samebits.Store(tmp_path / "one") as one, samebits.Store(tmp_path / "two") as two:
        assert (
            samebits.run(job, one).final_state == samebits.run(samebits.load_job(tmp_path / "a.job"), two).final_state
        )


def parts(tmp_path: Path) -> dict[str, Any]:
    samebits.save_job(make_job(), tmp_path / "good.job", embed="all")
    value = decode((tmp_path / "good.job").read_bytes())
    assert isinstance(value, dict)
    return value


def packed(*nodes: Any) -> bytes:
    return lzma.compress(encode(list(nodes)))


def unpacked(value: dict[str, Any]) -> list[Any]:
    nodes = decode(lzma.decompress(value["nodes"]))
    assert isinstance(nodes, list)
    return nodes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a job file"),
        ({"version": 1}, "version 1"),
        ({"job": Digest(bytes(32))}, "itself is not in the file"),
        ({"nodes": packed()}, "itself is not in the file"),
        ({"nodes": packed(1)}, "not bytes"),
        ({"nodes": packed(b"\x00")}, "node"),
        ({"nodes": []}, "not a job file"),
        ({"nodes": b"PK"}, "can't be unpacked"),
        ({"nodes": packed()[:-3]}, "cut off"),
        ({"nodes": packed() + b"more"}, "followed by something else"),
        ({"nodes": lzma.compress(encode({}))}, "not a list"),
        ({"blobs": [1]}, "not bytes"),
        ({"blobs": [b"stranger"]}, "does not belong to the job"),
    ],
)
def test_load_job_names_what_is_malformed(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "bad.job").write_bytes(encode({**parts(tmp_path), **changes}))
    with pytest.raises(JobError, match=message) as raised:
        samebits.load_job(tmp_path / "bad.job")
    assert "bad.job" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_load_job_refuses_nodes_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = parts(tmp_path)
    monkeypatch.setattr("samebits.exec.job_file.MAX_NODES_SIZE_BYTES", 100)
    (tmp_path / "bad.job").write_bytes(encode(value))
    with pytest.raises(JobError, match="too large"):
        samebits.load_job(tmp_path / "bad.job")


def test_load_job_refuses_a_file_that_lacks_a_graph(tmp_path: Path) -> None:
    value = parts(tmp_path)
    kept = [data for data in unpacked(value) if b"graph" not in data[:10]]
    (tmp_path / "bad.job").write_bytes(encode({**value, "nodes": packed(*kept)}))
    with pytest.raises(JobError, match=r"graph .* is not in the job file"):
        samebits.load_job(tmp_path / "bad.job")


def test_load_job_refuses_extra_nodes(tmp_path: Path) -> None:
    value = parts(tmp_path)
    more = packed(*unpacked(value), encode_node(Node("tree", {"entries": {}})))
    (tmp_path / "bad.job").write_bytes(encode({**value, "nodes": more}))
    with pytest.raises(JobError, match="does not belong"):
        samebits.load_job(tmp_path / "bad.job")


def test_load_job_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="No such file"):
        samebits.load_job(tmp_path / "none.job")


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_load_job_never_accepts_a_flipped_bit_as_the_same_job(tmp_path_factory: Any, position: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("flip")
    job = make_job()
    samebits.save_job(job, folder / "a.job", embed="all")
    data = bytearray((folder / "a.job").read_bytes())
    data[position % len(data)] ^= 1 << bit
    (folder / "a.job").write_bytes(data)
    with pytest.raises(JobError):
        samebits.load_job(folder / "a.job")


def test_save_job_refuses_to_embed_what_is_not_at_hand(tmp_path: Path) -> None:
    samebits.save_job(make_job(), tmp_path / "a.job")
    with pytest.raises(JobError, match="not at hand"):
        samebits.save_job(samebits.load_job(tmp_path / "a.job"), tmp_path / "b.job", embed="all")
    assert not (tmp_path / "b.job").exists()


def test_save_job_into_a_missing_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="No such file"):
        samebits.save_job(make_job(), tmp_path / "none" / "a.job")
