"""The files of the LMDB environment: what LMDB takes for granted of them, and dies of (SIGBUS) or misreads if it isn't so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from samebits.cas.locks import GATE

MAX_READERS: Final = 1022  # at once, in all processes
DATA_NAME: Final = "data.mdb"
_LOCK_NAME: Final = "lock.mdb"
_LOCK_SIZE_BYTES: Final = 64 * (MAX_READERS + 2)  # LMDB's header, and 64 bytes for each reader


def is_emptied(directory: Path) -> bool:
    """Return whether a database that had something has an empty file now: LMDB would begin a new one there.

    A process that was killed when it made a store may leave an empty file too, but nobody has put anything then.
    """
    data = directory / DATA_NAME
    return data.exists() and data.stat().st_size == 0 and (directory / GATE).exists()


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
