"""Disputes: each fraud is followed to its step and its operation, and convicted by evidence that stands alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exec.frauds import Author, FalseMachine, nudge
from tests.exec.small_job import changed, make_job
from tests.exec.test_audit import lose

import samebits
from samebits.cas import Digest, Store, put_tensor, put_tree
from samebits.cas.remotes import StoreRemote
from samebits.exec.author import author_key
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import graph_address, graph_node
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.dispute import check_replay
from samebits.exec.dispute.check import check_evidence
from samebits.exec.dispute.dispute import dispute
from samebits.exec.dispute.evidence import Evidence, decode_evidence, encode_evidence
from samebits.exec.dispute.fetching import Fetcher
from samebits.exec.dispute.local import LocalProver
from samebits.exec.dispute.objects import Objects
from samebits.exec.dispute.prover import StoredProver
from samebits.exec.dispute.report import DisputeReport
from samebits.exec.dispute.signed import LeafProof, Proof
from samebits.exec.errors import EvidenceError, NoAnswerError, RunError
from samebits.exec.job import Job
from samebits.exec.ledger_folder import log_directory
from samebits.exec.machine import JobMachine
from samebits.exec.running.runner import put_job
from samebits.exec.stream import IN_ORDER, Stream
from samebits.kernels.types import TensorType
from samebits.ledger import Log, RunBody, encode_entry, entry_address, sign_entry
from samebits.ledger.bodies import TraceLevel

EXAMPLES = Path(__file__).parents[2] / "examples"
Stores = tuple[Store, Store]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with Store(tmp_path / "a") as a, Store(tmp_path / "b") as b:
        yield a, b


def convicted(report: DisputeReport, side: str, verdict: str = "lied") -> Any:
    """Return the accusation of a side, out of its evidence as a file; the other side has nothing against it."""
    mine, other = report.findings["AB".index(side)], report.findings["BA".index(side)]
    assert (report.outcome, mine.verdict, other.verdict) == ("liar", verdict, "")
    assert mine.evidence is not None
    return check_evidence(decode_evidence(encode_evidence(mine.evidence)))


def false_subtraction(launch: Any, result: Any) -> Any:
    """Round the error of the small job's step otherwise."""
    return nudge(result) if launch.op == "sub" and result.shape == (8,) else result


def digits_job(steps: int) -> Job:
    return changed(samebits.load_job(EXAMPLES / "digits.job"), {"steps": steps}, [])


def test_honest_runs_agree(stores: Stores) -> None:
    a, b = (Author(store, make_job()) for store in stores)
    report = dispute(a.prover(), b.prover())
    assert (report.outcome, report.depth, report.agreed_steps) == ("agree", "run", 25)
    assert (report.operations_computed, report.steps_computed, report.traffic["steps"].queries) == (0, 0, 0)


def test_honest_runs_of_other_cadences_agree(stores: Stores) -> None:
    a, b = Author(stores[0], make_job(), every=2), Author(stores[1], make_job(), every=3, checkpoint=4)
    assert dispute(a.prover(), b.prover()).outcome == "agree"


def test_runs_of_other_jobs_are_refused_by_name(stores: Stores) -> None:
    a, b = Author(stores[0], make_job()), Author(stores[1], make_job(rate=0.2))
    with pytest.raises(RunError, match=f"run {a.run} is of job {a.job.address}, run {b.run} of job {b.job.address}"):
        dispute(a.prover(), b.prover())


def test_a_run_that_says_other_steps_than_its_job_is_refused_by_name(stores: Stores) -> None:
    job, honest = make_job(), Author(stores[0], make_job())
    put_job(job, stores[1])
    key = author_key(stores[1])
    with Log.open(log_directory(stores[1])) as log:
        entry = sign_entry(log.origin, None, RunBody(job.address, bytes(16), 1000, 1, 10), key, time=1)
        log.append([entry])
        said = LocalProver(stores[1], log.chain(entry_address(entry)), key)
    with pytest.raises(RunError, match=f"run {entry_address(entry)} says that its job has 1000 steps, it has 25"):
        dispute(honest.prover(), said)
    objects = Objects()
    Fetcher(objects, [said.remote]).nodes_below(job.address)
    with pytest.raises(EvidenceError, match="the run says that its job has 1000 steps, it has 25"):
        check_evidence(Evidence("state_in", encode_entry(entry), objects))


@pytest.mark.parametrize("at", [0, 7, 9, 10, 24])
def test_an_operation_rounded_differently_is_named(stores: Stores, at: int) -> None:
    job = make_job()
    machine = FalseMachine(job, stores[0], at=lambda t: t >= at, alter=false_subtraction)
    a, b = Author(stores[0], job, machine), Author(stores[1], job)
    report = dispute(a.prover(), b.prover())
    accusation = convicted(report, "A")
    assert (report.steps, accusation.step) == ((at, at + 1), at)
    assert accusation.author == a.key.public
    assert (report.depth, report.place) == ("operation", accusation.place)
    assert "as the result of sub" in accusation.what
    assert (report.operations_computed, report.steps_computed) == (2, 0)
    swapped = dispute(b.prover(), a.prover())
    assert convicted(swapped, "B").place == accusation.place


def test_a_weight_changed_between_steps_contradicts_the_trace(stores: Stores) -> None:
    """The trace is honest though the commit is not."""
    job = make_job()

    def change(t: int, state: Any) -> Any:
        return {name: nudge(value) for name, value in state.items()} if t == 13 else state

    a, b = Author(stores[0], job, after_step=change), Author(stores[1], job)
    report = dispute(a.prover(), b.prover())
    accusation = convicted(report, "A", "contradicts itself")
    assert (report.steps, accusation.step) == ((13, 14), 13)
    assert report.findings[1].cleared


def test_a_weight_changed_within_a_step_is_named(stores: Stores) -> None:
    job = make_job()

    def change(launch: Any, result: Any) -> Any:
        return nudge(result) if launch.op == "sub" and result.shape == () else result

    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t == 13, alter=change))
    report = dispute(a.prover(), Author(stores[1], job).prover())
    accusation = convicted(report, "A")
    assert (accusation.step, "result of sub" in accusation.what) == (13, True)


def other_batch(machine: JobMachine, t: int, inputs: dict[str, Any]) -> dict[str, Any]:
    later = JobMachine.step_inputs(machine, t + 1, {"w": inputs["state/w"]})
    return inputs | {name: value for name, value in later.items() if name.startswith("batch/")}


def test_a_swapped_batch_is_named(stores: Stores) -> None:
    job = make_job()
    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t == 6, inputs=other_batch))
    report = dispute(Author(stores[1], job).prover(), a.prover())
    accusation = convicted(report, "B")
    assert (accusation.step, accusation.place) == (6, "input/batch/x")


@pytest.mark.parametrize("at", [10, 12])  # the state is what a segment starts from, or in a commit
def test_another_state_than_the_agreed_one_is_named(stores: Stores, at: int) -> None:
    job = make_job()

    def other(machine: JobMachine, t: int, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs | {"state/w": nudge(inputs["state/w"])}

    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t == at, inputs=other))
    accusation = convicted(dispute(a.prover(), Author(stores[1], job).prover()), "A")
    assert (accusation.step, accusation.place) == (at, "input/state/w")


def scheduled_job() -> Job:
    """The small job with a rate from a schedule."""
    build = GraphBuilder()
    t = build.input("step", TensorType("i64", ()))
    rate = build.op("div", build.scalar(1.0, "f32"), build.op("convert_element_type", t, new_dtype="f32"))
    build.output("rate/0", build.op("min", rate, build.scalar(0.1, "f32")))
    schedule = build.build()
    build = GraphBuilder()
    w, x = build.input("state/w", TensorType("f32", ())), build.input("batch/x", TensorType("f32", (8,)))
    y, given = build.input("batch/y", TensorType("f32", (8,))), build.input("rate/0", TensorType("f32", ()))
    wide = build.op("broadcast_in_dim", w, shape=(8,), broadcast_dimensions=())
    error = build.op("sub", build.op("mul", wide, x), y)
    slope = build.op("reduce_sum", build.op("mul", error, x), axes=(0,))
    build.output("state/w", build.op("sub", w, build.op("mul", slope, given)))
    build.output("metrics/loss", build.op("reduce_sum", build.op("mul", error, error), axes=(0,)))
    step = build.build()
    nodes = [graph_node(schedule), graph_node(step)]
    return changed(make_job(), {"step": graph_address(step), "schedule": graph_address(schedule)}, nodes)


def test_a_learning_rate_changed_for_ten_steps_is_named(stores: Stores) -> None:
    job = scheduled_job()

    def other(machine: JobMachine, t: int, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs | {"rate/0": np.float32(0.05) * np.ones((), np.float32)}

    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: 8 <= t < 18, inputs=other))
    report = dispute(a.prover(), Author(stores[1], job).prover())
    accusation = convicted(report, "A")
    assert (accusation.step, accusation.place) == (8, "input/rate/0")


def test_a_truncated_run_is_said_to_stop(stores: Stores) -> None:
    a, b = Author(stores[0], make_job(), stop=20), Author(stores[1], make_job())
    report = dispute(a.prover(), b.prover())
    assert (report.outcome, report.agreed_steps, report.stops) == ("stops early", 20, (20, 25))
    assert not any(finding.verdict for finding in report.findings)


def test_a_final_state_from_another_run_contradicts_its_own_commit(stores: Stores) -> None:
    stolen = samebits.run(make_job(rate=0.2), stores[0]).final_state
    a = Author(stores[0], make_job(), state_out=lambda stop, state: stolen if stop == 25 else state)
    accusation = convicted(dispute(a.prover(), Author(stores[1], make_job()).prover()), "A", "contradicts itself")
    assert accusation.step == 24
    assert "the segment ends in state" in accusation.what


def test_metrics_made_up_at_one_step_are_found_though_the_states_agree(stores: Stores) -> None:
    def lie(t: int, commit: Any) -> Any:
        return dataclasses.replace(commit, metrics={"loss": ("f32", bytes(4))}) if t == 15 else commit

    a = Author(stores[0], make_job(), commit=lie)
    report = dispute(a.prover(), Author(stores[1], make_job()).prover())
    assert convicted(report, "A", "contradicts itself").step == 15


def test_a_commit_of_another_step_convicts(stores: Stores) -> None:
    def lie(t: int, commit: Any) -> Any:
        return dataclasses.replace(commit, step=3) if t == 15 else commit

    a = Author(stores[0], make_job(), commit=lie)
    report = dispute(a.prover(), Author(stores[1], make_job()).prover())
    assert "a commit of step 3 as that of step 15" in convicted(report, "A", "contradicts itself").what


def test_an_evaluation_that_is_changed_is_named(stores: Stores) -> None:
    def change(launch: Any, result: Any) -> Any:
        return nudge(result) if launch.op == "abs" else result

    machine = FalseMachine(make_job(), stores[0], alter=change)
    report = dispute(Author(stores[0], make_job(), machine).prover(), Author(stores[1], make_job()).prover())
    accusation = convicted(report, "A")
    assert accusation.step == 24
    assert accusation.place is not None
    assert accusation.place.startswith("evaluation/node/")


@pytest.mark.parametrize(("every", "other"), [(1, 7), (4, 6), (100, 100)])
def test_runs_that_do_not_commit_every_step_sign_traces_of_the_steps_between(
    stores: Stores, every: int, other: int
) -> None:
    job = make_job()
    machine = FalseMachine(job, stores[0], at=lambda t: t >= 15, alter=false_subtraction)
    a, b = Author(stores[0], job, machine, every=every), Author(stores[1], job, every=other)
    accusation = convicted(dispute(a.prover(), b.prover()), "A")
    assert (accusation.step, "sub" in accusation.what) == (15, True)


def test_a_trace_of_steps_that_does_not_end_in_the_commit_contradicts_itself(stores: Stores) -> None:
    job = make_job()
    machine = FalseMachine(job, stores[0], at=lambda t: t >= 15, alter=false_subtraction)
    a, b = Author(stores[0], job, machine, every=5), Author(stores[1], job, every=5)
    honest = JobMachine(put_job(job, stores[0]), stores[0], NumpyDevice())
    report = dispute(a.prover(honest), b.prover())
    assert convicted(report, "A", "contradicts itself").step == 19


@pytest.mark.parametrize(("level", "first", "stop"), [("nodes", 13, 14), ("steps", 14, 20), ("init", 0, 1)])
def test_a_trace_that_is_asked_for_again_is_not_computed_again(
    stores: Stores, level: TraceLevel, first: int, stop: int
) -> None:
    job, launches = init_job(), 0

    def count(launch: Any, result: Any) -> Any:
        nonlocal launches
        launches += 1
        return result

    prover = Author(stores[0], job, FalseMachine(job, stores[0], alter=count), every=7).prover()
    before = launches
    entry = prover.trace(level, first, stop)
    once = launches
    assert once > before
    assert prover.trace(level, first, stop) == entry
    assert launches == once
    for t in range(4):  # as many as are kept
        prover.trace("nodes", t, t + 1)
    many = launches
    assert prover.trace(level, first, stop) == entry
    assert launches > many


def init_job() -> Job:
    """The small job with an initial weight drawn from the key."""
    build = GraphBuilder()
    key = build.input("key", TensorType("u32", (2,)))
    drawn = build.op("reduce_sum", build.op("bitcast_convert_type", key, new_dtype="i32"), axes=(0,))
    small = build.op("convert_element_type", drawn, new_dtype="f32")
    build.output("state/w", build.op("div", small, build.scalar(1e10, "f32")))
    graph = build.build()
    empty = make_job(changes={})
    from samebits.cas import node_address, tree_node

    tree = tree_node({})
    return changed(empty, {"init": graph_address(graph), "state": node_address(tree)}, [graph_node(graph), tree])


def test_a_changed_draw_of_the_initial_state_is_named(stores: Stores) -> None:
    job = init_job()

    def change(launch: Any, result: Any) -> Any:
        return nudge(result) if launch.op == "div" and result.shape == () else result

    def machine() -> FalseMachine:
        return FalseMachine(job, stores[0], at=lambda t: t == -1, alter=change)

    a, b = Author(stores[0], job, machine()), Author(stores[1], job)
    report = dispute(a.prover(machine()), b.prover())
    accusation = convicted(report, "A")
    assert (accusation.step, "result of div" in accusation.what) == (None, True)
    without = dispute(a.prover(signing=False), b.prover(signing=False))
    assert convicted(without, "A").step is None


def test_another_initial_state_than_the_job_s_convicts_at_once(stores: Stores) -> None:
    a = Author(stores[0], make_job(), first_state={"w": np.float32(0.25) * np.ones((), np.float32)})
    report = dispute(a.prover(), Author(stores[1], make_job()).prover())
    assert convicted(report, "A").step is None
    assert sum(traffic.queries for traffic in report.traffic.values()) == 0


def test_without_a_key_the_whole_step_convicts(stores: Stores) -> None:
    job = make_job()
    machine = FalseMachine(job, stores[0], at=lambda t: t >= 24, alter=false_subtraction)
    a, b = Author(stores[0], job, machine), Author(stores[1], job)
    report = dispute(a.prover(signing=False), b.prover(signing=False))
    accusation = convicted(report, "A")
    assert (accusation.step, accusation.place, report.steps_computed) == (24, None, 5)
    assert report.findings[1].cleared
    sparse = dispute(Author(stores[0], job, machine, every=7).prover(signing=False), b.prover(signing=False))
    assert convicted(sparse, "A").step == 24


def test_both_who_lie_are_named(stores: Stores) -> None:
    job = make_job()

    def other(launch: Any, result: Any) -> Any:
        return nudge(nudge(false_subtraction(launch, result)) + np.float32(1)) if launch.op == "sub" else result

    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t == 12, alter=false_subtraction))
    b = Author(stores[1], job, FalseMachine(job, stores[1], at=lambda t: t == 12, alter=other))
    report = dispute(a.prover(), b.prover())
    assert [finding.verdict for finding in report.findings] == ["lied", "lied"]
    for author, finding in zip((a, b), report.findings, strict=True):
        assert finding.evidence is not None
        assert check_evidence(finding.evidence).author == author.key.public


def test_both_judges_the_side_whose_lie_comes_later_in_the_step(stores: Stores) -> None:
    job = make_job()

    def late(launch: Any, result: Any) -> Any:
        return nudge(result) if launch.op == "sub" and result.shape == () else result

    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t == 12, alter=false_subtraction))
    b = Author(stores[1], job, FalseMachine(job, stores[1], at=lambda t: t == 12, alter=late))
    assert [f.verdict for f in dispute(a.prover(), b.prover()).findings] == ["lied", ""]
    report = dispute(a.prover(), b.prover(), both=True)
    assert [f.verdict for f in report.findings] == ["lied", "lied"]


def test_two_who_agree_on_a_false_state_are_both_found(stores: Stores) -> None:
    """Both changed the weight after step 11; they part at step 13, where the state is recomputed."""
    job = make_job()

    def change(t: int, state: Any) -> Any:
        return {name: nudge(value) for name, value in state.items()} if t == 11 else state

    def more(t: int, state: Any) -> Any:
        return {name: nudge(value) for name, value in state.items()} if t in (11, 13) else state

    a, b = Author(stores[0], job, after_step=change), Author(stores[1], job, after_step=more)
    report = dispute(a.prover(signing=False), b.prover(signing=False))
    assert [finding.verdict for finding in report.findings] == ["lied", "lied"]


class Unreachable(StoredProver):
    """Its machine is down: that is nobody's lie."""

    def commit(self, step: int, trace: Digest | None = None) -> tuple[bytes, Proof]:
        raise NoAnswerError("no answer within 30 s")


def test_a_side_that_can_not_be_reached_is_no_liar(stores: Stores) -> None:
    job = make_job()
    a = Author(stores[0], job)
    b = Author(stores[1], job, FalseMachine(job, stores[1], at=lambda t: t >= 12, alter=false_subtraction))
    honest = Unreachable("a", a.prover().chain, StoreRemote(a.store))
    report = dispute(honest, b.prover())
    assert (report.outcome, report.findings[0].verdict) == ("undecided", "did not answer")


def test_runs_that_differ_and_can_not_be_judged_do_not_agree(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """More steps without a commit than evidence may have, and nobody who signs: that read as agreement, exit code 0."""
    monkeypatch.setattr(check_replay, "MAX_STEPS", 9)
    job = make_job()
    a = Author(stores[0], job, every=10)
    lies = FalseMachine(job, stores[1], at=lambda t: t >= 12, alter=false_subtraction)
    b = Author(stores[1], job, lies, every=10)
    sides = [StoredProver(name, one.prover().chain, StoreRemote(one.store)) for name, one in (("a", a), ("b", b))]
    report = dispute(*sides)
    assert (report.outcome, report.steps, report.findings[0].cleared) == ("undecided", (10, 20), True)
    assert "10 steps to be computed again; the most is 9" in report.findings[1].reason


def test_a_checkpoint_that_nobody_has_leaves_what_was_found(stores: Stores) -> None:
    job = make_job()
    a = Author(stores[0], job)
    b = Author(stores[1], job, FalseMachine(job, stores[1], at=lambda t: t >= 12, alter=false_subtraction))
    chain = a.prover().chain
    for store in stores:
        lose(store, chain.segments[1].body.state_in)
    report = dispute(*(StoredProver(n, x.prover().chain, StoreRemote(x.store)) for n, x in (("a", a), ("b", b))))
    assert (report.outcome, report.steps) == ("undecided", (12, 13))
    assert all("is not in remote" in finding.reason for finding in report.findings)


class Inconsistent(LocalProver):
    """Answers a question about step 12 with the commit of another step."""

    def commit(self, step: int, trace: Digest | None = None) -> Any:
        return super().commit(11 if step == 12 else step, trace)


class Forgetful(LocalProver):
    """Forgets what it has signed, and makes hashes up."""

    def children(self, trace: Digest, first: int, stop: int) -> tuple[bytes, bytes]:
        return bytes(32), bytes(32)


class Silent(LocalProver):
    """Stops answering when it comes to leaves."""

    def children(self, trace: Digest, first: int, stop: int) -> tuple[bytes, bytes]:
        raise NoAnswerError("no answer within 1 s")


class Miserly(LocalProver):
    """Gives other bytes for values than it signed."""

    def values(self, trace: Digest, indexes: Sequence[int]) -> list[bytes]:
        return [bytes(len(value)) for value in super().values(trace, indexes)]


class Renaming(LocalProver):
    """Gives a leaf of another place."""

    def leaf(self, trace: Digest, index: int) -> LeafProof:
        return super().leaf(trace, 0)


@pytest.mark.parametrize(
    ("prover", "verdict", "evidence"),
    [
        (Inconsistent, "gave answers that do not verify", False),
        (Forgetful, "gave answers that do not verify", True),
        (Silent, "did not answer", True),
        (Renaming, "gave answers that do not verify", True),
    ],
)
def test_a_prover_who_answers_falsely_or_not_at_all(
    stores: Stores, prover: type[LocalProver], verdict: str, evidence: bool
) -> None:
    """That is a verdict of its own; where the step is known, the commits alone convict besides."""
    job = make_job()
    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t >= 12, alter=false_subtraction))
    b = Author(stores[1], job)
    said = prover(a.store, a.prover().chain, a.key, machine=a.machine)
    report = dispute(said, b.prover())
    assert (report.outcome, report.findings[0].verdict, report.findings[1].verdict) == ("liar", verdict, "")
    assert (report.findings[0].evidence is not None) == evidence
    if report.findings[0].evidence is not None:
        assert check_evidence(report.findings[0].evidence).step == 12


def test_values_that_do_not_hash_are_taken_from_the_other_side(stores: Stores) -> None:
    job = make_job()
    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t >= 12, alter=false_subtraction))
    said = Miserly(a.store, a.prover().chain, a.key, machine=a.machine)
    assert convicted(dispute(said, Author(stores[1], job).prover()), "A").step == 12


def test_digits_an_operation_is_named(stores: Stores) -> None:
    job = digits_job(6)

    def change(launch: Any, result: Any) -> Any:
        return nudge(result) if launch.op == "exp" else result

    machine = FalseMachine(job, stores[0], at=lambda t: t >= 3, alter=change)
    a, b = Author(stores[0], job, machine, checkpoint=4), Author(stores[1], job, checkpoint=4)
    report = dispute(a.prover(), b.prover())
    accusation = convicted(report, "A")
    assert (accusation.step, "result of exp" in accusation.what) == (3, True)
    assert len(encode_evidence(report.findings[0].evidence)) < 20_000  # type: ignore[arg-type]
    without = convicted(dispute(a.prover(signing=False), b.prover(signing=False)), "A")
    assert (without.step, without.place) == (3, None)


def calling_job() -> Job:
    """The small job whose step calls a graph that calls another."""
    f32 = TensorType("f32", ())
    build = GraphBuilder()
    build.output("y", build.op("mul", build.input("a", f32), build.input("b", f32)))
    inner = build.build()
    build = GraphBuilder()
    given = [build.input("a", f32), build.input("b", f32)]
    product = build.call(graph_address(inner), inner, given)["y"]
    build.output("y", build.op("add", product, build.call(graph_address(inner), inner, [product, given[0]])["y"]))
    outer = build.build()
    build = GraphBuilder({graph_address(inner): inner})
    w, x = build.input("state/w", f32), build.input("batch/x", TensorType("f32", (8,)))
    mean = build.op("reduce_max", x, axes=(0,))
    one = build.call(graph_address(outer), outer, [w, mean])["y"]
    two = build.call(graph_address(outer), outer, [one, mean])["y"]
    build.output("state/w", build.op("tanh", two))
    build.output("metrics/loss", one)
    step = build.build()
    nodes = [graph_node(graph) for graph in (inner, outer, step)]
    return changed(make_job(), {"step": graph_address(step)}, nodes)


def test_an_operation_inside_called_graphs_is_named_by_its_path(stores: Stores) -> None:
    job = calling_job()
    seen: list[str] = []

    def change(launch: Any, result: Any) -> Any:
        if launch.op == "mul" and launch.node.count("/") == 2 and launch.node not in seen:
            seen.append(launch.node)
        return nudge(result) if len(seen) == 4 and launch.node == seen[3] else result

    a = Author(stores[0], job, FalseMachine(job, stores[0], alter=change))
    report = dispute(a.prover(), Author(stores[1], job).prover())
    accusation = convicted(report, "A")
    assert accusation.place == f"node/{seen[3]}"
    assert accusation.place.count("/") == 3


def test_a_trace_on_opencl_is_that_on_numpy(stores: Stores) -> None:
    pytest.importorskip("pyopencl")
    job = make_job()
    run = samebits.run(job, stores[0], device="opencl", checkpoint_every=10)
    b = Author(stores[1], job, FalseMachine(job, stores[1], at=lambda t: t >= 12, alter=false_subtraction))
    from samebits.exec.author import author_key
    from samebits.exec.ledger_folder import log_directory
    from samebits.ledger import Log

    with Log.open(log_directory(stores[0]), read_only=True) as log:
        chain = log.chain(run.address)
    a = LocalProver(stores[0], chain, author_key(stores[0]), device="opencl")
    assert dispute(a, Author(stores[1], make_job()).prover()).outcome == "agree"
    accusation = convicted(dispute(a, b.prover()), "B")
    assert (accusation.step, "sub" in accusation.what) == (12, True)


def test_evidence_on_a_batch_of_long_data_has_only_the_rows_of_1_mib_that_it_needs(stores: Stores) -> None:
    tensors = {name: np.linspace(-1, 2, 1_000_000, dtype=np.float32) for name in "xy"}
    for store in stores:
        tree = put_tree(store, {name: put_tensor(store, tensor) for name, tensor in tensors.items()})
    job = changed(make_job(steps=4), {"data": tree, "stream": Stream(8, 0, IN_ORDER)}, [])
    a = Author(stores[0], job, FalseMachine(job, stores[0], at=lambda t: t == 2, inputs=other_batch))
    report = dispute(a.prover(), Author(stores[1], job).prover())
    assert (convicted(report, "A").step, report.place) == (2, "input/batch/x")
    evidence = report.findings[0].evidence
    assert evidence is not None
    assert [list(part.rows) for part in evidence.objects.parts.values()] == [[0]]  # x and y are one blob
    assert len(encode_evidence(evidence)) < 1_100_000
