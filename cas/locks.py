"""Locks between the processes that use a store: who uses it, who writes, who collects garbage.

All are `flock` locks on files beside the database, so the kernel lets go of them when a process dies, however it dies:

    users.lock     shared by every process that has the store open, exclusive while it is compacted
    batches.lock   shared while batches are open, exclusive for one slice of a sweep of garbage collection
    gate.lock      exclusive while a sweep wants in: batches that begin wait for it, open ones let it in at a flush
    collector.lock exclusive by the one garbage collection that runs
    leases/<id>    exclusive by one process that writes; says when it began. What it has put stays while it lives
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from samebits.cas.errors import StoreBusyError, StoreError, file_system_error

USERS: Final = "users.lock"
BATCHES: Final = "batches.lock"
GATE: Final = "gate.lock"
COLLECTOR: Final = "collector.lock"
LEASES: Final = "leases"
_POLL_S: Final = 0.002
_PRESS_S: Final = 1.0  # how long a sweep keeps new batches out while an old one stays open
_RETREAT_S: Final = 0.2  # how long it lets them in then
_NEW_S: Final = 60.0
_UNWRITABLE_CODES: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

_exclusive: set[int] = set()  # descriptors whose locks a child of a fork must not keep


def open_lock(path: Path) -> int:
    """Return a descriptor of a lock file of its own, made if it is not there; closing it lets go of the lock."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in _UNWRITABLE_CODES:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def try_lock(descriptor: int, operation: int) -> bool:
    """Take a lock if that needs no waiting; return whether it was taken."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def open_exclusive(path: Path) -> Iterator[int]:
    """Open a lock file to lock it exclusively for a while: no child of a fork that happens meanwhile keeps the lock.

    Raises StoreError.
    """
    try:
        descriptor = open_lock(path)
    except OSError as error:
        raise file_system_error(path.parent.parent, error) from error
    _exclusive.add(descriptor)
    try:
        yield descriptor
    finally:
        if descriptor in _exclusive:  # else this is a child, which has closed it
            _exclusive.discard(descriptor)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that has not closed it yet would hold on to it
            os.close(descriptor)


def _close_in_child() -> None:
    for descriptor in _exclusive:
        os.close(descriptor)
    _exclusive.clear()


os.register_at_fork(after_in_child=_close_in_child)


@dataclass(slots=True, eq=False)
class Visit:
    """A batch that is open: inside the gate, but while it lets a sweep in."""

    since_s: int = field(default_factory=lambda: int(time.time()))  # Unix time, not after its first put
    is_inside: bool = False


class Gate:
    """Lets batches of all processes in together, and a sweep alone. One per process and store; usable by threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._gate = open_lock(directory / GATE)
        self._batches = open_lock(directory / BATCHES)
        self._turn = threading.Lock()  # of who takes `_batches` for all, or gives it back; may be held for long
        self._inside = 0
        self._visits: set[Visit] = set()
        self._is_closed = False

    def enter(self) -> Visit:
        """Begin a batch; waits while a sweep runs or wants in."""
        visit = Visit()
        self._visits.add(visit)
        try:
            self._come_in(visit)
        except BaseException:
            self.leave(visit)
            raise
        return visit

    def let_sweep_in(self, visit: Visit) -> None:
        """Stand aside with a batch, and go on with it when no sweep runs or wants in; it counts as open meanwhile.

        After an exception it is outside, and can only be ended.
        """
        self._go_out(visit)
        self._come_in(visit)

    def leave(self, visit: Visit) -> None:
        """End a batch."""
        self._go_out(visit)
        self._visits.discard(visit)

    def open_since_s(self) -> int | None:
        """Return the Unix time since when this process has had batches open, if it has any; never waits."""
        return min((visit.since_s for visit in self._visits.copy()), default=None)

    def is_wanted(self) -> bool:
        """Return whether a sweep waits for the batches to end; raises StoreError when the store was closed."""
        self._check_open()
        if not try_lock(self._gate, fcntl.LOCK_SH):
            return True
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Let go of everything; batches still open can't be committed. In a child: the parent keeps its locks."""
        self._is_closed = True  # without waiting for `_turn`: whoever has it may wait for who closes
        os.close(self._gate)
        os.close(self._batches)

    def _come_in(self, visit: Visit) -> None:
        self._check_open()
        fcntl.flock(self._gate, fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        with self._turn:
            self._check_open()
            if self._inside == 0:
                fcntl.flock(self._batches, fcntl.LOCK_SH)
            self._inside += 1
            visit.is_inside = True

    def _go_out(self, visit: Visit) -> None:
        if self._is_closed or not visit.is_inside:
            return
        with self._turn:
            visit.is_inside = False
            self._inside -= 1
            if self._inside == 0 and not self._is_closed:
                fcntl.flock(self._batches, fcntl.LOCK_UN)

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError(self._directory.parent, "is closed")


@contextmanager
def alone(path: Path, directory: Path, timeout_s: float) -> Iterator[None]:
    """Keep all batches out; raises StoreBusyError when one stays open for longer than `timeout_s`."""
    with open_exclusive(directory / GATE) as gate, open_exclusive(directory / BATCHES) as batches:
        deadline = time.monotonic() + timeout_s
        while not _shut(gate, batches, deadline):
            if time.monotonic() > deadline:
                raise StoreBusyError(path, f"a batch of puts has been open for {timeout_s:g} s; try again later")
            time.sleep(_RETREAT_S)
        yield


def _shut(gate: int, batches: int, deadline: float) -> bool:
    """Keep new batches out and wait for the open ones; if that takes long, let them in again and return False."""
    fcntl.flock(gate, fcntl.LOCK_EX)
    until = min(deadline, time.monotonic() + _PRESS_S)
    while not try_lock(batches, fcntl.LOCK_EX):
        if time.monotonic() > until:
            fcntl.flock(gate, fcntl.LOCK_UN)
            return False
        time.sleep(_POLL_S)
    return True


@contextmanager
def only_collector(path: Path, directory: Path) -> Iterator[None]:
    """Be the one that collects garbage; raises StoreBusyError if somebody is already."""
    with open_exclusive(directory / COLLECTOR) as descriptor:
        if not try_lock(descriptor, fcntl.LOCK_EX):
            raise StoreBusyError(path, "garbage is being collected already; try again when that is done")
        yield


@dataclass(frozen=True, slots=True)
class Lease:
    """A living process's claim on all that it puts."""

    identity: str  # 32 hexadecimal characters, the name of its file
    began_s: int  # Unix time, not after its first put
    descriptor: int  # holds the lock

    @classmethod
    def take(cls, directory: Path) -> Lease:
        """Make a lease for this process."""
        folder = directory / LEASES
        folder.mkdir(exist_ok=True)
        identity, began = secrets.token_hex(16), int(time.time())
        new = folder / f"new-{identity}"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, f"{began} {os.getpid()}\n".encode())
            new.rename(folder / identity)  # who sees it sees it locked
        except BaseException:
            os.close(descriptor)
            new.unlink(missing_ok=True)
            raise
        return cls(identity, began, descriptor)

    def drop(self, directory: Path) -> None:
        """End the lease."""
        with suppress(OSError):
            (directory / LEASES / self.identity).unlink(missing_ok=True)
        os.close(self.descriptor)


def living_leases(directory: Path) -> dict[str, int]:
    """Return when each living lease began, by identity; the files of dead processes are removed.

    What is no regular file is no lease. Raises StoreError for one that can't be read: its process may live.
    """
    found: dict[str, int] = {}
    folder = directory / LEASES
    for file in folder.iterdir() if folder.is_dir() else ():
        try:
            if not stat.S_ISREG(file.lstat().st_mode):
                continue
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise file_system_error(directory.parent, error) from error
        try:
            if try_lock(descriptor, fcntl.LOCK_EX):
                # its process died; a new file may belong to one that is about to lock it
                if not file.name.startswith("new-") or time.time() - os.fstat(descriptor).st_mtime > _NEW_S:
                    with suppress(OSError):  # somebody else's: it stays, and says nothing
                        file.unlink(missing_ok=True)
                continue
            first = os.pread(descriptor, 64, 0).split(b" ")[0]
            found[file.name] = int(first) if first.isdigit() else 0
        finally:
            os.close(descriptor)
    return found
