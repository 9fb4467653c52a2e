"""Compute the selected segments of a run again, here one after another or in several processes at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samebits.cas import Store
from samebits.exec.devices.protocol import Device
from samebits.exec.errors import one_line
from samebits.exec.machine import JobMachine, Progress, State
from samebits.exec.verification.segment_task import OUR_ERRORS, SegmentTask, compute, failed
from samebits.exec.verification.selection import Selected
from samebits.exec.verification.verdict import DIFFERENT, SAME, SKIPPED, SegmentResult
from samebits.exec.verification.workers import Cluster, Workers, distribute, local_processes
from samebits.ledger import RunBody


@dataclass(frozen=True, slots=True)
class Computation:
    """What is to be computed: the segments of a run whose objects are in the store and whole."""

    run: RunBody
    store: Store
    segments: Sequence[Selected]
    every_one: bool  # also those behind one that is different, whose outcome is known without them
    progress: Progress | None = None


def compute_here(computation: Computation, device: Device) -> list[SegmentResult]:
    """Compute in this process; the state stays on the device from one segment to the next."""
    run, store, started = computation.run, computation.store, time.perf_counter()
    try:
        machine = JobMachine(run.job, store, device)
    except OUR_ERRORS as error:
        reason = one_line(error)
        return [failed(selected, reason, started, device.name) for selected in computation.segments]
    results: list[SegmentResult] = []
    state: State | None = None
    before = -1
    report = _Report(computation)
    for selected in computation.segments:
        if not computation.every_one and any(result.result == DIFFERENT for result in results):
            break
        state = state if selected.number == before + 1 else None
        result, state = compute(machine, store, run, selected, device.name, state, report.step)
        results.append(result)
        before = selected.number if result.result == SAME else -1
    return _in_order(computation, results)


def compute_apart(
    computation: Computation, device: str, jobs: int, scheduler: str | None, sources: Sequence[str] = ()
) -> list[SegmentResult]:
    """Compute in processes: `jobs` of this machine, or the workers of a Dask cluster; raises RunError for no cluster.

    Those of this machine read the store itself, those of a cluster fetch by hash into stores of their own: from the
    store's folder where they have it, else from the `sources`, texts that `open_remote` takes.
    """
    folder = str(computation.store.path)
    shared, fetched_from = (folder, ()) if scheduler is None else (None, (folder, *sources))
    tasks = [SegmentTask(computation.run, one, device, shared, fetched_from) for one in computation.segments]
    report = _Report(computation)
    workers: list[Workers] = local_processes(min(jobs, len(tasks))) if scheduler is None else [Cluster(scheduler)]
    try:
        results = distribute(tasks, workers, report.segment, stop_at_different=not computation.every_one)
    finally:
        for worker in workers:
            worker.close()
    return _in_order(computation, results)


class _Report:
    """Counts steps for a progress."""

    def __init__(self, computation: Computation) -> None:
        self._progress = computation.progress
        self._total = sum(one.stop_step - one.body.first_step for one in computation.segments)
        self._done = 0

    def step(self, t: int, metrics: Mapping[str, float]) -> None:
        """Take note of a step."""
        self._add(1, metrics)

    def segment(self, result: SegmentResult) -> None:
        """Take note of a segment."""
        self._add(result.stop_step - result.first_step, result.metrics or {})

    def _add(self, steps: int, metrics: Mapping[str, float]) -> None:
        self._done += steps
        if self._progress is not None:
            self._progress(self._done, self._total, metrics)


def _in_order(computation: Computation, results: Sequence[SegmentResult]) -> list[SegmentResult]:
    """Return a result for each segment, the same however many processes there were."""
    found = {result.number: result for result in results}
    ordered = []
    ended = False
    for one in computation.segments:
        result = None if ended else found.get(one.number)
        ordered.append(result or SegmentResult(one.number, one.body.first_step, one.stop_step, SKIPPED))
        ended = ended or (not computation.every_one and result is not None and result.result == DIFFERENT)
    return ordered
