"""End the process at a moment, whatever it is doing: even inside a library that never returns to Python.

On Linux a timer of the C library calls fflush(3) and then _exit(2) in a thread of its own, which needs nothing of
Python; the file that is flushed holds the message. Elsewhere it is a thread of Python, which waits for a library that
holds Python's lock. Sources: timer_create(2), sigevent(3type).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

EXIT_CODE: Final = 2
_SIGEV_THREAD: Final = 2
_CLOCK_MONOTONIC: Final = 1
_FULLY_BUFFERED: Final = 0
_AFTER_MESSAGE_NS: Final = 100_000_000


class _Event(ctypes.Structure):
    """struct sigevent, 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_char * 32),
    )


class _Times(ctypes.Structure):
    """struct itimerspec: interval and first time, seconds and nanoseconds each."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "first_s", "first_ns"))


@contextlib.contextmanager
def hard_stop(deadline_s: float, message: str) -> Iterator[None]:
    """End the process with code 2 if the block is not left before `deadline_s` (time.monotonic()); `message` on stderr.

    Nothing is cleaned up: what the process writes must survive that, as the store and the ledger do.
    """
    line = f"{message}\n" if message else ""
    with _native(deadline_s, line) if sys.platform.startswith("linux") else _thread(deadline_s, line):
        yield


@contextlib.contextmanager
def _native(deadline_s: float, line: str) -> Iterator[None]:
    libc = ctypes.CDLL(None)
    libc.fdopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fdopen(os.dup(2), b"w"))
    libc.setvbuf(file, None, _FULLY_BUFFERED, ctypes.c_size_t(4096))
    libc.fputs(line.encode()[:4000], file)
    first_ns = max(int(deadline_s * 1e9), time.monotonic_ns() + 1)
    timers = []
    try:
        timers.append(_start_timer(libc, libc.fflush, file.value, first_ns))
        timers.append(_start_timer(libc, libc._exit, EXIT_CODE, first_ns + _AFTER_MESSAGE_NS))
        yield
    finally:
        for timer in timers:
            libc.timer_delete(timer)
        libc.__fpurge(file)
        libc.fclose(file)


def _start_timer(libc: Any, function: Any, argument: int | None, first_ns: int) -> ctypes.c_void_p:
    event = _Event(argument, 0, _SIGEV_THREAD, ctypes.cast(function, ctypes.c_void_p), None)
    timer = ctypes.c_void_p()
    times = _Times(0, 0, *divmod(first_ns, 1_000_000_000))
    absolute = 1
    if libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) or libc.timer_settime(
        timer, absolute, ctypes.byref(times), None
    ):
        raise OSError("the C library gives no timer")
    return timer


@contextlib.contextmanager
def _thread(deadline_s: float, line: str) -> Iterator[None]:
    left = threading.Event()

    def watch() -> None:
        if not left.wait(max(deadline_s - time.monotonic(), 0)):
            os.write(2, line.encode())
            os._exit(EXIT_CODE)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()
