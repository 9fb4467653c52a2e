"""dot_general of floats on a CPU: whole numbers in f64 panels, products in vector registers, sums that never round.

The product of panels (dot_registers.py) is OpenCL C with double4 and allows contraction: whole numbers don't round, and
compilers of OpenCL C make good code of it. Measured on 2 cores of Zen 3 with PoCL 3.0, panels of 6 x 8 lines: 38 to 43
GFLOP/s a core, NumPy's OpenBLAS in f64 36; hence BLAS has no part in it.
"""

from __future__ import annotations

from dataclasses import replace
from string import Template
from typing import Final

from samebits.kernels.codegen.ctypes_of import C_TYPES
from samebits.kernels.codegen.dot_registers import (
    DEPTH,
    LEFT_TILE,
    RIGHT_TILE,
    addition,
    panel_widths,
    panels_text,
)
from samebits.kernels.codegen.dot_stages import (
    LIBRARY,
    Plan,
    Stage,
    call_stage,
    make_plan,
    make_sides,
    preparing_stages,
)
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import View

# Work of one batch, in multiply-adds, up to which one work-item does everything: 128^3 takes it 170 us, and three
# launches, 10 to 60 us each, no less. Batches share out the work by themselves. To make an element a whole number takes
# as long as 32 multiply-adds.
_SINGLE: Final = 3 << 20
_BATCHED: Final = 1 << 24
_PACKING: Final = 32
_ENOUGH_BATCHES: Final = 8

_TILE: Final = Template("""
// out = RN(c * left step * right step) for one pair of panels; rows, columns: how many lines of them there are
FN void NAME_finish(const f64 *RESTRICT c, GLOBAL const f64 *RESTRICT ls, GLOBAL const f64 *RESTRICT rs,
                    GLOBAL $type *RESTRICT out, i64 rows, i64 columns) {
    $type y[$left_width * $right_width];
    for (i64 i = 0; i < $left_width; i++)
        for (i64 j = 0; j < $right_width; j++)
            y[i * $right_width + j] = round_$dtype(c[i * $right_width + j] * ls[i] * rs[j]);
    if (rows == $left_width && columns == $right_width) {
        for (i64 i = 0; i < $left_width; i++)
            for (i64 j = 0; j < $right_width; j++) out[i * $left_stride + j * $right_stride] = y[i * $right_width + j];
        return;
    }
    for (i64 i = 0; i < rows; i++)
        for (i64 j = 0; j < columns; j++) out[i * $left_stride + j * $right_stride] = y[i * $right_width + j];
}

// lines l0 .. of the left and r0 .. of the right side, in batch z
FN void NAME_tile(GLOBAL const f64 *RESTRICT w, GLOBAL $type *RESTRICT out, i64 z, i64 l0, i64 r0) {
    i64 l_end = l0 + $left_tile < $left_padded ? l0 + $left_tile : $left_padded;
    i64 r_end = r0 + $right_tile < $right_padded ? r0 + $right_tile : $right_padded;
    GLOBAL const f64 *left = w + $left_at + z * ((i64)$left_padded * $depth);
    GLOBAL const f64 *right = w + $right_at + z * ((i64)$right_padded * $depth);
    GLOBAL const f64 *ls = w + $left_steps + z * $left_padded;
    GLOBAL const f64 *rs = w + $right_steps + z * $right_padded;
    out += z * ((i64)$left_lines * $right_lines);
    $kept
    for (i64 k0 = 0; k0 < $depth; k0 += $block) {
        i64 n = $depth - k0 < $block ? $depth - k0 : $block;
        for (i64 r = r0; r < r_end; r += $right_width)
            for (i64 l = l0; l < l_end; l += $left_width) {
                f64 c[$left_width * $right_width];
                NAME_panels(left + l * $depth + k0 * $left_width, right + r * $depth + k0 * $right_width, n, c);
                $add
                if (k0 + n < $depth) continue;
                $total
                i64 rows = $left_lines - l, columns = $right_lines - r;
                NAME_finish(c, ls + l, rs + r, out + l * $left_stride + r * $right_stride,
                            rows < $left_width ? rows : $left_width, columns < $right_width ? columns : $right_width);
            }
    }
}
""")


def lower_float_cpu(builder: ProgramBuilder, a: View, b: View, out: View, *, p: int, grid: str) -> None:
    """Append out = RN(a b). a: (B, M, K), b: (B, K, N), out: (B, M, N), none empty; p and grid as in kernels/dot.py."""
    if not isinstance(out.source, int):
        raise AssertionError("a dot product writes to a buffer")
    plan = _plan(a, b, out, p, grid)
    sources = [*source_parameter(a, "a"), *source_parameter(b, "b")]
    work = (builder.buffer(8 * plan.size), "GLOBAL f64 *RESTRICT w")
    result = (out.source, f"GLOBAL {C_TYPES[out.dtype]} *RESTRICT out")
    head = f"// out: ({plan.batch}, {a.shape[1]}, {b.shape[2]}) {out.dtype}   K = {plan.depth}, p = {p}, grid {grid}\n"
    stages = [*preparing_stages(plan, b), _product_stage(plan)]
    cost = plan.depth * (a.shape[1] * b.shape[2] + _PACKING * (a.shape[1] + b.shape[2]))
    if cost <= (_BATCHED if plan.batch >= _ENOUGH_BATCHES else _SINGLE):
        loops = (f"    for (i64 item = 0; item < {s.items}; item++) {{\n{s.body}    }}\n" for s in stages)
        body = "    i64 z = ITEM;\n" + "".join(loops)
        before = head + "".join(stage.functions for stage in stages) + "\n"
        given = [*sources, work, result]
        builder.call_body("dot", given, body, plan.batch, library=LIBRARY, before=before)
        return
    for stage in stages:
        given = [work, result] if stage.label == "dot_product" else [*sources, work]
        call_stage(builder, stage, head, given, plan.batch)


def _plan(a: View, b: View, out: View, p: int, grid: str) -> Plan:
    swapped = b.shape[2] < min(8, a.shape[1])  # a short side goes left, where panels may be narrow
    rows, columns = make_sides(a, b, p, grid)
    left, right = (columns, rows) if swapped else (rows, columns)
    widths = panel_widths(left.lines)
    return make_plan(replace(left, width=widths[0]), replace(right, width=widths[1]), out, swapped=swapped)


def _product_stage(plan: Plan) -> Stage:
    left, right = plan.left, plan.right
    left_tile = min(max(LEFT_TILE // left.width, 1) * left.width, left.padded)
    right_tile = min(max(RIGHT_TILE // right.width, 1) * right.width, right.padded)
    across = -(-right.padded // right_tile)
    columns = left.lines if plan.swapped else right.lines
    fields = {
        "type": C_TYPES[plan.out.dtype],
        "dtype": plan.out.dtype,
        "depth": plan.depth,
        "block": min(DEPTH, plan.depth),
        "left_stride": 1 if plan.swapped else columns,
        "right_stride": columns if plan.swapped else 1,
        "left_tile": left_tile,
        "right_tile": right_tile,
    }
    for name, side, steps, at in (
        ("left", left, plan.steps[0], plan.panels[0]),
        ("right", right, plan.steps[1], plan.panels[1]),
    ):
        fields |= {
            f"{name}_width": side.width,
            f"{name}_padded": side.padded,
            f"{name}_lines": side.lines,
            f"{name}_steps": steps,
            f"{name}_at": at,
        }
    widths = (left.width, right.width)
    sums = addition(plan.depth, left.p, (left_tile, right_tile), widths)
    text = panels_text(*widths) + _TILE.substitute(fields, **sums)
    body = f"    NAME_tile(w, out, z, item / {across} * {left_tile}, item % {across} * {right_tile});\n"
    return Stage("dot_product", text, body, -(-left.padded // left_tile) * across)
