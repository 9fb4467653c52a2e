"""Hostile jobs and ledgers: each is refused in one line that says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exec.small_job import BATCH_SIZE, changed, make_job, with_step

import samebits
from samebits.cas import Digest, Node, Store, node_address, tree_node
from samebits.cas.encoding import decode, encode
from samebits.exec.author import author_key
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import parse_graph
from samebits.exec.commits import Commit, make_commit, read_commits
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.errors import DeviceError, GraphError, JobError, RunError
from samebits.exec.graph import Graph, check_graph
from samebits.exec.job import Job, JobSpec
from samebits.exec.job_file import list_tensors
from samebits.exec.ledger_folder import log_directory
from samebits.exec.machine import JobMachine
from samebits.exec.planner import plan_graph
from samebits.exec.running.runner import ChainWriter, put_job
from samebits.exec.verification import verify as verifying
from samebits.kernels.errors import KernelError
from samebits.kernels.types import TensorType
from samebits.ledger import LedgerError, Log


def indexing_step(index: int) -> Graph:
    """A step that reads row `index` of its batch."""
    build = GraphBuilder()
    x, _ = (build.input(f"batch/{name}", TensorType("f32", (BATCH_SIZE,))) for name in "xy")
    w = build.input("state/w", TensorType("f32", ()))
    rows = build.constant(np.array([index], np.int64))
    build.output("state/w", w)
    build.output("metrics/loss", build.op("reduce_sum", build.op("gather", x, rows), axes=(0,)))
    return build.build()


def test_a_launch_that_fails_names_step_node_and_graph_and_leaves_no_entry(store: Store) -> None:
    with pytest.raises(RunError, match=r"^step 0: node \d+: gather: index 99 .* \(in the step graph\)$"):
        samebits.run(with_step(indexing_step(99)), store)
    assert Log.open(log_directory(store), read_only=True).size == 0


@pytest.mark.parametrize("error", [ValueError("two\nlines"), MemoryError()])
def test_a_launch_that_numpy_refuses_is_a_run_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such errors came out as tracebacks."""

    def refuse(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr("samebits.exec.devices.numpy_device.evaluate", refuse)
    build = GraphBuilder()
    build.output("y", build.op("neg", build.input("a", TensorType("f32", (2,)))))
    with pytest.raises(RunError, match=r"^node 0: neg: (two lines|out of memory)$"):
        NumpyDevice().compile(plan_graph(build.build()))({"a": np.zeros(2, np.float32)})


def test_run_refuses_device_and_arithmetic_before_anything_is_stored(store: Store) -> None:
    for job, device, error in (
        (make_job(), "abacus", DeviceError),
        (make_job(), ["numpy"], DeviceError),
        (make_job(changes={"arithmetic": "1:abc"}), "numpy", KernelError),
    ):
        with pytest.raises(error):
            samebits.run(job, store, device=device)  # type: ignore[arg-type]
        assert not store.has(job.address)
        assert not store.has(job.spec.data)


def lie(store: Store, steps: int, stop: int) -> Digest:
    """Sign a segment 0:stop with a single commit; returns the run."""
    job = make_job()
    machine = JobMachine(put_job(job, store), store, NumpyDevice())
    state, metrics = machine.step(0, machine.initial_state())
    chain = ChainWriter(store, job.address, steps, 1, stop)
    out = make_commit(0, state, metrics)
    chain.add_segment(0, stop, machine.spec.state, out.state, [out], "numpy", ())
    return chain.run


def put_claimed_state(store: Store) -> None:
    run = samebits.run(make_job(steps=1), store)
    assert store.has(run.final_state)


@pytest.mark.parametrize(
    ("steps", "message"),
    [((1 << 53) - 1, "says that its job has 9007199254740991 steps, it has 25"), (25, "does not list the commits")],
)
def test_verify_refuses_claimed_steps_without_counting_them_out(store: Store, steps: int, message: str) -> None:
    """The list of 2^53-1 steps was built before anything was compared."""
    put_claimed_state(store)
    verdict = samebits.verify(lie(store, steps, steps), store)
    assert (verdict.verdict, verdict.entry) == ("failed", None)
    assert message in verdict.problem


def test_verify_fails_before_the_replay_if_its_key_is_unusable(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key was read after hours of replay."""
    run = samebits.run(make_job(), store)
    monkeypatch.setattr(verifying, "_examine", lambda *arguments: pytest.fail("replayed"))
    with Store(tmp_path / "second") as other:
        author_key(other)
        (Path(other.path) / "keys" / "author.key").write_text("nonsense\n")
        with pytest.raises(LedgerError, match="not a private key"):
            samebits.verify(run.address, other, source=store)


def test_verify_and_run_say_which_argument_has_another_type(store: Store) -> None:
    address = Digest(bytes(32))
    calls: list[tuple[Any, str]] = [
        (lambda: samebits.verify(123, store), "run: want an address, got int"),  # type: ignore[arg-type]
        (lambda: samebits.verify(address, store, source="/x"), "source: want a Store or a place, got str"),  # type: ignore[arg-type]
        (lambda: samebits.verify(address, "/x"), "want a Store, got str"),  # type: ignore[arg-type]
        (lambda: samebits.run(make_job(), "/x"), "want a Store, got str"),  # type: ignore[arg-type]
    ]
    for call, message in calls:
        with pytest.raises(TypeError, match=message):
            call()


def test_commits_refuse_a_bool_for_a_step() -> None:
    """`[false, address]` was read as the commit of step 0, and the run verified as the same."""
    address = Digest(bytes(32))
    with pytest.raises(RunError):
        read_commits(Node("commits", {"commits": [[False, address]]}))
    with pytest.raises(RunError, match="step"):
        Commit.from_node(Node("commit", {"step": False, "state": bytes(32), "metrics": {}}))
    with pytest.raises(RunError, match="fields"):
        Commit.from_node(Node("commit", {"step": 0, "state": bytes(32), "metrics": {}, "more": 1}))


@pytest.mark.parametrize("metric", [["f32", b"123"], ["f33", b"1234"], [1, b"1234"]])
def test_commits_refuse_metrics_that_are_no_scalars(metric: list[Any]) -> None:
    with pytest.raises(RunError, match="metric 'loss'"):
        Commit.from_node(Node("commit", {"step": 0, "state": bytes(32), "metrics": {"loss": metric}}))


def with_tree(field: str, entries: dict[str, Digest]) -> Job:
    """The small job with another tree in one field."""
    job = make_job()
    return changed(job, {field: node_address(tree_node(entries))}, [tree_node(entries)])


def bad_jobs() -> list[tuple[Job, str]]:
    job = make_job()
    tensor = next(address for address, node in job.nodes.items() if node.kind == "tensor")
    bad = Node("tree", {"entries": {"a\n\x1b[2J": tensor}})
    scalar = node_address(job.nodes[job.spec.state])
    w = job.nodes[job.spec.state].body["entries"]
    assert isinstance(w, dict)
    assert isinstance(w["w"], Digest)
    return [
        (with_tree("data", {}), "^.*the job has no data$"),
        (with_tree("data", {"x": w["w"]}), "data x is a scalar"),
        (changed(job, {"state": node_address(bad)}, [bad]), r"'a\\n\\x1b\[2J' can't be a name in a tree"),
        (with_tree("state", {"w": scalar}), "not a tensor but a tree"),
        (changed(job, {"state": job.spec.step}, []), f"state {job.spec.step} is a graph, not a tree"),
        (changed(job, {"step": tensor}, []), f"graph {tensor} is a tensor, not a graph"),
    ]


@pytest.mark.parametrize("position", range(6))
def test_trees_and_kinds_that_do_not_fit_are_named(store: Store, position: int) -> None:
    job, message = bad_jobs()[position]
    with pytest.raises(JobError, match=message) as raised:
        samebits.run(job, store)
    assert str(raised.value).isprintable()
    if "graph, not" in message or "not a graph" not in message:
        with pytest.raises(JobError, match=message):
            list_tensors(job)


def test_tree_names_of_job_files_follow_the_rules_of_trees() -> None:
    job = make_job()
    bad = Node("tree", {"entries": {"../x": job.spec.state}})
    with pytest.raises(JobError, match="can't be a name"):
        list_tensors(changed(job, {"state": node_address(bad)}, [bad]))


def test_texts_of_jobs_and_graphs_are_printable() -> None:
    spec = make_job(changes={"arithmetic": "x\n\x1b[31mfake: verified"}).spec
    with pytest.raises(JobError, match=r"arithmetic version 'x\\n.* is unprintable") as raised:
        JobSpec.from_node(spec.to_node())
    assert str(raised.value).isprintable()
    with pytest.raises(GraphError, match="node 0: the operation 'a\\\\nb' is unprintable"):
        parse_graph(Node("graph", {"inputs": [[], []], "nodes": [["a\nb", [7]]], "outputs": [[], []]}))


def test_check_graph_names_the_input_of_an_unknown_type() -> None:
    """It was a NodeError of the store."""
    with pytest.raises(GraphError, match="input 'a': unknown dtype 'f99'"):
        check_graph(Graph((("a", TensorType("f99", (1,))),), (), ()))


@pytest.mark.parametrize("changes", [{"version": True}, {"more": 1}])
def test_load_job_refuses_what_only_looks_like_version_2(tmp_path: Path, changes: dict[str, Any]) -> None:
    samebits.save_job(make_job(), tmp_path / "a.job", embed="all")
    value = decode((tmp_path / "a.job").read_bytes())
    assert isinstance(value, dict)
    (tmp_path / "b.job").write_bytes(encode({**value, **changes}))
    with pytest.raises(JobError, match=r"b\.job"):
        samebits.load_job(tmp_path / "b.job")


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_save_job_replaces_only_regular_files(tmp_path: Path, kind: str) -> None:
    """`job capture -o /dev/null` as root replaced the device."""
    path = tmp_path / "target"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    before = path.lstat().st_ino
    with pytest.raises(JobError, match=re.escape(f"{path}: it is there and not a regular file")):
        samebits.save_job(make_job(), path)
    assert path.lstat().st_ino == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_job_respects_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        samebits.save_job(make_job(), tmp_path / "a.job")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.job").stat().st_mode) == 0o600
