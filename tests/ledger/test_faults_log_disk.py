"""A log on disks that fail: each system call of an append fails, or is the last before the power goes.

Whatever happens, the log opens and verifies, has all that was acknowledged and no part of an append, and goes on.
"""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.ledger.faulty_os import FaultyOs, PowerCut, PowerCutError, WatchedOs
from tests.ledger.raw_logs import RawLog, check_files, raw_entry, raw_log

from samebits.ledger.errors import StorageError
from samebits.ledger.heads import HeadFile

# the start of a log, appends inside a bundle, appends that fill one, and over several
STEPS = ((None, 0), (0, 1), (3, 70), (200, 256), (255, 257), (250, 520))


def log_at(folder: Path, size: int | None) -> RawLog:
    """Return a log of a size; None: one that nothing was written to."""
    return raw_log(folder) if size is None else raw_log(folder, 0, size)


def grow_to(log: RawLog, size: int) -> None:
    """Append as far as a size, in one append."""
    log.append([raw_entry(index) for index in range(log.size, size)])


def count_calls(folder: Path, before: int | None, after: int) -> list[str]:
    """Return the names of the calls of one append, on a log that was just opened."""
    with WatchedOs(folder).installed():
        log = log_at(folder, before).again()
    watched = WatchedOs(folder)
    with watched.installed():
        grow_to(log, after)
    return watched.names


def check_log(folder: Path, before: int | None, after: int) -> int:
    """Open the log as the next process does, check it, and return its size."""
    log = raw_log(folder)
    with log.storage.writing() as writer:
        note = writer.checkpoint()
    if note is None:
        assert before is None
        return -1
    assert log.size in (before or 0, after)
    check_files(log.directory, log.checkpoint)
    assert log.entries == [raw_entry(index) for index in range(log.size)]
    return log.size


def go_on(folder: Path, size: int) -> None:
    """Append more as the next process does, and check the log again."""
    log = raw_log(folder)
    grow_to(log, size)
    check_files(log.directory, log.checkpoint)
    assert log.entries == [raw_entry(index) for index in range(size)]


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(("before", "after"), STEPS)
def test_call_that_fails(
    before: int | None,
    after: int,
    code: int,
    lasting: bool,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    names = count_calls(tmp_path / "count", before, after)
    assert len(names) >= 9  # head and checkpoint alone: two opens, writes and syncs, two renames with a sync of each
    record_property("faults", len(names))
    for number, name in enumerate(names, 1):
        folder = tmp_path / str(number)
        with WatchedOs(folder).installed():
            log = log_at(folder, before).again()
        faulty = FaultyOs(folder, number, code, lasting=lasting)
        with faulty.installed(), pytest.raises(StorageError) as caught:
            grow_to(log, after)
        assert faulty.count >= number, name
        text = str(caught.value)
        assert str(log.directory) in text, name
        assert "\n" not in text
        assert ("Input/output error" if code == errno.EIO else "No space left on device") in text
        with WatchedOs(folder).installed():
            size = check_log(folder, before, after)
            is_signed = number > names.index("write /log/checkpoint.new") + 1
            assert size == (after if is_signed else -1 if before is None else before)
            log.append([raw_entry(index) for index in range(max(size, 0), after + 5)])  # who saw the error goes on
            go_on(folder, after + 7)
        shutil.rmtree(folder)


def size_of(note: Path) -> int:
    """Return the size that a checkpoint's file says, -1 if there is none."""
    return int(note.read_bytes().split(b"\n")[1]) if note.exists() else -1


@pytest.mark.parametrize("chance", [0.5, 1.0])
@pytest.mark.parametrize(("before", "after"), STEPS)
def test_power_that_goes(
    before: int | None,
    after: int,
    chance: float,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """What was not synced is lost, all of it or some. One call more than there are: it goes after the append."""
    names = count_calls(tmp_path / "count", before, after)
    record_property("faults", len(names) + 1)
    source = random.Random(f"{before} {after} {chance}")
    for number in range(1, len(names) + 2):
        folder = tmp_path / str(number)
        with WatchedOs(folder).installed():
            log = log_at(folder, before).again()
        cut, acknowledged = PowerCut(folder, number), False
        with cut.installed():
            try:
                grow_to(log, after)
                acknowledged = True
            except PowerCutError:
                pass
        assert acknowledged == (number > len(names))
        cut.take_back(source, chance)
        assert size_of(log.directory / "checkpoint") <= size_of(HeadFile(log.key.name, log.state_folder).path)
        with WatchedOs(folder).installed():
            size = check_log(folder, before, after)
            assert not acknowledged or size == after
            go_on(folder, after + 7)
        shutil.rmtree(folder)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("before", "after"), [(None, 0), (3, 70), (250, 520)])
def test_another_user_goes_on_after_a_crash(before: int | None, after: int, chance: float, tmp_path: Path) -> None:
    """He does not see the head that was kept, and signed another tree of its size. Chance 0: only the process died."""
    names = count_calls(tmp_path / "count", before, after)
    source = random.Random(f"{before} {after} {chance}")
    for number in range(1, len(names) + 2):
        folder = tmp_path / str(number)
        with WatchedOs(folder).installed():
            log = log_at(folder, before).again()
            alive = log.again(state_folder=folder / "alive")  # another user's, who has it open
            if before is not None:
                with alive.storage.writing():
                    pass
        cut = PowerCut(folder, number)
        with cut.installed(), suppress(PowerCutError):
            grow_to(log, after)
        if chance:
            cut.take_back(source, chance)
        head = HeadFile(log.key.name, log.state_folder).path
        with WatchedOs(folder).installed():
            other = alive if number % 2 else log.again(state_folder=folder / "new")
            other.append([b"another entry"] * 2)
            assert other.size == (after if size_of(head) == after else max(other.size - 2, 0)) + 2
            check_files(other.directory, other.checkpoint)
            mine = log.again()
            mine.append([b"and more"])  # refused if the other one signed a fork
            check_files(mine.directory, mine.checkpoint)
        shutil.rmtree(folder)


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from tests.ledger.raw_logs import raw_log
from samebits.ledger.errors import StorageError
log = raw_log(Path(sys.argv[1]))
log.append([bytes(60_000)] * 3)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
for _ in range(2):
    try:
        log.append([bytes(60_000)] * 30)
    except StorageError as error:
        print(error)
log.append([b"small"] * 3)
print(log.size)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    said = f"log {tmp_path / 'log'}: File too large"
    assert done.stdout.splitlines() == [said, said, "6"], done.stderr
    check_files(tmp_path / "log", raw_log(tmp_path).checkpoint)


FULL_DISK = """
import subprocess, sys
from pathlib import Path
from tests.ledger.raw_logs import check_files, raw_log
from samebits.ledger.errors import StorageError
disk, place = Path(sys.argv[1]), Path(sys.argv[2])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], stderr=subprocess.DEVNULL).returncode:
    sys.exit(77)
log, size = raw_log(disk), 0
try:
    while True:
        log.append([b"x" * 200] * 64)
        size += 64
except StorageError as error:
    print(error)
assert log.size == size > 0
again = raw_log(disk)
check_files(again.directory, again.checkpoint)
subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
again.append([b"y"] * 64)
check_files(again.directory, again.checkpoint)
print(again.size - size)
"""


def test_full_disk(tmp_path: Path) -> None:
    program = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", FULL_DISK]
    try:
        done = subprocess.run([*program, tmp_path, "x"], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) here, and a full disk needs a mount of its own")
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("a small file system can't be mounted here")
    assert done.returncode == 0, done.stderr
    message, more = done.stdout.splitlines()
    assert message == f"log {tmp_path / 'log'}: No space left on device"
    assert more == "64"
