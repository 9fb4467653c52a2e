"""A segment as a task for any process: what it takes and gives is plain data, and the rest is found by hash.

A process keeps the machine of the last job, compiled, for the tasks that follow. Tasks in one process wait for each
other, for a device is used by one at a time.
"""

from __future__ import annotations

import atexit
import os
import platform
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from samebits.cas import CasError, Digest, Store, open_remote, pull
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import ExecError, one_line
from samebits.exec.machine import JobMachine, State
from samebits.exec.verification.claim import segment_roots
from samebits.exec.verification.replay import StepDone, replay_segment
from samebits.exec.verification.selection import Selected
from samebits.exec.verification.verdict import DIFFERENT, FAILED, SAME, SegmentResult
from samebits.kernels.errors import KernelError
from samebits.ledger import RunBody

OUR_ERRORS: Final = (CasError, ExecError, KernelError)
WORKER_STORE_VARIABLE: Final = "SAMEBITS_WORKER_STORE"


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """What a process needs to compute a segment again."""

    run: RunBody
    selected: Selected
    device: str
    store: str | None  # folder of a store that has the objects; None: the worker fetches them into a store of its own
    sources: tuple[str, ...] = ()  # where it fetches from, as `open_remote` takes it; the first that answers

    @property
    def roots(self) -> list[Digest]:
        """The objects that it needs, with all that they refer to."""
        return [self.run.job, *segment_roots(self.selected.body)]


@dataclass(slots=True)
class _Workplace:
    """What a process keeps between tasks."""

    key: tuple[Digest, str, str | None]
    store: Store
    machine: JobMachine | None = None


_lock = threading.Lock()
_workplace: _Workplace | None = None


def run_task(task: SegmentTask) -> SegmentResult:
    """Compute a segment again in this process; what is missing or malformed is a result too."""
    with _lock:
        started = time.perf_counter()
        try:
            workplace = _open_workplace(task)
            if task.store is None:
                _fetch(task, workplace.store)
            if workplace.machine is None:
                workplace.machine = JobMachine(task.run.job, workplace.store, open_device(task.device))
        except OUR_ERRORS as error:
            return failed(task.selected, one_line(error), started, task.device)
        return compute(workplace.machine, workplace.store, task.run, task.selected, task.device)[0]


def compute(
    machine: JobMachine,
    store: Store,
    run: RunBody,
    selected: Selected,
    device: str,
    state: State | None = None,
    done: StepDone | None = None,
) -> tuple[SegmentResult, State | None]:
    """Return what came of a segment, and the state behind it where all its commits are the same."""
    started = time.perf_counter()
    try:
        replay, state = replay_segment(machine, store, run, selected, state, done)
    except OUR_ERRORS as error:
        return failed(selected, one_line(error), started, device), None
    different = replay.first_different_step
    result = SegmentResult(
        selected.number,
        selected.body.first_step,
        selected.stop_step,
        SAME if different is None else DIFFERENT,
        different,
        replay.commits_checked,
        time.perf_counter() - started,
        device,
        worker_name(),
        metrics=replay.metrics,
    )
    return result, state if different is None else None


def failed(selected: Selected, reason: str, started: float, device: str) -> SegmentResult:
    """Return the result of a segment that could not be computed; `started` is of `time.perf_counter`."""
    result = SegmentResult(selected.number, selected.body.first_step, selected.stop_step, FAILED, reason=reason)
    return replace(result, seconds=time.perf_counter() - started, device=device, worker=worker_name())


def worker_name() -> str:
    """Return what this process goes by in results: ``HOST:PROCESS``."""
    return f"{platform.node()}:{os.getpid()}"


def _open_workplace(task: SegmentTask) -> _Workplace:
    global _workplace
    key = (task.run.job, task.device, task.store)
    if _workplace is None or _workplace.key != key:
        if _workplace is not None:
            _workplace.machine = None
            if _workplace.key[2] == task.store:
                _workplace = _Workplace(key, _workplace.store)
                return _workplace
            _workplace.store.close()
            _workplace = None
        store = Store(_own_folder()) if task.store is None else Store(task.store, read_only=True)
        _workplace = _Workplace(key, store)
    return _workplace


def _own_folder() -> str:
    """Return the folder of a worker's own store: as the environment names it, else a new one that ends with it."""
    named = os.environ.get(WORKER_STORE_VARIABLE)
    if named:
        return named
    folder = tempfile.TemporaryDirectory(prefix="samebits-worker-")  # the finalizer removes it
    atexit.register(folder.cleanup)
    return folder.name


def _fetch(task: SegmentTask, store: Store) -> None:
    """Fetch what a task needs from the first source that has it; raises what the last one raised."""
    if not store.missing(task.roots):
        return
    problem: CasError | None = None
    for source in task.sources:
        try:
            with closing(open_remote(source)) as remote:
                pull(remote, store, task.roots)
                return
        except CasError as error:
            problem = error
    raise problem or ExecError("nowhere to fetch from")
