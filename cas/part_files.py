"""New files and folders that take another's place when they are whole; until then ``.samebits-<16 hex digits>.part``.

Whoever makes one holds its lock (`flock`), which the kernel lets go of however the process dies. So what a killed
process left is told from what is being written: the next part that is made in a folder, a minute later, removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.locks import try_lock

_NAME: Final = re.compile(r"\.samebits-[0-9a-f]{16}\.part\Z")
_NEW_S: Final = 60.0  # a part that was touched within this time may be one whose lock is still to be taken


@contextmanager
def part_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Make a file in a folder, to be renamed; it is removed where that is not come to. Raises OSError."""
    _remove_left(folder)
    path = _new_path(folder)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as file:
        try:
            descriptor = os.dup(file.fileno())  # has the lock as long as the part has this name, the file closed or not
            try:
                _lock(descriptor)
                yield path, file
            finally:
                os.close(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@contextmanager
def part_folder(folder: Path) -> Iterator[Path]:
    """Make a folder in a folder, to be renamed; it is removed where that is not come to. Raises OSError."""
    _remove_left(folder)
    path = _new_path(folder)
    path.mkdir()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(descriptor)
            yield path
        finally:
            os.close(descriptor)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _new_path(folder: Path) -> Path:
    return folder / f".samebits-{secrets.token_hex(8)}.part"


def _lock(descriptor: int) -> None:
    with suppress(OSError):  # without locks nothing is ever told to be left
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_left(folder: Path) -> None:
    """Remove what killed processes of this user left in a folder, as far as this process may."""
    with suppress(OSError):
        for name in [found.name for found in os.scandir(folder) if _NAME.match(found.name)]:
            with suppress(OSError, RecursionError):  # of a folder too deep to be walked
                _remove_if_left(folder / name)


def _remove_if_left(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return  # another user's, who may have put anything there
        # what is in a folder counts too: a lock may be seen on the machine that holds it alone
        touched = max(one.lstat().st_mtime for one in (path, *path.rglob("*")))
        if touched > time.time() - _NEW_S or not try_lock(descriptor, fcntl.LOCK_EX):
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)
