"""The LMDB environments that this process has open, each once, and what a fork does to them.

LMDB must not be opened twice in a process, nor be used in the child of a fork. So every store on a directory shares
one environment, and a fork waits until no transaction runs; then the child closes what it inherited (it opens its own
when it needs one), and the parent goes on only after that, because the child's closing clears the parent's slots in
the table of readers.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from samebits.cas.locks import Gate, Lease

_CHILD_TIMEOUT_S: Final = 2.0

# process, and device and inode of the data file: what LMDB must not open twice
Key = tuple[int, int, int]


@dataclass(slots=True, eq=False)
class SharedEnvironment:
    """An open LMDB environment with its databases, who uses it, and the process's locks."""

    env: Any  # lmdb.Environment
    tables: dict[str, Any]
    read_only: bool
    users_lock: int | None = None  # descriptor; held while the environment is open
    users: int = 0
    running: int = 0  # transactions that are open now
    waiting: int = 0  # threads that wait until there are none
    idle_lock: Any = field(default_factory=threading.RLock)  # of `idle`; locking it itself is faster
    idle: threading.Condition = field(init=False)
    _locks: threading.Lock = field(default_factory=threading.Lock)
    _gate: Gate | None = None
    _lease: Lease | None = None

    def __post_init__(self) -> None:
        self.idle = threading.Condition(self.idle_lock)

    def gate(self, directory: Path) -> Gate:
        """Return the process's gate, opened on first use."""
        with self._locks:
            if self._gate is None:
                self._gate = Gate(directory)
            return self._gate

    def lease(self, directory: Path) -> Lease:
        """Return the process's lease, taken on first use."""
        with self._locks:
            if self._lease is None:
                self._lease = Lease.take(directory)
            return self._lease

    @property
    def lease_identity(self) -> str | None:
        """The identity of the lease if there is one."""
        return None if self._lease is None else self._lease.identity

    def close(self) -> None:
        """Close the environment and let go of the locks; nothing of it may be in use."""
        directory = Path(os.fsdecode(self.env.path()))
        self.env.close()
        if self._lease is not None:
            self._lease.drop(directory)
        self._close_rest()

    def close_inherited(self) -> None:
        """Close what the child of a fork has inherited; the parent keeps its locks and its lease."""
        self.env.close()
        if self._lease is not None:
            os.close(self._lease.descriptor)
        self._close_rest()

    def _close_rest(self) -> None:
        if self._gate is not None:
            self._gate.close()
        if self.users_lock is not None:
            os.close(self.users_lock)

    def enter(self) -> None:
        """Count a transaction that begins."""
        with self.idle_lock:
            self.running += 1

    def leave(self) -> None:
        """Count a transaction that has ended."""
        with self.idle_lock:
            self.running -= 1
            if self.running == 0 and self.waiting:
                self.idle.notify_all()

    def when_idle(self, act: Callable[[], object]) -> None:
        """Wait until no transaction runs, and call `act` before another begins."""
        with self.idle:
            self.wait()
            act()

    def wait(self) -> None:
        """Wait until no transaction runs; `idle` is held by the caller."""
        self.waiting += 1
        try:
            self.idle.wait_for(lambda: self.running == 0)
        finally:
            self.waiting -= 1


_open: dict[Key, SharedEnvironment] = {}
_lock = threading.Lock()


def acquire(data: Path, open_environment: Callable[[], SharedEnvironment]) -> SharedEnvironment:
    """Return the process's environment with the data file `data`, for one more user; opens it if need be."""
    with _lock:
        key = _find_key(data)
        shared = None if key is None else _open.get(key)
        if shared is None:
            shared = open_environment()
            key = _find_key(data)
            if key is None:
                shared.close()
                raise FileNotFoundError(f"{data} vanished while it was opened")
            _open[key] = shared
        shared.users += 1
        return shared


def release(shared: SharedEnvironment) -> None:
    """Let one user go; the last one closes the environment, after the transactions that still run."""
    with _lock:
        shared.users -= 1
        if shared.users == 0:
            for key in [key for key, other in _open.items() if other is shared]:
                del _open[key]
            shared.when_idle(shared.close)


def _find_key(data: Path) -> Key | None:
    try:
        found = data.stat()
    except FileNotFoundError:
        return None
    return os.getpid(), found.st_dev, found.st_ino


@dataclass(slots=True)
class _Fork:
    """A fork under way: what stands still for it, and a pipe whose end tells the parent that the child closed it."""

    quiet: list[SharedEnvironment]
    pipe: tuple[int, int] | None


_forks: list[_Fork] = []  # at most one: `_lock` is held meanwhile


def _before_fork() -> None:
    _lock.acquire()
    quiet = list(_open.values())
    for shared in quiet:
        shared.idle.acquire()
        shared.wait()
    pipe = None
    if quiet:
        with suppress(OSError):
            pipe = os.pipe()
    _forks.append(_Fork(quiet, pipe))


def _after_in_parent() -> None:
    fork = _forks.pop()
    try:
        if fork.pipe is not None:
            _wait_for_end(*fork.pipe)
    finally:
        for shared in fork.quiet:
            shared.idle.release()
        _lock.release()


def _wait_for_end(read_end: int, write_end: int) -> None:
    """Wait until the child has closed its end of the pipe too, but not for ever."""
    os.close(write_end)
    poll = select.poll()  # select() takes no descriptor from 1024 on
    poll.register(read_end, select.POLLIN)
    poll.poll(_CHILD_TIMEOUT_S * 1000)
    os.close(read_end)


def _after_in_child() -> None:
    global _lock
    fork = _forks.pop()
    for shared in _open.values():
        shared.close_inherited()
    _open.clear()
    for end in fork.pipe or ():
        os.close(end)
    _lock = threading.Lock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
