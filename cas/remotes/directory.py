"""A remote in a directory of plain files: a disk to carry, a network mount, or what a static file server gives out."""

from __future__ import annotations

import os
import secrets
import stat
import threading
from pathlib import Path
from typing import Final

from samebits.cas.durable_files import sync_folder
from samebits.cas.errors import RemoteError
from samebits.cas.remotes.layout import MARKER_PATH, PINS_FOLDER

_TEMPORARY_PREFIX: Final = ".samebits-"


class DirectoryFiles:
    """Files below a directory. Each is written beside its place, synced and renamed, so it is whole or not there."""

    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self._root = root
        self._lock = threading.Lock()
        self._unsettled: set[Path] = set()  # directories with entries that are not synced

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file, at most `limit_bytes` + 1 bytes of it; None if there is none."""
        try:
            # a pipe under a row's name must not stop us
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb", buffering=0):
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise RemoteError(self._name, f"{path} is not a regular file")
                return _read_up_to(descriptor, limit_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._wrap(path, error) from error

    def exists(self, path: str) -> bool:
        """Return whether there is a file of this name."""
        return (self._root / path).is_file()

    def write(self, path: str, data: bytes) -> None:
        """Write a file whole, in place of any other."""
        target = self._root / path
        temporary = target.with_name(f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        try:
            self._make_folder(target.parent)
            self._check_case(target)
            try:
                with temporary.open("xb", buffering=0) as file:
                    view = memoryview(data)
                    while view:
                        view = view[file.write(view) :]
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._wrap(path, error) from error
        with self._lock:
            self._unsettled.add(target.parent)

    def settle(self) -> None:
        """Sync the directories that have new entries."""
        with self._lock:  # held throughout: who finds nothing to do must not run ahead of who is still at it
            for folder in sorted(self._unsettled):
                try:
                    sync_folder(folder)
                except OSError as error:
                    raise self._wrap(str(folder), error) from error
            self._unsettled.clear()

    def names(self, folder: str) -> list[str]:
        """Return the names of what is in a folder, without temporary files."""
        try:
            names = [found.name for found in (self._root / folder).iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._wrap(folder, error) from error
        return [name for name in names if not name.startswith(_TEMPORARY_PREFIX)]

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _wrap(self, path: str, error: OSError) -> RemoteError:
        return RemoteError(self._name, f"{path}: {error.strerror or error}")

    def _make_folder(self, folder: Path) -> None:
        """Make a directory with those above it, and have their entries synced."""
        if folder.is_dir():
            return
        if not folder.parent.is_dir():
            self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        with self._lock:
            self._unsettled.add(folder.parent)

    def _check_case(self, target: Path) -> None:
        """Refuse a pin that this file system takes for another one, as "A" and "a" on some."""
        known = target.parent != self._root / PINS_FOLDER or not target.exists()
        if not known and target.name not in self.names(PINS_FOLDER):
            raise RemoteError(self._name, f"its file system does not tell {target.name!r} from another pin")


def is_remote_directory(path: Path) -> bool:
    """Return whether a directory is a remote."""
    return (path / MARKER_PATH).is_file()


def _read_up_to(descriptor: int, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    while limit_bytes and (piece := os.read(descriptor, min(limit_bytes, 8 << 20))):
        pieces.append(piece)
        limit_bytes -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
