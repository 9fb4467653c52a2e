"""Plan a graph: the launches in order, after which launch each value is no longer needed, and the memory it takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from samebits.cas import Digest
from samebits.exec.errors import RunError
from samebits.exec.graph import CALL, EMPTY_LIBRARY, Graph, GraphLibrary, GraphNode, TypedGraph, check_graph
from samebits.exec.limits import memory_limit_bytes
from samebits.kernels.types import TensorType

ASSUMED_MEMORY_BYTES: Final = 8 << 30  # where the system does not say what is free


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
class Peak:
    """The most bytes that live at once, inputs included, and the launch at which they do. Views count in full."""

    size_bytes: int
    launch: Launch | None  # None: the inputs alone


@dataclass(frozen=True, slots=True)
class Plan:
    """What a device compiles: named inputs, launches in order, named outputs, the types of all values, its memory."""

    inputs: tuple[tuple[str, TensorType], ...]
    launches: tuple[Launch, ...]
    outputs: tuple[tuple[str, int], ...]
    types: tuple[TensorType, ...]  # of every value, by number
    peak: Peak


def plan_graph(graph: Graph, library: GraphLibrary = EMPTY_LIBRARY) -> Plan:
    """Return the plan of a graph, calls laid out inline; raises GraphError if the graph is malformed.

    Nodes that are equal once the calls are laid out are computed once.
    """
    known: dict[Digest, TypedGraph] = {}
    typed = check_graph(graph, library, known)
    flat = _Flattener(known)
    values = [flat.new_value(tensor) for _, tensor in graph.inputs]
    flat.add(typed, values, "")
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
    sizes = [tensor.size_bytes for tensor in flat.types]
    peak = _find_peak(len(graph.inputs), launches, sizes)
    return Plan(graph.inputs, launches, outputs, tuple(flat.types), peak)


def _find_peak(inputs: int, launches: Sequence[Launch], sizes: Sequence[int]) -> Peak:
    live = sum(sizes[:inputs])
    peak = Peak(live, None)
    for launch in launches:
        live += sum(sizes[value] for value in launch.results)
        if live > peak.size_bytes:
            peak = Peak(live, launch)
        live -= sum(sizes[value] for value in launch.release)
    return peak


def check_memory(what: str, plan: Plan, held_bytes: int, free_bytes: int) -> None:
    """Raise RunError if a plan and what its job holds besides need more bytes than are free."""
    needed = plan.peak.size_bytes + held_bytes
    if needed > free_bytes:
        launch = plan.peak.launch
        where = "for its inputs" if launch is None else f"at node {launch.node} ({launch.op})"
        raise RunError(f"the {what} graph needs {size_text(needed)} {where}, {describe_free(free_bytes)}")


def describe_free(free_bytes: int) -> str:
    """Say how much is free, and whether that is within a limit."""
    if memory_limit_bytes() is None:
        return f"this machine has {size_text(free_bytes)} free"
    return f"the memory limit leaves {size_text(free_bytes)}"


def free_memory_bytes() -> int:
    """Return the memory that a job may take: its limit, or what this machine can give if that is less."""
    limit = memory_limit_bytes()
    return _machine_memory_bytes() if limit is None else min(limit, _machine_memory_bytes())


def _machine_memory_bytes() -> int:
    """Return what Linux calls available, else free pages, else 8 GiB."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # another system
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return ASSUMED_MEMORY_BYTES


def size_text(size_bytes: int) -> str:
    """Return a size as a reader wants it: 1.5 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} B"


class _Flattener:
    """Numbers the values of a graph and of every graph it calls, equal ones once; `types` holds the type of each."""

    def __init__(self, known: dict[Digest, TypedGraph]) -> None:
        self._known = known
        self.launches: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any], str]] = []
        self.types: list[TensorType] = []
        self._shared: dict[GraphNode, int] = {}  # node on the values of the plan -> its result

    def new_value(self, tensor: TensorType) -> int:
        self.types.append(tensor)
        return len(self.types) - 1

    def add(self, typed: TypedGraph, values: list[int], prefix: str) -> None:
        """Append the launches of a graph; `values` maps its value numbers, and grows by the results."""
        for position, (node, numbers) in enumerate(zip(typed.graph.nodes, typed.results, strict=True)):
            operands = tuple(values[operand] for operand in node.operands)
            if node.op == CALL:
                values.extend(self._inline(node.callee, list(operands), f"{prefix}{position}/"))
                continue
            same = GraphNode(node.op, operands, node.attributes)
            if same not in self._shared:
                self._shared[same] = self.new_value(typed.types[numbers[0]])
                where = f"{prefix}{position}"
                self.launches.append((node.op, operands, (self._shared[same],), dict(node.attributes), where))
            values.append(self._shared[same])

    def _inline(self, callee: Digest | None, values: list[int], prefix: str) -> list[int]:
        if callee is None:
            raise AssertionError("a checked call names a graph")
        typed = self._known[callee]
        self.add(typed, values, prefix)
        return [values[value] for _, value in typed.graph.outputs]
