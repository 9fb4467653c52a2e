"""A device that is lost in the middle: one line that says where and how to go on, nothing damaged, nothing printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.exec.faulty_device import LostBackend, install
from tests.exec.kernel_devices import open_opencl
from tests.exec.small_job import make_job

import samebits
from samebits.cas import Store, fsck
from samebits.exec.devices.kernel_device import Pool
from samebits.exec.errors import DeviceError
from samebits.exec.ledger_folder import log_directory
from samebits.exec.running.resume import resume_run
from samebits.ledger import Log

ROOT = Path(__file__).parents[2]
GONE = r"device opencl: \w+: clWaitForEvents failed: DEVICE_NOT_AVAILABLE"


def launches_of_step(patch: pytest.MonkeyPatch, store: Store) -> int:
    """Return how many launches a step of the small job takes, counted on a device that is not lost."""
    open_opencl("cpu")
    backend = LostBackend(1 << 30)
    install(patch, backend)
    samebits.run(make_job(steps=24), store, device="opencl")
    used = (1 << 30) - backend.left
    install(patch, backend)
    samebits.run(make_job(steps=25), store, device="opencl")
    return (1 << 30) - backend.left - 2 * used


@pytest.mark.parametrize("step", [0, 4, 5, 17, 24])
def test_a_lost_device_stops_the_run_and_keeps_what_was_done(
    step: int, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "counting") as other, monkeypatch.context() as patch:
        each = launches_of_step(patch, other)
    with monkeypatch.context() as patch:
        install(patch, LostBackend(step * each + 1))
        with pytest.raises(DeviceError) as raised:
            samebits.run(make_job(), store, device="opencl", checkpoint_every=5)
    kept = step // 5 * 5
    if kept:
        (run,) = Log.open(log_directory(store), read_only=True).runs()
        chain = Log.open(log_directory(store), read_only=True).chain(run.run_address)
        assert chain.next_step == kept
        end = f"kept: all steps before {kept}; to go on: samebits run {run.run_address} --resume"
        assert samebits.verify(run.run_address, store, partial=True).verdict == "same"
    else:
        assert not log_directory(store).exists() or Log.open(log_directory(store), read_only=True).size == 0
        end = "nothing of the run is kept; start it again"
    assert re.fullmatch(f"step {step}: {GONE}( \\(in the step graph\\))?; {re.escape(end)}", said(raised.value))
    if kept:
        Log.open(log_directory(store), read_only=True).audit().check()
    assert not fsck(store).problems
    whole = samebits.run(make_job(), store, device="opencl")  # on one that is there
    assert whole.steps == 25
    if kept:
        resumed = resume_run(run.run_address, store, device="numpy")
        assert (resumed.commits, resumed.final_state) == (whole.commits, whole.final_state)


def said(error: BaseException) -> str:
    """Return what a command says of an error: its text and its notes."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def test_a_lost_device_is_one_line_of_the_command(tmp_path: Path) -> None:
    open_opencl("cpu")
    samebits.save_job(make_job(), tmp_path / "line.job", embed="all")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = [sys.executable, "-m", "tests.exec.faulty_device", *arguments, "--store", str(tmp_path / "s")]
        return subprocess.run(done, capture_output=True, text=True, timeout=300, cwd=ROOT)

    run = ("run", str(tmp_path / "line.job"), "--device", "opencl", "--checkpoint-every", "5")
    lost = command("40", *run)
    assert (lost.returncode, lost.stdout) == (2, "")
    assert len(lost.stderr.splitlines()) == 1, lost.stderr
    end = r"kept: all steps before (\d+); to go on: samebits run \w{64} --resume\n"
    found = re.fullmatch(rf"samebits: step \d+: {GONE}.*; {end}", lost.stderr)
    assert found is not None, lost.stderr
    assert int(found[1]) >= 5
    assert command("0", "log", "verify").returncode == 0
    assert command("0", "cas", "fsck").returncode == 0
    again = command("1000000", *run, "--json")
    assert (again.returncode, json.loads(again.stdout)["steps"]) == (0, 25)
    first = command("0", *run)
    assert (first.returncode, len(first.stderr.splitlines())) == (2, 1)
    assert first.stderr.endswith("; nothing of the run is kept; start it again\n")


def test_a_pool_of_a_lost_device_takes_buffers_back_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    open_opencl("cpu")
    backend = LostBackend(0)
    pool = Pool(backend)
    blocks = [pool.take(size) for size in (100, 100, 300 << 20)]
    backend.left = -1
    del blocks
    with pytest.raises(DeviceError, match="allocate"):
        pool.take(1 << 20)
    del pool
    assert capfd.readouterr() == ("", "")
