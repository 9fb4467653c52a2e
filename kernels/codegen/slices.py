"""Slices of rows named by indices: reading an index, reporting a bad one, and kernels that run over slices."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from samebits.kernels.codegen.ctypes_of import element
from samebits.kernels.codegen.folds import LIBRARY, source_parameter
from samebits.kernels.codegen.program import CHUNK, Parameters, ProgramBuilder
from samebits.kernels.codegen.view import View, collapse
from samebits.kernels.codegen.walk import Dims, offset_text


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of `width` elements: index s names the row of slice s."""

    indices: View
    count: int
    rows: int
    width: int
    errors: int
    code: int
    per: int  # slices of a work-item, on a cpu

    def parameters(self) -> Parameters:
        """Return the buffers that reading an index needs."""
        return [*source_parameter(self.indices, "indices"), (self.errors, "GLOBAL u32 *RESTRICT errors")]

    def read(self, otherwise: str) -> str:
        """Return the text that reads the row of slice s; a bad index is reported and `otherwise` done."""
        index = f"{self.indices.offset} + {offset_text('s', dims_of(self.indices))}"
        text = f"i64 row = (i64){element(self.indices.source, self.indices.dtype, 'indices', index)};\n"
        return f"{text}if (row < 0 || row >= {self.rows}) {{\n{self.report(self.code)}\n{otherwise};\n}}\n"

    def report(self, code: int) -> str:
        """Return the statement that puts a code and the index `row` into the buffer of errors, if it is the first."""
        place = "{ errors[1] = (u32)row; errors[2] = (u32)((u64)row >> 32); }"
        return f"if (atomic_first_u32(errors, {code}) == 0u) {place}"


def slices_of(builder: ProgramBuilder, operand: View, indices: View, errors: int, code: int) -> Slices:
    width = prod(operand.shape[1:])
    return Slices(indices, indices.size, operand.shape[0], width, errors, code, max(1, CHUNK // max(1, width)))


def dims_of(x: View, first: int | None = 0, last: int | None = None) -> Dims:
    sizes, (steps,) = collapse(x.shape[first:last], [x.strides[first:last]])
    return tuple(zip(sizes, steps, strict=True))


def call_chunks(
    builder: ProgramBuilder,
    label: str,
    slices: Slices,
    body: str,
    parameters: Parameters,
    each: int = 0,
    start: str = "",
) -> None:
    """Append a kernel that runs `start` and then `body` for slices s: `each` an item.

    Without `each` some thousand elements on a cpu, one slice on a gpu.
    """
    per = each or (slices.per if builder.layout == "cpu" else 1)
    count = slices.count
    text = f"i64 first = ITEM * {per}, last = first + {per} < {count} ? first + {per} : {count};\n"
    text += f"{start}for (i64 s = first; s < last; s++) {{\n{body}}}\n"
    builder.call_body(label, parameters, text, -(-count // per), library=LIBRARY)


def call_each(builder: ProgramBuilder, label: str, items: int, body: str, parameters: Parameters) -> None:
    """Append a kernel that runs `body` once for each of `items`."""
    text = f"i64 item = ITEM;\nif (item >= {items}) return;\n{body}"
    builder.call_body(label, parameters, text, items, library=LIBRARY)


def call_span(builder: ProgramBuilder, label: str, count: int, body: str, parameters: Parameters) -> None:
    """Append a kernel that runs `body` for each number `item` below `count`: in chunks on a cpu, else one an item."""
    if builder.layout == "gpu":
        call_each(builder, label, count, body, parameters)
        return
    text = f"i64 first = ITEM * {CHUNK}, last = first + {CHUNK} < {count} ? first + {CHUNK} : {count};\n"
    text += f"for (i64 item = first; item < last; item++) {{\n{body}}}\n"
    builder.call_body(label, parameters, text, -(-count // CHUNK), library=LIBRARY)
