"""Schedule a graph's operations: views vanish, element-wise operations fuse into groups, others stand alone.

A group takes every element-wise operation of its number of elements whose operands are ready when it runs. The schedule
is a pure function of the operations, so equal graphs give equal kernels everywhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.codegen.elementwise import COPY
from samebits.kernels.codegen.expressions import ELEMENTWISE
from samebits.kernels.codegen.program import NodeOp
from samebits.kernels.codegen.view import COUNT, Splat, View, stored
from samebits.kernels.types import TensorType

MAX_GROUP_PARAMETERS: Final = 120  # views and results together: OpenCL guarantees 1 KiB of parameters, 8 bytes each
MAX_CANDIDATES: Final = 32  # groups of one size that an operation tries to join, the first that are late enough
_VIEWS: Final = frozenset({"broadcast_in_dim", "reshape", "transpose", "rev", "slice"})
_COPIES: Final = frozenset({"pad", "concatenate"})  # made of copies, which take any view


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on numbered values."""

    op: str
    operands: tuple[int, ...]
    result: int
    attributes: Mapping[str, Any]
    node: str  # where it stands in the graph


@dataclass(frozen=True, slots=True)
class Member:
    """One operation of a group; operands are views of values, or values of the same group by number."""

    op: str
    dtype: str
    operands: tuple[View | int, ...]
    result: int
    attributes: Mapping[str, Any]
    node: str


@dataclass(slots=True)
class GroupUnit:
    """Element-wise operations that run as one kernel."""

    shape: tuple[int, ...]
    size: int
    members: list[Member] = field(default_factory=list)
    results: set[int] = field(default_factory=set)
    views: set[View] = field(default_factory=set)

    @property
    def operations(self) -> tuple[NodeOp, ...]:
        """Return what the kernel computes."""
        return tuple(NodeOp(member.node, member.op) for member in self.members)


@dataclass(frozen=True, slots=True)
class OpUnit:
    """An operation with kernels of its own."""

    op: str
    operands: tuple[View, ...]
    result: int
    attributes: Mapping[str, Any]
    node: str

    @property
    def operations(self) -> tuple[NodeOp, ...]:
        """Return what the kernels compute."""
        return (NodeOp(self.node, self.op),)


@dataclass(slots=True)
class Schedule:
    """Units in order. A view's source is the number of the value that is stored; `types` holds those of all values."""

    types: list[TensorType]
    units: list[GroupUnit | OpUnit] = field(default_factory=list)
    views: dict[int, View] = field(default_factory=dict)  # of every value
    presets: dict[int, bytes] = field(default_factory=dict)  # contents of constants
    made_at: dict[int, int] = field(default_factory=dict)  # value -> unit; inputs and constants: -1
    _groups: dict[int, list[int]] = field(default_factory=dict)  # number of elements -> positions of its groups

    def add(self, operation: Operation) -> None:
        """Place one operation."""
        operands = [self.views[operand] for operand in operation.operands]
        if operation.op in _VIEWS:
            self._view(operation, operands[0])
        elif operation.op == "constant":
            self._constant(operation)
        elif operation.op == "iota":
            shape, axis = operation.attributes["shape"], operation.attributes["dimension"]
            strides = tuple(int(i == axis) for i in range(len(shape)))
            self.views[operation.result] = View(COUNT, operation.attributes["dtype"], shape, strides)
        elif operation.op in ELEMENTWISE:
            self._fuse(operation.op, operands, operation.result, operation.attributes, operation.node)
        else:
            copies = operation.op in _COPIES
            held = tuple(view if copies else self.in_memory(view, operation.node) for view in operands)
            self.made_at[operation.result] = len(self.units)
            self.views[operation.result] = stored(operation.result, self.types[operation.result])
            self.units.append(OpUnit(operation.op, held, operation.result, operation.attributes, operation.node))

    def in_memory(self, view: View, node: str) -> View:
        """Return a view of a stored value: itself, or a copy where the elements are not in memory."""
        return view if isinstance(view.source, int) else self.copy(view, node)

    def copy(self, view: View, node: str) -> View:
        """Return the view of a new value that holds a copy in C order."""
        result = len(self.types)
        self.types.append(view.type)
        self._fuse(COPY, [view], result, {}, node)
        return self.views[result]

    def _view(self, operation: Operation, x: View) -> None:
        a = operation.attributes
        if operation.op == "broadcast_in_dim":
            result: View | None = x.broadcast(a["shape"], a["broadcast_dimensions"])
        elif operation.op == "transpose":
            result = x.transpose(a["permutation"])
        elif operation.op == "rev":
            result = x.reverse(a["axis"])
        elif operation.op == "slice":
            result = x.slice(a["start_indices"], a["limit_indices"], a["strides"])
        else:
            result = x.reshape(a["new_sizes"])
        if result is None:
            result = self.copy(x, operation.node).reshape(a["new_sizes"])
        if result is None:
            raise AssertionError("a contiguous value takes every shape")
        self.views[operation.result] = result

    def _constant(self, operation: Operation) -> None:
        shape, data = operation.attributes["shape"], operation.attributes["value"]
        dtype = operation.attributes["dtype"]
        width = numpy_dtype(dtype).itemsize
        if data == data[:width] * (len(data) // width):
            value = data[:width] or bytes(width)
            self.views[operation.result] = View(Splat(value), dtype, shape, (0,) * len(shape))
            return
        self.presets[operation.result] = data
        self.made_at[operation.result] = -1
        self.views[operation.result] = stored(operation.result, self.types[operation.result])

    def _fuse(self, op: str, operands: Sequence[View], result: int, attributes: Mapping[str, Any], node: str) -> None:
        tensor = self.types[result]
        ready = max((self.made_at[v.source] for v in operands if isinstance(v.source, int)), default=-1)
        groups = self._groups.setdefault(tensor.size, [])
        start = bisect_left(groups, ready)
        for position in groups[start : start + MAX_CANDIDATES]:
            unit = self.units[position]
            fitted = _fit(operands, unit) if isinstance(unit, GroupUnit) else None
            if isinstance(unit, GroupUnit) and fitted is not None:
                break
        else:
            position = len(self.units)
            groups.append(position)
            unit = GroupUnit(tensor.shape, tensor.size)
            self.units.append(unit)
            fitted = tuple(operands)
        unit.members.append(Member(op, operands[-1].dtype, fitted, result, attributes, node))
        unit.results.add(result)
        unit.views.update(view for view in fitted if isinstance(view, View))
        self.made_at[result] = position
        self.views[result] = stored(result, tensor)


def _fit(operands: Sequence[View], unit: GroupUnit) -> tuple[View | int, ...] | None:
    """Return operands as a group can take them: its own results by number, views in its shape; None if it can't."""
    if len(unit.members) + len(unit.views) + len(operands) >= MAX_GROUP_PARAMETERS:
        return None
    fitted: list[View | int] = []
    for view in operands:
        if isinstance(view.source, int) and view.source in unit.results:
            if not view.is_contiguous() or view.size != unit.size:
                return None
            fitted.append(view.source)
            continue
        shaped = view if view.shape == unit.shape else view.reshape(unit.shape)
        if shaped is None:
            return None
        fitted.append(shaped)
    return tuple(fitted)


def schedule(types: Sequence[TensorType], inputs: int, operations: Sequence[Operation]) -> Schedule:
    """Return the schedule of operations in order; the first `inputs` values are given."""
    plan = Schedule(list(types))
    for value in range(inputs):
        plan.made_at[value] = -1
        plan.views[value] = stored(value, types[value])
    for operation in operations:
        plan.add(operation)
    return plan
