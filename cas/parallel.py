"""Work on rows in several threads: hashing, copying and reading let go of Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

R = TypeVar("R")

_pool: ThreadPoolExecutor | None = None


def run_ahead(tasks: Iterable[Callable[[], R]], window: int) -> Iterator[R]:
    """Yield the tasks' results in order, while up to `window` tasks behind the one that is waited for run already.

    The first exception is raised in its task's place; tasks that have begun by then are waited for. The child of a fork
    does what is left by itself, one task after the other.
    """
    source = iter(tasks)
    first = list(islice(source, 2))
    if len(first) < 2:
        yield from (task() for task in first)
        return
    source = chain(first, source)
    pool, process = _threads(), os.getpid()
    running = deque((task, pool.submit(task)) for task in islice(source, window))
    try:
        while running:
            task, future = running.popleft()
            if os.getpid() != process:
                yield task()
                continue
            result = future.result()
            for task in islice(source, 1):
                running.append((task, pool.submit(task)))
            yield result
        yield from (task() for task in source)  # in a child: the threads are its parent's
    finally:
        if os.getpid() == process:
            for _, future in running:
                future.cancel()
            for _, future in running:
                if not future.cancelled():
                    future.exception()


def _threads() -> ThreadPoolExecutor:
    """Return the process's pool; tasks in it must not wait for each other."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1), thread_name_prefix="samebits-rows")
    return _pool


def _forget_pool() -> None:
    global _pool
    _pool = None  # its threads are not in the child


os.register_at_fork(after_in_child=_forget_pool)
