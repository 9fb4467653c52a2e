"""From a graph's operations to a program: schedule, then kernels, then memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.codegen import convolution, dot, random_bits, reductions, scatter, sorting
from samebits.kernels.codegen.elementwise import COPY, Group, Node, lower_elementwise
from samebits.kernels.codegen.library import program_text
from samebits.kernels.codegen.memory import plan_memory
from samebits.kernels.codegen.program import Layout, Program, ProgramBuilder
from samebits.kernels.codegen.schedule import GroupUnit, Operation, OpUnit, Schedule, schedule
from samebits.kernels.codegen.view import View, stored
from samebits.kernels.convolution_shape import conv_shape
from samebits.kernels.errors import OpError
from samebits.kernels.inference import dot_dimensions
from samebits.kernels.types import TensorType

MAX_ELEMENTS: Final = (1 << 31) - 1  # loops count in i32
ERROR_BYTES: Final = 16  # code of the step that failed, and the index that was out of range


@dataclass(frozen=True, slots=True)
class Failure:
    """What a code in the errors buffer means."""

    node: str
    op: str
    problem: str  # what is wrong with the index
    unsigned: bool  # whether the indices are u64

    def message(self, index: int) -> str:
        """Return what the numpy device says. index: as i64."""
        shown = index % (1 << 64) if self.unsigned else index
        return str(OpError(self.op, f"index {shown} {self.problem}"))


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program, the buffer of each output, and what its steps may report."""

    program: Program
    outputs: tuple[int, ...]
    errors: int | None  # the buffer of errors, cleared before each run; None: nothing can fail
    failures: tuple[Failure, ...]  # code 1 first


def lower(
    types: Sequence[TensorType],
    inputs: int,
    operations: Sequence[Operation],
    outputs: Sequence[int],
    *,
    layout: Layout,
    int8_engine: str | None = None,
    tensor_cores: bool = False,
) -> Lowered:
    """Return the program of a graph. types: of every value; the first `inputs` values are given, in buffers 0, 1, ...

    outputs: values; each gets a buffer of its own.
    """
    for value, tensor in enumerate(types):
        if tensor.size > MAX_ELEMENTS:
            raise OpError("kernels", f"value {value} is {tensor}; kernels take tensors of up to 2^31 - 1 elements")
    plan = schedule(types, inputs, operations)
    wanted = _own_outputs(plan, outputs, inputs)
    return _Lowering(plan, inputs, ProgramBuilder(layout, int8_engine, tensor_cores)).run(wanted)


def _own_outputs(plan: Schedule, outputs: Sequence[int], inputs: int) -> list[int]:
    """Return, for each output, a value that is stored in C order, is no input or constant, and is used only once."""
    chosen: list[int] = []
    for value in outputs:
        view = plan.views[value]
        own = view.source if isinstance(view.source, int) else -1
        whole = view.is_contiguous() and view.size == plan.types[own].size and own >= inputs
        if not whole or own in plan.presets or own in chosen:
            own = len(plan.types)
            plan.copy(view, "output")
        chosen.append(own)
    return chosen


class _Lowering:
    def __init__(self, plan: Schedule, inputs: int, builder: ProgramBuilder) -> None:
        self._plan = plan
        self._inputs = inputs
        self._builder = builder
        self._buffers: dict[int, int] = {}  # of values that are stored
        self._errors: int | None = None
        self._failures: list[Failure] = []

    def run(self, outputs: Sequence[int]) -> Lowered:
        builder, plan = self._builder, self._plan
        for value in range(self._inputs):
            self._buffers[value] = builder.buffer(plan.types[value].size_bytes)
        stored_values = self._stored(outputs)
        for unit in plan.units:
            builder.operations = unit.operations
            if isinstance(unit, GroupUnit):
                self._group(unit, stored_values)
            else:
                self._op(unit)
        kept = [self._buffers[value] for value in outputs]
        fixed = {*range(self._inputs), *kept, *builder.contents}
        if self._errors is not None:
            fixed.add(self._errors)
        kernels = builder.kernels
        sizes, steps = plan_memory(builder.sizes, builder.steps, fixed)
        program = Program(kernels, steps, sizes, dict(builder.contents), program_text(kernels))
        return Lowered(program, tuple(kept), self._errors, tuple(self._failures))

    def _stored(self, outputs: Sequence[int]) -> set[int]:
        """Return the values that must be in memory: outputs, and what another unit than its own reads."""
        found = set(outputs)
        for unit in self._plan.units:
            views = unit.views if isinstance(unit, GroupUnit) else unit.operands
            found.update(view.source for view in views if isinstance(view.source, int))
        return found

    def _buffer(self, value: int) -> int:
        if value not in self._buffers:
            data = self._plan.presets.get(value)
            size_bytes = self._plan.types[value].size_bytes
            self._buffers[value] = self._builder.buffer(size_bytes) if data is None else self._builder.preset(data)
        return self._buffers[value]

    def _placed(self, view: View) -> View:
        return replace(view, source=self._buffer(view.source)) if isinstance(view.source, int) else view

    def _group(self, unit: GroupUnit, stored_values: set[int]) -> None:
        inputs: dict[View, int] = {}
        for member in unit.members:
            for operand in member.operands:
                if isinstance(operand, View):
                    inputs.setdefault(operand, len(inputs))
        numbers: dict[int, int] = {}
        nodes: list[Node] = []
        outputs: list[tuple[int, View]] = []
        for member in unit.members:
            operands = tuple(numbers[o] if isinstance(o, int) else inputs[o] for o in member.operands)
            numbers[member.result] = len(inputs) + len(nodes)
            dtype = self._plan.types[member.result].dtype
            nodes.append(Node(member.op, member.dtype, dtype, operands, member.attributes))
            if member.result in stored_values:
                place = stored(self._buffer(member.result), TensorType(dtype, unit.shape))
                outputs.append((numbers[member.result], place))
        placed = tuple(self._placed(view) for view in inputs)
        lower_elementwise(self._builder, Group(unit.shape, placed, tuple(nodes), tuple(outputs)))

    def _op(self, unit: OpUnit) -> None:
        operands = [self._placed(view) for view in unit.operands]
        out = stored(self._buffer(unit.result), self._plan.types[unit.result])
        a, builder = unit.attributes, self._builder
        match unit.op:
            case "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_and" | "reduce_or":
                reductions.lower_reduction(builder, unit.op, operands[0], out, a["axes"])
            case "argmax" | "argmin":
                reductions.lower_arg_reduction(builder, unit.op, operands[0], out, a["axis"])
            case "cumsum":
                reductions.lower_cumsum(builder, operands[0], out, a["axis"])
            case "argsort":
                sorting.lower_argsort(builder, operands[0], out, a["axis"], a["descending"])
            case "sort":
                sorting.lower_sort(builder, operands[0], out, a["axis"], a["descending"])
            case "gather":
                errors, code = self._outside(unit, operands[0])
                scatter.lower_gather(builder, operands[0], operands[1], out, errors, code)
            case "scatter_add":
                errors, code = self._outside(unit, operands[0])
                scatter.lower_scatter_add(builder, operands[0], operands[1], operands[2], out, errors, code)
            case "scatter":
                self._copy(operands[0], out)
                errors, code = self._outside(unit, operands[0])
                _, twice = self._may_fail(unit, "occurs twice")
                scatter.lower_scatter(builder, operands[1], operands[2], out, errors, code, twice)
            case "philox4x32" | "threefry2x32":
                random_bits.lower_random(builder, unit.op, operands[0], operands[1], out)
            case "dot_general":
                self._dot(unit, operands, out)
            case "conv_general_dilated":
                self._convolution(unit, operands, out)
            case "pad":
                self._pad(operands, out, a["low"])
            case "concatenate":
                self._concatenate(operands, out, a["dimension"])
            case _:
                raise AssertionError(f"no kernels for {unit.op}")

    def _outside(self, unit: OpUnit, operand: View) -> tuple[int, int]:
        return self._may_fail(unit, f"is outside 0..{operand.shape[0] - 1}")

    def _may_fail(self, unit: OpUnit, problem: str) -> tuple[int, int]:
        """Return the buffer of errors and a new code that means this."""
        if self._errors is None:
            self._errors = self._builder.buffer(ERROR_BYTES)
        self._failures.append(Failure(unit.node, unit.op, problem, unit.operands[1].dtype == "u64"))
        return self._errors, len(self._failures)

    def _copy(self, source: View, target: View) -> None:
        node = Node(COPY, source.dtype, source.dtype, (0,), {})
        lower_elementwise(self._builder, Group(target.shape, (source,), (node,), ((1, target),)))

    def _pad(self, operands: Sequence[View], out: View, low: tuple[int, ...]) -> None:
        x, value = operands
        self._copy(value.broadcast(out.shape, ()), out)
        inner = [a + n for a, n in zip(low, x.shape, strict=True)]
        self._copy(x, out.slice(low, inner, (1,) * len(low)))

    def _concatenate(self, operands: Sequence[View], out: View, axis: int) -> None:
        start = 0
        for x in operands:
            starts = tuple(start if i == axis else 0 for i in range(len(out.shape)))
            limits = tuple(a + n for a, n in zip(starts, x.shape, strict=True))
            self._copy(x, out.slice(starts, limits, (1,) * len(starts)))
            start += x.shape[axis]

    def _dot(self, unit: OpUnit, operands: Sequence[View], out: View) -> None:
        a, b = operands
        numbers = dot_dimensions("dot_general", [a.type, b.type], unit.attributes)
        (a_contract, b_contract), (a_batch, b_batch) = numbers
        a_free, b_free = (
            tuple(axis for axis in range(len(x.shape)) if axis not in used)
            for x, used in ((a, (*a_contract, *a_batch)), (b, (*b_contract, *b_batch)))
        )
        left = self._as_matrices(a, a_batch, a_free, a_contract)
        right = self._as_matrices(b, b_batch, b_contract, b_free)
        result = out.reshape((left.shape[0], left.shape[1], right.shape[2]))
        if result is None:
            raise AssertionError("a contiguous value takes every shape")
        precision, grid = unit.attributes["precision"], unit.attributes["grid"]
        dot.lower_dot(self._builder, left, right, result, precision=precision, grid=grid)

    def _convolution(self, unit: OpUnit, operands: Sequence[View], out: View) -> None:
        lhs, rhs = operands
        shape = conv_shape(unit.op, [lhs.type, rhs.type], unit.attributes)
        if prod(lhs.shape[:2]) * prod(shape.padded) > MAX_ELEMENTS:
            raise OpError(unit.op, f"{lhs.type} padded to {list(shape.padded)} has more than 2^31 - 1 elements")
        filters = self._as_matrices(rhs, (), (0,), tuple(range(1, len(rhs.shape))))
        flat = replace(filters, shape=filters.shape[1:], strides=filters.strides[1:])
        convolution.lower_convolution(self._builder, lhs, flat, out, shape, unit.attributes["precision"])

    def _as_matrices(self, x: View, *groups: tuple[int, ...]) -> View:
        """Return (batch, rows, columns), each one axis; a copy where strides can't say that."""
        moved = x.transpose([axis for group in groups for axis in group])
        shape = tuple(prod(x.shape[axis] for axis in group) for group in groups)
        result = moved.reshape(shape)
        if result is not None:
            return result
        size_bytes = moved.size * numpy_dtype(x.dtype).itemsize
        copied = stored(self._builder.buffer(size_bytes), moved.type)
        self._copy(moved, copied)
        result = copied.reshape(shape)
        if result is None:
            raise AssertionError("a contiguous value takes every shape")
        return result
