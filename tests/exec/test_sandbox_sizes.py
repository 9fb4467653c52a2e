"""What a stranger sends is bounded before it is read, and no text of it gets into the source of a kernel."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from tests.exec.small_job import changed, make_job, with_step
from tests.exec.strangers import only_reached

import samebits
from samebits.cas import Digest, EncodingError, Node, Store, node_address
from samebits.cas.encoding import MAX_CONTAINERS, Value, decode, encode
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import graph_address, graph_node, parse_graph
from samebits.exec.devices.kernel_device import lower_plan
from samebits.exec.errors import GraphError, JobError
from samebits.exec.graph import MAX_NODES, MAX_OPERANDS, Graph, GraphNode
from samebits.exec.job import MAX_TENSORS, Job
from samebits.exec.job_file import MAX_LENGTH, MAX_NODES_SIZE_BYTES, MAX_OBJECTS
from samebits.exec.planner import plan_graph
from samebits.kernels.attributes import one_of
from samebits.kernels.optable import OPS
from samebits.kernels.types import TensorType

SCALAR = TensorType("f32", ())
CODE = '*/ } __kernel void evil(__global int *p) { p[0] = 1; } /* \\"); //'


def negations(count: int) -> Node:
    return Node(
        "graph", {"inputs": [[[0, "a"]], [["f32", []]]], "nodes": [["neg", [1]]] * count, "outputs": [[[0, "y"]], [1]]}
    )


def write_job_file(path: Path, nodes: list[bytes]) -> Path:
    packed = lzma.compress(encode(list(nodes)), preset=0)
    path.write_bytes(
        encode({"format": "samebits job", "version": 2, "job": Digest(bytes(32)), "nodes": packed, "blobs": []})
    )
    return path


def test_a_graph_has_at_most_so_many_nodes_and_operands() -> None:
    assert len(parse_graph(negations(MAX_NODES)).nodes) == MAX_NODES
    with pytest.raises(GraphError, match=f"a graph of {MAX_NODES + 1} nodes; the most is {MAX_NODES}"):
        parse_graph(negations(MAX_NODES + 1))
    wide: dict[str, Value] = {"inputs": [[[0, "a"]], [["f32", []]]], "outputs": [[[0, "y"]], [1]]}
    with pytest.raises(GraphError, match=f"node 1: a graph of more than {MAX_OPERANDS} operands"):
        parse_graph(
            Node("graph", {**wide, "nodes": [["neg", [1]], ["concatenate", [1] * MAX_OPERANDS, {"dimension": 0}]]})
        )


@pytest.mark.parametrize("nodes", [1_000_000, 1_000_001])
def test_a_job_file_with_a_graph_of_a_million_nodes_is_refused_unread(tmp_path: Path, nodes: int) -> None:
    """It took a minute, and a gigabyte."""
    item = encode(["neg", [1]])
    graph = (
        b"\x92\xa5graph\x83\xa6inputs\xc0\xa5nodes\xdd" + nodes.to_bytes(4, "big") + item * nodes + b"\xa7outputs\xc0"
    )
    with pytest.raises(JobError, match=f"{nodes} exceeds max_array_len\\({MAX_LENGTH}\\)"):
        samebits.load_job(write_job_file(tmp_path / "a.job", [graph]))


def test_a_job_file_unpacks_to_no_more_than_it_may(tmp_path: Path) -> None:
    path = write_job_file(tmp_path / "a.job", [bytes(MAX_NODES_SIZE_BYTES)])
    assert path.stat().st_size < 100_000
    with pytest.raises(JobError, match="too large"):
        samebits.load_job(path)
    with pytest.raises(JobError, match=f"{MAX_OBJECTS + 1} nodes; the most is {MAX_OBJECTS}"):
        samebits.load_job(write_job_file(path, [b""] * (MAX_OBJECTS + 1)))


def test_decode_counts_lists_and_maps() -> None:
    """A byte for each, 64 bytes of memory: 64 MiB of them were 4 GB."""
    inner = b"\xdc\xff\xff" + b"\x90" * 0xFFFF
    hostile = b"\xdc\x00\x80" + inner * 128
    assert MAX_CONTAINERS < 128 * 0xFFFF
    with pytest.raises(EncodingError, match=f"more than {MAX_CONTAINERS} lists and maps"):
        decode(hostile)


def test_a_tree_of_a_job_names_at_most_so_many_tensors(tmp_path: Path) -> None:
    """One tensor under 10^6 names: listing them took a minute."""
    job = make_job()
    entries = job.nodes[job.spec.data].body["entries"]
    assert isinstance(entries, dict)
    tree = Node("tree", {"entries": {f"{number:06d}": entries["x"] for number in range(MAX_TENSORS + 1)}})
    many = only_reached(changed(job, {"data": node_address(tree)}, [tree]))
    with Store(tmp_path / "s") as store, pytest.raises(JobError, match=f"names {MAX_TENSORS + 1} tensors; the most"):
        samebits.run(many, store)


def chained(graphs: int, size: int) -> Job:
    """The small job with a step that calls a chain of different graphs."""
    last = Graph((("a", SCALAR),), (GraphNode("neg", (0,)),), (("y", 1),))
    nodes = [graph_node(last)]
    for _ in range(graphs):
        body = [GraphNode("call", (0,), (), graph_address(last)), *(GraphNode("abs", (i + 1,)) for i in range(size))]
        last = Graph((("a", SCALAR),), tuple(body), (("y", size + 1),))
        nodes.append(graph_node(last))
    job = with_step(last)
    return changed(job, {}, nodes)


@pytest.mark.parametrize(
    ("graphs", "size", "message"), [(3000, 1, "nested more than 64"), (40, 4000, "with the graphs")]
)
def test_called_graphs_are_bounded_while_they_are_read(tmp_path: Path, graphs: int, size: int, message: str) -> None:
    with Store(tmp_path) as store, pytest.raises(GraphError, match=message):
        samebits.run(chained(graphs, size), store)


def test_no_text_of_a_graph_is_in_the_source_of_its_kernels() -> None:
    build = GraphBuilder()
    x = build.input(f"batch/{CODE}", TensorType("f32", (8,)))
    build.output(f"metrics/{CODE}", build.op("reduce_sum", build.op("exp", x), axes=(0,)))
    plan = plan_graph(build.build())
    for layout in ("cpu", "gpu"):
        assert "evil" not in lower_plan(plan, layout).program.source


def test_a_text_attribute_is_one_of_a_few_words() -> None:
    """Attributes are numbers, bytes that become numbers, or words that our own code chose."""
    words = 0
    for op in OPS.values():
        for attribute in op.attributes:
            for hostile in (CODE, [CODE], {CODE: 1}):
                with pytest.raises((ValueError, TypeError)):
                    attribute.check(hostile)
            words += attribute.check.__qualname__.startswith(one_of.__qualname__)
    assert words >= 3
