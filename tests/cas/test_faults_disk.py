"""A disk that is full: one clear line, nothing is lost or half there, and with room it works.

Once a real one, a small file system in memory that only the workers see, and once a bound of the size of files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cas.disk_workers import MIB, OPERATIONS
from tests.cas.small_disk import zygote_with_disk
from tests.cas.zygote import Outcome, Zygote, zygote

DISK_SIZE_BYTES, MOST_FILES = 48 * MIB, 300
FULL, FILE, REMOTE = "StoreFullError", "FileError", "RemoteError"
NEEDS_LITTLE = {"read", "pin", "collect", "create", "put_small"}
# what an operation on a full disk ends with
ERRORS = {
    **dict.fromkeys(OPERATIONS, FULL),
    "push_into_directory": REMOTE,
    "get_file": FILE,
    "get_directory": FILE,
    "export": FILE,
    "mend": FILE,
}


def run(workers: Zygote, name: str, *arguments: object) -> Outcome:
    """Do what has to work."""
    outcome = workers.run(name, *map(_plain, arguments))
    assert outcome.status == 0, (outcome.lines, workers.log.read_text()[-3000:])
    return outcome


def _plain(argument: object) -> object:
    return str(argument) if isinstance(argument, Path) else argument


def check(workers: Zygote, disk: Path, beside: Path, *, problems: int = 0) -> None:
    """Check that the store opens, is intact but for `problems`, and lost nothing, and that no half file is left."""
    lines = {line[0]: line[1:] for line in run(workers, "check", disk, beside).lines}
    assert len(lines["problems"]) == problems
    assert len(lines["loose"]) <= problems  # the row that does the damage
    assert (lines["pins"], lines["lost"], lines["left"]) == (["True"], [], [])


def message(workers: Zygote, outcome: Outcome, what: str) -> str:
    """Check that an operation ended with the one error that it should, and return what that says."""
    assert outcome.status == 1, (outcome, workers.log.read_text()[-3000:])
    assert len(outcome.said("error")) == 1, workers.log.read_text()[-3000:]
    kind, *words = outcome.said("error")[0]
    text = " ".join(words)
    assert kind == ERRORS[what] or (kind == FULL and what == "mend"), text
    assert "\\n" not in text
    return text


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Zygote, Path]]:
    """A program that sees a small file system at a path."""
    disk = tmp_path_factory.mktemp("disk")
    with zygote_with_disk("disk_workers", disk) as workers:
        yield workers, disk


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote("disk_workers", tmp_path_factory.mktemp("zygote") / "log") as started:
        yield started


@pytest.fixture(scope="module")
def beside(workers: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on a disk that has room."""
    folder = tmp_path_factory.mktemp("beside")
    run(workers, "make_objects", folder)
    return folder


@pytest.mark.parametrize("leave_bytes", [0, 80_000, 3 * MIB, None])
@pytest.mark.parametrize("what", OPERATIONS)
def test_full_disk(small_disk: tuple[Zygote, Path], beside: Path, what: str, leave_bytes: int | None) -> None:
    """With no room, with some, and (None) with room, but not for another file."""
    workers, disk = small_disk
    run(workers, "mount", disk, DISK_SIZE_BYTES, MOST_FILES)
    run(workers, "put_store", disk, beside)
    damaged = what == "mend"
    if damaged:
        run(workers, "damage", disk)
    if leave_bytes is None:
        run(workers, "use_up_files", disk)
    else:
        run(workers, "fill", disk, leave_bytes)
    outcome = workers.run("do", what, str(disk), str(beside), None)
    needs_little = what in NEEDS_LITTLE or leave_bytes == 3 * MIB
    if not (needs_little and outcome.status == 0):
        assert str(disk) in message(workers, outcome, what)
        assert what != "read"
    mended = damaged and outcome.status == 0
    check(workers, disk, beside, problems=int(damaged and not mended))
    run(workers, "make_room", disk)
    run(workers, "do", what, disk, beside, None)
    check(workers, disk, beside)
    run(workers, "unmount", disk)


@pytest.mark.parametrize("what", sorted(OPERATIONS.keys() - {"read"}))
def test_files_that_may_not_grow(workers: Zygote, tmp_path: Path, beside: Path, what: str) -> None:
    disk = tmp_path / "disk"
    run(workers, "put_store", disk, beside)
    if what == "mend":
        run(workers, "damage", disk)
    outcome = workers.run("do", what, str(disk), str(beside), MIB // 2)
    if not (what in NEEDS_LITTLE and outcome.status == 0):
        assert str(disk) in message(workers, outcome, what)
    check(workers, disk, beside, problems=int(what == "mend"))
    run(workers, "do", what, disk, beside, None)
    check(workers, disk, beside)
    shutil.rmtree(disk)
