"""Kernels of fused element-wise operations: one loop computes a whole group, element by element.

Fusing never changes a bit: every operation rounds as the contract says, in registers instead of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from samebits.kernels.codegen.ctypes_of import C_TYPES, element
from samebits.kernels.codegen.expressions import (
    WITH_RARE,
    expression,
    leaves_raw_nan,
    moves_bits,
    rare_test,
)
from samebits.kernels.codegen.library import library_of
from samebits.kernels.codegen.program import CHUNK, ProgramBuilder
from samebits.kernels.codegen.view import View, collapse
from samebits.kernels.types import Attributes

RARE_CHUNK: Final = 1024  # elements that are computed again where one of them needs the form that holds everywhere
COPY: Final = "copy"  # the operation that gives back its operand's bits


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a group. Operands count the group's inputs first, then its nodes."""

    op: str
    dtype: str  # of the operands (of select_n: of the cases)
    result: str  # element type
    operands: tuple[int, ...]
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Group:
    """Element-wise operations over one shape. All views have that shape."""

    shape: tuple[int, ...]
    inputs: tuple[View, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[int, View], ...]  # number of an input or node, and where it goes


def lower_elementwise(builder: ProgramBuilder, group: Group) -> None:
    """Append the call of one kernel that computes a group."""
    if prod(group.shape) == 0:
        return
    emitter = _Emitter(group, builder.layout == "cpu")
    library = library_of(node.op for node in group.nodes)
    builder.call("elementwise", emitter.text(), emitter.buffers(), emitter.items, library=library)


class _Emitter:
    """Writes the text of one group's kernel."""

    def __init__(self, group: Group, on_cpu: bool) -> None:
        self._group = group
        self._on_cpu = on_cpu
        self._rare = [n for n in group.nodes if n.op in WITH_RARE]
        self._views = [*group.inputs, *(view for _, view in group.outputs)]
        sizes, strides = collapse(group.shape, [view.strides for view in self._views])
        self._outer, self._columns = sizes[:-1], sizes[-1] if sizes else 1
        self._strides = [s if s else (0,) for s in strides]
        self._rows = prod(self._outer)
        self._chunk = RARE_CHUNK if self._rare else CHUNK
        self._long = self._columns > self._chunk
        self._segments = -(-self._columns // self._chunk) if self._long else 1
        self._rows_per_item = 1 if self._long else max(1, self._chunk // max(1, self._columns))
        self._parameters = self._number_buffers()

    @property
    def items(self) -> int:
        """Return the number of work-items."""
        if not self._on_cpu:
            return self._rows * self._columns
        return self._rows * self._segments if self._long else -(-self._rows // self._rows_per_item)

    def buffers(self) -> list[int]:
        """Return the buffers in the order of the kernel's parameters."""
        return [buffer for buffer, _, _ in self._parameters]

    def text(self) -> str:
        """Return the kernel."""
        listed = ", ".join(
            f"GLOBAL {'' if written else 'const '}{C_TYPES[dtype]} *RESTRICT b{number}"
            for number, (_, dtype, written) in enumerate(self._parameters)
        )
        ops = " ".join(node.op for node in self._group.nodes[:12]) + (" ..." if len(self._group.nodes) > 12 else "")
        lines = [f"// {ops} over {list(self._group.shape)}, each element rounded as its operation says"]
        lines.append(f"KERNEL void NAME({listed}) {{")
        lines += self._cpu() if self._on_cpu else self._gpu()
        return "\n".join([*lines, "}", ""])

    def _number_buffers(self) -> list[tuple[int, str, bool]]:
        found: dict[int, tuple[str, bool]] = {}
        for position, view in enumerate(self._views):
            if isinstance(view.source, int):
                written = position >= len(self._group.inputs)
                if written and view.source in found and not found[view.source][1]:
                    raise AssertionError("a kernel would read the buffer that it writes")
                found[view.source] = (view.dtype, written)
        return [(buffer, dtype, written) for buffer, (dtype, written) in found.items()]

    def _cpu(self) -> list[str]:
        if self._long:
            head = [
                f"    const i64 row = ITEM / {self._segments};",
                f"    const i64 start = (ITEM % {self._segments}) * {self._chunk};",
                f"    const i64 left = {self._columns} - start;",
                f"    const i32 n = (i32)(left < {self._chunk} ? left : {self._chunk});",
                "    {",
            ]
        else:
            step = self._rows_per_item
            head = [
                f"    const i64 stop = ITEM * {step} + {step} < {self._rows} ? ITEM * {step} + {step} : {self._rows};",
                f"    const i32 n = {self._columns};",
                f"    for (i64 row = ITEM * {step}; row < stop; row++) {{",
            ]
        lines = [*head, *self._pointers("start" if self._long else "0")]
        if self._rare:
            lines.append("        i32 rare = 0;")
        lines += ["        for (i32 c = 0; c < n; c++) {", *self._body("c", rare=False), "        }"]
        if self._rare:
            lines += [
                "        if (rare)",
                "        for (i32 c = 0; c < n; c++) {",
                *self._body("c", rare=True),
                "        }",
            ]
        return [*lines, "    }"]

    def _gpu(self) -> list[str]:
        total = self._rows * self._columns
        kind = "u32" if total < 1 << 31 else "i64"
        return [
            f"    if (ITEM >= {total}) return;",
            f"    const {kind} item = ({kind})ITEM;",
            f"    const {kind} row = item / {self._columns};",
            f"    const {kind} c = item % {self._columns};",
            "    {",
            *self._pointers("0"),
            *self._body("(i64)c", rare=True),
            "    }",
        ]

    def _pointers(self, start: str) -> list[str]:
        """Return the lines that place a pointer (or a number, for a counting view) at the row of each view."""
        lines = []
        below = self._rows
        for axis, size in enumerate(self._outer):
            below //= size
            index = f"row / {below}" if below > 1 else "row"
            lines.append(f"        const i64 i{axis} = {index}" + (f" % {size};" if axis else ";"))
        numbers = {buffer: number for number, (buffer, _, _) in enumerate(self._parameters)}
        for position, view in enumerate(self._views):
            steps = self._strides[position]
            terms = [str(view.offset)] + [f"i{axis} * {s}" for axis, s in enumerate(steps[:-1]) if s]
            if start != "0" and steps[-1]:
                terms.append(f"{start} * {steps[-1]}")
            place = " + ".join(terms)
            if isinstance(view.source, int):
                kind = "" if position >= len(self._group.inputs) else "const "
                pointer = f"GLOBAL {kind}{C_TYPES[view.dtype]} *RESTRICT p{position}"
                lines.append(f"        {pointer} = b{numbers[view.source]} + ({place});")
            elif view.source == "count":
                lines.append(f"        const i64 p{position} = {place};")
        return lines

    def _index(self, position: int, column: str) -> str:
        step = self._strides[position][-1]
        wide = "(i64)" if abs(step) * self._chunk >= 1 << 31 else ""
        index = "0" if step == 0 else column if step == 1 else f"{wide}{column} * {step}"
        return f"p{position} + {index}" if self._views[position].source == "count" else index

    def _body(self, column: str, *, rare: bool) -> list[str]:
        names: list[str] = []  # of values as they are
        clean: list[str] = []  # of values with canonical NaN
        dtypes: list[str] = []
        lines: list[str] = []

        def define(dtype: str, value: str, raw: bool) -> None:
            name = f"v{len(names)}"
            lines.append(f"            const {C_TYPES[dtype]} {name} = {value};")
            names.append(name)
            clean.append("" if raw else name)
            dtypes.append(dtype)

        def canonical(number: int) -> str:
            if not clean[number]:
                clean[number] = f"{names[number]}c"
                dtype = dtypes[number]
                lines.append(f"            const {C_TYPES[dtype]} {clean[number]} = canon_{dtype}({names[number]});")
            return clean[number]

        for position, view in enumerate(self._group.inputs):
            define(view.dtype, element(view.source, view.dtype, f"p{position}", self._index(position, column)), False)
        for node in self._group.nodes:
            if node.op == COPY:
                define(node.result, canonical(node.operands[0]), False)
                continue
            pick = canonical if moves_bits(node.op) else names.__getitem__
            operands = [pick(operand) for operand in node.operands]
            if node.op in WITH_RARE and self._on_cpu and not rare:
                lines.append(f"            rare |= {rare_test(node.op, node.dtype, operands)};")
            value = expression(node.op, node.dtype, operands, node.attributes, rare=rare)
            define(node.result, value, leaves_raw_nan(node.op, node.result))
        for position, (number, _) in enumerate(self._group.outputs, start=len(self._group.inputs)):
            lines.append(f"            p{position}[{self._index(position, column)}] = {canonical(number)};")
        return lines
