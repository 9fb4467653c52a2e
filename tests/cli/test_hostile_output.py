"""What jobs of strangers and users' scripts name or print can't forge, break or pollute what a command says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_commands import json_of, samebits_command
from tests.exec.small_job import make_job

import samebits


@pytest.mark.parametrize("metric", ["verdict", "run", "[/x]", "[red]"])
def test_a_metric_name_replaces_nothing(tmp_path: Path, metric: str) -> None:
    samebits.save_job(make_job(metric=metric), tmp_path / "a.job", embed="all")
    text = samebits_command("run", tmp_path / "a.job", "--store", tmp_path / "s").stdout
    assert f"metric {metric}  " in text
    run = text.splitlines()[0].split()[1]
    said = samebits_command("verify", run, "--store", tmp_path / "s").stdout
    assert said.startswith("verdict       same: all 25 commits")


def test_json_of_a_diverged_run_is_json(tmp_path: Path) -> None:
    samebits.save_job(make_job(rate=1e30), tmp_path / "a.job", embed="all")
    printed = samebits_command("run", tmp_path / "a.job", "--store", tmp_path / "s", "--json").stdout

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(printed, parse_constant=refuse)
    assert found["metrics"]["loss"] in ("nan", "inf")
    assert json_of("verify", found["run"], "--store", tmp_path / "s")["verdict"] == "same"


def test_what_a_script_prints_goes_to_stderr(tmp_path: Path) -> None:
    samebits.save_job(make_job(), tmp_path / "a.job", embed="all")
    script = tmp_path / "script.py"
    script.write_text(
        f"import samebits\nprint('hello')\ndef job():\n    return samebits.load_job({str(tmp_path / 'a.job')!r})\n"
    )
    assert json_of("run", script, "--store", tmp_path / "s")["steps"] == 25


def test_job_capture_replaces_no_special_file(tmp_path: Path) -> None:
    samebits.save_job(make_job(), tmp_path / "a.job", embed="all")
    script = tmp_path / "script.py"
    script.write_text(f"import samebits\ndef job():\n    return samebits.load_job({str(tmp_path / 'a.job')!r})\n")
    os.mkfifo(tmp_path / "pipe")
    samebits_command("job", "capture", script, "-o", tmp_path / "pipe", "--store", tmp_path / "s", code=2)
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "file").write_text("")
    samebits_command("job", "capture", script, "-o", tmp_path / "b.job", "--store", tmp_path / "file", code=2)
    assert not (tmp_path / "b.job").exists()


@pytest.mark.parametrize(
    "arguments",
    [["run", "nope.job"], ["verify", "zz"], ["cas", "put", "nofile"], ["verify", "0" * 64, "--from", "nofrom"]],
)
def test_a_command_that_is_refused_makes_no_store(tmp_path: Path, arguments: list[str]) -> None:
    samebits_command(*arguments, "--store", tmp_path / "s", code=2)
    assert not (tmp_path / "s").exists()


def test_doctor_calls_a_store_that_is_a_file_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "samebits.cli", "doctor", "--store", str(tmp_path / "file"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert json.loads(done.stdout)["store"]["state"] == "broken: not a directory"
