"""Folding: the same DAG with every call laid out, the same bits, and a size that grows with the kinds of layers."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.exec.test_kernel_device import RandomGraph
from tests.exec.training_graphs import gpt_step, llama_step

from samebits.cas import Digest, encode_node
from samebits.exec import folding
from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.canonical import canonicalize, graph_address, graph_node, parse_graph, read_graph
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.errors import GraphError
from samebits.exec.folding import fold
from samebits.exec.graph import CALL, Graph, GraphLibrary, GraphNode, check_graph
from samebits.exec.planner import plan_graph
from samebits.exec.repeats import Item, Windows, outside_values
from samebits.kernels.types import AttributeValue, TensorType

ROOT = Path(__file__).parents[2]
F32 = TensorType("f32", (3,))
Steps = Callable[..., Graph]


def lay_out(graph: Graph, library: GraphLibrary) -> Graph:
    """Return a graph with every call replaced by the nodes of the graph that it runs, and nothing else changed."""
    nodes: list[GraphNode] = []

    def add(inner: Graph, values: list[int]) -> list[int]:
        for node in inner.nodes:
            operands = [values[operand] for operand in node.operands]
            if node.op == CALL:
                assert node.callee is not None
                values.extend(add(library[node.callee], operands))
            else:
                values.append(len(graph.inputs) + len(nodes))
                nodes.append(GraphNode(node.op, tuple(operands), node.attributes))
        return [values[value] for _, value in inner.outputs]

    results = add(graph, list(range(len(graph.inputs))))
    outputs = tuple((name, value) for (name, _), value in zip(graph.outputs, results, strict=True))
    return Graph(graph.inputs, tuple(nodes), outputs)


def check_fold(graph: Graph) -> tuple[Graph, dict[Digest, Graph]]:
    """Fold a graph and assert that it is the same DAG in canonical graphs, each of them called."""
    folded, library = fold(graph)
    flat = lay_out(folded, library)
    assert canonicalize(flat) == graph
    repeated = Counter(node.op for node in flat.nodes) - Counter(node.op for node in graph.nodes)
    assert set(repeated) <= {"constant", "iota", "broadcast_in_dim"}
    assert len(plan_graph(folded, library).launches) == len(graph.nodes)
    assert read_graph(graph_node(folded), library) == folded
    for address, subgraph in library.items():
        assert read_graph(graph_node(subgraph), library) == subgraph
        assert graph_address(subgraph) == address
    called = {node.callee for inner in (folded, *library.values()) for node in inner.nodes if node.op == CALL}
    assert called == set(library)
    return folded, library


def size_bytes(graphs: list[Graph]) -> int:
    return len(lzma.compress(b"".join(encode_node(graph_node(graph)) for graph in graphs)))


def folded_size_bytes(graph: Graph) -> int:
    folded, library = fold(graph)
    return size_bytes([folded, *library.values()])


def run(graph: Graph, library: GraphLibrary, inputs: dict[str, Any]) -> dict[str, bytes]:
    found = NumpyDevice().compile(plan_graph(graph, library))(inputs)
    return {name: np.ascontiguousarray(value).tobytes() for name, value in found.items()}


def draw_inputs(graph: Graph) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    drawn: dict[str, Any] = {}
    for name, tensor in graph.inputs:
        if tensor.dtype in ("f32", "f64"):
            drawn[name] = rng.uniform(0.1, 0.9, tensor.shape).astype(tensor.dtype.replace("f", "float"))
        else:
            drawn[name] = rng.integers(0, 3, tensor.shape).astype({"i32": np.int32, "u32": np.uint32}[tensor.dtype])
    return drawn


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 30), operands=st.sampled_from([1, 2, 3]))
def test_measure_of_windows_agrees_with_a_look_at_each(seed: int, operands: int) -> None:
    rng = np.random.default_rng(seed)
    items = []
    for place in range(40):  # two results each; 0 and 1 are inputs, 1 is free
        low = max(0, 2 * place - 3)
        items.append(Item(int(rng.random() < 0.1), tuple(rng.integers(low, 2 * place + 2, operands).tolist()),
                          (2 * place + 2, 2 * place + 3)))  # fmt: skip
    windows, equal = Windows(items, {1}), 0
    for length in (1, 2, 3, 5, 39, 40):
        hashes, _, inputs, outputs = windows.measure(length)
        for start in range(len(items) - length + 1):
            window, rest = items[start : start + length], items[start + length :]
            assert inputs[start] == len(set(outside_values(window)) - {1})
            asked = {value for item in rest for value in item.operands}
            assert outputs[start] == len(asked & {value for item in window for value in item.results})
            for other in range(start):
                same = windows.matches(other, start, length)
                assert (hashes[other] == hashes[start]) == same
                equal += same
    assert equal


class RandomLayers:
    """A chain of random layers: a few kinds, each used several times with other parameters, and odd nodes between."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.build = GraphBuilder()
        self._inputs = 0
        x = self._input()
        kinds = [self._kind() for _ in range(int(self.rng.integers(1, 4)))]
        kept = [x]
        for _ in range(int(self.rng.integers(2, 12))):
            x = self._layer(kinds[int(self.rng.integers(len(kinds)))], x, kept[int(self.rng.integers(len(kept)))])
            if self.rng.random() < 0.3:
                x = self.build.op("sub", x, kept[int(self.rng.integers(len(kept)))])
            kept.append(x)
        self.build.output("y", x)

    def _input(self) -> ValueRef:
        self._inputs += 1
        return self.build.input(f"x{self._inputs}", F32)

    def _kind(self) -> list[tuple[str, int, int]]:
        """Draw operations: a name, and where the second operand and an output stand (-1: a new input, no output)."""
        rng = self.rng
        names = ["add", "sub", "mul", "max", "min"]
        return [(names[rng.integers(5)], int(rng.integers(-1, 5)), int(rng.random() < 0.1)) for _ in range(14)]

    def _layer(self, kind: list[tuple[str, int, int]], x: ValueRef, side: ValueRef) -> ValueRef:
        values = [x, side]
        for name, second, shown in kind:
            other = self._input() if second < 0 else values[max(0, len(values) - 1 - second)]
            values.append(self.build.op(name, values[-1], other))
            if shown:
                self.build.output(f"z{self._inputs}.{len(values)}.{self.rng.integers(1 << 40)}", values[-1])
        return values[-1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_fold_of_random_layers_is_the_same_dag_and_gives_the_same_bits(seed: int) -> None:
    graph = RandomLayers(seed).build.build()
    folded, library = check_fold(graph)
    inputs = draw_inputs(graph)
    assert run(folded, library, inputs) == run(graph, {}, inputs)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_fold_of_random_graphs_is_the_same_dag(seed: int) -> None:
    check_fold(RandomGraph(seed).build.build())


@pytest.mark.parametrize("step", [gpt_step, llama_step])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_fold_of_a_training_step_gives_the_same_bits(step: Steps, clip: float | None) -> None:
    graph = step(4, clip=clip)
    folded, library = check_fold(graph)
    assert len(library) > 1
    inputs = draw_inputs(graph)
    assert run(folded, library, inputs) == run(graph, {}, inputs)


@pytest.mark.parametrize(("step", "kinds"), [(gpt_step, 7), (llama_step, 7)])
def test_fold_adds_to_a_job_only_the_calls_and_names_of_a_layer(step: Steps, kinds: int) -> None:
    few, some, many = (step(layers) for layers in (4, 8, 16))
    sizes = [folded_size_bytes(graph) for graph in (few, some, many)]
    assert sizes[1] - sizes[0] < 4 * 100 and sizes[2] - sizes[1] < 8 * 100
    stored = [sum(len(subgraph.nodes) for subgraph in fold(graph)[1].values()) for graph in (some, many)]
    assert stored[1] <= 1.3 * stored[0]
    folded, library = check_fold(many)
    assert len(library) <= kinds
    assert len(folded.nodes) < 0.08 * len(many.nodes)


def test_fold_finds_forward_and_backward_pass_of_every_layer() -> None:
    folded, _ = check_fold(gpt_step(11, dropout=False))
    calls = Counter(node.callee for node in folded.nodes if node.op == CALL)
    assert sorted(calls.values())[-2:] == [11, 11]
    more, _ = check_fold(gpt_step(12, dropout=False))
    assert len(more.nodes) - len(folded.nodes) == 2


def test_fold_puts_the_norms_that_clip_gradients_into_the_backward_pass() -> None:
    folded, library = check_fold(llama_step(12, clip=1.0))
    made: list[GraphNode | None] = [None] * len(folded.inputs)
    for node in folded.nodes:
        made += [node] * node.results
    norms = next(node for node in folded.nodes if node.op == "concatenate" and len(node.operands) > 12 * 9)
    callees = Counter(node.callee for node in (made[value] for value in norms.operands) if node is not None)
    backward, calls = callees.most_common(1)[0]
    assert calls == 12 * 9  # weights
    assert backward is not None
    products = sum(node.op == "dot_general" for node in library[backward].nodes)
    assert products >= 2 * 9  # of each of 7 products by weights and 2 of attention, by both operands


def test_fold_of_gpt2_small_takes_less_than_5_kilobytes() -> None:
    graph = gpt_step(12, width=768, heads=12, tokens=1024, vocabulary=50257)
    assert len(graph.inputs) > 444
    assert folded_size_bytes(graph) < 5_000


def test_fold_of_20000_nodes_takes_seconds() -> None:
    graph = llama_step(68)
    assert len(graph.nodes) > 19_000
    before = time.process_time()
    fold(graph)
    assert time.process_time() - before < 6  # 1.6 s on an idle machine


def test_fold_leaves_a_graph_without_repeats_alone() -> None:
    build = GraphBuilder()
    x = build.input("x", F32)
    for i, name in enumerate(("exp", "neg", "tanh", "abs", "sqrt", "sin", "cos", "log1p")):
        x = build.op(name, x)
        build.output(f"y{i}", x)
    graph = build.build()
    assert fold(graph) == (graph, {})


@pytest.mark.parametrize("outputs", [0, 1])
def test_fold_accepts_a_graph_without_nodes(outputs: int) -> None:
    graph = Graph((("x", F32),), (), (("y", 0),)[:outputs])
    assert fold(graph) == (graph, {})


def test_fold_of_a_graph_that_is_not_canonical_folds_its_canonical_form() -> None:
    graph = gpt_step(3)
    value = graph.outputs[0][1]
    dead = Graph(graph.inputs, (*graph.nodes, GraphNode("neg", (value,))), graph.outputs)
    assert fold(dead) == fold(graph)


def test_fold_refuses_a_graph_that_calls() -> None:
    folded, library = fold(gpt_step(4))
    assert library
    with pytest.raises(GraphError, match="is missing"):
        fold(folded)


def test_fold_folds_within_subgraphs() -> None:
    folded, library = check_fold(gpt_step(8))
    assert check_graph(folded, library).depth >= 2


def test_fold_keeps_the_constants_of_dropout_sites_in_the_caller() -> None:
    def sites(graph: Graph) -> set[bytes]:
        """Return the values of constants that number a site: 1, 2, ..."""
        found = [dict(node.attributes) for node in graph.nodes if node.op == "constant"]
        values = [at["value"] for at in found if at["dtype"] == "u32" and isinstance(at["value"], bytes)]
        return {value for value in values if int.from_bytes(value, "little") <= 100}

    graph = gpt_step(6)
    folded, library = check_fold(graph)
    assert sites(folded) == sites(graph)
    assert len(sites(graph)) == 18
    assert not any(sites(subgraph) for subgraph in library.values())


def constants(graph: Graph) -> Counter[AttributeValue]:
    return Counter(value for node in graph.nodes if node.op == "constant" for _, value in node.attributes[2:])


def test_fold_passes_no_constant_or_broadcast_to_a_call_that_all_its_calls_share() -> None:
    folded, library = check_fold(gpt_step(6, dropout=False))
    made = [("", 0)] * len(folded.inputs)
    for node in folded.nodes:
        made += [(node.op, place) for place in range(node.results)]
    passed = {made[value][0] for node in folded.nodes if node.op == CALL for value in node.operands}
    assert CALL in passed
    assert not passed & {"constant", "iota", "broadcast_in_dim"}
    assert all(constants(library[node.callee]) for node in folded.nodes if node.callee is not None)


@pytest.mark.parametrize(("size", "copies"), [(16, 2), (17, 1)])
def test_fold_repeats_constants_of_up_to_64_bytes(size: int, copies: int) -> None:
    build = GraphBuilder()
    table = build.constant(np.arange(size, dtype=np.float32))
    x = y = build.input("x", TensorType("f32", (size,)))
    for _ in range(20):
        for name in ("mul", "add", "sub", "div", "max", "min"):
            x = build.op(name, x, table)
        x = build.op("exp", x)
    build.output("x", x)
    build.output("y", build.op("add", y, table))
    folded, library = check_fold(build.build())
    assert library
    assert sum(sum(constants(graph).values()) for graph in (folded, *library.values())) == copies


def test_fold_does_not_depend_on_input_names_that_keep_their_order() -> None:
    graph = gpt_step(5)
    renamed = Graph(
        tuple((f"a/{name}", tensor) for name, tensor in graph.inputs),
        graph.nodes,
        tuple((f"b/{name}", value) for name, value in graph.outputs),
    )
    folded, library = fold(graph)
    other, others = fold(renamed)
    assert (others, other.nodes) == (library, folded.nodes)


def test_fold_is_the_same_in_every_process() -> None:
    program = (
        "from tests.exec.training_graphs import gpt_step\n"
        "from samebits.exec.canonical import graph_address\n"
        "from samebits.exec.folding import fold\n"
        "folded, library = fold(gpt_step(4))\n"
        "print(graph_address(folded), *library)\n"
    )
    found = set()
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=ROOT, check=True, capture_output=True, text=True
        )
        found.add(done.stdout)
    folded, library = fold(gpt_step(4))
    assert found == {" ".join(map(str, (graph_address(folded), *library))) + "\n"}


def long_chain() -> Graph:
    build = GraphBuilder()
    x = build.input("x", F32)
    for _ in range(3000):
        x = build.op("neg", x)
    build.output("y", x)
    return build.build()


def test_fold_of_a_long_chain_nests_calls() -> None:
    folded, library = check_fold(long_chain())
    assert check_graph(folded, library).depth > 1
    assert len(folded.nodes) + sum(len(subgraph.nodes) for subgraph in library.values()) < 150


def test_fold_keeps_to_the_limits_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = long_chain()
    monkeypatch.setattr(folding, "MAX_CALL_DEPTH", 1)
    assert check_graph(*check_fold(graph)).depth == 1
    monkeypatch.setattr(folding, "MAX_LAUNCHES", len(graph.nodes))
    assert fold(graph) == (graph, {})


def test_fold_of_a_captured_perceptron_finds_its_layers() -> None:
    torch = pytest.importorskip("torch")
    from samebits.exec.training import training_job

    class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.shift = (torch.nn.Parameter(torch.full((8,), value)) for value in (1.0, 0.0))
            self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)

        def forward(self, x: Any) -> Any:
            y = x - x.mean(1, keepdim=True)
            y = y / torch.sqrt((y * y).mean(1, keepdim=True) + 1e-5) * self.scale + self.shift
            return x + self.down(torch.tanh(self.up(y)))

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), *(Block() for _ in range(7)), torch.nn.Linear(8, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    data = {"x": torch.rand(32, 4), "y": torch.arange(32) % 3}
    job = training_job(step, model=model, optimizer=optimizer, data=data, batch_size=8, steps=2)
    folded = parse_graph(job.nodes[job.spec.step])
    calls = Counter(node.callee for node in folded.nodes if node.op == CALL)
    assert sorted(calls.values())[-2:] == [7, 7]
