"""dot_general of floats on a CPU: whole numbers in f64 panels, products in vector registers, sums that never round.

A whole number below 2^53 is exact in f64, so neither order nor contraction of a partial sum can change a bit. Partial
sums over DEPTH terms stay below that; where the whole sum may not, it is kept in two parts.

The product of panels is OpenCL C with double4 and allows contraction: whole numbers don't round, and compilers of
OpenCL C make good code of it. Measured on 2 cores of Zen 3 with PoCL 3.0, panels of 6 x 8 lines: 38 to 43 GFLOP/s a
core, NumPy's OpenBLAS 36; hence there is no step of the host.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import Template
from typing import Final

from samebits.kernels.codegen.ctypes_of import C_TYPES
from samebits.kernels.codegen.dot_pack import Side, scales_span, scales_text
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import View
from samebits.kernels.exact_matmul import safe_depth

LIBRARY: Final = ("dot.h",)
DEPTH: Final = 256  # of a partial sum: a panel of 8 lines is 16 KiB, half of the first cache; 512 is exact still
LEFT_TILE: Final = 48  # lines; a tile's panels and sums, 260 KiB at most, stay in the second cache
RIGHT_TILE: Final = 64
_ALIGN: Final = 8  # f64 values of a cache line
# Multiply-adds of one batch up to which one work-item does everything: a launch costs as much as 2^18 of them, and
# batches share out the work by themselves.
_SINGLE: Final = 1 << 20
_BATCHED: Final = 1 << 24
_ENOUGH_BATCHES: Final = 8
# lines of the left side -> width of its panels and of the right side's: 8 to 12 sums of 4 lanes hide FMA's latency
_WIDTHS: Final = {1: (1, 32), 2: (2, 16), 3: (3, 16), 4: (4, 8), 5: (5, 8)}

_TILE: Final = Template("""
// c = left panel times right panel over n depths
FN void NAME_panels(GLOBAL const f64 *RESTRICT l, GLOBAL const f64 *RESTRICT r, i64 n, f64 *RESTRICT c) {
#pragma OPENCL FP_CONTRACT ON
    typedef double4 unaligned4 __attribute__((aligned(8)));  // vload4 would be a call, around which registers spill
    $sums
    #pragma unroll 4
    for (i64 k = 0; k < n; k++) {
        $loads
        $multiply
        l += $left_width;
        r += $right_width;
    }
    $stores
}

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


@dataclass(frozen=True, slots=True)
class _Plan:
    """A product of sides, and where their parts lie in the work buffer (offsets in f64 values)."""

    left: Side
    right: Side
    swapped: bool  # left is b, right is a
    out: View
    up: int
    down: int
    steps: tuple[int, int]  # left, right
    panels: tuple[int, int]
    size: int
    b: View

    @property
    def batch(self) -> int:
        return self.out.shape[0]

    @property
    def depth(self) -> int:
        return self.left.view.shape[2]

    @property
    def scaled(self) -> bool:
        return self.left.scaled


def lower_float_cpu(builder: ProgramBuilder, a: View, b: View, out: View, *, p: int, grid: str) -> None:
    """Append out = RN(a b). a: (B, M, K), b: (B, K, N), out: (B, M, N), none empty; p and grid as in kernels/dot.py."""
    plan = _plan(a, b, out, p, grid)
    work = builder.buffer(8 * plan.size)
    sources = _sources(a, b)
    parameters = ", ".join(parameter for _, parameter in sources)
    head = f"// out: ({plan.batch}, {a.shape[1]}, {b.shape[2]}) {out.dtype}   K = {plan.depth}, p = {p}, grid {grid}"
    if not isinstance(out.source, int):
        raise AssertionError("a dot product writes to a buffer")
    result = f"GLOBAL {C_TYPES[out.dtype]} *RESTRICT out"
    steps = [
        *([("scales", *_scales_stage(plan, b))] if plan.scaled else []),
        ("pack", *_pack_stage(plan)),
        ("product", *_product_stage(plan)),
    ]
    operations = a.shape[1] * plan.depth * b.shape[2]
    if operations <= (_BATCHED if plan.batch >= _ENOUGH_BATCHES else _SINGLE):
        functions = "".join(text for _, text, _, _ in steps)
        body = "".join(
            f"    for (i64 item = 0; item < {items}; item++) {{\n{body}    }}\n" for _, _, body, items in steps
        )
        parts = ", ".join(part for part in (parameters, "GLOBAL f64 *RESTRICT w", result) if part)
        text = f"{head}\n{functions}\nKERNEL void NAME({parts}) {{\n    i64 z = ITEM;\n{body}}}\n"
        builder.call("dot", text, [*(n for n, _ in sources), work, out.source], plan.batch, library=LIBRARY)
        return
    for label, functions, body, items in steps:
        product = label == "product"
        used = [] if product else sources
        last = [(work, "GLOBAL f64 *RESTRICT w"), *([(out.source, result)] if product else [])]
        parts = ", ".join(parameter for _, parameter in (*used, *last))
        split = f"    i64 z = ITEM / {items}, item = ITEM % {items};\n"
        text = f"{head}\n{functions}\nKERNEL void NAME({parts}) {{\n{split}{body}}}\n"
        builder.call(f"dot_{label}", text, [n for n, _ in (*used, *last)], plan.batch * items, library=LIBRARY)


def _plan(a: View, b: View, out: View, p: int, grid: str) -> _Plan:
    swapped = b.shape[2] < min(8, a.shape[1])  # a short side goes left, where panels may be narrow
    scaled = grid != "columns"
    rows = Side("a", a, 1, p, scaled, fixed=False)
    columns = Side("b", b.transpose((0, 2, 1)), 1, p, scaled, fixed=grid == "rows")
    left, right = (columns, rows) if swapped else (rows, columns)
    widths = _WIDTHS.get(left.lines, (6, 8))
    left, right = replace(left, width=widths[0]), replace(right, width=widths[1])
    batch, depth = a.shape[0], a.shape[2]
    sizes = [
        *([batch * depth, batch * depth] if scaled else [0, 0]),
        *(batch * side.padded for side in (left, right)),
        *(batch * side.padded * depth for side in (left, right)),
    ]
    starts = [0]
    for size in sizes:
        starts.append(-(-(starts[-1] + size) // _ALIGN) * _ALIGN)
    up, down, left_steps, right_steps, left_at, right_at, end = starts
    return _Plan(left, right, swapped, out, up, down, (left_steps, right_steps), (left_at, right_at), end, b)


def _sources(a: View, b: View) -> list[tuple[int, str]]:
    """Return the operands' buffers and parameters, called a and b."""
    return [*source_parameter(a, "a"), *source_parameter(b, "b")]


def _scales_stage(plan: _Plan, b: View) -> tuple[str, str, int]:
    """Return functions, statements of an item, and the number of items of a batch."""
    span, depth = scales_span(b), plan.depth
    source = "b, " if source_parameter(b) else ""
    body = f"    NAME_scales({source}w + {plan.up} + z * {depth}, w + {plan.down} + z * {depth}, z, item * {span});\n"
    return scales_text(b), body, -(-depth // span)


def _pack_stage(plan: _Plan) -> tuple[str, str, int]:
    calls, items = [], []
    for side, steps, panels in zip((plan.left, plan.right), plan.steps, plan.panels, strict=True):
        source = f"{side.name}, " if source_parameter(side.view) else ""
        factor = plan.up if side.name == "a" else plan.down
        calls.append(
            f"NAME_pack_{side.name}({source}w + {factor} + z * {plan.depth}, w + {steps} + z * {side.padded},"
            f" w + {panels} + z * ((i64){side.padded} * {plan.depth}), z, ITEM_OF_SIDE * {side.span});"
        )
        items.append(-(-side.lines // side.span))
    first, second = calls[0].replace("ITEM_OF_SIDE", "item"), calls[1].replace("ITEM_OF_SIDE", f"(item - {items[0]})")
    body = f"    if (item < {items[0]}) {first}\n    else {second}\n"
    return plan.left.pack_text() + plan.right.pack_text(), body, sum(items)


def _product_stage(plan: _Plan) -> tuple[str, str, int]:
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
    text = _TILE.substitute(fields, **_registers(left.width, right.width), **_addition(plan, left_tile, right_tile))
    body = f"    NAME_tile(w, out, z, item / {across} * {left_tile}, item % {across} * {right_tile});\n"
    return text, body, -(-left.padded // left_tile) * across


def _registers(left: int, right: int) -> dict[str, str]:
    """Return the statements of the inner loop, with one vector of 4 sums for each line of the left panel."""
    vectors = range(right // 4)
    pairs = [(i, v) for i in range(left) for v in vectors]
    return {
        "sums": " ".join(f"double4 c{i}_{v} = 0.0;" for i, v in pairs),
        "loads": " ".join(f"double4 r{v} = *(GLOBAL const unaligned4 *)(r + {4 * v});" for v in vectors),
        "multiply": "\n        ".join(
            " ".join([f"double4 l{i} = l[{i}];", *(f"c{i}_{v} += l{i} * r{v};" for v in vectors)]) for i in range(left)
        ),
        "stores": " ".join(f"*(unaligned4 *)(c + {i * right + 4 * v}) = c{i}_{v};" for i, v in pairs),
    }


def _addition(plan: _Plan, left_tile: int, right_tile: int) -> dict[str, str]:
    """Return how partial sums are added: not at all, in f64, or in two parts."""
    if plan.depth <= DEPTH:
        return {"kept": "", "add": "", "total": ""}
    size = left_tile * right_tile
    panel = plan.left.width * plan.right.width
    at = f"i64 at = (r - r0) * {left_tile} + (l - l0) * {plan.right.width};"  # panel by panel
    each = f"for (i64 i = 0; i < {panel}; i++)"
    if plan.depth <= safe_depth(plan.left.p):
        add = f"{at}\n                {each} c[i] += sums[at + i];\n                {each} sums[at + i] = c[i];"
        kept = f"f64 sums[{size}];\n    for (i64 i = 0; i < {size}; i++) sums[i] = 0.0;"
        return {"kept": kept, "add": add, "total": ""}
    kept = f"f64 high[{size}], low[{size}];\n    for (i64 i = 0; i < {size}; i++) high[i] = low[i] = 0.0;"
    add = f"""{at}
                {each} {{
                    f64 part = high_part(c[i]);
                    high[at + i] += part;
                    low[at + i] += c[i] - part;
                }}"""
    return {"kept": kept, "add": add, "total": f"{each} c[i] = odd_total(high[at + i], low[at + i]);"}
