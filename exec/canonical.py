"""Canonical graphs: structurally equal DAGs become one graph with one address.

Equal subexpressions are shared, dead nodes are gone, and nodes stand in the order in which a depth-first walk from
the outputs (in the order of their names, operands left to right) finishes them. Nothing algebraic: a+b and b+a differ.
"""

from __future__ import annotations

from samebits.cas import Digest, Node, node_address
from samebits.cas.encoding import Value
from samebits.exec.errors import GraphError
from samebits.exec.graph import CALL, EMPTY_LIBRARY, Graph, GraphLibrary, GraphNode, check_graph
from samebits.kernels.types import AttributeValue, TensorType

GRAPH_KIND = "graph"


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
            node = GraphNode(old.op, tuple(number[operand] for operand in old.operands), old.attributes, old.callee)
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

    Example: y = a + a of f32[2] is ``["graph", {"inputs": [["a"], [["f32", [2]]]], "nodes": [["add", [0, 0]]],
    "outputs": [["y"], [1]]}]``: names and types of the inputs, names and values of the outputs; attributes follow the
    operands as a map, a call's graph as an address. (A step has hundreds of inputs and outputs of the same names. Names
    in one piece pack well.)
    """
    nodes: list[Value] = []
    for node in graph.nodes:
        encoded: list[Value] = [node.op, list(node.operands)]
        if node.callee is not None:
            encoded.append(node.callee)
        elif node.attributes:
            encoded.append({name: _thaw(value) for name, value in node.attributes})
        nodes.append(encoded)
    types: list[Value] = [[tensor.dtype, list(tensor.shape)] for _, tensor in graph.inputs]
    inputs: list[Value] = [[name for name, _ in graph.inputs], types]
    outputs: list[Value] = [[name for name, _ in graph.outputs], [value for _, value in graph.outputs]]
    return Node(GRAPH_KIND, {"inputs": inputs, "nodes": nodes, "outputs": outputs})


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
    inputs = []
    for name, item in _named(node.body["inputs"], "inputs"):
        match item:
            case [str() as dtype, [*shape]]:
                inputs.append((name, TensorType(dtype, tuple(_integer(size, f"input {name!r}") for size in shape))))
            case _:
                raise GraphError("the type of an input is [dtype, shape]")
    nodes = [_parse_node(item, i) for i, item in enumerate(_items(node.body["nodes"], "nodes"))]
    outputs = [(name, _integer(value, f"output {name!r}")) for name, value in _named(node.body["outputs"], "outputs")]
    return Graph(tuple(inputs), tuple(nodes), tuple(outputs))


def _parse_node(item: Value, position: int) -> GraphNode:
    where = f"node {position}"
    if isinstance(item, list) and item and isinstance(item[0], str) and not item[0].isprintable():
        raise GraphError(f"{where}: the operation {item[0][:80]!r} is unprintable")
    match item:
        case [str() as op, [*operands]]:
            return GraphNode(op, tuple(_integer(operand, where) for operand in operands))
        case [str() as op, [*operands], Digest() as callee] if op == CALL:
            return GraphNode(op, tuple(_integer(operand, where) for operand in operands), (), callee)
        case [str() as op, [*operands], dict() as attributes] if attributes:
            frozen = tuple((name, _freeze(value, where)) for name, value in attributes.items())
            return GraphNode(op, tuple(_integer(operand, where) for operand in operands), frozen)
        case _:
            raise GraphError(f"{where} is not [op, operands], [op, operands, attributes] or [call, operands, graph]")


def _named(value: Value, what: str) -> list[tuple[str, Value]]:
    """Return the pairs of [[name, ...], [item, ...]]."""
    match value:
        case [[*names], [*items]] if len(names) == len(items) and all(isinstance(name, str) for name in names):
            return list(zip([str(name) for name in names], items, strict=True))
        case _:
            raise GraphError(f"{what} are not [names, as many items]")


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
