"""Write files so that they survive a loss of power: whole, under their names, before a call returns.

Several files are synced at once from threads, which share the commits of a journaling file system.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from samebits.cas.durable_files import sync_folder
from samebits.cas.locks import open_exclusive

_THREADS: Final = 8
_FILES_AT_ONCE: Final = 64  # that are open
_FILE_MODE: Final = 0o644
_NEW_SUFFIX: Final = ".new"


class DurableWriter:
    """Makes files durable. Used by one thread at a time; every method raises OSError."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def create(self, files: Mapping[Path, bytes]) -> None:
        """Write new files, and the folders they are in, in place of any left-over ones; all or none are there then.

        A file that exists is removed first and not written over: a hard link to it keeps its bytes.
        """
        paths, created = list(files), []
        try:
            for start in range(0, len(paths), _FILES_AT_ONCE):
                with ExitStack() as opened:
                    to_sync: list[int] = []
                    folders: set[Path] = set()
                    for path in paths[start : start + _FILES_AT_ONCE]:
                        folders |= _make_folder(path.parent)
                        descriptor = _open_new(path)
                        opened.callback(os.close, descriptor)
                        created.append(path)
                        _write_whole(descriptor, files[path])
                        to_sync.append(descriptor)
                        folders.add(path.parent)
                    for folder in folders:
                        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                        opened.callback(os.close, descriptor)
                        to_sync.append(descriptor)
                    self._sync(to_sync)
        except BaseException:
            for path in created:
                with suppress(OSError):
                    path.unlink()
            raise

    def prepare(self, files: Mapping[Path, bytes]) -> None:
        """Write what `replace` puts in the place of these files; it is durable under its own names then."""
        with ExitStack() as opened:
            to_sync = []
            for path, data in files.items():
                new = new_path(path)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                descriptor = os.open(new, flags, _FILE_MODE)
                opened.callback(os.close, descriptor)
                _write_whole(descriptor, data)
                to_sync.append(descriptor)
            for folder in {path.parent for path in files}:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, descriptor)
                to_sync.append(descriptor)
            self._sync(to_sync)

    def replace(self, path: Path) -> None:
        """Put what was prepared in the place of a file."""
        new_path(path).replace(path)
        sync_folder(path.parent)

    def replace_left(self, path: Path) -> None:
        """Put what another process prepared, and perhaps did not sync, in the place of a file."""
        descriptor = os.open(new_path(path), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.replace(path)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _sync(self, descriptors: list[int]) -> None:
        if len(descriptors) == 1:
            os.fsync(descriptors[0])
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "samebits-sync")
        # every one has ended when this returns or raises: the descriptors are closed next
        errors = [future.exception() for future in [self._pool.submit(os.fsync, one) for one in descriptors]]
        for error in errors:
            if error is not None:
                raise error


def new_path(path: Path) -> Path:
    """Return where that is which is to take the place of a file."""
    return path.with_name(path.name + _NEW_SUFFIX)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, made if it is not there, against all threads and processes; waits for it.

    Raises OSError or StoreError if there can be no such file.
    """
    with open_exclusive(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, and their names durable; raises OSError."""
    for changed in _make_folder(folder):
        sync_folder(changed)


def _make_folder(folder: Path) -> set[Path]:
    """Make a folder with those above it; returns the folders that have a new name in them."""
    if folder.is_dir():
        return set()
    changed = _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    return {*changed, folder.parent}


def _open_new(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, _FILE_MODE)
    except FileExistsError:
        path.unlink()
        return os.open(path, flags, _FILE_MODE)


def _write_whole(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
