"""--max-memory and --max-seconds: one line, exit code 2, and a store and ledger that are whole."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_commands import json_of, samebits_command
from tests.exec.small_job import make_job, with_step
from tests.exec.strangers import only_reached, sorting_step, wide_chain

import samebits
from samebits.cli.limits import parse_size

LONG = (1 << 53) - 1


def save(job: Any, path: Path) -> Path:
    samebits.save_job(only_reached(job), path, embed="all")
    return path


def check_whole(store: Path) -> None:
    """The store is intact, and so is the ledger if there is one."""
    samebits_command("cas", "fsck", "--store", store)
    if (store / "ledger").exists():
        samebits_command("log", "verify", "--store", store)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1", 1), ("500M", 500_000_000), ("2g", 2_000_000_000), ("1KiB", 1024), ("3MiB", 3 << 20), ("1TB", 10**12)],
)
def test_parse_size_knows_both_kinds_of_units(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "M", "12X", "9" * 30, "1 M", "٣M"])
def test_a_size_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    done = samebits_command("run", "x.job", "--store", tmp_path / "s", f"--max-memory={text}", code=2)
    assert len(done.stderr.splitlines()) == 1
    assert "is not a size such as 500M" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_one_line(tmp_path: Path, seconds: str) -> None:
    done = samebits_command("run", "x.job", "--store", tmp_path / "s", "--max-seconds", seconds, code=2)
    assert done.stderr.strip().endswith("is not a positive number of seconds")
    assert not (tmp_path / "s").exists()


def test_limits_that_are_not_met_change_nothing(tmp_path: Path) -> None:
    job = save(make_job(), tmp_path / "a.job")
    limits = ("--max-memory", "500M", "--max-seconds", "200")
    run = json_of("run", job, "--store", tmp_path / "s", *limits)
    free = json_of("run", job, "--store", tmp_path / "s")
    assert run["final_state"] == free["final_state"]
    assert json_of("verify", run["run"], "--store", tmp_path / "s", *limits)["verdict"] == "same"


def test_run_refuses_a_plan_beyond_the_limit_before_it_begins(tmp_path: Path) -> None:
    job = save(with_step(wide_chain(1 << 26)), tmp_path / "wide.job")
    done = samebits_command("run", job, "--store", tmp_path / "s", "--max-memory", "500M", code=2)
    assert "step graph needs 536.9 MB at node" in done.stderr
    assert "the memory limit leaves 500.0 MB" in done.stderr
    assert not (tmp_path / "s" / "ledger").exists()


@pytest.mark.parametrize("limit", ["100k", "1M", "80M"])
def test_memory_that_no_plan_foresees_is_bounded_by_the_system(tmp_path: Path, limit: str) -> None:
    """Sorting needs scratch memory inside NumPy, reading a job objects of Python: neither is in the plan's peak."""
    job = save(with_step(sorting_step(1 << 22)), tmp_path / "sort.job")
    done = samebits_command("run", job, "--store", tmp_path / "s", "--max-memory", limit, code=2)
    assert "--max-memory allows" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 1
    check_whole(tmp_path / "s") if (tmp_path / "s").exists() else None


def test_run_stops_at_the_deadline_and_leaves_everything_whole(tmp_path: Path) -> None:
    job = save(make_job(steps=LONG), tmp_path / "long.job")
    started = time.monotonic()
    limits = ("--max-seconds", "4", "--checkpoint-every", "20")
    done = samebits_command("run", job, "--store", tmp_path / "s", *limits, code=2)
    assert done.stderr.splitlines()[-1] == "samebits: stopped after the 4 s that --max-seconds allows"
    assert time.monotonic() - started < 30
    assert (tmp_path / "s" / "ledger").exists()
    check_whole(tmp_path / "s")


def test_a_launch_that_does_not_return_is_ended_all_the_same(tmp_path: Path) -> None:
    """One launch that sorts for minutes, inside NumPy: no exception gets there."""
    job = save(with_step(sorting_step(1 << 27)), tmp_path / "sort.job")
    started = time.monotonic()
    done = samebits_command("run", job, "--store", tmp_path / "s", "--max-seconds", "2", code=2)
    assert done.stderr.splitlines()[-1] == "samebits: stopped after the 2 s that --max-seconds allows"
    assert time.monotonic() - started < 20
    check_whole(tmp_path / "s")


DEAF = """
import ctypes, time
from samebits.exec.limits import Limits, enter_worker, limited
{enter}
sleep = ctypes.PyDLL(None).sleep  # holds Python's lock
while True:
    try:
        sleep(1000)
    except BaseException:
        pass
"""


@pytest.mark.parametrize(
    ("enter", "said"),
    [
        ('held = limited(Limits(None, time.monotonic() + 1), "over")\nheld.__enter__()', "over\n"),
        ("enter_worker(Limits(None, time.monotonic() + 1))", ""),
    ],
)
def test_the_hard_stop_needs_nothing_of_python(enter: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEAF.format(enter=enter)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (2, said)
