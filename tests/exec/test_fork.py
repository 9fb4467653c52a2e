"""Going on from a state of a run: with more steps the bits of a longer run, with changes a run of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exec.small_job import changed, make_job
from tests.exec.test_resume import read_log, remove_state

import samebits
from samebits.cas import Digest, Store, get_tensor, get_tree
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import graph_address, graph_node
from samebits.exec.errors import DeviceError, JobError, RunError
from samebits.exec.job import JobSpec
from samebits.exec.machine import load_spec
from samebits.exec.places.run_places import StorePlace
from samebits.exec.places.run_reference import RunReference
from samebits.exec.running.fork import Changes, fork_run
from samebits.kernels.types import TensorType


def rated_job(steps: int = 20, table: int | None = None) -> samebits.Job:
    """The small job, with two rates from a schedule: a table of so many steps, or a formula."""
    build = GraphBuilder()
    w = build.input("state/w", TensorType("f32", ()))
    x = build.input("batch/x", TensorType("f32", (8,)))
    build.input("batch/y", TensorType("f32", (8,)))
    rates = [build.input(f"rate/{name}", TensorType("f64", ())) for name in ("decay", "step")]
    decay, step = (build.op("convert_element_type", rate, new_dtype="f32") for rate in rates)
    pull = build.op("mul", build.op("reduce_sum", x, axes=(0,)), step)
    build.output("state/w", build.op("sub", w, build.op("add", pull, build.op("mul", decay, w))))
    build.output("metrics/w", w)
    step_of = build.build()
    build = GraphBuilder()
    t = build.input("step", TensorType("i64", ()))
    if table is None:
        value = build.op("convert_element_type", t, new_dtype="f64")
        build.output("rate/step", build.op("mul", value, build.scalar(0.001, "f64")))
    else:
        build.output("rate/step", build.op("gather", build.constant(np.linspace(0, 1, table)), t))
    build.output("rate/decay", build.scalar(0.125, "f64"))
    schedule = build.build()
    nodes = [graph_node(step_of), graph_node(schedule)]
    fields = {"step": graph_address(step_of), "schedule": graph_address(schedule), "steps": steps, "evaluation": None}
    return changed(make_job(), fields, nodes)


def fork(store: Store, run: Digest, step: int | None, job: Any = None, **changes: Any) -> samebits.Run:
    """Fork a run of the store itself and run the job that comes out."""
    reference = RunReference(run, step=step)
    made = fork_run(reference, StorePlace(store, is_own=True), store, job=job, changes=Changes(**changes))
    return samebits.run(made.job, store, checkpoint_every=10, parent=made.parent)


def test_job_that_begins_later_is_another_node_and_0_is_not_written(store: Store) -> None:
    spec = make_job().spec
    later = dataclasses.replace(spec, first_step=3)
    assert JobSpec.from_node(later.to_node()) == later
    assert "first_step" not in spec.to_node().body
    for bad in (0, -1, 25, True, None, "3"):
        node = spec.to_node()
        with pytest.raises(JobError, match="first_step"):
            JobSpec.from_node(dataclasses.replace(node, body={**node.body, "first_step": bad}))
    started = dataclasses.replace(later, init=spec.step)
    with pytest.raises(JobError, match="has no init graph"):
        JobSpec.from_node(started.to_node())


@pytest.mark.parametrize(
    ("step", "lost"), [(20, False), (17, False), (25, False), (None, False), (20, True), (0, True)]
)
def test_longer_continuation_has_the_commits_of_a_long_run(store: Store, step: int | None, lost: bool) -> None:
    """Also where the state is not stored, or was lost: then it is computed again."""
    whole = samebits.run(make_job(steps=40), store)
    run = samebits.run(make_job(), store, checkpoint_every=10)
    if lost:
        for segment in read_log(store).chain(run.address).segments:
            remove_state(store, segment.body.state_out)
    longer = fork(store, run.address, step, steps=40)
    first = 25 if step is None else step
    assert (longer.first_step, longer.parent) == (first, run.address)
    assert longer.final_state == whole.final_state
    assert longer.commits == whole.commits[first:]
    assert longer.metrics == whole.metrics
    body = read_log(store).chain(longer.address).body
    assert (body.first_step, body.parent, body.steps) == (first, run.address, 40)
    assert samebits.verify(longer.address, store).verdict == "same"


def test_state_of_a_run_that_commits_rarely_is_compared_at_the_next_commit(store: Store) -> None:
    from tests.exec.test_run_and_verify import Fraud

    whole = samebits.run(make_job(steps=40), store)
    run = samebits.run(make_job(), store, checkpoint_every=10, commit_every=4)
    assert fork(store, run.address, 13, steps=40).commits == whole.commits[13:]
    fraud = Fraud(store, 12, claimed=make_job())
    with pytest.raises(RunError, match=r"step 12 of run .* gives another commit"):
        fork(store, fraud.run, 15)


def test_changed_data_rate_and_seed_change_the_run(store: Store, tmp_path: Path) -> None:
    run = samebits.run(rated_job(), store, checkpoint_every=5)
    same = fork(store, run.address, 10)
    assert same.commits == run.commits[10:]
    np.save(tmp_path / "x.npy", np.linspace(-3, 1, 40, dtype=np.float32))
    forks = [
        fork(store, run.address, 10, data={"x": tmp_path / "x.npy"}),
        fork(store, run.address, 10, rates={"step": 0.5}),
        fork(store, run.address, 10, rates={"": 0.5}),
        fork(store, run.address, 10, rates={"step": 0.5, "decay": 0.5}),
        fork(store, run.address, 10, seed=9),
    ]
    states = [one.final_state for one in forks]
    assert states[2] == states[3]
    assert len({run.final_state, *states}) == 5
    spec = load_spec(forks[4].job, store)
    assert (spec.seed, spec.stream.seed) == (9, 9)
    w = float(get_tensor(store, get_tree(store, fork(store, run.address, 10, rates={"step": 0.0}).final_state)["w"]))
    before = float(
        get_tensor(store, get_tree(store, read_log(store).chain(run.address).segments[1].body.state_out)["w"])
    )
    assert w == pytest.approx(before * 0.875**10)
    assert all(samebits.verify(one.address, store).verdict == "same" for one in forks)


def test_another_job_takes_the_state(store: Store) -> None:
    run = samebits.run(make_job(), store, checkpoint_every=10)
    other = fork(store, run.address, 20, job=make_job(rate=0.3, steps=30))
    assert len(other.commits) == 10
    assert other.commits[:5] != run.commits[20:]
    wider = rated_job(steps=30)
    build = GraphBuilder()
    build.output("state/v", build.input("key", TensorType("u32", (2,))))
    init = build.build()
    lacking = changed(wider, {"init": graph_address(init)}, [graph_node(init)])
    with pytest.raises(JobError, match=r"the job's state has v as u32\[2\], the run's has no v"):
        fork(store, run.address, 20, job=lacking)


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        (26, {}, "has no state at step 26; it has those of 0 .. 20"),
        (20, {}, "after 20 steps nothing is left to do of 20"),
        (None, {}, "after 20 steps nothing is left to do of 20"),
        (5, {"steps": 5}, "after 5 steps nothing is left to do of 5"),
        (5, {"rates": {"lr": 1.0}}, "the job has no rate 'lr'; it has decay, step"),
        (5, {"rates": {"": float("inf")}}, "the rate inf is not a finite number"),
        (5, {"steps": 21}, "schedule has no rate for step 20"),
        (5, {"data": {"z": "x.npy"}}, "the job has no data 'z'; it has x, y"),
        (5, {"data": {"x": "x.npy"}}, r"x.npy holds f64\[40\], the job's data x are f32\[rows\]"),
        (5, {"data": {"x": "wide.npy"}}, r"wide.npy holds f32\[40,2\]"),
        (5, {"data": {"x": "text.npy"}}, "text.npy: not a .npy file"),
        (5, {"data": {"x": "objects.npy"}}, "objects.npy: not a .npy file"),
        (5, {"data": {"x": "zip.npy"}}, "zip.npy: not a .npy file"),
        (5, {"data": {"x": "header.npy"}}, "header.npy: not a .npy file"),
        (5, {"seed": 1 << 64}, "seed"),
        (5, {"steps": 1 << 53, "rates": {"": 0.5}}, "a job of 9007199254740992 steps is not supported"),
        (5, {"steps": 1 << 64, "rates": {"": 0.5}}, "a job of 18446744073709551616 steps is not supported"),
    ],
)
def test_what_does_not_fit_is_refused(
    store: Store, tmp_path: Path, step: int | None, changes: dict[str, Any], message: str
) -> None:
    np.save(tmp_path / "x.npy", np.zeros(40))
    np.save(tmp_path / "wide.npy", np.zeros((40, 2), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no")
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 and no zip")
    (tmp_path / "header.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': ('<f4',")
    run = samebits.run(rated_job(table=20), store, checkpoint_every=10)
    size = read_log(store).size
    if "data" in changes:
        changes = {"data": {name: tmp_path / file for name, file in changes["data"].items()}}
    with pytest.raises((JobError, RunError), match=message):
        fork(store, run.address, step, **changes)
    assert read_log(store).size == size


def test_constant_rates_outlast_a_table(store: Store) -> None:
    run = samebits.run(rated_job(table=20), store, checkpoint_every=10)
    assert fork(store, run.address, 20, steps=30, rates={"step": 0.25}).steps == 30


def test_data_of_other_rows_are_named(store: Store, tmp_path: Path) -> None:
    run = samebits.run(rated_job(), store)
    np.save(tmp_path / "x.npy", np.zeros(39, np.float32))
    with pytest.raises(JobError, match="different numbers of rows: x 39 and y 40"):
        samebits.run(fork(store, run.address, 5, data={"x": tmp_path / "x.npy"}).job, store)


def test_no_rate_to_set(store: Store) -> None:
    run = samebits.run(make_job(), store)
    with pytest.raises(JobError, match="the job takes no rate"):
        fork(store, run.address, 5, rates={"": 0.5})


def test_run_of_another_ledger_is_forked_by_hash(store: Store, tmp_path: Path) -> None:
    run = samebits.run(make_job(), store, checkpoint_every=10)
    whole = samebits.run(make_job(steps=40), store)
    with Store(tmp_path / "mine") as mine:
        reference = RunReference(run.address, step=23)
        made = fork_run(reference, StorePlace(store), mine, changes=Changes(steps=40))
        longer = samebits.run(made.job, mine, parent=made.parent)
        assert longer.commits == whole.commits[23:]
        assert [chain.run_address for chain in read_log(mine).runs()] == [longer.address]
        (part,) = read_log(mine).lineage(longer.final_state).made_by
        assert part.parent is not None
        assert (part.parent.run, part.parent.index, part.first_step) == (run.address, None, 23)


def test_stored_state_takes_no_device(store: Store) -> None:
    """It had the run's job compiled, to load the state onto a device and to bring it back."""
    run = samebits.run(make_job(), store, checkpoint_every=10)
    place, changes = StorePlace(store, is_own=True), Changes(steps=40)
    for step in (0, 20, 25):
        made = fork_run(RunReference(run.address, step=step), place, store, changes=changes, device="none")
        assert load_spec(made.job, store).first_step == step
    remove_state(store, read_log(store).chain(run.address).segments[1].body.state_out)
    for step in (20, 21):
        with pytest.raises(DeviceError, match="unknown device 'none'"):
            fork_run(RunReference(run.address, step=step), place, store, changes=changes, device="none")


def test_lineage_says_which_state_of_the_parent_it_was(store: Store) -> None:
    run = samebits.run(make_job(), store, checkpoint_every=10)
    longer = fork(store, run.address, 20, steps=40)
    (part,) = read_log(store).lineage(longer.entry).made_by
    assert part.parent is not None
    assert (part.parent.index, part.parent.reached) == (0, part.state_in)
    between = fork(store, run.address, 21, steps=40)
    (part,) = read_log(store).lineage(between.entry).made_by
    assert part.parent is not None
    assert part.parent.reached is None


def test_verify_refuses_a_run_that_begins_elsewhere_than_its_job(store: Store) -> None:
    """A runner that leaves out the first steps of a job."""
    from samebits.exec.commits import Commit, read_commits
    from samebits.exec.running.runner import ChainWriter

    run = samebits.run(make_job(), store, checkpoint_every=5)
    chain = ChainWriter(store, run.job, 25, 1, 5, first_step=20)
    body = read_log(store).chain(run.address).segments[-1].body
    commits = [Commit.from_node(store.get_node(c)) for _, c in read_commits(store.get_node(body.commits))]
    chain.add_segment(20, 25, body.state_in, body.state_out, commits, "numpy", ())
    verdict = samebits.verify(chain.run, store)
    assert (verdict.verdict, verdict.entry) == ("failed", None)
    assert "begins at step 20, it does at 0" in verdict.problem
