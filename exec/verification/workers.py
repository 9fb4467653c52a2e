"""Processes that compute segments: some of this machine, or those of a Dask cluster, by one interface, the executor.

A process that dies takes nothing with it: its segment goes to another one. A segment on which several have died failed.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from typing import Any, Final, Protocol

from samebits.exec.errors import RunError, one_line
from samebits.exec.limits import Limits, current_limits, enter_worker
from samebits.exec.verification.segment_task import SegmentTask, failed, run_task
from samebits.exec.verification.verdict import DIFFERENT, SegmentResult

MAX_DEATHS: Final = 3  # of processes, on one segment
CONNECT_TIMEOUT_S: Final = 20
_ADDRESS: Final = re.compile(r"[a-z]+://[^/\s]+:[0-9]{1,5}")
# what libraries ask how many threads to use
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POCL_MAX_PTHREAD_COUNT",
    "POCL_CPU_MAX_CU_COUNT",
)

Done = Callable[[SegmentResult], None]


class Workers(Protocol):
    """Something that takes tasks."""

    room: int  # how many more it takes now

    def submit(self, task: SegmentTask) -> Future[SegmentResult]:
        """Hand over a task; the future raises BrokenExecutor if the process died."""

    def mend(self) -> None:
        """Make it usable again after its process died."""

    def close(self) -> None:
        """End it, and what it still does."""


class LocalProcess:
    """One process of this machine, with its share of the cores."""

    def __init__(self, threads: int, limits: Limits) -> None:
        """`threads`: how many its libraries may use; `limits`: what it may take."""
        self.room = 1
        self._threads = threads
        self._limits = limits
        self._pool: ProcessPoolExecutor | None = None
        self._processes: set[BaseProcess] = set()

    def submit(self, task: SegmentTask) -> Future[SegmentResult]:
        """Hand over a task; the first one starts the process."""
        if self._pool is not None:
            try:
                return self._pool.submit(run_task, task)
            except BrokenExecutor:  # it died while it had nothing to do
                self.close()
        before = set(active_children())
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=(self._limits,))
        with _thread_limit(self._threads):  # read by libraries when the process loads them
            future = self._pool.submit(run_task, task)
        self._processes = set(active_children()) - before
        return future

    def mend(self) -> None:
        """Forget the dead process; the next task starts another."""
        self.close()

    def close(self) -> None:
        """End the process, also in the middle of a task."""
        for process in self._processes:
            process.terminate()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._processes = None, set()


class Cluster:
    """The workers of a Dask cluster. The scheduler gives a lost worker's segment to another one by itself."""

    def __init__(self, address: str) -> None:
        """Connect to a scheduler; raises RunError."""
        if _ADDRESS.fullmatch(address) is None:
            raise RunError(f"scheduler {address[:200]!r}: want an address such as tcp://HOST:8786")
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise RunError("a scheduler needs Dask: install samebits[dask]") from error
        try:
            self._client: Any = distributed.Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise RunError(f"scheduler {address!r}: {one_line(error) or type(error).__name__}") from error
        self._executor: Executor = self._client.get_executor(pure=False)
        self.room = 1 << 20

    def submit(self, task: SegmentTask) -> Future[SegmentResult]:
        """Hand over a task."""
        return self._executor.submit(run_task, task)

    def mend(self) -> None:
        """Nothing: processes are the cluster's."""

    def close(self) -> None:
        """Cancel what was handed over, and disconnect."""
        self._executor.shutdown(wait=False)
        self._client.close()


def local_processes(count: int) -> list[Workers]:
    """Return so many processes of this machine, which share its cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = current_limits().shared_by(count)
    return [LocalProcess(max(1, cores // count), limits) for _ in range(count)]


def distribute(
    tasks: Sequence[SegmentTask], workers: Sequence[Workers], done: Done, *, stop_at_different: bool
) -> list[SegmentResult]:
    """Return the results of all tasks, in the order in which they came; `done` hears of each.

    With `stop_at_different` segments behind one that is different are not begun. Raises nothing for a task that fails.
    """
    waiting = deque(tasks)
    running: dict[Future[SegmentResult], tuple[SegmentTask, Workers, float]] = {}
    deaths: dict[int, int] = {}
    results: list[SegmentResult] = []
    while waiting or running:
        for worker in workers:
            while waiting and worker.room:
                task = waiting.popleft()
                worker.room -= 1
                running[worker.submit(task)] = (task, worker, time.perf_counter())
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task, worker, started = running.pop(future)
            worker.room += 1
            number = task.selected.number
            try:
                result = future.result()
            except BrokenExecutor:
                worker.mend()
                deaths[number] = deaths.get(number, 0) + 1
                if deaths[number] < MAX_DEATHS:
                    waiting.appendleft(task)
                    continue
                result = failed(task.selected, f"{MAX_DEATHS} processes died on it", started, task.device)
            except Exception as error:  # whatever a cluster raises: nothing is known of the segment
                reason = f"{type(error).__name__}: {one_line(error)}"
                result = failed(task.selected, reason, started, task.device)
            results.append(result)
            done(result)
            if stop_at_different and result.result == DIFFERENT:
                waiting = deque(one for one in waiting if one.selected.number < number)
    return results


def _begin(limits: Limits) -> None:
    """Begin a process: interrupts are its parent's, and it keeps to its share of the parent's limits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    enter_worker(limits)


@contextmanager
def _thread_limit(threads: int) -> Iterator[None]:
    """Ask libraries for so many threads, in processes that are started meanwhile; what asks for fewer stays."""
    before: Mapping[str, str | None] = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    for name, value in before.items():
        if value is None or not value.isascii() or not value.isdigit() or int(value) > threads:
            os.environ[name] = str(threads)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
