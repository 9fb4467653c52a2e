"""Compacting: a store's database without its free pages, so that the file system gets the space back."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lmdb

from samebits.cas.database_files import DATA_NAME
from samebits.cas.errors import FULL_CODES, StoreBusyError, StoreError, StoreFullError
from samebits.cas.locks import USERS, open_exclusive, try_lock
from samebits.cas.store import ENVIRONMENT_FOLDER, Store

_COPY_FOLDER: Final = "compacting"


@dataclass(frozen=True, slots=True)
class CompactReport:
    """The size of the database file in bytes."""

    before_size_bytes: int
    after_size_bytes: int


def compact(path: Path | str) -> CompactReport:
    """Write a store's database anew without its free pages, and put that in its place, all or nothing.

    Nobody may have the store open, this process neither: raises StoreBusyError. Needs as much free disk as the store's
    content: StoreFullError, and the store is as it was.
    """
    path = Path(path).absolute()
    directory = path / ENVIRONMENT_FOLDER
    Store(path, create=False).close()  # refuses what is no store, or a damaged one
    with open_exclusive(directory / USERS) as users:
        if not try_lock(users, fcntl.LOCK_EX):
            raise StoreBusyError(path, "is open in another process, or in this one: compact it when nobody uses it")
        return _compact(path, directory)


def _compact(path: Path, directory: Path) -> CompactReport:
    data, folder = directory / DATA_NAME, directory / _COPY_FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
    try:
        folder.mkdir()
        before = data.stat().st_size
        with lmdb.open(os.fsencode(directory), max_dbs=0, readonly=True, lock=False) as env:
            env.copy(str(folder), compact=True)
        copy = folder / DATA_NAME
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        after = copy.stat().st_size
        shutil.copymode(data, copy)
        if (owner := data.stat()).st_uid != copy.stat().st_uid:
            os.chown(copy, owner.st_uid, owner.st_gid)  # root compacts a store of somebody else
        copy.replace(data)
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return CompactReport(before, after)
    except (OSError, lmdb.Error) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        code = error.errno if isinstance(error, OSError) else error.code
        if isinstance(error, lmdb.DiskError) or code in FULL_CODES:
            raise StoreFullError(path, f"can't be compacted, it is as it was ({reason})") from error
        raise StoreError(path, f"can't be compacted, it is as it was ({reason})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
