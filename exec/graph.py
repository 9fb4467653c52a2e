"""A graph: a static, pure DAG of operations over typed tensors.

Values are numbered: first the inputs in the order of their names, then the results of the nodes, one after another.
A node names its operands by these numbers. The node `call` runs another graph, which it names by address: its
operands are that graph's inputs, its results that graph's outputs, both in the order of their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from samebits.cas import CasError, Digest
from samebits.exec.errors import GraphError
from samebits.kernels.errors import KernelError
from samebits.kernels.inference import check_type
from samebits.kernels.optable import find_op
from samebits.kernels.types import AttributeValue, TensorType

CALL: Final = "call"
MAX_LAUNCHES: Final = 1_000_000  # of a graph with every call laid out inline
MAX_CALL_DEPTH: Final = 64
MAX_NODES: Final = 1 << 17  # of a stored graph and every graph that it calls; inputs and outputs of each as well
MAX_OPERANDS: Final = 1 << 18  # of all nodes of a stored graph


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One operation on earlier values. `callee` is the graph that a `call` runs, None otherwise."""

    op: str
    operands: tuple[int, ...]
    attributes: tuple[tuple[str, AttributeValue], ...] = ()  # in the order of their names
    callee: Digest | None = None
    results: int = 1  # the outputs of the callee, 1 otherwise


@dataclass(frozen=True, slots=True)
class Graph:
    """Named inputs, nodes in an order in which each follows its operands, named outputs."""

    inputs: tuple[tuple[str, TensorType], ...]  # in the order of their names
    nodes: tuple[GraphNode, ...]
    outputs: tuple[tuple[str, int], ...]  # in the order of their names; value numbers


# The graphs that calls refer to, by address.
GraphLibrary = Mapping[Digest, Graph]
EMPTY_LIBRARY: Final[GraphLibrary] = {}


@dataclass(frozen=True, slots=True)
class TypedGraph:
    """A validated graph with the type of each value, and of each output by name."""

    graph: Graph
    types: tuple[TensorType, ...]  # of every value, by number
    results: tuple[tuple[int, ...], ...]  # value numbers that each node defines
    outputs: Mapping[str, TensorType] = field(default_factory=dict)
    launches: int = 0  # calls laid out inline; a call itself counts as one, and one for each of its results
    depth: int = 0  # calls within calls


def check_graph(
    graph: Graph, library: GraphLibrary = EMPTY_LIBRARY, known: dict[Digest, TypedGraph] | None = None
) -> TypedGraph:
    """Infer the type of every value; raises GraphError naming the node, input or output that is wrong.

    `known` collects every graph that is called, each checked once however often it is called.
    """
    return _check(graph, library, {} if known is None else known, 0)


def _check(graph: Graph, library: GraphLibrary, known: dict[Digest, TypedGraph], depth: int) -> TypedGraph:
    if depth > MAX_CALL_DEPTH:
        raise GraphError(f"calls are nested more than {MAX_CALL_DEPTH} deep")
    for node in graph.nodes:
        if node.op == CALL and node.callee is not None and node.callee in library and node.callee not in known:
            known[node.callee] = _check(library[node.callee], library, known, depth + 1)
    try:
        return _infer_graph(graph, known)
    except GraphError as error:
        if depth == 0:
            raise
        raise GraphError(f"a called graph: {error}") from error


def _infer_graph(graph: Graph, known: Mapping[Digest, TypedGraph]) -> TypedGraph:
    _check_names("input", [name for name, _ in graph.inputs])
    _check_names("output", [name for name, _ in graph.outputs])
    types = [_check_input(name, tensor) for name, tensor in graph.inputs]
    results: list[tuple[int, ...]] = []
    launches = depth = 0
    for position, node in enumerate(graph.nodes):
        for operand in node.operands:
            if not 0 <= operand < len(types):
                raise GraphError(f"node {position} ({node.op}): operand {operand} is not an earlier value")
        try:
            new = _infer(node, tuple(types[operand] for operand in node.operands), known)
        except (KernelError, GraphError) as error:
            raise GraphError(f"node {position}: {error}") from error
        launches += 1
        if node.callee is not None:
            launches += len(new) + known[node.callee].launches
            depth = max(depth, 1 + known[node.callee].depth)
        _check_extent(position, launches, depth)
        results.append(tuple(range(len(types), len(types) + len(new))))
        types.extend(new)
    for name, value in graph.outputs:
        if not 0 <= value < len(types):
            raise GraphError(f"output {name!r}: there is no value {value}")
    outputs = {name: types[value] for name, value in graph.outputs}
    return TypedGraph(graph, tuple(types), tuple(results), outputs, launches, depth)


def _check_input(name: str, tensor: TensorType) -> TensorType:
    try:
        return check_type(f"input {name!r}", tensor)
    except KernelError as error:
        raise GraphError(str(error)) from error
    except CasError as error:  # an unknown element type
        raise GraphError(f"input {name!r}: {error}") from error


def _check_extent(position: int, launches: int, depth: int) -> None:
    if launches > MAX_LAUNCHES:
        raise GraphError(f"node {position}: more than {MAX_LAUNCHES} launches with every call laid out inline")
    if depth > MAX_CALL_DEPTH:
        raise GraphError(f"node {position}: calls are nested more than {MAX_CALL_DEPTH} deep")


def _infer(
    node: GraphNode, operands: tuple[TensorType, ...], known: Mapping[Digest, TypedGraph]
) -> tuple[TensorType, ...]:
    if node.op != CALL:
        if node.callee is not None:
            raise GraphError(f"{node.op} names a graph, only call does")
        if node.results != 1:
            raise GraphError(f"{node.op} has 1 result, not {node.results}")
        op = find_op(node.op)
        given = dict(node.attributes)
        if tuple(sorted(given.items())) != node.attributes or op.check_attributes(given) != given:
            raise GraphError(f"{node.op}: attributes are not complete and in the order of their names")
        return (op.infer(operands, given),)
    if node.callee is None or node.attributes:
        raise GraphError("call: wants the address of a graph and no attributes")
    if node.callee not in known:
        raise GraphError(f"call: graph {node.callee} is missing")
    callee = known[node.callee]
    wanted = tuple(tensor for _, tensor in callee.graph.inputs)
    if operands != wanted:
        raise GraphError(f"call: operands {_list(operands)} do not fit the inputs {_list(wanted)} of {node.callee}")
    if len(callee.outputs) != node.results:
        raise GraphError(f"call: graph {node.callee} has {len(callee.outputs)} outputs, not {node.results}")
    return tuple(callee.outputs.values())


def _check_names(what: str, names: list[str]) -> None:
    for name in names:
        if not name or not name.isprintable():
            raise GraphError(f"{what} name {name!r} is empty or unprintable")
    ordered = sorted(names, key=str.encode)
    for name, following in pairwise(ordered):
        if name == following:
            raise GraphError(f"{what} {name!r} occurs twice")
    if names != ordered:
        raise GraphError(f"{what}s are not in the order of their names")


def _list(types: tuple[TensorType, ...]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"
