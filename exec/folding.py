"""Fold a graph: structure that repeats becomes a subgraph, stored once and called wherever it occurs.

The nodes are put in an order in which layers of one kind are runs that match (`repeats.py`). Such runs are replaced by
calls, the most saving first, again and again, within subgraphs as well, until nothing is saved. No node is duplicated
or lost: with every call laid out inline the graph is the same as before.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from samebits.cas import Digest
from samebits.exec.canonical import canonicalize, graph_address
from samebits.exec.graph import CALL, MAX_CALL_DEPTH, MAX_LAUNCHES, Graph, GraphNode, TypedGraph, check_graph
from samebits.exec.repeats import Item, Repeat, find_repeats, outside_values
from samebits.kernels.types import AttributeValue, TensorType

_Operation: TypeAlias = tuple[str, tuple[tuple[str, AttributeValue], ...]]
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
        self._operations: dict[int, _Operation] = {}  # by token
        self._callees: dict[int, int] = {}  # body, by token
        inputs = tuple(range(len(typed.graph.inputs)))
        self._bodies = {_MAIN: _Body(inputs, self._list_items(typed), tuple(v for _, v in typed.graph.outputs))}
        self._built: dict[int, Digest] = {}
        self._library: dict[Digest, Graph] = {}

    def _list_items(self, typed: TypedGraph) -> tuple[Item, ...]:
        tokens: dict[object, int] = {}
        items: list[Item] = []
        for place in _order(typed):
            node = typed.graph.nodes[place]
            key = (node.op, node.attributes, tuple(typed.types[value] for value in node.operands))
            token = tokens.setdefault(key, len(tokens))
            self._operations[token] = (node.op, node.attributes)
            items.append(Item(token, node.operands, typed.results[place]))
        return tuple(items)

    def run(self) -> None:
        """Replace what repeats until nothing is saved, or until calls would reach a limit of the graph."""
        while True:
            items: list[Item] = []
            ends: dict[int, int] = {}  # body, by the place of the item that stands for its end
            for body in sorted(self._bodies):
                items.extend(self._bodies[body].items)
                ends[len(items)] = body
                items.append(Item(self._new_token(len(ends)), self._bodies[body].outputs, ()))
            repeats = find_repeats(items)
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
            operands = _arguments(windows)
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
            Item(item.token, tuple(fresh[v] for v in item.operands), tuple(fresh[v] for v in item.results))
            for item in window
        )
        results = tuple(items[offset].results[slot] for offset, slot in outputs)
        return _Body(tuple(fresh[value] for value in inputs), items, results)

    def _extent(self, body: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
        """Return the launches and the depth of a body as `check_graph` counts them."""
        if body not in known:
            launches = depth = 0
            for item in self._bodies[body].items:
                launches += 1
                if item.token in self._callees:
                    below = self._extent(self._callees[item.token], known)
                    launches, depth = launches + len(item.results) + below[0], max(depth, 1 + below[1])
            known[body] = launches, depth
        return known[body]

    def build(self) -> tuple[Graph, dict[Digest, Graph]]:
        """Return the folded graph and its subgraphs."""
        main = self._bodies[_MAIN]
        inputs, nodes, numbers = self._graph.inputs, *self._build_nodes(main)
        outputs = tuple((name, numbers[value]) for name, value in self._graph.outputs)
        return canonicalize(Graph(inputs, nodes, outputs), self._library), self._library

    def _build_body(self, number: int) -> Digest:
        if number not in self._built:
            body = self._bodies[number]
            nodes, numbers = self._build_nodes(body)
            inputs: list[tuple[str, TensorType]] = []
            for name, value in zip(_names(len(body.inputs)), body.inputs, strict=True):
                inputs.append((name, self._types[value]))
            outputs = zip(_names(len(body.outputs)), (numbers[value] for value in body.outputs), strict=True)
            graph = canonicalize(Graph(tuple(inputs), nodes, tuple(outputs)), self._library)
            self._built[number] = graph_address(graph)
            self._library[self._built[number]] = graph
        return self._built[number]

    def _build_nodes(self, body: _Body) -> tuple[tuple[GraphNode, ...], dict[int, int]]:
        """Return the nodes of a body, and the number of each value in its graph."""
        numbers = {value: number for number, value in enumerate(body.inputs)}
        nodes: list[GraphNode] = []
        for item in body.items:
            operands = tuple(numbers[value] for value in item.operands)
            if item.token in self._callees:
                nodes.append(GraphNode(CALL, operands, (), self._build_body(self._callees[item.token])))
            else:
                op, attributes = self._operations[item.token]
                nodes.append(GraphNode(op, operands, attributes))
            numbers |= {value: len(numbers) + offset for offset, value in enumerate(item.results)}
        return tuple(nodes), numbers


def _order(typed: TypedGraph) -> list[int]:
    """Return the nodes of a graph without calls, by their places, in an order that keeps layers together.

    First come nodes that only constants and scalar inputs decide: what layers share is then outside all of them, not
    inside the first. Then the spine, in the order in which a walk from the deepest output finishes it: the walk goes
    first to where the longest path leads, so it follows the layers, and what joins from the side comes where it is
    used. What only another output needs, as an update of a weight, is put into the spine as soon as it can be computed.
    """
    inputs = len(typed.graph.inputs)
    depth = [0] * len(typed.types)  # nodes on the longest path to a value
    early = {value for value, (_, tensor) in enumerate(typed.graph.inputs) if not tensor.shape}
    for value, node in enumerate(typed.graph.nodes, inputs):
        depth[value] = 1 + max((depth[operand] for operand in node.operands), default=0)
        if early.issuperset(node.operands):
            early.add(value)
    ready = dict.fromkeys((*range(inputs), *early), -1)  # value -> place in the spine after which it is there
    ordered = [(-1, value - inputs) for value in sorted(early) if value >= inputs]
    spine = True
    for output in sorted((value for _, value in typed.graph.outputs), key=lambda value: -depth[value]):
        new = _walk(typed.graph, output, ready, depth)
        if spine:
            ready |= {value: place for place, value in enumerate(new)}
            spine = not new
        elif new:
            outside = {operand for value in new for operand in typed.graph.nodes[value - inputs].operands} - {*new}
            ready |= dict.fromkeys(new, max(ready[value] for value in outside))
        ordered.extend((ready[value], value - inputs) for value in new)
    return [place for _, place in sorted(ordered, key=lambda pair: pair[0])]


def _walk(graph: Graph, output: int, done: Container[int], depth: Sequence[int]) -> list[int]:
    """Return the values that an output needs and that are not done, operands first, the deepest operand first."""
    found: dict[int, None] = {}
    pending = [output]
    while pending:
        value = pending[-1]
        operands = () if value in done or value in found else graph.nodes[value - len(graph.inputs)].operands
        missing = [operand for operand in reversed(operands) if operand not in done and operand not in found]
        if missing:
            pending.extend(sorted(missing, key=depth.__getitem__))
            continue
        pending.pop()
        if value not in done:
            found[value] = None
    return list(found)


def _arguments(windows: Sequence[Sequence[Item]]) -> list[tuple[int, ...]]:
    """Return what each of some matching windows uses from outside: what all share, then the rest by first use."""
    outside = [outside_values(window) for window in windows]
    differ = [len(set(values)) > 1 for values in zip(*outside, strict=True)]
    order = sorted(range(len(differ)), key=differ.__getitem__)
    return [tuple(values[i] for i in order) for values in outside]


def _names(count: int) -> list[str]:
    """Return short names in their order: 0, 1, ... z, or 00, 01, ... where there are more than 36."""
    width = 1
    while len(_DIGITS) ** width < count:
        width += 1
    return [
        "".join(_DIGITS[i // len(_DIGITS) ** k % len(_DIGITS)] for k in reversed(range(width))) for i in range(count)
    ]
