"""Canonical graphs: structurally equal DAGs become one graph with one address.

Equal subexpressions are shared, dead nodes are gone, and nodes stand in the order in which a depth-first walk from
the outputs (in the order of their names, operands left to right) finishes them. Nothing algebraic: a+b and b+a differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise, takewhile
from typing import Final

from samebits.cas import Digest, Node, node_address
from samebits.cas.encoding import Value
from samebits.exec.errors import GraphError
from samebits.exec.graph import (
    CALL,
    EMPTY_LIBRARY,
    MAX_NODES,
    MAX_OPERANDS,
    Graph,
    GraphLibrary,
    GraphNode,
    check_graph,
)
from samebits.kernels.types import AttributeValue, TensorType

GRAPH_KIND = "graph"
MAX_NAMES_LENGTH: Final = 1 << 26  # characters of all names of inputs, or of outputs, which few bytes can stand for


def canonicalize(graph: Graph, library: GraphLibrary = EMPTY_LIBRARY) -> Graph:
    """Return the canonical form of a graph; raises GraphError if it is malformed."""
    typed = check_graph(graph, library)
    first_node_value = len(graph.inputs)
    defined_by = {value: i for i, values in enumerate(typed.results) for value in values}
    number = {value: value for value in range(first_node_value)}  # old value number -> new one
    nodes: list[GraphNode] = []
    shared: dict[GraphNode, int] = {}  # node in new numbers -> number of its first result
    count = first_node_value
    for _, output in graph.outputs:
        pending = [output]
        while pending:
            value = pending[-1]
            if value in number:
                pending.pop()
                continue
            old = graph.nodes[defined_by[value]]
            missing = [operand for operand in reversed(old.operands) if operand not in number]
            if missing:
                pending.extend(missing)
                continue
            node = replace(old, operands=tuple(number[operand] for operand in old.operands))
            results = typed.results[defined_by[value]]
            if node not in shared:
                shared[node] = count
                nodes.append(node)
                count += len(results)
            number |= {result: shared[node] + offset for offset, result in enumerate(results)}
    outputs = tuple((name, number[value]) for name, value in graph.outputs)
    return Graph(graph.inputs, tuple(nodes), outputs)


def graph_node(graph: Graph) -> Node:
    """Return a canonical graph as a node of the store.

    Example: y = a + a of f32[2] is ``["graph", {"inputs": [[[0, "a"]], [["f32", [2]]]], "nodes": [["add", [1, 1]]],
    "outputs": [[[0, "y"]], [1]]}]``: names and types of the inputs, names and values of the outputs; attributes follow
    the operands as a map, a call's graph as an address, and then the number of its results. Written so that what
    repeats packs well: a name as `_shorten` has it, an operand as `_Distances` has it, an output as the difference to
    the output before it.
    """
    nodes: list[Value] = []
    distances = _Distances(len(graph.inputs))
    for node in graph.nodes:
        encoded: list[Value] = [node.op, list(distances.convert(node.operands, node.callee, -1))]
        if node.callee is not None:
            encoded.extend((node.callee, node.results))
        elif node.attributes:
            encoded.append({name: _thaw(value) for name, value in node.attributes})
        nodes.append(encoded)
        distances.pass_node(node)
    types: list[Value] = [[tensor.dtype, list(tensor.shape)] for _, tensor in graph.inputs]
    values = [value for _, value in graph.outputs]
    steps: list[Value] = [value - before for before, value in pairwise([0, *values])]
    inputs: list[Value] = [_shorten([name for name, _ in graph.inputs]), types]
    outputs: list[Value] = [_shorten([name for name, _ in graph.outputs]), steps]
    return Node(GRAPH_KIND, {"inputs": inputs, "nodes": nodes, "outputs": outputs})


class _Distances:
    """How operands are written: an operand by how far before the first result of its node it stands.

    In a call of a graph that was called before, each is written by how far after the same operand of the call before.
    """

    def __init__(self, inputs: int) -> None:
        self._first = inputs  # result of the node
        self._calls: dict[Digest, tuple[int, ...]] = {}  # the operands of the last call of each graph

    def convert(self, numbers: Sequence[int], callee: Digest | None, sign: int) -> tuple[int, ...]:
        """Return values for what is written (sign 1), or what is written for values (sign -1)."""
        before = None if callee is None else self._calls.get(callee)
        if before is None or len(before) != len(numbers):  # check_graph refuses other numbers of operands
            return tuple(self._first - number for number in numbers)
        return tuple(number + sign * value for number, value in zip(numbers, before, strict=True))

    def pass_node(self, node: GraphNode) -> None:
        """Go on to the node after a node."""
        self._first += node.results
        if node.callee is not None:
            self._calls[node.callee] = node.operands


def _shorten(names: Sequence[str]) -> list[Value]:
    """Return each name as [how many of its first characters the name before it has too, the other characters]."""
    shortened: list[Value] = []
    for before, name in pairwise(["", *names]):
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, name, strict=False)))
        shortened.append([shared, name[shared:]])
    return shortened


def graph_address(graph: Graph) -> Digest:
    """Return the address of a canonical graph."""
    return node_address(graph_node(graph))


def read_graph(node: Node, library: GraphLibrary = EMPTY_LIBRARY) -> Graph:
    """Return the graph in a node; raises GraphError if it is malformed or not canonical."""
    graph = parse_graph(node)
    if canonicalize(graph, library) != graph:
        raise GraphError("the graph is not in canonical form (dead or repeated nodes, or another order)")
    return graph


def parse_graph(node: Node) -> Graph:
    """Return the graph in a node, its form checked but not its types: the graphs it calls may be elsewhere."""
    if node.kind != GRAPH_KIND:
        raise GraphError(f"not a graph but a {node.kind}")
    if set(node.body) != {"inputs", "nodes", "outputs"}:
        raise GraphError("a graph has the fields inputs, nodes and outputs")
    check_extent(node)
    inputs = []
    for name, item in _named(node.body["inputs"], "inputs"):
        match item:
            case [str() as dtype, [*shape]]:
                inputs.append((name, TensorType(dtype, tuple(_integer(size, f"input {name!r}") for size in shape))))
            case _:
                raise GraphError("the type of an input is [dtype, shape]")
    nodes: list[GraphNode] = []
    distances = _Distances(len(inputs))
    for position, item in enumerate(_items(node.body["nodes"], "nodes")):
        written = _parse_node(item, f"node {position}")
        nodes.append(replace(written, operands=distances.convert(written.operands, written.callee, 1)))
        distances.pass_node(nodes[-1])
    steps = [(name, _integer(step, f"output {name!r}")) for name, step in _named(node.body["outputs"], "outputs")]
    values = accumulate(step for _, step in steps)
    outputs = tuple((name, value) for (name, _), value in zip(steps, values, strict=True))
    return Graph(tuple(inputs), tuple(nodes), outputs)


def check_extent(node: Node) -> None:
    """Raise GraphError for the node of a graph that has too much of something, before anything is made of it."""
    items = node.body.get("nodes")
    nodes = items if isinstance(items, list) else []
    if len(nodes) > MAX_NODES:
        raise GraphError(f"a graph of {len(nodes)} nodes; the most is {MAX_NODES}, repeat what repeats by calls")
    for name in ("inputs", "outputs"):
        match node.body.get(name):
            case [[*names], _] if len(names) > MAX_NODES:
                raise GraphError(f"a graph of {len(names)} {name}; the most is {MAX_NODES}")
    operands = 0
    for position, item in enumerate(nodes):
        match item:
            case [_, list() as given, *_]:
                operands += len(given)
        if operands > MAX_OPERANDS:
            raise GraphError(f"node {position}: a graph of more than {MAX_OPERANDS} operands")


def _parse_node(item: Value, where: str) -> GraphNode:
    """Return a node with its operands as they are written."""
    if isinstance(item, list) and item and isinstance(item[0], str) and not item[0].isprintable():
        raise GraphError(f"{where}: the operation {item[0][:80]!r} is unprintable")
    match item:
        case [str() as op, [*operands]]:
            return GraphNode(op, tuple(_integer(operand, where) for operand in operands))
        case [str() as op, [*operands], Digest() as callee, results] if op == CALL:
            count = _integer(results, where)
            if count < 1:
                raise GraphError(f"{where}: a call with {count} results")
            return GraphNode(op, tuple(_integer(operand, where) for operand in operands), (), callee, count)
        case [str() as op, [*operands], dict() as attributes] if attributes:
            frozen = tuple((name, _freeze(value, where)) for name, value in attributes.items())
            return GraphNode(op, tuple(_integer(operand, where) for operand in operands), frozen)
        case _:
            forms = "[op, operands], [op, operands, attributes] or [call, operands, graph, results]"
            raise GraphError(f"{where} is not {forms}")


def _named(value: Value, what: str) -> list[tuple[str, Value]]:
    """Return the pairs of [[shortened name, ...], [item, ...]]."""
    match value:
        case [[*shortened], [*items]] if len(shortened) == len(items):
            return list(zip(_lengthen(shortened, what), items, strict=True))
        case _:
            raise GraphError(f"{what} are not [names, as many items]")


def _lengthen(shortened: list[Value], what: str) -> list[str]:
    """Return the names that `_shorten` made short; raises GraphError for what it does not make."""
    names, length = [""], 0
    for entry in shortened:
        match entry:
            case [int() as shared, str() as rest] if not isinstance(shared, bool) and shared >= 0:
                names.append(names[-1][:shared] + rest)
            case _:
                raise GraphError(f"a name of {what} is not [shared characters, other characters]")
        length += len(names[-1])
        if length > MAX_NAMES_LENGTH:
            raise GraphError(f"the names of {what} have more than {MAX_NAMES_LENGTH} characters")
    if _shorten(names[1:]) != shortened:
        raise GraphError(f"the names of {what} are not as short as they can be")
    return names[1:]


def _items(value: Value, name: str) -> list[Value]:
    if not isinstance(value, list):
        raise GraphError(f"{name} is not a list")
    return value


def _integer(value: Value, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise GraphError(f"{where}: {repr(value)[:80]} is not an integer")
    return value


def _freeze(value: Value, where: str) -> AttributeValue:
    if isinstance(value, list):
        return tuple(_freeze(item, where) for item in value)
    if value is None or isinstance(value, bool | int | str | bytes):
        return value
    raise GraphError(f"{where}: an attribute can't be a {type(value).__name__}")


def _thaw(value: AttributeValue) -> Value:
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value
