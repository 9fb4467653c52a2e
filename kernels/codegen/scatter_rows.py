"""scatter_add of long slices on a cpu: slices are grouped by row, and each row adds up its own in vector loops."""

from __future__ import annotations

from typing import Final

from samebits.kernels.codegen.ctypes_of import C_TYPES, as_f32, as_f64, element
from samebits.kernels.codegen.folds import LIBRARY, source_parameter
from samebits.kernels.codegen.program import CHUNK, ProgramBuilder
from samebits.kernels.codegen.slices import Slices, call_chunks, call_span, dims_of
from samebits.kernels.codegen.view import View
from samebits.kernels.codegen.walk import offset_text
from samebits.kernels.sums import sum_precision

LEAST_WIDTH: Final = 16  # elements of a slice from which on this is the faster way
LANES: Final = 256  # sums of a row that are kept at once


def lower_scatter_rows(builder: ProgramBuilder, slices: Slices, operand: View, updates: View, out: int) -> None:
    """Append the kernels of scatter_add for a float type; out: contiguous. Shapes and errors as for scatter_add."""
    ends = (builder.buffer(4 * slices.rows), "GLOBAL u32 *ends")
    members = (builder.buffer(4 * slices.count), "GLOBAL u32 *members")
    call_span(builder, "clear", slices.rows, "ends[item] = 0u;\n", [ends])
    count = f"{slices.read('continue')}atomic_add_u32(ends + row, 1u);\n"
    call_chunks(builder, "scatter_count", slices, count, [*slices.parameters(), ends])
    add = "u32 start = 0u;\n"
    add += f"for (i64 r = 0; r < {slices.rows}; r++) {{ u32 n = ends[r]; ends[r] = start; start += n; }}\n"
    builder.call_body("scatter_starts", [ends], add, 1, library=LIBRARY)
    # which member comes first depends on the machine's mood; the sums do not
    builder.unordered.add(members[0])
    place = f"{slices.read('continue')}members[atomic_add_u32(ends + row, 1u)] = (u32)s;\n"
    call_chunks(builder, "scatter_place", slices, place, [*slices.parameters(), ends, members])
    kind = C_TYPES[operand.dtype]
    parameters = [*source_parameter(operand, "y"), *source_parameter(updates), ends, members]
    parameters.append((out, f"GLOBAL {kind} *RESTRICT out"))
    items = -(-slices.rows // _rows_each(slices))
    builder.call_body("scatter_rows", parameters, _rows_text(slices, operand, updates), items, library=LIBRARY)


def _rows_each(slices: Slices) -> int:
    return max(1, CHUNK // slices.width)


def _rows_text(slices: Slices, operand: View, updates: View) -> str:
    """Return the body that does rows: find the maximum, then add up tiles of the row on its grid."""
    axes = len(slices.indices.shape)
    dtype, width, kind = operand.dtype, slices.width, C_TYPES[operand.dtype]
    p = sum_precision(slices.count)
    at = (
        f"{updates.offset} + {offset_text('s', dims_of(updates, 0, axes))} + {offset_text('w', dims_of(updates, axes))}"
    )
    value = as_f32(dtype, element(updates.source, dtype, "x", at))
    start = f"{operand.offset} + row * ({operand.strides[0]})"
    old = element(operand.source, dtype, "y", f"{start} + {offset_text('w', dims_of(operand, 1))}")
    each = "for (u32 i = begin; i < ends[row]; i++) {\ni64 s = members[i];\n"
    whole_row = f"for (i64 w = 0; w < {width}; w++)"
    tile = "for (i64 w = w0; w < w1; w++)"
    total = f"round_{dtype}(sum_value((i64)total[w - w0], unit, seen[w - w0]))"
    sum_text = f"round_{dtype}({as_f64(dtype, 'old')} + {as_f64(dtype, 'add')})"
    per = _rows_each(slices)
    quantised = f"on_grid(from_bits32(seen_f32({value}) != 0u ? 0u : bits32({value})), scale) - (u64)MAGIC_BITS"
    return f"""i64 first = ITEM * {per}, last = first + {per} < {slices.rows} ? first + {per} : {slices.rows};
for (i64 row = first; row < last; row++) {{
u32 begin = row ? ends[row - 1] : 0u;
if (begin == ends[row]) {{ {whole_row} out[row * {width} + w] = {old}; continue; }}
u32 top = 0u;
{each}{whole_row} {{ u32 m = magnitude_f32({value}); top = m > top ? m : top; }}
}}
i32 special = top >= F32_INF_BITS;
if (special) {{
top = 0u;
{each}{whole_row} {{ u32 m = finite_magnitude_f32({value}); top = m > top ? m : top; }}
}}
}}
f64 scale = pow2_f64({p} - grid_exponent(top)), unit = pow2_f64(grid_exponent(top) - {p});
for (i64 w0 = 0; w0 < {width}; w0 += {LANES}) {{
i64 w1 = w0 + {LANES} < {width} ? w0 + {LANES} : {width};
u64 total[{LANES}];
u32 seen[{LANES}];
{tile} {{ total[w - w0] = 0; seen[w - w0] = 0u; }}
if (special) {{
{each}{tile} {{ total[w - w0] += {quantised}; seen[w - w0] |= seen_f32({value}); }}
}}
}} else {{
{each}{tile} total[w - w0] += on_grid({value}, scale) - (u64)MAGIC_BITS;
}}
}}
{tile} {{ {kind} old = {old}, add = {total}; out[row * {width} + w] = {sum_text}; }}
}}
}}
"""
