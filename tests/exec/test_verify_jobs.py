"""Segments in several processes: the verdict is that of one process, also where a process is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from multiprocessing import active_children
from typing import Any

import pytest
from tests.exec.small_job import make_job
from tests.exec.test_run_and_verify import Fraud

import samebits
from samebits.cas import Digest, Store
from samebits.exec.errors import RunError
from samebits.exec.verification.selection import SampleRequest, StepRange
from samebits.exec.verification.verdict import Verdict
from samebits.exec.verification.workers import _thread_limit


def findings(verdict: Verdict) -> Any:
    """Return what must not depend on where it was computed."""
    segments = [replace(one, seconds=0, worker="") for one in verdict.segments]
    checked = (verdict.commits_checked, verdict.steps_checked, verdict.artifacts, verdict.computation)
    return verdict.verdict, verdict.first_different_step, segments, checked, verdict.metrics, verdict.entry


class Killer:
    """A progress that kills a process with the first segment that is done, when the others are at work."""

    def __init__(self, find: Callable[[], list[int]]) -> None:
        self.killed: list[int] = []
        self._find = find

    def __call__(self, done: int, steps: int, metrics: Mapping[str, float]) -> None:
        if not self.killed:
            self.killed = self._find()
            for process in self.killed:
                os.kill(process, signal.SIGKILL)


def test_two_processes_give_the_verdict_of_one(store: Store) -> None:
    run = samebits.run(make_job(steps=60), store, checkpoint_every=7).address
    for selection in (None, StepRange(20, 33), SampleRequest(3, beacon=b"x")):
        alone = samebits.verify(run, store, selection=selection, sign=False)
        several = samebits.verify(run, store, selection=selection, sign=False, jobs=2)
        assert findings(several) == findings(alone)
        assert {one.worker for one in several.segments} & {one.worker for one in alone.segments} == set()
    assert len({one.worker for one in samebits.verify(run, store, jobs=2).segments}) == 2
    assert not active_children()


def test_two_processes_find_the_fraud_that_one_finds(store: Store) -> None:
    run = Fraud(store, 43, claimed=make_job(steps=100)).run
    alone, several = samebits.verify(run, store), samebits.verify(run, store, jobs=3)
    assert alone.first_different_step == 43
    assert findings(several) == findings(alone)


def test_killed_processes_change_no_verdict(store: Store) -> None:
    run = samebits.run(make_job(steps=600), store, checkpoint_every=100).address
    killer = Killer(lambda: [one.pid for one in active_children() if one.pid is not None])
    verdict = samebits.verify(run, store, jobs=2, progress=killer)
    assert len(killer.killed) == 2
    assert findings(verdict) == findings(samebits.verify(run, store))
    workers = {int(one.worker.rpartition(":")[2]) for one in verdict.segments}
    assert len(workers - set(killer.killed)) >= 1


def test_a_segment_that_kills_every_process_is_failed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.exec.verification.workers.run_task", die)
    run = samebits.run(make_job(steps=4), store, checkpoint_every=2).address
    verdict = samebits.verify(run, store, jobs=1 + 1)
    assert (verdict.verdict, verdict.entry) == ("failed", None)
    assert [one.reason for one in verdict.segments] == ["3 processes died on it"] * 2


def die(task: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "64")
    monkeypatch.delenv("POCL_MAX_PTHREAD_COUNT", raising=False)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT")
    before = [os.environ.get(name) for name in names]
    with _thread_limit(2):
        assert [os.environ.get(name) for name in names] == ["1", "2", "2"]
    assert [os.environ.get(name) for name in names] == before


@pytest.mark.parametrize("jobs", [0, -1, True, 1.5])
def test_jobs_is_a_positive_number(store: Store, jobs: Any) -> None:
    with pytest.raises(RunError, match="is not a positive integer"):
        samebits.verify(Digest(bytes(32)), store, jobs=jobs)


# Dask


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as opened:
        yield opened


def test_a_cluster_gives_the_verdict_of_one_process(store: Store, cluster: Any) -> None:
    run = samebits.run(make_job(steps=60), store, checkpoint_every=7).address
    alone = samebits.verify(run, store)
    several = samebits.verify(run, store, scheduler=cluster.scheduler_address)
    assert findings(several) == findings(alone)
    assert {one.worker for one in several.segments} & {one.worker for one in alone.segments} == set()


def test_a_cluster_s_workers_find_a_fraud(store: Store, cluster: Any) -> None:
    run = Fraud(store, 43, claimed=make_job(steps=100)).run
    assert findings(samebits.verify(run, store, scheduler=cluster.scheduler_address)) == findings(
        samebits.verify(run, store)
    )


def test_a_killed_worker_s_segment_goes_to_another(store: Store, cluster: Any) -> None:
    run = samebits.run(make_job(steps=600), store, checkpoint_every=100).address
    killer = Killer(lambda: [next(iter(cluster.workers.values())).pid])
    verdict = samebits.verify(run, store, scheduler=cluster.scheduler_address, progress=killer)
    assert len(killer.killed) == 1
    assert findings(verdict) == findings(samebits.verify(run, store))


def test_no_scheduler_is_one_clear_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("samebits.exec.verification.workers.CONNECT_TIMEOUT_S", 1)
    run = samebits.run(make_job(steps=4), store).address
    with pytest.raises(RunError, match=r"scheduler 'tcp://127\.0\.0\.1:9'"):
        samebits.verify(run, store, scheduler="tcp://127.0.0.1:9")
