"""Limits: memory, launches, depth of calls, sizes of axes. A job of a few bytes must not take the machine down."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.exec.small_job import BATCH_SIZE, changed, make_job, with_step

import samebits
from samebits.cas import Digest, Node, Store, hash_blob, node_address, tree_node
from samebits.exec import machine
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import canonicalize, graph_address
from samebits.exec.commits import commit_steps
from samebits.exec.errors import GraphError, JobError, RunError
from samebits.exec.graph import MAX_CALL_DEPTH, Graph, GraphNode, check_graph
from samebits.exec.job import Job
from samebits.exec.ledger_folder import log_directory
from samebits.exec.planner import check_memory, free_memory_bytes, plan_graph
from samebits.exec.stream import Stream
from samebits.kernels.errors import OpError
from samebits.kernels.inference import check_type
from samebits.kernels.types import TensorType

F32 = TensorType("f32", (2,))


def wide_graph(elements: int, op: str) -> Graph:
    """A step that makes `elements` out of nothing."""
    build = GraphBuilder()
    x, y = (build.input(f"batch/{name}", TensorType("f32", (BATCH_SIZE,))) for name in "xy")
    w = build.input("state/w", TensorType("f32", ()))
    if op == "iota":
        wide = build.op("iota", dtype="f32", shape=(elements,), dimension=0)
    elif op == "pad":
        wide = build.op("pad", build.op("add", x, y), w, low=(0,), high=(elements,))
    else:
        wide = build.op("broadcast_in_dim", w, shape=(elements,), broadcast_dimensions=())
        wide = build.op("exp", wide) if op == "exp" else wide
    build.output("state/w", w)
    build.output("metrics/loss", build.op("reduce_sum", wide, axes=(0,)))
    return build.build()


@pytest.mark.parametrize(
    ("op", "worst"),
    [("broadcast_in_dim", "reduce_sum"), ("iota", "reduce_sum"), ("pad", "pad"), ("exp", "exp")],
)
def test_run_refuses_a_small_job_that_wants_terabytes(tmp_path: Path, op: str, worst: str) -> None:
    """Such jobs of less than 1 kB ate gigabytes until the machine killed something."""
    with (
        Store(tmp_path) as store,
        pytest.raises(RunError, match=rf"step graph needs \d+\.\d GB at node \d+ \({worst}\)"),
    ):
        samebits.run(with_step(wide_graph(1 << 39, op)), store)
    assert not log_directory(store).exists()


def test_run_refuses_a_plan_larger_than_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 1_000_000_000)
    with Store(tmp_path) as store:
        with pytest.raises(RunError, match=r"needs 2.1 GB at node 1 \(exp\), this machine has 1.0 GB free"):
            samebits.run(with_step(wide_graph(1 << 28, "exp")), store)
        assert samebits.run(make_job(), store).steps == 25


def test_run_refuses_a_tree_that_names_one_tensor_too_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 300)
    with (
        Store(tmp_path) as store,
        pytest.raises(RunError, match=r"data \w{64} is too large: this machine has 300 B"),
    ):
        samebits.run(make_job(), store)


def test_peak_counts_what_lives_at_once() -> None:
    build = GraphBuilder()
    a = build.input("a", TensorType("f32", (10,)))
    b = build.op("neg", a)
    c = build.op("abs", b)
    build.output("y", build.op("reduce_sum", c, axes=(0,)))
    plan = plan_graph(build.build())
    assert plan.peak.size_bytes == 120
    assert plan.peak.launch is plan.launches[1]
    check_memory("step", plan, 5, 125)
    with pytest.raises(RunError, match=r"the step graph needs 126 B at node 1 \(abs\)"):
        check_memory("step", plan, 6, 125)


def test_free_memory_is_that_of_a_machine() -> None:
    assert 1 << 20 < free_memory_bytes() < 1 << 50


def called(graphs: int, kind: str) -> tuple[Graph, dict[Digest, Graph]]:
    """Graphs that call one another; returns the last and the library."""
    leaf = Graph((("a", F32),), (GraphNode("neg", (0,)),), (("y", 1),))
    library = {graph_address(leaf): leaf}
    before, last = leaf, leaf
    for _ in range(graphs):
        other = {"double": last, "fibonacci": before, "chain": None}[kind]
        nodes = [GraphNode("call", (0,), (), graph_address(last))]
        nodes.append(GraphNode("call", (1,), (), graph_address(other)) if other else GraphNode("abs", (1,)))
        before, last = last, Graph((("a", F32),), tuple(nodes), (("y", 2),))
        library[graph_address(last)] = last
    return last, library


@pytest.mark.parametrize(("kind", "graphs"), [("double", 40), ("fibonacci", 60), ("double", 63)])
def test_check_graph_refuses_calls_that_multiply(kind: str, graphs: int) -> None:
    """Each level was checked and laid out as often as it is called: 2^40 times."""
    graph, library = called(graphs, kind)
    for check in (check_graph, canonicalize, plan_graph):
        with pytest.raises(GraphError, match="more than 1000000 launches") as raised:
            check(graph, library)
        assert len(str(raised.value)) < 200


def test_check_graph_refuses_calls_that_multiply_and_compute_nothing() -> None:
    last = Graph((("a", F32),), (), (("y", 0),))
    library = {graph_address(last): last}
    for _ in range(40):
        address = graph_address(last)
        nodes = (GraphNode("call", (0,), (), address), GraphNode("call", (1,), (), address))
        last = Graph((("a", F32),), nodes, (("y", 2),))
        library[graph_address(last)] = last
    with pytest.raises(GraphError, match="launches"):
        check_graph(last, library)


@pytest.mark.parametrize("graphs", [MAX_CALL_DEPTH, MAX_CALL_DEPTH + 1, 2000])
def test_check_graph_bounds_the_depth_of_calls(graphs: int) -> None:
    """2000 levels ended in a RecursionError."""
    graph, library = called(graphs, "chain")
    if graphs <= MAX_CALL_DEPTH:
        assert len(plan_graph(graph, library).launches) == graphs + 1
        return
    with pytest.raises(GraphError, match="nested more than 64 deep") as raised:
        check_graph(graph, library)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((0, (1 << 40) - 1), True),
        ((0, 1 << 40), False),
        ((0, 1 << 63), False),
        ((0, 1 << 39, 1 << 39), False),
        ((1 << 23, 0, 1 << 23), True),
        ((1 << 23, 0, 1 << 24), False),
        ((1 << 46,), False),
    ],
)
def test_check_type_measures_the_axes_of_tensors_without_elements(shape: tuple[int, ...], fits: bool) -> None:
    tensor = TensorType("f32", shape)
    if fits:
        assert check_type("op", tensor) is tensor
    else:
        with pytest.raises(OpError, match="2\\^"):
            check_type("op", tensor)


@pytest.mark.parametrize("rows", [1 << 20, 1 << 31, (1 << 32) - 1, 1 << 60])
def test_run_refuses_rows_without_elements(tmp_path: Path, rows: int) -> None:
    """[2^32 - 1, 0] are no bytes of data, but 32 GiB of row numbers."""
    empty = Node("tensor", {"dtype": "f32", "shape": [rows, 0], "blob": hash_blob(b"")})
    tree = tree_node({"x": node_address(empty), "y": node_address(empty)})
    job = changed(make_job(), {"data": node_address(tree)}, [empty, tree])
    with Store(tmp_path) as store, pytest.raises(JobError, match="no elements"):
        samebits.run(Job(job.spec, job.nodes, {**job.blobs, hash_blob(b""): b""}), store)


def test_stream_refuses_more_rows_than_it_can_number() -> None:
    Stream(1, 0).check_rows(1 << 31)
    with pytest.raises(JobError, match="at most 2\\^31"):
        Stream(1, 0).check_rows((1 << 31) + 1)


@pytest.mark.parametrize("first", [0, 1, 6, 7, 13])
@pytest.mark.parametrize("length", [1, 2, 7, 8])
@pytest.mark.parametrize("every", [1, 2, 7, 100])
def test_commit_steps_counts_as_it_lists(first: int, length: int, every: int) -> None:
    steps = commit_steps(first, first + length, every)
    expected = [t for t in range(first, first + length) if (t + 1) % every == 0 or t == first + length - 1]
    assert list(steps) == expected
    assert len(steps) == len(expected)
    assert [t for t in range(30) if t in steps] == expected


def test_commit_steps_of_a_huge_segment_takes_no_memory() -> None:
    """A signed segment 0 : 2^53-1 made the verifier build the list of its steps."""
    steps = commit_steps(0, (1 << 53) - 1, 1)
    assert len(steps) == (1 << 53) - 1
    assert list(islice(steps, 3)) == [0, 1, 2]


def test_run_accepts_a_cadence_beyond_its_steps(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        run = samebits.run(make_job(), store, checkpoint_every=1 << 52, commit_every=(1 << 53) - 1)
        assert len(run.commits) == 1
        with pytest.raises(RunError, match=r"checkpoint_every .* not below 2\^53"):
            samebits.run(make_job(), store, checkpoint_every=1 << 53)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
import samebits
from tests.exec.small_job import make_job
class Stop(Exception): pass
def stop(done, steps, metrics):
    if done == 3: raise Stop
try:
    samebits.run(make_job(steps=(1 << 53) - 1), samebits.Store(sys.argv[1]), checkpoint_every=1 << 52, progress=stop)
except Stop:
    print("stopped")
"""


def test_run_of_2_to_the_53_steps_takes_no_memory_for_them(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "store")]
    done: Any = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "stopped\n", done.stderr
