"""System calls that fail, or after which the power goes: in place of those of the `os` module, for some folders.

`FaultyOs` lets a chosen call fail as a disk lets it fail. `PowerCut` ends the process's work at a chosen call, and then
takes back what was not synced by then: bytes of files, and names in folders, all of it or a part.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "write", "fsync", "replace", "mkdir")


class PowerCutError(BaseException):
    """The end of everything; no handler for errors may go on after it."""


class WatchedOs:
    """Counts calls on files below a folder, and does them."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.count = 0
        self.names: list[str] = []  # of the calls, in their order
        self._paths: dict[int, str] = {}  # of open files
        self._lock = threading.Lock()
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in (*CALLS, "close")}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand in the place of the real calls."""
        with pytest.MonkeyPatch.context() as patch:
            for name in (*CALLS, "close"):
                patch.setattr(os, name, getattr(self, name))
            yield

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """Open a file; only what is opened to be written, and folders to be synced, counts."""
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY)) and dir_fd is None
        if not writes or not self._is_ours(path):
            return int(self._real["open"](path, flags, mode, dir_fd=dir_fd))
        with self._lock:
            is_new = not Path(path).exists()
            self._before("open", path)
            descriptor = int(self._real["open"](path, flags, mode))
            self._paths[descriptor] = str(path)
            self._after_open(str(path), is_new, flags)
            return descriptor

    def close(self, descriptor: int) -> None:
        """Close a file."""
        self._paths.pop(descriptor, None)
        self._real["close"](descriptor)

    def write(self, descriptor: int, data: Any) -> int:
        """Write into a file."""
        if descriptor not in self._paths:
            return int(self._real["write"](descriptor, data))
        with self._lock:
            self._before("write", self._paths[descriptor], descriptor, data)
            self._after_write(self._paths[descriptor])
            return int(self._real["write"](descriptor, data))

    def fsync(self, descriptor: int) -> None:
        """Sync a file or folder; the disk of the tests need not be bothered."""
        if descriptor not in self._paths:
            return
        with self._lock:
            self._before("fsync", self._paths[descriptor])
            self._after_sync(self._paths[descriptor])

    def replace(self, source: Any, target: Any) -> None:
        """Rename a file."""
        if not self._is_ours(target):
            self._real["replace"](source, target)
            return
        with self._lock:
            self._before("replace", target)
            self._before_replace(Path(source), Path(target))
            self._real["replace"](source, target)

    def mkdir(self, path: Any, mode: int = 0o777, **keywords: Any) -> None:
        """Make a folder."""
        if not self._is_ours(path):
            self._real["mkdir"](path, mode, **keywords)
            return
        with self._lock:
            self._before("mkdir", path)
            self._real["mkdir"](path, mode, **keywords)
            self._after_mkdir(Path(path))

    def _is_ours(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)

    def _before(self, name: str, path: Any, *arguments: Any) -> None:
        self.count += 1
        self.names.append(f"{name} {os.fspath(path).removeprefix(self.folder)}")

    def _after_open(self, path: str, is_new: bool, flags: int) -> None:
        pass

    def _after_write(self, path: str) -> None:
        pass

    def _after_sync(self, path: str) -> None:
        pass

    def _before_replace(self, source: Path, target: Path) -> None:
        pass

    def _after_mkdir(self, path: Path) -> None:
        pass


class FaultyOs(WatchedOs):
    """Lets the call of a number fail, and all after it if `lasting`. A write that fails has written a half before."""

    def __init__(self, folder: Path, number: int, code: int, *, lasting: bool) -> None:
        super().__init__(folder)
        self._number = number
        self._code = code
        self._lasting = lasting

    def _before(self, name: str, path: Any, *arguments: Any) -> None:
        super()._before(name, path)
        if self.count == self._number or (self._lasting and self.count > self._number):
            if name == "write":
                descriptor, data = arguments
                self._real["write"](descriptor, bytes(data)[: len(data) // 2])
            raise OSError(self._code, os.strerror(self._code), os.fspath(path))


class PowerCut(WatchedOs):
    """Ends everything at the call of a number; `take_back` then undoes what was not synced."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder)
        self._number = number
        self._unsynced: set[str] = set()  # files
        self._names: dict[str, list[Callable[[], None]]] = {}  # of a folder: what takes each new name back

    def _before(self, name: str, path: Any, *arguments: Any) -> None:
        super()._before(name, path)
        if self.count >= self._number:
            raise PowerCutError

    def take_back(self, source: random.Random, chance: float) -> None:
        """Undo what was not synced: the names with this chance each, the last first, and bytes of the files."""
        for steps in self._names.values():
            for step in reversed(steps):
                if source.random() < chance:
                    step()
        for path in map(Path, sorted(self._unsynced)):
            if path.is_file():
                size = path.stat().st_size
                kept = source.randrange(size + 1) if size else 0
                path.write_bytes(path.read_bytes()[:kept] + bytes(source.choice((0, size - kept))))

    def _after_open(self, path: str, is_new: bool, flags: int) -> None:
        if flags & os.O_DIRECTORY:
            return
        if is_new:
            self._add(Path(path), lambda: Path(path).unlink(missing_ok=True))
        if flags & os.O_TRUNC:
            self._unsynced.add(path)

    def _after_write(self, path: str) -> None:
        self._unsynced.add(path)

    def _after_sync(self, path: str) -> None:
        self._unsynced.discard(path)
        self._names.pop(path, None)

    def _before_replace(self, source: Path, target: Path) -> None:
        before, after = target.read_bytes() if target.exists() else None, source.read_bytes()
        if str(source) in self._unsynced:
            self._unsynced.discard(str(source))
            self._unsynced.add(str(target))

        def undo() -> None:
            source.write_bytes(after)  # a rename is undone whole
            if str(target) in self._unsynced:
                self._unsynced.add(str(source))
            if before is None:
                target.unlink(missing_ok=True)
            else:
                target.write_bytes(before)

        self._add(target, undo)

    def _after_mkdir(self, path: Path) -> None:
        self._add(path, lambda: shutil.rmtree(path, ignore_errors=True))

    def _add(self, path: Path, undo: Callable[[], None]) -> None:
        def step() -> None:
            with suppress(FileNotFoundError, NotADirectoryError):  # its folder is gone already
                undo()

        self._names.setdefault(str(path.parent), []).append(step)
