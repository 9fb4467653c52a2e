"""Fold a graph: structure that repeats becomes a subgraph, stored once and called wherever it occurs.

The nodes are put in an order in which layers of one kind are runs that match (`repeats.py`). Such runs are replaced by
calls, the most saving first, again and again, within subgraphs as well, until nothing is saved. Constants and
broadcasts are repeated in each subgraph that needs them (`items.py`), and nothing else: with every call laid out inline
and equal nodes shared the graph is the same as before.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from samebits.cas import Digest
from samebits.exec.canonical import canonicalize, graph_address
from samebits.exec.graph import CALL, MAX_CALL_DEPTH, MAX_LAUNCHES, Graph, GraphNode, TypedGraph, check_graph
from samebits.exec.items import BROADCAST, Attributes, Source, list_items
from samebits.exec.repeats import Item, Repeat, find_repeats, outside_values
from samebits.kernels.types import TensorType

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_MAIN: Final = 0  # the body of the graph itself


@dataclass(frozen=True, slots=True)
class _Body:
    """A graph while it is folded."""

    inputs: tuple[int, ...]  # values
    items: tuple[Item, ...]
    outputs: tuple[int, ...]  # values


def fold(graph: Graph) -> tuple[Graph, dict[Digest, Graph]]:
    """Return an equivalent canonical graph that calls subgraphs for what repeats, and these by address.

    The result depends on the DAG and its names alone. A graph without repeats comes back as its canonical form.
    Raises GraphError if the graph is malformed or calls other graphs.
    """
    typed = check_graph(canonicalize(graph))
    folding = _Folding(typed)
    folding.run()
    return folding.build()


class _Folding:
    """The bodies of a graph and its subgraphs, and what their values and tokens stand for."""

    def __init__(self, typed: TypedGraph) -> None:
        self._graph = typed.graph
        self._types = list(typed.types)  # of every value
        listed = list_items(typed)
        self._operations = listed.operations  # by token
        self._constants = listed.constants  # by value
        self._outputs = listed.outputs
        self._callees: dict[int, int] = {}  # body, by token
        inputs = tuple(range(len(typed.graph.inputs)))
        self._bodies = {_MAIN: _Body(inputs, listed.items, tuple(value for value, _ in listed.outputs))}
        self._built: dict[int, Digest] = {}
        self._library: dict[Digest, Graph] = {}

    def run(self) -> None:
        """Replace what repeats until nothing is saved, or until calls would reach a limit of the graph."""
        while True:
            items: list[Item] = []
            ends: dict[int, int] = {}  # body, by the place of the item that stands for its end
            for body in sorted(self._bodies):
                items.extend(self._bodies[body].items)
                ends[len(items)] = body
                items.append(Item(self._new_token(len(ends)), self._bodies[body].outputs, ()))
            repeats = find_repeats(items, self._constants)
            before = dict(self._bodies)
            self._replace(items, ends, repeats)
            launches, depth = self._extent(_MAIN, {})
            if launches > MAX_LAUNCHES or depth > MAX_CALL_DEPTH:
                self._bodies = before
                return
            if not repeats:
                return

    def _new_token(self, ahead: int = 0) -> int:
        return len(self._operations) + len(self._callees) + ahead

    def _replace(self, items: Sequence[Item], ends: dict[int, int], repeats: Sequence[Repeat]) -> None:
        """Make each repeat a body, and its windows calls of it."""
        calls: dict[int, tuple[Item, int]] = {}  # call and length, by the place where a window starts
        for repeat in repeats:
            token = self._new_token()
            self._callees[token] = max(self._bodies) + 1
            windows = [items[start : start + repeat.length] for start in repeat.starts]
            operands = _arguments(windows, self._constants)
            self._bodies[self._callees[token]] = self._copy(windows[0], operands[0], repeat.outputs)
            for start, window, values in zip(repeat.starts, windows, operands, strict=True):
                results = tuple(window[offset].results[slot] for offset, slot in repeat.outputs)
                calls[start] = Item(token, values, results), repeat.length
        place, new = 0, list[Item]()
        while place < len(items):
            if place in ends:
                body = self._bodies[ends[place]]
                self._bodies[ends[place]] = _Body(body.inputs, tuple(new), body.outputs)
                place, new = place + 1, []
            else:
                item, length = calls.get(place, (items[place], 1))
                new.append(item)
                place += length

    def _copy(self, window: Sequence[Item], inputs: Sequence[int], outputs: Sequence[tuple[int, int]]) -> _Body:
        """Return a window as a body with values of its own."""
        fresh: dict[int, int] = {}
        for value in (*inputs, *(value for item in window for value in item.results)):
            fresh[value] = len(self._types)
            self._types.append(self._types[value])
        items = tuple(
            Item(item.token, tuple(fresh.get(v, v) for v in item.operands), tuple(fresh[v] for v in item.results))
            for item in window
        )
        results = tuple(items[offset].results[slot] for offset, slot in outputs)
        return _Body(tuple(fresh[value] for value in inputs), items, results)

    def _extent(self, body: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
        """Return the depth of a body, and at least the launches, as `check_graph` counts them."""
        if body not in known:
            launches, depth = len(self._bodies[body].outputs), 0
            for item in self._bodies[body].items:
                launches += 1 + sum(value in self._constants for value in item.operands)
                if item.token in self._callees:
                    below = self._extent(self._callees[item.token], known)
                    launches, depth = launches + len(item.results) + below[0], max(depth, 1 + below[1])
                else:
                    launches += sum(broadcast is not None for broadcast in self._operations[item.token].broadcasts)
            known[body] = launches, depth
        return known[body]

    def build(self) -> tuple[Graph, dict[Digest, Graph]]:
        """Return the folded graph and its subgraphs."""
        names = [name for name, _ in self._graph.outputs]
        return self._build_graph(self._bodies[_MAIN], self._graph.inputs, names, self._outputs), self._library

    def _build_body(self, number: int) -> Digest:
        if number not in self._built:
            body = self._bodies[number]
            types = [self._types[value] for value in body.inputs]
            inputs = tuple(zip(_names(len(types)), types, strict=True))
            graph = self._build_graph(
                body, inputs, _names(len(body.outputs)), [(value, None) for value in body.outputs]
            )
            self._built[number] = graph_address(graph)
            self._library[self._built[number]] = graph
        return self._built[number]

    def _build_graph(
        self, body: _Body, inputs: tuple[tuple[str, TensorType], ...], names: Sequence[str], outputs: Sequence[Source]
    ) -> Graph:
        nodes = _NodeList(body.inputs, self._constants)
        for item in body.items:
            if item.token in self._callees:
                operands = tuple(nodes.find(value) for value in item.operands)
                callee = self._build_body(self._callees[item.token])
                nodes.append(GraphNode(CALL, operands, (), callee, len(item.results)), item.results)
            else:
                do = self._operations[item.token]
                operands = tuple(nodes.find(*source) for source in zip(item.operands, do.broadcasts, strict=True))
                nodes.append(GraphNode(do.op, operands, do.attributes), item.results)
        results = tuple((name, nodes.find(*source)) for name, source in zip(names, outputs, strict=True))
        return canonicalize(Graph(inputs, tuple(nodes.nodes), results), self._library)


class _NodeList:
    """The nodes of a graph under construction, among them the constants and broadcasts that the others need."""

    def __init__(self, inputs: Sequence[int], constants: Mapping[int, GraphNode]) -> None:
        self.nodes: list[GraphNode] = []
        self._constants = constants
        self._numbers = {value: number for number, value in enumerate(inputs)}  # of each value in the new graph
        self._count = len(inputs)

    def append(self, node: GraphNode, results: Sequence[int]) -> None:
        """Append a node that defines values."""
        self._numbers |= {value: self._count + offset for offset, value in enumerate(results)}
        self.nodes.append(node)
        self._count += node.results

    def find(self, value: int, broadcast: Attributes | None = None) -> int:
        """Return the number of a value, or of its broadcast, which is appended, as a new constant is."""
        if value not in self._numbers:
            self.append(self._constants[value], (value,))
        if broadcast is None:
            return self._numbers[value]
        self.append(GraphNode(BROADCAST, (self._numbers[value],), broadcast), ())
        return self._count - 1


def _arguments(windows: Sequence[Sequence[Item]], constants: Container[int]) -> list[tuple[int, ...]]:
    """Return what each of some matching windows uses from outside: what all share, then the rest by first use.

    A constant that all use is no argument.
    """
    outside = [outside_values(window) for window in windows]
    differ = [len(set(values)) > 1 for values in zip(*outside, strict=True)]
    wanted = [i for i, value in enumerate(outside[0]) if differ[i] or value not in constants]
    order = sorted(wanted, key=differ.__getitem__)
    return [tuple(values[i] for i in order) for values in outside]


def _names(count: int) -> list[str]:
    """Return short names in their order: 0, 1, ... z, or 00, 01, ... where there are more than 36."""
    width = 1
    while len(_DIGITS) ** width < count:
        width += 1
    return [
        "".join(_DIGITS[i // len(_DIGITS) ** k % len(_DIGITS)] for k in reversed(range(width))) for i in range(count)
    ]
