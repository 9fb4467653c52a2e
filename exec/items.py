"""List what a graph does as items to fold: its operations in an order that keeps layers together.

Small constants and broadcasts take no time, so they are not items: a constant is a value that is there everywhere, and
a broadcast belongs to each operation that uses its result. Every subgraph has the constants and broadcasts it needs.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from samebits.exec.graph import GraphNode, TypedGraph
from samebits.exec.repeats import Item
from samebits.kernels.types import AttributeValue

MAX_CONSTANT_SIZE_BYTES: Final = 64  # of a constant that any subgraph may hold
BROADCAST: Final = "broadcast_in_dim"

Attributes: TypeAlias = tuple[tuple[str, AttributeValue], ...]
Source: TypeAlias = tuple[int, Attributes | None]  # a value, and how it is broadcast (None: it is not)


@dataclass(frozen=True, slots=True)
class Operation:
    """What an item does."""

    op: str
    attributes: Attributes
    broadcasts: tuple[Attributes | None, ...]  # of each operand


@dataclass(frozen=True, slots=True)
class ItemList:
    """A graph as items. Values keep their numbers."""

    items: tuple[Item, ...]
    operations: Mapping[int, Operation]  # by token
    constants: Mapping[int, GraphNode]  # by value
    outputs: tuple[Source, ...]


def list_items(typed: TypedGraph) -> ItemList:
    """Return the items of a graph without calls."""
    constants, sources = _find_sources(typed)
    operands: dict[int, tuple[Source, ...]] = {}  # of each value that is the result of an item
    for value, node in _nodes(typed).items():
        if value not in constants and sources[value] == (value, None):
            operands[value] = tuple(sources[operand] for operand in node.operands)
    outputs = tuple(sources[value] for _, value in typed.graph.outputs)
    needed = {value: tuple(source for source, _ in moved) for value, moved in operands.items()}
    tokens: dict[object, int] = {}
    operations: dict[int, Operation] = {}
    items: list[Item] = []
    for value in _Order(typed, needed, constants).list_values([source for source, _ in outputs]):
        node = typed.graph.nodes[value - len(typed.graph.inputs)]
        operation = Operation(node.op, node.attributes, tuple(broadcast for _, broadcast in operands[value]))
        key = operation, tuple(typed.types[operand] for operand in needed[value])
        token = tokens.setdefault(key, len(tokens))
        operations[token] = operation
        items.append(Item(token, needed[value], (value,)))
    return ItemList(tuple(items), operations, constants, outputs)


def _nodes(typed: TypedGraph) -> dict[int, GraphNode]:
    return dict(enumerate(typed.graph.nodes, len(typed.graph.inputs)))


def _find_sources(typed: TypedGraph) -> tuple[dict[int, GraphNode], list[Source]]:
    """Return the constants by value, and for every value the value that it is or is broadcast from."""
    constants: dict[int, GraphNode] = {}
    sources: list[Source] = [(value, None) for value in range(len(typed.types))]
    for value, node in _nodes(typed).items():
        if node.op == "iota" or (node.op == "constant" and typed.types[value].size_bytes <= MAX_CONSTANT_SIZE_BYTES):
            constants[value] = node
        elif node.op == BROADCAST and sources[node.operands[0]][1] is None:
            sources[value] = node.operands[0], node.attributes
    return constants, sources


class _Order:
    """Puts the values of items in an order that keeps layers together.

    First come values that only constants and scalar inputs decide: what layers share is then outside all of them, not
    inside the first. Then the chain: from the deepest output always on to the deepest operand, which leads through all
    layers, forward and back. What joins from the side, and what only another output needs, as an update of a weight,
    is put into the chain as soon as it can be computed, or just before its use if inputs alone decide it.
    """

    def __init__(self, typed: TypedGraph, operands: Mapping[int, Sequence[int]], constants: Container[int]) -> None:
        inputs = range(len(typed.graph.inputs))
        self._operands = operands
        self._depth = [0] * len(typed.types)  # items on the longest path to a value
        early = {value for value in range(len(typed.types)) if value in constants}
        early |= {value for value in inputs if not typed.graph.inputs[value][1].shape}
        for value, needed in operands.items():
            self._depth[value] = 1 + max((self._depth[operand] for operand in needed), default=0)
            if early.issuperset(needed):
                early.add(value)
        self._ready = dict.fromkeys((*inputs, *early), -1)  # value -> place in the chain after which it is there
        self._placed = [(-1, value) for value in sorted(early) if value in operands]

    def list_values(self, outputs: Sequence[int]) -> list[int]:
        """Return the values that the outputs need, operands first."""
        deepest_first = sorted(outputs, key=lambda value: -self._depth[value])
        chain: list[int] = []
        value = deepest_first[0] if outputs else -1
        while value in self._operands and value not in self._ready:
            chain.append(value)
            value = max(self._operands[value], key=self._depth.__getitem__)
        for place, value in enumerate(reversed(chain)):
            for operand in self._operands[value]:
                self._add(operand, place - 1)
            self._ready[value] = place
            self._placed.append((place, value))
        for output in deepest_first:
            self._add(output, len(chain) - 1)
        return [value for _, value in sorted(self._placed, key=lambda pair: pair[0])]

    def _add(self, value: int, latest: int) -> None:
        """Put in what a value needs, all after the last thing from outside that it takes, or at the latest place."""
        new = self._walk(value)
        outside = {operand for value in new for operand in self._operands[value]}.difference(new)
        place = max((self._ready[operand] for operand in outside), default=-1)
        place = latest if place < 0 else place
        self._ready |= dict.fromkeys(new, place)
        self._placed.extend((place, value) for value in new)

    def _walk(self, goal: int) -> list[int]:
        """Return the values that a value needs and that have no place, operands first, the deepest operand first."""
        found: dict[int, None] = {}
        pending = [goal]
        while pending:
            value = pending[-1]
            if value in self._ready or value in found:
                pending.pop()
                continue
            missing = [v for v in reversed(self._operands[value]) if v not in self._ready and v not in found]
            if missing:
                pending.extend(sorted(missing, key=self._depth.__getitem__))
                continue
            found[value] = None
        return list(found)
