"""Limits of memory and time that a user sets for work on data of strangers. They hold for the whole process.

Memory is bounded twice: plans, tensors and sources of kernels are compared with the limit before anything is
allocated, and on Linux the kernel refuses what the process would take beyond it (RLIMIT_DATA: private writable
memory; the store's map, which is shared, does not count).
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final

import numpy as np

from samebits.exec.hard_stop import hard_stop

GRACE_S: Final = 1.5  # from the deadline until the process ends whatever it is doing


@dataclass(frozen=True, slots=True)
class Limits:
    """What work may take. None: no limit."""

    memory_bytes: int | None = None  # beyond what the process has when the limit begins to hold
    deadline_s: float | None = None  # time.monotonic(), which all processes of a machine share

    def shared_by(self, processes: int) -> Limits:
        """Return the limits of each of some worker processes: an equal share of the memory, the same deadline."""
        return self if self.memory_bytes is None else replace(self, memory_bytes=self.memory_bytes // processes)


class TimeLimitReachedError(BaseException):
    """The deadline has come. Like KeyboardInterrupt it is no Exception: nothing on the way takes it for its own."""


_NONE: Final = Limits()
_holding: Limits = _NONE
_until_exit: Final = contextlib.ExitStack()  # what holds in a worker process for as long as it lives


def current_limits() -> Limits:
    """Return the limits that hold in this process, to hand to a worker process."""
    return _holding


def memory_limit_bytes() -> int | None:
    """Return the most that a job may take; None without a limit."""
    return _holding.memory_bytes


@contextlib.contextmanager
def limited(limits: Limits, message: str = "") -> Iterator[None]:
    """Hold a block to limits.

    Beyond the memory allocations fail: a MemoryError, or the error of the library that it happened in. At the deadline
    TimeLimitReachedError is raised in the main thread; if that does not end the block in time, the process writes
    `message` on stderr and ends with code 2, without leaving Python's or a library's work properly.
    """
    global _holding
    before = _holding
    _holding = limits
    try:
        with _deadline(limits.deadline_s, message), _memory(limits.memory_bytes):
            yield
    finally:
        _holding = before


def enter_worker(limits: Limits) -> None:
    """Hold this process to limits until it ends; for worker processes, as their initializer.

    At the deadline the process ends by itself with code 2, and prints nothing: that is for its parent to say.
    """
    global _holding
    _holding = limits
    _until_exit.enter_context(_memory(limits.memory_bytes))
    if limits.deadline_s is not None:
        _until_exit.enter_context(hard_stop(limits.deadline_s, ""))


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Let what the block takes not count against the memory limit: our own work, that no job asked for."""
    if _holding.memory_bytes is None or not _can_limit_memory():
        yield
        return
    _set_soft_limit(None)
    try:
        yield
    finally:
        _set_soft_limit(_used_bytes() + _holding.memory_bytes)


@contextlib.contextmanager
def _memory(size_bytes: int | None) -> Iterator[None]:
    if size_bytes is None or not _can_limit_memory():
        yield
        return
    _warm_up()
    _set_soft_limit(_used_bytes() + size_bytes)
    try:
        yield
    finally:
        _set_soft_limit(None)


@contextlib.contextmanager
def _deadline(deadline_s: float | None, message: str) -> Iterator[None]:
    if deadline_s is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        with hard_stop(deadline_s, message):
            yield
        return
    before = signal.signal(signal.SIGALRM, _raise_time_limit)
    try:
        with hard_stop(deadline_s + GRACE_S, message):
            signal.setitimer(signal.ITIMER_REAL, max(deadline_s - time.monotonic(), 1e-6))
            try:
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)


def _raise_time_limit(number: int, frame: FrameType | None) -> None:
    raise TimeLimitReachedError


def _can_limit_memory() -> bool:
    return sys.platform.startswith("linux")


def _used_bytes() -> int:
    """Return the private writable memory of this process, as RLIMIT_DATA counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("Linux says VmData of every process")


def _set_soft_limit(size_bytes: int | None) -> None:
    """Set RLIMIT_DATA as far as the hard limit goes; None lifts it."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    infinite = resource.RLIM_INFINITY
    wanted = hard if size_bytes is None else size_bytes if hard == infinite else min(size_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _warm_up() -> None:
    """Have NumPy's matrix library allocate its buffers: where it can't get them it ends the process."""
    square = np.ones((512, 512))
    np.matmul(square, square)
