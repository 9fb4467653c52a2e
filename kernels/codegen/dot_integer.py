"""dot_general of integers on a CPU: wrapping sums, which any order gives, in u32 for every type up to 32 bits."""

from __future__ import annotations

from string import Template
from typing import Final

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.codegen.ctypes_of import C_TYPES, element
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import View

ROWS: Final = 32  # of a work-item's part of the result
COLUMNS: Final = 64
DEPTH: Final = 64  # of the piece of b that is held: 16 KiB in u32, half of the first cache

_KERNEL: Final = Template("""\
// out: ($batch, $rows, $columns) $dtype   out = a b modulo 2^width   K = $depth
KERNEL void NAME($parameters) {
    i64 z = ITEM / $items, i0 = ITEM % $items / $across * $tile_rows, j0 = ITEM % $across * $tile_columns;
    i64 height = $rows - i0 < $tile_rows ? $rows - i0 : $tile_rows;
    i64 width = $columns - j0 < $tile_columns ? $columns - j0 : $tile_columns;
    $wide sums[$tile_rows * $tile_columns], piece[$tile_depth * $tile_columns];
    for (i64 i = 0; i < $tile_rows * $tile_columns; i++) sums[i] = 0;
    for (i64 i = 0; i < $tile_depth * $tile_columns; i++) piece[i] = 0;
    for (i64 k0 = 0; k0 < $depth; k0 += $tile_depth) {
        i64 n = $depth - k0 < $tile_depth ? $depth - k0 : $tile_depth;
        $load
        for (i64 i = 0; i < height; i++)
            for (i64 k = 0; k < n; k++) {
                i64 at = $a_offset + z * ($a_batch) + (i0 + i) * ($a_row) + (k0 + k) * ($a_depth);
                $wide x = ($wide)$a;
                for (i64 j = 0; j < $tile_columns; j++) sums[i * $tile_columns + j] += x * piece[k * $tile_columns + j];
            }
    }
    for (i64 i = 0; i < height; i++)
        for (i64 j = 0; j < width; j++)
            out[(z * $rows + i0 + i) * $columns + j0 + j] = ($type)sums[i * $tile_columns + j];
}
""")
_LOAD: Final = Template("""\
for (i64 $outer = 0; $outer < $outer_end; $outer++)
            for (i64 $inner = 0; $inner < $inner_end; $inner++) {
                i64 at = $b_offset + z * ($b_batch) + (k0 + k) * ($b_depth) + (j0 + j) * ($b_column);
                piece[k * $tile_columns + j] = ($wide)$b;
            }""")


def lower_integer_cpu(builder: ProgramBuilder, a: View, b: View, out: View) -> None:
    """Append out = a b. a: (B, M, K), b: (B, K, N), out: (B, M, N) contiguous; one integer type, none empty."""
    if not isinstance(out.source, int):
        raise AssertionError("a dot product writes to a buffer")
    (batch, rows, depth), columns = a.shape, b.shape[2]
    tile_rows, tile_columns, tile_depth = min(ROWS, rows), min(COLUMNS, columns), min(DEPTH, depth)
    across = -(-columns // tile_columns)
    items = -(-rows // tile_rows) * across
    columns_dense = abs(b.strides[2]) <= abs(b.strides[1])
    outer, inner = ("k", "j") if columns_dense else ("j", "k")
    ends = {"k": "n", "j": "width"}
    sources = [*source_parameter(a, "a"), *source_parameter(b, "b")]
    kind = C_TYPES[out.dtype]
    fields = {
        "batch": batch,
        "rows": rows,
        "columns": columns,
        "depth": depth,
        "dtype": out.dtype,
        "type": kind,
        "tile_rows": tile_rows,
        "tile_columns": tile_columns,
        "tile_depth": tile_depth,
        "items": items,
        "across": across,
        "wide": wide_type(out.dtype),
        "a_offset": a.offset,
        "a_batch": a.strides[0],
        "a_row": a.strides[1],
        "a_depth": a.strides[2],
        "b_offset": b.offset,
        "b_batch": b.strides[0],
        "b_depth": b.strides[1],
        "b_column": b.strides[2],
        "a": element(a.source, a.dtype, "a", "at"),
        "b": element(b.source, b.dtype, "b", "at"),
        "parameters": ", ".join([*(text for _, text in sources), f"GLOBAL {kind} *RESTRICT out"]),
    }
    load = _LOAD.substitute(fields, outer=outer, inner=inner, outer_end=ends[outer], inner_end=ends[inner])
    text = _KERNEL.substitute(fields, load=load)
    builder.call("dot_integer", text, [*(n for n, _ in sources), out.source], batch * items, library=("numbers.h",))


def wide_type(dtype: str) -> str:
    """Return the unsigned type in which an integer type's sums are kept."""
    return "u64" if numpy_dtype(dtype).itemsize == 8 else "u32"
