"""What ends a run early: kill -9, Ctrl-C, a full disk, one that may only be read, a ledger that is locked.

Each is one clear line (but for kill -9), and `--resume` ends with the bits and the entries of an undisturbed run.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cas.small_disk import zygote_with_disk
from tests.cas.zygote import KILLED, Outcome, Zygote, zygote
from tests.exec.small_job import make_job
from tests.exec.wide_job import wide_job

import samebits
from samebits.cas import Digest, Store
from samebits.exec.ledger_folder import log_directory
from samebits.exec.limits import TimeLimitReachedError
from samebits.exec.running.background_writer import BackgroundWriter
from samebits.exec.running.resume import resume_run
from samebits.ledger import Log

STEPS, EVERY = 240, 3
RUNS, KILLS = 5, 10
MIB = 1 << 20
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote("exec.run_workers", tmp_path_factory.mktemp("zygote") / "log") as started:
        yield started


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Zygote, Path]]:
    """A program that sees a file system of its own at a path."""
    disk = tmp_path_factory.mktemp("disk")
    with zygote_with_disk("exec.run_workers", disk) as started:
        yield started, disk


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> samebits.Run:
    with Store(tmp_path_factory.mktemp("undisturbed")) as store:
        return samebits.run(make_job(steps=STEPS), store, checkpoint_every=EVERY)


def exit_code(outcome: Outcome) -> int:
    assert outcome.said("exit"), outcome
    return int(outcome.said("exit")[0][0])


def one_line(path: Path) -> str:
    """Return the one line of a command that failed: without those of progress and of waiting."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("samebits: ")]
    assert len(lines) == 1, lines
    assert "Traceback" not in path.read_text()
    assert "internal error" not in lines[0]
    return lines[0]


@pytest.mark.parametrize("seed", range(RUNS))
def test_kill_and_resume(
    workers: Zygote,
    undisturbed: samebits.Run,
    tmp_path: Path,
    seed: int,
    record_property: Callable[[str, object], None],
) -> None:
    """Killed at random moments, again and again, and resumed each time: nothing is lost, nothing is there twice."""
    random_s = random.Random(seed)
    samebits.save_job(make_job(steps=STEPS), tmp_path / "line.job", embed="all")
    store, output = tmp_path / "store", str(tmp_path / "said")
    arguments = ["run", str(tmp_path / "line.job"), "--resume", "--store", str(store), "--checkpoint-every", str(EVERY)]
    kills = 0
    while kills < KILLS:  # a run that is complete is followed by another
        (outcome,) = workers.kill([("command", (output, None, *arguments))], [random_s.uniform(0.0, 0.7)])
        kills += outcome.status == KILLED
        assert outcome.status == KILLED or exit_code(outcome) == 0, Path(output + ".err").read_text()
    assert exit_code(workers.run("command", output, None, *arguments)) == 0, Path(output + ".err").read_text()
    record_property("faults", kills)
    with Store(store) as opened, Log.open(log_directory(opened), read_only=True) as log:
        log.audit().check()
        complete = [chain for chain in log.runs() if chain.is_complete]
        assert len(log.runs()) == len(complete)
        for chain in complete:
            ranges = [(one.body.first_step, one.body.stop_step) for one in chain.segments]
            assert ranges == [(first, first + EVERY) for first in range(0, STEPS, EVERY)]
            run = resume_run(chain.run_address, opened)
            assert (run.final_state, run.commits) == (undisturbed.final_state, undisturbed.commits)
        assert samebits.verify(complete[0].run_address, opened).verdict == "same"


def test_interrupt_is_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    samebits.save_job(wide_job(6000), tmp_path / "wide.job", embed="all")
    arguments = ["run", str(tmp_path / "wide.job"), "--store", str(tmp_path / "store"), "--checkpoint-every", "5"]
    process = start(arguments)
    wait_for_segments(tmp_path / "store", 3)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    line = said.splitlines()[-1]
    assert line.startswith("samebits: interrupted; kept: all steps before ")
    run = line.partition("samebits run ")[2].removesuffix(" --resume")
    with Store(tmp_path / "store") as store, Log.open(log_directory(store), read_only=True) as log:
        chain = log.chain(Digest.parse(run))
        assert f"before {chain.next_step};" in line
        assert chain.next_step % 5 == 0
        size = log.size
    resume = ["run", run, "--resume", "--store", str(tmp_path / "store")]
    first = start(resume)
    wait_for_segments(tmp_path / "store", size)
    second = start(resume)
    assert f"run {run} is being computed by process {first.pid}" in second.communicate(timeout=60)[1]
    assert second.returncode == 2
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130


def test_locked_ledger_is_named_and_the_segment_is_kept(tmp_path: Path) -> None:
    samebits.save_job(make_job(steps=STEPS), tmp_path / "line.job", embed="all")
    store = tmp_path / "store"
    first = [sys.executable, "-m", "samebits.cli", "run", str(tmp_path / "line.job"), "--store", str(store)]
    subprocess.run(first, check=True, capture_output=True, timeout=120)
    lock = os.open(store / "ledger" / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = f"samebits: waiting for the ledger {store / 'ledger'}, which process {os.getpid()} has locked"
    process = start(first[3:])
    assert read_until(process, "waiting") == waiting
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process = start(first[3:])
    assert read_until(process, "waiting") == waiting
    os.close(lock)
    assert process.wait(120) == 0
    with Store(store) as opened, Log.open(log_directory(opened), read_only=True) as log:
        assert [chain.is_complete for chain in log.runs()] == [True, True]


def test_full_disk_is_one_line_and_the_run_goes_on(small_disk: tuple[Zygote, Path], tmp_path: Path) -> None:
    workers, disk = small_disk
    samebits.save_job(wide_job(60), tmp_path / "wide.job", embed="all")
    output, store = str(tmp_path / "said"), str(disk / "store")
    assert workers.run("mount", str(disk), f"size={8 * MIB}").status == 0
    arguments = ("run", str(tmp_path / "wide.job"), "--store", store, "--checkpoint-every", "2")
    outcome = workers.run("command", output, None, *arguments)
    assert exit_code(outcome) == 2
    line = one_line(Path(output + ".err"))
    assert store in line
    assert "No space left" in line
    run = line.partition("samebits run ")[2].removesuffix(" --resume")
    resume = ("run", run, "--resume", "--store", store)
    assert exit_code(workers.run("command", output, None, *resume)) == 2
    assert run in one_line(Path(output + ".err"))
    check_goes_on(workers, disk, tmp_path, run, f"remount,size={80 * MIB}", 60)


def test_disk_that_may_only_be_read(small_disk: tuple[Zygote, Path], tmp_path: Path) -> None:
    workers, disk = small_disk
    output, store = str(tmp_path / "said"), str(disk / "store")
    assert workers.run("mount", str(disk), f"size={80 * MIB}").status == 0
    samebits.save_job(wide_job(60), tmp_path / "wide.job", embed="all")
    arguments = ("run", str(tmp_path / "wide.job"), "--store", store, "--checkpoint-every", "2")
    workers.kill([("command", (output, None, *arguments))], [3.0])
    run = workers.run("audit", store, "").said("runs")[0][0]
    assert workers.run("mount", str(disk), "remount,ro").status == 0
    outcome = workers.run("command", output, None, "run", run, "--resume", "--store", store)
    assert exit_code(outcome) == 2
    assert store in one_line(Path(output + ".err"))
    check_goes_on(workers, disk, tmp_path, run, "remount,rw", 60)


def test_files_that_may_not_grow(workers: Zygote, tmp_path: Path) -> None:
    samebits.save_job(wide_job(60), tmp_path / "wide.job", embed="all")
    output, store = str(tmp_path / "said"), str(tmp_path / "store")
    arguments = ("run", str(tmp_path / "wide.job"), "--store", store, "--checkpoint-every", "2")
    assert exit_code(workers.run("command", output, 3 * MIB, *arguments)) == 2
    line = one_line(Path(output + ".err"))
    assert store in line
    run = line.partition("samebits run ")[2].removesuffix(" --resume")
    assert exit_code(workers.run("command", output, None, "run", run, "--resume", "--store", store)) == 0
    found = workers.run("audit", store, run)
    assert found.said("verdict") == [["same"]]


def check_goes_on(workers: Zygote, disk: Path, folder: Path, run: str, options: str, steps: int) -> None:
    """Take the fault away, resume, and compare with an undisturbed run; then unmount the disk."""
    output, store = str(folder / "said"), str(disk / "store")
    assert workers.run("mount", str(disk), options).status == 0
    done = workers.run("command", output, None, "run", run, "--resume", "--store", store)
    assert exit_code(done) == 0, Path(output + ".err").read_text()
    found = workers.run("audit", store, run)
    assert found.status == 0, workers.log.read_text()[-3000:]
    assert found.said("ranges") == [[f"{first}:{first + 2}" for first in range(0, steps, 2)]]
    assert found.said("verdict") == [["same"]]
    with Store(folder / "undisturbed") as opened:
        assert found.said("final") == [[str(samebits.run(wide_job(steps), opened).final_state)]]
    assert workers.run("unmount", str(disk)).status == 0


def start(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "samebits.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Return the first line on stderr that has a word."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return line.rstrip("\n")
    raise AssertionError(f"ended with {process.wait()} without saying {word}")


def wait_for_segments(store: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (store / "ledger" / "checkpoint").exists():
            with Log.open(store / "ledger", read_only=True) as log:
                if log.size > count:
                    return
        time.sleep(0.05)
    raise AssertionError("the run entered no segments")


@pytest.mark.parametrize("ends_by", [KeyboardInterrupt, TimeLimitReachedError])
def test_who_waits_for_a_ledger_gives_up_at_an_interrupt_and_at_the_deadline(ends_by: type[BaseException]) -> None:
    """At the deadline the wait went on, until the process was ended without saying up to where the run is kept."""
    gave_up: list[bool] = []

    def end() -> None:
        with BackgroundWriter() as writer:
            writer.submit(lambda: gave_up.append(writer.interrupted.wait(10)))
            raise ends_by

    with pytest.raises(ends_by):
        end()
    assert gave_up == [True]
