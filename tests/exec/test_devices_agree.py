"""Runs made on one device verify on another; the kernels of a run are stored and named in its segments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.exec.small_job import make_job
from tests.exec.test_known_answer import FINAL_STATE, JOB

import samebits
from samebits.cas import Store
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import DeviceError
from samebits.exec.ledger_folder import log_directory
from samebits.ledger import Log


@pytest.fixture(scope="module", autouse=True)
def opencl() -> None:
    try:
        open_device("opencl")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    with Store(tmp_path / "runner") as first, Store(tmp_path / "verifier") as second:
        yield first, second


@pytest.mark.parametrize(("runner", "verifier"), [("opencl", "numpy"), ("numpy", "opencl")])
def test_the_digits_run_of_one_device_verifies_on_another(
    runner: str, verifier: str, stores: tuple[Store, Store]
) -> None:
    first, second = stores
    run = samebits.run(samebits.load_job(JOB), first, device=runner)
    assert (run.device, str(run.final_state)) == (runner, FINAL_STATE)
    verdict = samebits.verify(run.address, second, device=verifier, source=first)
    assert (verdict.verdict, verdict.commits_checked, verdict.device) == ("same", 500, verifier)


def test_segments_name_the_stored_kernels(stores: tuple[Store, Store]) -> None:
    first, second = stores
    run = samebits.run(make_job(), first, device="opencl", checkpoint_every=10)
    for segment in Log.open(log_directory(first), read_only=True).chain(run.address).segments:
        assert segment.body.device == "opencl"
        assert len(segment.body.kernels) == 2  # of the step and of the evaluation
        for address in segment.body.kernels:
            node = first.get_node(address)
            assert (node.kind, node.body["language"]) == ("kernel", "opencl")
            source = node.body["source"]
            assert isinstance(source, samebits.Digest)
            assert b"KERNEL void" in first.get_blob(source)
    samebits.verify(run.address, second, source=first)
    assert all(second.has(address) for address in segment.body.kernels)


def test_a_numpy_run_names_no_kernels(stores: tuple[Store, Store]) -> None:
    run = samebits.run(make_job(), stores[0])
    (segment,) = Log.open(log_directory(stores[0]), read_only=True).chain(run.address).segments
    assert segment.body.kernels == ()
