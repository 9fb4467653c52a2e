"""`samebits run --paranoid`: what it says, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_commands import ROOT, json_of, samebits_command
from tests.exec.kernel_devices import open_opencl
from tests.exec.small_job import make_job

import samebits
from samebits.exec.devices.recomputation import missed_fault_probability


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    samebits.save_job(make_job(), tmp_path / "line.job", embed="all")
    return tmp_path / "line.job"


def test_run_says_how_probable_a_missed_fault_is(tmp_path: Path, job_file: Path) -> None:
    found = json_of("run", job_file, "--store", tmp_path / "s", "--paranoid", 0.5, "--fault-rate", 0.001)
    assert found["launches"] > found["recomputed"] > 0
    assert found["fault_rate"] == 0.001
    assert found["missed_fault_probability"] == missed_fault_probability(0.001, 0.5, found["launches"]) > 0
    plain = json_of("run", job_file, "--store", tmp_path / "s")
    assert plain["final_state"] == found["final_state"]
    assert not {"launches", "recomputed", "fault_rate", "missed_fault_probability"} & set(plain)
    text = samebits_command("run", job_file, "--store", tmp_path / "s", "--paranoid", 1).stdout
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("metric "))
    assert lines["launches"] == lines["recomputed"] == str(found["launches"])
    assert (lines["fault_rate"], lines["missed_fault_probability"]) == ("0.0001", "0")


@pytest.mark.parametrize(
    "arguments",
    [("--paranoid", "2"), ("--paranoid", "-1"), ("--paranoid", "nan"), ("--fault-rate", "nan"), ("--fault-rate", "x")],
)
def test_run_refuses_what_is_no_probability(tmp_path: Path, job_file: Path, arguments: tuple[str, str]) -> None:
    done = samebits_command("run", job_file, "--store", tmp_path / "s", *arguments, code=2)
    assert len(done.stderr.splitlines()) == 1
    assert arguments[0].strip("-").split("-")[0] in done.stderr
    assert not (tmp_path / "s" / "ledger").exists()


def test_a_fault_is_one_line_that_names_operation_and_step(tmp_path: Path, job_file: Path) -> None:
    open_opencl("cpu")
    script = "from tests.exec.faulty_device import flip_main; flip_main()"
    command = [sys.executable, "-c", script, "60", "run", job_file, "--store", tmp_path / "s", "--device", "opencl"]
    command += ["--paranoid", "1", "--checkpoint-every", "5"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("samebits: step "), line
    assert "device opencl computes wrongly: node " in line
    assert "(in the step graph); kept: all steps before 5; to go on: samebits run " in line
    assert samebits_command("log", "verify", "--store", tmp_path / "s").returncode == 0
