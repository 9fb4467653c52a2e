"""Plan a graph: the launches in order, and after which launch each value is no longer needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samebits.cas import Digest
from samebits.exec.graph import CALL, EMPTY_LIBRARY, Graph, GraphLibrary, check_graph
from samebits.kernels.types import TensorType


@dataclass(frozen=True, slots=True)
class Launch:
    """One operation on numbered values; `release` lists the values whose last use this is."""

    op: str
    operands: tuple[int, ...]
    results: tuple[int, ...]
    attributes: dict[str, Any]
    release: tuple[int, ...]
    node: str  # where it stands in the graph: "12", or "3/7" for node 7 of the graph that node 3 calls


@dataclass(frozen=True, slots=True)
class Plan:
    """What a device compiles: named inputs, launches in order, named outputs, the number of values."""

    inputs: tuple[tuple[str, TensorType], ...]
    launches: tuple[Launch, ...]
    outputs: tuple[tuple[str, int], ...]
    values: int


def plan_graph(graph: Graph, library: GraphLibrary = EMPTY_LIBRARY) -> Plan:
    """Return the plan of a graph, calls laid out inline; raises GraphError if the graph is malformed."""
    check_graph(graph, library)
    flat = _Flattener(library)
    values = [flat.new_value() for _ in graph.inputs]
    flat.add(graph, values, "")
    outputs = tuple((name, values[value]) for name, value in graph.outputs)
    kept = {value for _, value in outputs}
    last_use: dict[int, int] = {}
    for position, (_, operands, results, _, _) in enumerate(flat.launches):
        last_use |= dict.fromkeys((*operands, *results), position)
    release: list[list[int]] = [[] for _ in flat.launches]
    for value, position in last_use.items():
        if value not in kept and value >= len(graph.inputs):
            release[position].append(value)
    launches = tuple(
        Launch(op, operands, results, attributes, tuple(sorted(free)), where)
        for (op, operands, results, attributes, where), free in zip(flat.launches, release, strict=True)
    )
    return Plan(graph.inputs, launches, outputs, flat.values)


class _Flattener:
    """Numbers the values of a graph and of every graph it calls."""

    def __init__(self, library: GraphLibrary) -> None:
        self._library = library
        self.launches: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any], str]] = []
        self.values = 0

    def new_value(self) -> int:
        self.values += 1
        return self.values - 1

    def add(self, graph: Graph, values: list[int], prefix: str) -> None:
        """Append the launches of `graph`; `values` maps its value numbers, and grows by the results."""
        for position, node in enumerate(graph.nodes):
            operands = tuple(values[operand] for operand in node.operands)
            if node.op == CALL:
                values.extend(self._inline(node.callee, list(operands), f"{prefix}{position}/"))
                continue
            result = self.new_value()
            values.append(result)
            self.launches.append((node.op, operands, (result,), dict(node.attributes), f"{prefix}{position}"))

    def _inline(self, callee: Digest | None, values: list[int], prefix: str) -> list[int]:
        if callee is None:
            raise AssertionError("a checked call names a graph")
        graph = self._library[callee]
        self.add(graph, values, prefix)
        return [values[value] for _, value in graph.outputs]
