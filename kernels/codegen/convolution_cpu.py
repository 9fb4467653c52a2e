"""The product of windows and filters on a CPU: each work-item gathers panels of windows as it needs them.

A panel of 8 windows holds up to 512 depths, 32 KiB, and meets all panels of filters of a tile at once.
"""

from __future__ import annotations

from string import Template
from typing import Final

from samebits.kernels.codegen.ctypes_of import C_TYPES
from samebits.kernels.codegen.dot_pack import Side
from samebits.kernels.codegen.dot_registers import DEPTH, LEFT_TILE, RIGHT_TILE, addition, panel_widths, panels_text
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.lines import Lines
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import View, collapse

LIBRARY: Final = ("dot.h",)
_WORK: Final = 1 << 20  # multiply-adds of a work-item where sums are short: about 50 us
_ENOUGH_ITEMS: Final = 16

_TILE: Final = Template("""
// panel = $right_width windows, n depths of each, as f64; in_row: they are neighbours in one row
FN void NAME_gather(GLOBAL const i32 *RESTRICT q, const i64 *RESTRICT base, const i64 *RESTRICT reach, i64 n,
                    i32 in_row, f64 *RESTRICT panel) {
    if (in_row)
        for (i64 k = 0; k < n; k++) {
            GLOBAL const i32 *from = q + base[0] + reach[k];
            for (i64 i = 0; i < $right_width; i++) panel[k * $right_width + i] = (f64)from[i * $row_step];
        }
    else
        for (i64 k = 0; k < n; k++)
            for (i64 i = 0; i < $right_width; i++) panel[k * $right_width + i] = (f64)q[base[i] + reach[k]];
}

// out = RN(c * step of the filter * step of the window); `to`: where the windows' results of the first filter go
FN void NAME_finish(const f64 *RESTRICT c, GLOBAL const f64 *RESTRICT ls, const f64 *RESTRICT rs,
                    const i64 *RESTRICT to, i32 in_row, GLOBAL $type *RESTRICT out, i64 filters, i64 windows) {
    $type y[$left_width * $right_width];
    for (i64 i = 0; i < $left_width; i++)
        for (i64 j = 0; j < $right_width; j++)
            y[i * $right_width + j] = round_$dtype(c[i * $right_width + j] * ls[i] * rs[j]);
    if (in_row)
        for (i64 i = 0; i < filters; i++)
            for (i64 j = 0; j < $right_width; j++) out[to[0] + i * $filter_stride + j] = y[i * $right_width + j];
    else
        for (i64 i = 0; i < filters; i++)
            for (i64 j = 0; j < windows; j++) out[to[j] + i * $filter_stride] = y[i * $right_width + j];
}

// filters l0 .. and windows r0 .. of group z
FN void NAME_tile(GLOBAL const i32 *RESTRICT q, GLOBAL const u32 *RESTRICT ranks, GLOBAL const f64 *RESTRICT w,
                  GLOBAL $type *RESTRICT out, i64 z, i64 l0, i64 r0) {
    i64 l_end = l0 + $left_tile < $left_padded ? l0 + $left_tile : $left_padded;
    i64 r_end = r0 + $right_tile < $windows ? r0 + $right_tile : $windows;
    GLOBAL const f64 *left = w + $left_at + z * ((i64)$left_padded * $depth), *ls = w + z * $left_padded;
    f64 panel[$block * $right_width];
    i64 reach[$block];
    $kept
    for (i64 k0 = 0; k0 < $depth; k0 += $block) {
        i64 n = $depth - k0 < $block ? $depth - k0 : $block;
        for (i64 i = 0; i < n; i++) {
            i64 k = k0 + i;
            reach[i] = $reach;
        }
        for (i64 r = r0; r < r_end; r += $right_width) {
            i64 base[$right_width], to[$right_width];
            f64 rs[$right_width];
            i32 in_row = r % $row + $right_width <= $row;
            for (i64 i = 0; i < (in_row ? 1 : $right_width); i++) {
                i64 line = r + i < $windows ? r + i : $windows - 1;
                base[i] = $base;
                to[i] = $to;
                rs[i] = step_of(ranks[z * $samples + line / $positions], $p);
            }
            if (in_row) for (i64 i = 1; i < $right_width; i++) rs[i] = rs[0];
            NAME_gather(q, base, reach, n, in_row, panel);
            for (i64 l = l0; l < l_end; l += $left_width) {
                f64 c[$left_width * $right_width];
                NAME_panels(left + l * $depth + k0 * $left_width, panel, n, c);
                $add
                if (k0 + n < $depth) continue;
                $total
                i64 filters = $filters - l, windows = $windows - r;
                NAME_finish(c, ls + l, rs, to, in_row, out + l * $filter_stride,
                            filters < $left_width ? filters : $left_width,
                            windows < $right_width ? windows : $right_width);
            }
        }
    }
}
""")


def lower_product_cpu(builder: ProgramBuilder, windows: Lines, filters: View, out: Lines, ranks: int, p: int) -> None:
    """Append out = RN(filters times windows).

    windows: i32, (G, (samples, *out), (channels, *window)); filters: (G, O, K) floats; out: (G, (samples, positions),
    O); ranks: the buffer of the samples' ranks, (G, samples).
    """
    if not isinstance(windows.view.source, int) or not isinstance(out.view.source, int):
        raise AssertionError("windows and results are in buffers")
    left_width, right_width = panel_widths(filters.shape[1])
    side = Side("w", filters, left_width, p, scaled=False, fixed=False)
    work = _pack(builder, side)
    left_tile = min(max(LEFT_TILE // left_width, 1) * left_width, side.padded)
    right_tile = _right_tile(windows, left_tile, -(-side.padded // left_tile), right_width)
    across = -(-windows.count // right_tile)
    tiles = -(-side.padded // left_tile) * across
    fields = _fields(windows, side, out, (left_tile, right_tile), right_width)
    sums = addition(windows.depth, p, (left_tile, right_tile), (left_width, right_width))
    text = panels_text(left_width, right_width, "") + _TILE.substitute(fields, **sums)
    parameters = [
        (windows.view.source, "GLOBAL const i32 *RESTRICT q"),
        (ranks, "GLOBAL const u32 *RESTRICT ranks"),
        (work, "GLOBAL const f64 *RESTRICT w"),
        (out.view.source, f"GLOBAL {C_TYPES[out.view.dtype]} *RESTRICT out"),
    ]
    place = f"item / {across} * {left_tile}, item % {across} * {right_tile}"
    body = f"    i64 z = ITEM / {tiles}, item = ITEM % {tiles};\n    NAME_tile(q, ranks, w, out, z, {place});\n"
    builder.call_body("conv_product", parameters, body, windows.batch * tiles, library=LIBRARY, before=text)


def _pack(builder: ProgramBuilder, side: Side) -> int:
    """Append the steps and panels of the filters; return their buffer: (G, padded) f64, then (G, padded, K)."""
    batch, depth = side.view.shape[0], side.view.shape[2]
    work = builder.buffer(8 * batch * side.padded * (1 + depth))
    items = -(-side.lines // side.span)
    source = source_parameter(side.view, "w")
    given = f"{source[0][1].split('RESTRICT ')[-1]}, " if source else ""
    place = f"work + z * {side.padded}, work + {batch * side.padded} + z * ((i64){side.padded} * {depth})"
    body = f"    i64 z = ITEM / {items}, item = ITEM % {items};\n"
    body += f"    NAME_pack_w({given}work, {place}, z, item * {side.span});\n"
    parameters = [*source, (work, "GLOBAL f64 *RESTRICT work")]
    builder.call_body("conv_pack", parameters, body, batch * items, library=LIBRARY, before=side.pack_text())
    return work


def _right_tile(windows: Lines, left_tile: int, left_tiles: int, width: int) -> int:
    """Return the windows of a tile: more where sums are short, fewer where that leaves too few tiles."""
    most = RIGHT_TILE
    if windows.depth <= DEPTH:
        most = max(most, _WORK // (left_tile * windows.depth))
    fair = -(-windows.batch * left_tiles * windows.count // _ENOUGH_ITEMS)
    return min(-(-min(most, fair) // width), -(-windows.count // width)) * width


def _fields(windows: Lines, side: Side, out: Lines, tile: tuple[int, int], right_width: int) -> dict[str, object]:
    samples, positions = out.view.shape[1:3]
    row, row_step = _row(windows)
    return {
        "type": C_TYPES[out.view.dtype],
        "dtype": out.view.dtype,
        "depth": windows.depth,
        "block": min(DEPTH, windows.depth),
        "p": side.p,
        "left_width": side.width,
        "left_tile": tile[0],
        "left_padded": side.padded,
        "left_at": windows.batch * side.padded,
        "filters": side.lines,
        "filter_stride": out.view.strides[3],
        "right_width": right_width,
        "right_tile": tile[1],
        "windows": windows.count,
        "samples": samples,
        "positions": positions,
        "row": row,
        "row_step": row_step,
        "reach": windows.reach("k"),
        "base": windows.start("z", "line"),
        "to": out.start("z", "line"),
    }


def _row(windows: Lines) -> tuple[int, int]:
    """Return how many neighbouring windows of a sample are one run in memory, and how far each lies from the next."""
    positions = slice(2, 1 + windows.line_axes)
    sizes, (steps,) = collapse(windows.view.shape[positions], [windows.view.strides[positions]])
    return (sizes[-1], steps[-1]) if sizes else (1, 1)
