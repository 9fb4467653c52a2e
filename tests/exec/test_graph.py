"""Graphs: type checks, canonical form, addresses, encoding."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas import Digest, Node, decode_node, encode_node
from samebits.exec import canonical
from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.canonical import canonicalize, graph_address, graph_node, parse_graph, read_graph
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.errors import GraphError
from samebits.exec.graph import CALL, Graph, GraphNode, check_graph
from samebits.exec.planner import plan_graph
from samebits.kernels.errors import KernelError
from samebits.kernels.types import TensorType

F32 = TensorType("f32", (2,))


def execute(graph: Graph, library: Any = None, **inputs: Any) -> dict[str, Any]:
    return NumpyDevice().compile(plan_graph(graph, library or {}))(inputs)


def sum_graph() -> Graph:
    build = GraphBuilder()
    build.output("y", build.op("add", build.input("a", F32), build.input("b", F32)))
    return build.build()


def sum_address() -> Digest:
    return graph_address(sum_graph())


def test_build_shares_equal_expressions() -> None:
    build = GraphBuilder()
    a, b = build.input("a", F32), build.input("b", F32)
    build.output("y", build.op("mul", build.op("add", a, b), build.op("add", a, b)))
    assert [node.op for node in build.build().nodes] == ["add", "mul"]


def test_build_drops_dead_nodes_and_keeps_inputs() -> None:
    build = GraphBuilder()
    a, b = build.input("a", F32), build.input("b", F32)
    build.op("sub", a, b)
    build.output("y", build.op("neg", a))
    graph = build.build()
    assert [node.op for node in graph.nodes] == ["neg"]
    assert [name for name, _ in graph.inputs] == ["a", "b"]


def test_address_does_not_depend_on_order_of_construction() -> None:
    def make(first: bool) -> Graph:
        build = GraphBuilder()
        if first:
            a, b = build.input("a", F32), build.input("b", F32)
            x, y = build.op("neg", a), build.op("abs", b)
        else:
            b, a = build.input("b", F32), build.input("a", F32)
            y, x = build.op("abs", b), build.op("neg", a)
        outputs = [("p", build.op("add", x, y)), ("q", y)]
        for name, value in outputs if first else outputs[::-1]:
            build.output(name, value)
        return build.build()

    assert graph_address(make(True)) == graph_address(make(False))


def test_address_tells_operand_order_apart() -> None:
    build = GraphBuilder()
    build.output("y", build.op("add", *reversed([build.input("a", F32), build.input("b", F32)])))
    assert graph_address(build.build()) != graph_address(sum_graph())


def test_graph_node_matches_the_documented_example() -> None:
    build = GraphBuilder()
    a = build.input("a", F32)
    build.output("y", build.op("add", a, a))
    assert graph_node(build.build()) == Node(
        "graph",
        {"inputs": [[[0, "a"]], [["f32", [2]]]], "nodes": [["add", [1, 1]]], "outputs": [[[0, "y"]], [1]]},
    )


def test_graph_node_writes_names_operands_and_outputs_as_documented() -> None:
    callee = Graph((("a", F32), ("b", F32)), (GraphNode("add", (0, 1)),), (("p", 2), ("q", 0)))
    address = graph_address(callee)
    calls = [GraphNode(CALL, operands, (), address, 2) for operands in ((0, 1), (2, 0), (4, 3))]
    names = ("layer.9.bias", "layer.9.weight")
    graph = Graph(tuple((name, F32) for name in names), tuple(calls), (("y", 6), ("yes", 7), ("z", 2)))
    written = [[0, "layer.9.bias"], [8, "weight"]]
    body = graph_node(graph).body
    assert body["inputs"] == [written, [["f32", [2]]] * 2]
    assert body["nodes"] == [[CALL, operands, address, 2] for operands in ([2, 1], [2, -1], [2, 3])]
    assert body["outputs"] == [[[0, "y"], [1, "es"], [0, "z"]], [6, 1, -5]]
    assert read_graph(decode_node(encode_node(graph_node(graph))), {address: callee}) == graph


def test_read_graph_round_trips() -> None:
    build = GraphBuilder()
    a = build.input("a", TensorType("f32", (3, 4)))
    build.output("y", build.op("reduce_sum", a, axes=(1,)))
    build.output("z", build.op("dot_general", a, build.op("transpose", a, permutation=(1, 0))))
    graph = build.build()
    assert read_graph(decode_node(encode_node(graph_node(graph)))) == graph


def test_canonicalize_restores_a_shuffled_graph() -> None:
    typed_inputs = (("a", F32), ("b", F32))
    nodes = (
        GraphNode("sub", (1, 0)),
        GraphNode("neg", (0,)),
        GraphNode("neg", (0,)),
        GraphNode("mul", (3, 4)),
    )
    graph = canonicalize(Graph(typed_inputs, nodes, (("y", 5),)))
    assert graph.nodes == (GraphNode("neg", (0,)), GraphNode("mul", (2, 2)))
    assert graph.outputs == (("y", 3),)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (Graph((("a", F32), ("a", F32)), (), ()), "'a' occurs twice"),
        (Graph((("b", F32), ("a", F32)), (), ()), "order of their names"),
        (Graph((("", F32),), (), ()), "empty"),
        (Graph((("a", TensorType("f33", (2,))),), (), ()), "unknown dtype"),
        (Graph((("a", TensorType("f32", (-1,))),), (), ()), "negative size"),
        (Graph((("a", TensorType("f32", (1 << 30, 1 << 30))),), (), ()), "2\\^48"),
        (Graph((("a", F32),), (GraphNode("add", (0, 1)),), ()), "node 0 \\(add\\): operand 1"),
        (Graph((("a", F32),), (GraphNode("add", (0, -1)),), ()), "operand -1"),
        (Graph((("a", F32),), (GraphNode("frobnicate", (0,)),), ()), "node 0: unknown operation 'frobnicate'"),
        (Graph((("a", F32),), (GraphNode("add", (0,)),), ()), "wants 2 operands"),
        (Graph((("a", F32),), (GraphNode("reduce_sum", (0,)),), ()), "'axes' is missing"),
        (Graph((("a", F32),), (GraphNode("reduce_sum", (0,), (("axes", (1,)),)),), ()), "axis 1 is outside"),
        (Graph((("a", F32),), (GraphNode("neg", (0,), (("axes", (0,)),)),), ()), "unknown attribute 'axes'"),
        (Graph((("a", F32),), (GraphNode("dot_general", (0, 0), (("grid", "both"),)),), ()), "not complete"),
        (Graph((("a", F32), ("b", TensorType("i32", (2,)))), (GraphNode("add", (0, 1)),), ()), "operands differ"),
        (Graph((("a", F32),), (), (("y", 1),)), "output 'y': there is no value 1"),
        (Graph((("a", F32),), (GraphNode("neg", (0,), results=2),), ()), "neg has 1 result, not 2"),
        (Graph((("a", F32),), (GraphNode("call", (0,)),), ()), "wants the address of a graph"),
        (Graph((("a", F32),), (GraphNode("call", (0,), (), graph_address(sum_graph())),), ()), "is missing"),
    ],
)
def test_check_graph_names_what_is_malformed(graph: Graph, message: str) -> None:
    with pytest.raises((GraphError, KernelError, Exception), match=message) as raised:
        check_graph(graph)
    assert "\n" not in str(raised.value)


def test_check_graph_refuses_a_call_with_another_number_of_results() -> None:
    callee = sum_graph()
    address = graph_address(callee)
    inputs = (("a", F32), ("b", F32))
    graph = Graph(inputs, (GraphNode("call", (0, 1), (), address, 2),), (("y", 2), ("z", 3)))
    with pytest.raises(GraphError, match="has 1 outputs, not 2"):
        check_graph(graph, {address: callee})


NONE: list[Any] = [[], []]
A = [[[0, "a"]], [["f32", [2]]]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "fields"),
        ({"inputs": NONE, "nodes": [], "outputs": NONE, "more": []}, "fields"),
        ({"inputs": {}, "nodes": [], "outputs": NONE}, "inputs are not"),
        ({"inputs": [], "nodes": [], "outputs": NONE}, "inputs are not"),
        ({"inputs": [[[0, "a"]], [["f32"]]], "nodes": [], "outputs": NONE}, "dtype, shape"),
        ({"inputs": [[[0, "a"]], []], "nodes": [], "outputs": NONE}, "inputs are not"),
        ({"inputs": [["a"], [["f32", []]]], "nodes": [], "outputs": NONE}, "a name of inputs"),
        ({"inputs": [[[0, 1]], [["f32", []]]], "nodes": [], "outputs": NONE}, "a name of inputs"),
        ({"inputs": [[[False, "a"]], [["f32", []]]], "nodes": [], "outputs": NONE}, "a name of inputs"),
        ({"inputs": [[[-1, "a"]], [["f32", []]]], "nodes": [], "outputs": NONE}, "a name of inputs"),
        ({"inputs": [[[1, "a"]], [["f32", []]]], "nodes": [], "outputs": NONE}, "as short as"),
        ({"inputs": [[[0, "a"], [0, "ab"]], [["f32", []]] * 2], "nodes": [], "outputs": NONE}, "as short as"),
        ({"inputs": [[[0, "a"], [2, "b"]], [["f32", []]] * 2], "nodes": [], "outputs": NONE}, "as short as"),
        ({"inputs": [[[0, "a"]], [["f32", ["2"]]]], "nodes": [], "outputs": NONE}, "not an integer"),
        ({"inputs": [[[0, "a"]], [["f32", [True]]]], "nodes": [], "outputs": NONE}, "not an integer"),
        ({"inputs": NONE, "nodes": [["iota"]], "outputs": NONE}, "node 0 is not"),
        ({"inputs": NONE, "nodes": [["iota", [], {}]], "outputs": NONE}, "node 0 is not"),
        ({"inputs": A, "nodes": [["neg", ["1"]]], "outputs": NONE}, "not an integer"),
        ({"inputs": A, "nodes": [["neg", [1], sum_address(), 1]], "outputs": NONE}, "node 0 is not"),
        ({"inputs": A, "nodes": [["call", [1], sum_address()]], "outputs": NONE}, "node 0 is not"),
        ({"inputs": A, "nodes": [["call", [1], sum_address(), True]], "outputs": NONE}, "not an integer"),
        ({"inputs": A, "nodes": [["call", [1], sum_address(), 0]], "outputs": NONE}, "a call with 0 results"),
        ({"inputs": NONE, "nodes": [], "outputs": [["y"]]}, "outputs are not"),
        ({"inputs": A, "nodes": [], "outputs": [[[0, "y"]], ["0"]]}, "not an integer"),
    ],
)
def test_parse_graph_refuses_malformed_nodes(body: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        parse_graph(Node("graph", body))


def test_parse_graph_refuses_names_that_few_bytes_make_long(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[Any] = [[i, "a"] for i in range(100)]
    body: dict[str, Any] = {"inputs": [names, [["f32", []]] * 100], "nodes": [], "outputs": NONE}
    assert len(parse_graph(Node("graph", body)).inputs[-1][0]) == 100
    monkeypatch.setattr(canonical, "MAX_NAMES_LENGTH", 5049)
    with pytest.raises(GraphError, match="the names of inputs have more than 5049 characters"):
        parse_graph(Node("graph", body))


def test_read_graph_refuses_calls_of_one_graph_with_other_numbers_of_operands() -> None:
    callee = sum_graph()
    address = graph_address(callee)
    calls = [["call", operands, address, 1] for operands in ([1, 1], [2, 1, 1])]
    body: dict[str, Any] = {"inputs": A, "nodes": calls, "outputs": [[[0, "y"]], [2]]}
    with pytest.raises(GraphError, match="node 1: call: operands"):
        read_graph(Node("graph", body), {address: callee})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab.1", min_size=1, max_size=6), unique=True))
def test_read_graph_round_trips_names(names: list[str]) -> None:
    names = sorted(names, key=str.encode)
    graph = Graph(tuple((name, F32) for name in names), (), tuple((name, i) for i, name in enumerate(names)))
    assert read_graph(decode_node(encode_node(graph_node(graph)))) == graph


def test_read_graph_refuses_another_order() -> None:
    build = GraphBuilder()
    a, b = build.input("a", F32), build.input("b", F32)
    build.output("y", build.op("add", build.op("neg", a), build.op("abs", b)))
    graph = build.build()
    swapped = Graph(graph.inputs, (graph.nodes[1], graph.nodes[0], GraphNode("add", (3, 2))), graph.outputs)
    with pytest.raises(GraphError, match="canonical"):
        read_graph(graph_node(swapped))


def test_call_runs_another_graph_and_is_shared() -> None:
    callee = sum_graph()
    address = graph_address(callee)
    build = GraphBuilder()
    a, b = build.input("a", F32), build.input("b", F32)
    once = build.call(address, callee, [a, b])["y"]
    again = build.call(address, callee, [a, b])["y"]
    build.output("z", build.call(address, callee, [once, again])["y"])
    graph = build.build()
    assert [node.op for node in graph.nodes] == ["call", "call"]
    library = {address: callee}
    assert read_graph(graph_node(graph), library) == graph
    one = np.ones(2, np.float32)
    assert execute(graph, library, a=one, b=one)["z"].tolist() == [4.0, 4.0]


def test_plan_computes_equal_nodes_of_caller_and_callee_once() -> None:
    def one_more(build: GraphBuilder, x: ValueRef) -> ValueRef:
        one = build.op("broadcast_in_dim", build.scalar(1.0, "f32"), shape=(2,), broadcast_dimensions=())
        return build.op("add", x, one)

    inner = GraphBuilder()
    inner.output("y", one_more(inner, inner.input("a", F32)))
    callee = inner.build()
    address = graph_address(callee)
    build = GraphBuilder()
    a = build.input("a", F32)
    x = build.call(address, callee, [one_more(build, a)])["y"]
    build.output("x", x)
    build.output("y", build.call(address, callee, [a])["y"])
    plan = plan_graph(build.build(), {address: callee})
    assert [launch.op for launch in plan.launches] == ["constant", "broadcast_in_dim", "add", "add"]
    found = execute(build.build(), {address: callee}, a=np.array([1.0, -3.0], np.float32))
    assert [found[name].tolist() for name in "xy"] == [[3.0, -1.0], [2.0, -2.0]]


OPS = ("add", "sub", "mul", "max", "neg", "abs")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=25),
    st.randoms(),
)
def test_canonicalize_is_idempotent_and_keeps_results(drawn: list[tuple[str, int, int]], rng: random.Random) -> None:
    inputs = (("a", F32), ("b", F32))
    nodes = []
    for position, (op, i, j) in enumerate(drawn):
        known = 2 + position
        nodes.append(GraphNode(op, (i % known,) if op in ("neg", "abs") else (i % known, j % known)))
    outputs = (("y", 1 + len(nodes)), ("z", rng.randrange(2 + len(nodes))))
    graph = Graph(inputs, tuple(nodes), outputs)
    settled = canonicalize(graph)
    assert canonicalize(settled) == settled
    values = {"a": np.array([1.5, -2.0], np.float32), "b": np.array([0.25, 3.0], np.float32)}
    for name, value in execute(graph, **values).items():
        assert value.tobytes() == execute(settled, **values)[name].tobytes()
