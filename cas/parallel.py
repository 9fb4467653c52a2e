"""Work on rows in several threads: hashing, copying and reading let go of Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

R = TypeVar("R")

_pool: ThreadPoolExecutor | None = None


def run_ahead(tasks: Iterable[Callable[[], R]], window: int) -> Iterator[R]:
    """Yield the tasks' results in order, while up to `window` tasks behind the one that is waited for run already.

    The first exception is raised in its task's place; tasks that have begun by then are waited for.
    """
    source = iter(tasks)
    first = list(islice(source, 2))
    if len(first) < 2:
        yield from (task() for task in first)
        return
    source = chain(first, source)
    pool = _threads()
    running: deque[Future[R]] = deque(pool.submit(task) for task in islice(source, window))
    try:
        while running:
            result = running.popleft().result()
            for task in islice(source, 1):
                running.append(pool.submit(task))
            yield result
    finally:
        for future in running:
            future.cancel()
        for future in running:
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
