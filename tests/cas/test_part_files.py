"""What a killed process leaves of a file or folder that it writes is removed by the next one that writes there."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from samebits.cas import Store, get_directory, get_file
from samebits.cas.directories import directory_node
from samebits.cas.files import replacing_file
from samebits.cas.locks import try_lock

WRITE_FILE = """
import sys, time
from pathlib import Path
from samebits.cas.files import replacing_file
with replacing_file(Path(sys.argv[1]) / "out") as file:
    file.write(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""
WRITE_FOLDER = """
import sys, time
from pathlib import Path
from samebits.cas.part_files import part_folder
with part_folder(Path(sys.argv[1])) as part:
    (part / "half").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


def make_old(part: Path) -> None:
    """Have a part, and what is in it, look as if nobody had touched it for an hour."""
    long_ago = time.time() - 3600
    for path in (part, *part.rglob("*")):
        os.utime(path, (long_ago, long_ago))


@contextmanager
def writing(program: str, folder: Path) -> Iterator[Path]:
    """Have a process in the middle of writing, killed in the end; gives its part, which looks old."""
    before = set(folder.iterdir())
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        (part,) = set(folder.iterdir()) - before
        make_old(part)
        yield part
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("program", [WRITE_FILE, WRITE_FOLDER])
@pytest.mark.parametrize("next_one", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next_one(
    store: Store, tmp_path: Path, program: str, next_one: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    blob = store.put_blob(b"x")
    directory = store.put_node(directory_node({"x": blob}))

    def write(name: str) -> None:
        if next_one == "file":
            get_file(store, blob, folder / name)
        else:
            get_directory(store, directory, folder / name)

    (folder / ".samebits-mine.part").write_bytes(b"somebody's own")
    os.utime(folder / ".samebits-mine.part", (0, 0))
    with writing(program, folder) as part:
        write("first")
        assert part.exists()  # who writes it lives
    os.utime(part)
    write("second")
    assert part.exists()  # too young to be told from one that has just been made
    make_old(part)
    write("third")
    assert {path.name for path in folder.iterdir()} == {".samebits-mine.part", "first", "second", "third"}


def test_a_folder_that_is_still_written_into_stays_even_unlocked(store: Store, tmp_path: Path) -> None:
    """Some file systems that machines share don't show one's locks to another."""
    part = tmp_path / f".samebits-{'0' * 16}.part"
    (part / "inner").mkdir(parents=True)
    (part / "inner" / "large").write_bytes(b"half")
    make_old(part)
    os.utime(part / "inner" / "large")
    get_file(store, store.put_blob(b"x"), tmp_path / "first")
    assert part.exists()
    make_old(part)
    get_file(store, store.put_blob(b"x"), tmp_path / "second")
    assert not part.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to somebody else")
def test_another_users_part_stays(store: Store, tmp_path: Path) -> None:
    part = tmp_path / f".samebits-{'0' * 16}.part"
    part.mkdir()
    make_old(part)
    os.chown(part, 1, 1)
    get_file(store, store.put_blob(b"x"), tmp_path / "out")
    assert part.exists()


def test_a_part_that_is_too_deep_keeps_nobody_from_writing(store: Store, tmp_path: Path) -> None:
    """A stored directory names files as deep as it likes, and who gets it may be killed."""
    folders = [tmp_path / f".samebits-{'0' * 16}.part"]
    while len(folders) < sys.getrecursionlimit():
        folders.append(folders[-1] / "a")
    for folder in folders:
        folder.mkdir()
    os.utime(folders[0], (0, 0))
    try:
        get_file(store, store.put_blob(b"x"), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"x"
    finally:
        for folder in reversed(folders):
            folder.rmdir()


def test_a_file_is_closed_before_it_takes_its_name_and_locked_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems tell on closing what they could not write: the name had been given by then."""
    seen: list[tuple[bool, bool]] = []
    replace = Path.replace

    def watched(part: Path, target: Path) -> Path:
        with part.open("rb") as other:
            seen.append((file.closed, try_lock(other.fileno(), fcntl.LOCK_EX)))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", watched)
    with replacing_file(tmp_path / "out") as file:
        file.write(b"x")
    assert seen == [(True, False)]
    assert (tmp_path / "out").read_bytes() == b"x"
