"""Running a job, verifying the run, and catching runs that are not what they claim."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
from tests.exec.small_job import make_job

import samebits
from samebits.cas import CasError, Digest, Store, get_tensor, get_tree, put_tensor, put_tree
from samebits.exec.commits import Commit, commit_steps, make_commit, read_commits
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import DeviceError, ExecError, JobError, RunError
from samebits.exec.ledger_folder import log_directory
from samebits.exec.machine import JobMachine
from samebits.exec.running.runner import ChainWriter, put_job
from samebits.kernels.errors import KernelError
from samebits.ledger import LedgerError, Log


def test_run_commits_and_chains_every_step(store: Store) -> None:
    run = samebits.run(make_job(), store, checkpoint_every=10)
    assert len(run.commits) == run.steps == 25
    chain = Log.open(log_directory(store), read_only=True).chain(run.address)
    assert [(s.body.first_step, s.body.stop_step) for s in chain.segments] == [(0, 10), (10, 20), (20, 25)]
    assert chain.is_complete
    assert chain.segments[-1].body.state_out == run.final_state
    losses = [Commit.from_node(store.get_node(address)).values()["loss"] for address in run.commits]
    assert losses[-1] < losses[0] / 50
    assert run.metrics["evaluation/distance"] == pytest.approx(
        abs(3 - float(get_tensor(store, get_tree(store, run.final_state)["w"])))
    )


def test_cadence_changes_no_bit(store: Store) -> None:
    job = make_job()
    runs = [
        samebits.run(job, store, commit_every=commit, checkpoint_every=checkpoint)
        for commit, checkpoint in ((1, 50), (7, 10), (100, 3), (1, 1))
    ]
    assert len({run.final_state for run in runs}) == 1
    assert len({run.commits[-1] for run in runs}) == 1
    assert len({run.address for run in runs}) == 4
    assert [len(run.commits) for run in runs] == [25, 6, 9, 25]


@pytest.mark.parametrize(
    ("first", "stop", "every", "steps"),
    [(0, 5, 1, [0, 1, 2, 3, 4]), (0, 5, 2, [1, 3, 4]), (5, 10, 3, [5, 8, 9]), (0, 1, 100, [0])],
)
def test_commit_steps_lists_each_nth_and_the_last(first: int, stop: int, every: int, steps: list[int]) -> None:
    assert list(commit_steps(first, stop, every)) == steps


def test_verify_of_another_store_fetches_and_finds_the_same(store: Store, other: Store) -> None:
    run = samebits.run(make_job(), store, checkpoint_every=10)
    verdict = samebits.verify(run.address, other, source=store)
    assert (verdict.verdict, verdict.first_different_step, verdict.commits_checked) == ("same", None, 25)
    assert verdict.bytes_fetched > 0
    assert verdict.metrics == run.metrics
    assert verdict.entry is not None
    entry = Log.open(log_directory(other), read_only=True).find(verdict.entry)[1]
    assert entry.kind == "verdict"
    assert other.has(run.final_state)
    assert samebits.verify(str(run.address), store).verdict == "same"


class Fraud:
    """Runs a job, doing something else at one step, and signs the result."""

    def __init__(
        self,
        store: Store,
        at: int,
        *,
        claimed: samebits.Job,
        computed: samebits.Job | None = None,
        stop: int | None = None,
    ) -> None:
        """`stop`: enter so many steps only."""
        machine = JobMachine(put_job(claimed, store), store, open_device("numpy"))
        steps = machine.spec.steps
        cheat = machine if computed is None else JobMachine(put_job(computed, store), store, open_device("numpy"))
        chain = ChainWriter(store, claimed.address, steps, 1, 10)
        state, state_in = machine.initial_state(), machine.spec.state
        for first in range(0, steps if stop is None else stop, 10):
            end, made = min(first + 10, steps), []
            for t in range(first, end):
                state, metrics = (cheat if t == at else machine).step(t, state)
                if t == at and computed is None:
                    state = {name: np.nextafter(value, np.float32(9)) for name, value in state.items()}
                made.append(make_commit(t, state, metrics))
            tree = put_tree(store, {name: put_tensor(store, value) for name, value in state.items()})
            chain.add_segment(first, end, state_in, tree, made, "numpy", ())
            state_in = tree
        self.run = chain.run


@pytest.mark.parametrize("at", [0, 9, 10, 24])
def test_verify_finds_the_step_at_which_one_bit_changed(store: Store, other: Store, at: int) -> None:
    fraud = Fraud(store, at, claimed=make_job())
    verdict = samebits.verify(fraud.run, other, source=store)
    assert (verdict.verdict, verdict.first_different_step) == ("different", at)
    assert verdict.commits_checked == at


def test_verify_says_the_same_only_once_in_the_ledger(store: Store) -> None:
    found = samebits.run(make_job(), store)
    one, two = (samebits.verify(found.address, store) for _ in range(2))
    assert one.entry == two.entry
    with Log.open(log_directory(store)) as log:
        entries = list(log.entries())
    assert [entry.kind for entry in entries].count("verdict") == 1
    assert all(entry.version == 2 and abs(time.time() - (entry.time or 0)) < 3600 for entry in entries)


def test_verify_finds_the_step_at_which_the_rate_changed(store: Store, other: Store) -> None:
    fraud = Fraud(store, 13, claimed=make_job(), computed=make_job(rate=0.2))
    verdict = samebits.verify(fraud.run, other, source=store)
    assert (verdict.verdict, verdict.first_different_step) == ("different", 13)


def test_verify_refuses_a_run_that_stops_early(store: Store) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(done: int, steps: int, metrics: Any) -> None:
        if done == 15:
            raise Stop

    with pytest.raises(Stop):
        samebits.run(make_job(), store, checkpoint_every=10, progress=stop)
    address = Log.open(log_directory(store), read_only=True).runs()[0].run_address
    with pytest.raises(RunError, match="stops after 10 of 25 steps"):
        samebits.verify(address, store)
    verdict = samebits.verify(address, store, partial=True)
    assert (verdict.verdict, verdict.steps_checked) == ("same", 10)


def test_verify_names_what_is_missing(store: Store, other: Store) -> None:
    run = samebits.run(make_job(), store)
    with pytest.raises(LedgerError, match="neither in its ledger nor taken home"):
        samebits.verify(run.address, other)
    with pytest.raises(CasError, match="not an address"):
        samebits.verify("abc", store)
    unknown = Digest(bytes(32))
    with pytest.raises(LedgerError):
        samebits.verify(unknown, store)


def test_run_names_the_tensor_that_is_missing(store: Store) -> None:
    job = make_job()
    lacking = dataclasses.replace(job, blobs={})
    with pytest.raises(JobError, match=r"(data x|initial state w): object .* is not in the store|missing"):
        samebits.run(lacking, store)
    assert not log_directory(store).exists() or Log.open(log_directory(store), read_only=True).size == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arithmetic": "1:abc"}, "arithmetic 1:abc"),
        ({"step": Digest(bytes(32))}, "graph 0000"),
        ({"state": Digest(bytes(32))}, "initial state"),
        ({"data": Digest(bytes(32))}, "data"),
    ],
)
def test_run_refuses_jobs_that_do_not_fit(store: Store, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ExecError, KernelError), match=message):
        samebits.run(make_job(changes=changes), store)


def test_run_refuses_a_batch_larger_than_the_data(store: Store) -> None:
    from samebits.exec.stream import Stream

    with pytest.raises(JobError, match="a batch wants 41"):
        samebits.run(make_job(changes={"stream": Stream(41, 0)}), store)
    with pytest.raises(JobError, match="wants batch/x as f32\\[8\\], the job has f32\\[9\\]"):
        samebits.run(make_job(changes={"stream": Stream(9, 0)}), store)


@pytest.mark.parametrize("arguments", [{"commit_every": 0}, {"checkpoint_every": -1}, {"commit_every": True}])
def test_run_refuses_a_cadence_below_one(store: Store, arguments: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="every"):
        samebits.run(make_job(), store, **arguments)


def test_open_device_refuses_unknown_names(store: Store) -> None:
    with pytest.raises(DeviceError, match="unknown device 'abacus' \\(known: numpy"):
        samebits.run(make_job(), store, device="abacus")


def test_read_commits_refuses_other_nodes() -> None:
    from samebits.cas import Node

    with pytest.raises(RunError):
        read_commits(Node("tree", {"entries": {}}))
    with pytest.raises(RunError):
        read_commits(Node("commits", {"commits": [[1]]}))
