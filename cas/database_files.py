"""What LMDB takes for granted of its files, and what it dies of (SIGBUS) or misreads if it isn't so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from samebits.cas.locks import GATE

MAX_READERS: Final = 1022  # at once, in all processes
DATA_NAME: Final = "data.mdb"
_LOCK_NAME: Final = "lock.mdb"
_LOCK_SIZE_BYTES: Final = 64 * (MAX_READERS + 2)  # LMDB's header, and 64 bytes for each reader


def find_fault(directory: Path) -> str | None:
    """Return what is wrong with a database's file if LMDB must not touch it; the file is there.

    LMDB waits for ever at a pipe, and begins a new database in an empty file. That a process leaves too which was
    killed when it made a store, but nobody has put anything then.
    """
    data = directory / DATA_NAME
    if not data.is_file():
        return f"{DATA_NAME} is not a regular file"
    if data.stat().st_size == 0 and (directory / GATE).exists():
        return f"{DATA_NAME} is empty"
    return None


def needed_bytes(env: Any) -> int:
    """Return how long the data file of an open environment must be: touching a page that is missing is SIGBUS."""
    needed: int = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    return needed


def reserve_lock_file(directory: Path) -> None:
    """Have the disk hold all of LMDB's lock file, which LMDB writes through memory: a full disk would kill the process.

    Raises OSError where there is no room for it.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        descriptor = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError:
        return  # LMDB says more
    try:
        if os.fstat(descriptor).st_size < _LOCK_SIZE_BYTES:  # nobody uses it yet
            os.posix_fallocate(descriptor, 0, _LOCK_SIZE_BYTES)
    finally:
        os.close(descriptor)
