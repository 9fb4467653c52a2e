"""dot_general on a GPU: whole numbers in i32, tiles in local memory, a few i64 sums in each work-item's registers.

S fits i64 whatever the operands hold (p is lowered for K > 2^18), so a sum needs neither split nor test.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Final

from samebits.kernels.codegen.ctypes_of import C_TYPES, as_f32, element
from samebits.kernels.codegen.dot_integer import wide_type
from samebits.kernels.codegen.dot_tensor import lower_digit_product, suits_tensor_cores
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.lines import Lines
from samebits.kernels.codegen.program import GROUP_SIZE, ProgramBuilder
from samebits.kernels.codegen.view import View, contiguous_strides

LIBRARY: Final = ("dot.h",)
SEGMENT: Final = 64  # depths of which one work-item takes the maximum, where lines lie side by side
LONG_SEGMENT: Final = 16 * GROUP_SIZE  # the same for a group, where each line lies dense
TILE_DEPTH: Final = 16

_CLEAR: Final = Template("""\
// ranks: ($size,) = 0
KERNEL void NAME(GLOBAL u32 *RESTRICT ranks) {
    if (ITEM < $size) ranks[ITEM] = 0u;
}
""")

_RANKS_ACROSS: Final = Template("""\
// ranks: ($batch, $lines) = the largest rank of each line; lines lie side by side
KERNEL void NAME($parameters) {
    if (ITEM >= $items) return;
    i64 line = ITEM % $lines, z = ITEM / $lines % $batch, k0 = ITEM / ${batch_lines} * $segment;
    i64 end = k0 + $segment < $depth ? k0 + $segment : $depth;
    u32 most = 0u;
    for (i64 k = k0; k < end; k++) {
        i64 at = $offset + z * ($batch_stride) + line * ($line_stride) + k * ($depth_stride);
        most = larger(most, $rank);
    }
    if (most != 0u) atomic_max_u32(ranks + $ranks_at + z * $lines + line, most);
}
""")

_RANKS_ALONG: Final = Template("""\
// ranks: ($batch, $lines) = the largest rank of each line; each line lies dense
KERNEL void NAME($parameters) {
    LOCAL u32 found[$group];
    i64 segment = GROUP % $segments, line = GROUP / $segments % $lines, z = GROUP / ($segments * (i64)$lines);
    i64 end = (segment + 1) * $segment < $depth ? (segment + 1) * $segment : $depth;
    u32 most = 0u;
    for (i64 k = segment * $segment + LOCAL_ITEM; k < end; k += $group) {
        i64 at = $offset + z * ($batch_stride) + line * ($line_stride) + k * ($depth_stride);
        most = larger(most, $rank);
    }
    found[LOCAL_ITEM] = most;
    BARRIER();
    for (i32 reach = $group / 2; reach > 0; reach /= 2) {
        if (LOCAL_ITEM < reach) found[LOCAL_ITEM] = larger(found[LOCAL_ITEM], found[LOCAL_ITEM + reach]);
        BARRIER();
    }
    if (LOCAL_ITEM == 0 && found[0] != 0u) atomic_max_u32(ranks + $ranks_at + z * $lines + line, found[0]);
}
""")

_QUANTISE: Final = Template("""\
// q: ($batch, $slow, $fast) i32 = RN_int(x / step of its line)
KERNEL void NAME($parameters) {
    if (ITEM >= $items) return;
    i64 z = ITEM / ($slow * (i64)$fast), $slow_name = ITEM / $fast % $slow, $fast_name = ITEM % $fast;
    i64 at = $offset + z * ($batch_stride) + line * ($line_stride) + k * ($depth_stride);
    f64 scale = steps_per_unit($step_of(ranks[$ranks_at + z * $lines + line], $p));
    q[ITEM] = (i32)whole($x, $factor scale);
}
""")

_PRODUCT: Final = Template("""\
// out: ($batch, $rows, $columns) $dtype   K = $depth   an item adds $item_rows x $item_columns sums of a tile
KERNEL void NAME($parameters) {
    LOCAL $term ta[$tile_depth * $pitch_a];
    LOCAL $term tb[$tile_depth * $pitch_b];
    i64 z = GROUP / $tiles, i0 = GROUP % $tiles / $across * $tile_rows, j0 = GROUP % $across * $tile_columns;
    i32 x = LOCAL_ITEM % $wide, y = LOCAL_ITEM / $wide;
    $sum s[$item_rows][$item_columns];
    for (i32 i = 0; i < $item_rows; i++)
        for (i32 j = 0; j < $item_columns; j++) s[i][j] = 0;
    for (i64 k0 = 0; k0 < $depth; k0 += $tile_depth) {
$load_a
$load_b
        BARRIER();
        for (i32 k = 0; k < $tile_depth; k++) {
            $term a_k[$item_rows], b_k[$item_columns];
            for (i32 i = 0; i < $item_rows; i++) a_k[i] = ta[k * $pitch_a + y + i * $high];
            for (i32 j = 0; j < $item_columns; j++) b_k[j] = tb[k * $pitch_b + x + j * $wide];
            for (i32 i = 0; i < $item_rows; i++)
                for (i32 j = 0; j < $item_columns; j++) s[i][j] += ($sum)a_k[i] * b_k[j];
        }
        BARRIER();
    }
    for (i32 i = 0; i < $item_rows; i++)
        for (i32 j = 0; j < $item_columns; j++) {
            i64 row = i0 + y + i * $high, column = j0 + x + j * $wide;
            if (row < $rows && column < $columns) out[$to] = $finish;
        }
}
""")

_LOAD: Final = Template("""\
        for (i32 t = LOCAL_ITEM; t < $count; t += $group) {
            i32 line = $line, k = $k;
            i64 at = $at;
            $tile[k * $pitch + line] = $first + line < $lines && k0 + k < $depth ? ($term)$x : 0;
        }""")


def lower_float_gpu(builder: ProgramBuilder, a: View, b: View, out: View, *, p: int, grid: str) -> None:
    """Append out = RN(a b). a: (B, M, K), b: (B, K, N), out: (B, M, N), none empty; p and grid as in kernels/dot.py."""
    batch, rows, depth = a.shape
    columns = b.shape[2]
    scaled = grid != "columns"
    starts = (0, batch * rows, batch * (rows + columns))  # of the ranks of a's rows, b's columns, depths
    size = starts[2] + (batch * depth if scaled else 0)
    ranks = builder.buffer(4 * size)
    builder.call("dot_clear", _CLEAR.substitute(size=size), [ranks], size, library=LIBRARY)
    if scaled:
        _find_ranks(builder, b, ranks, starts[2], "finite_magnitude_f32({})")
    plain, exponent = "magnitude_f32({})", f"grid_exponent(ranks[{starts[2]} + z * {depth} + k])"
    quantised, steps = [], []
    sides = ((a, exponent, starts[0], False), (b.transpose((0, 2, 1)), f"-{exponent}", starts[1], grid == "rows"))
    for view, power, start, fixed in sides:
        factor = f"pow2_f64({power})"
        rank = f"scaled_rank({{}}, {factor})" if scaled and not fixed else plain
        _find_ranks(builder, view, ranks, start, rank)
        step = "fixed_step_of" if fixed else "scaled_step_of" if scaled else "step_of"
        steps.append(f"{step}(ranks[{start} + z * {view.shape[1]} + LINE], {p})")
        quantised.append(quantise_lines(builder, view, ranks, start, p, step, f"{factor} *" if scaled else ""))
    results = Lines(out.transpose((0, 2, 1)))
    first, second = steps[0].replace("LINE", "row"), steps[1].replace("LINE", "column")
    given = [(ranks, "GLOBAL const u32 *RESTRICT ranks")]
    if builder.tensor_cores and suits_tensor_cores(rows, columns, depth):
        finish = f"round_{out.dtype}(odd_i64(total) * {first} * {second})"
        lower_digit_product(builder, Lines(quantised[0]), Lines(quantised[1]), results, p, finish, given)
        return
    finish = f"round_{out.dtype}(odd_i64(s[i][j]) * {first} * {second})"
    fields = {"term": "i32", "sum": "i64", "finish": finish}
    lower_tiled_product(builder, Lines(quantised[0]), Lines(quantised[1]), results, fields, given)


def lower_integer_gpu(builder: ProgramBuilder, a: View, b: View, out: View) -> None:
    """Append out = a b modulo 2^width. a: (B, M, K), b: (B, K, N), out: (B, M, N) contiguous; none empty."""
    wide = wide_type(out.dtype)
    fields = {"term": wide, "sum": wide, "finish": f"({C_TYPES[out.dtype]})s[i][j]"}
    right, results = Lines(b.transpose((0, 2, 1))), Lines(out.transpose((0, 2, 1)))
    lower_tiled_product(builder, Lines(a), right, results, fields, [])


def _fields(view: View) -> dict[str, object]:
    batch, lines, depth = view.shape
    return {
        "batch": batch,
        "lines": lines,
        "depth": depth,
        "batch_lines": batch * lines,
        "offset": view.offset,
        "batch_stride": view.strides[0],
        "line_stride": view.strides[1],
        "depth_stride": view.strides[2],
    }


def _lines_dense(view: View) -> bool:
    return view.shape[1] > 1 and abs(view.strides[1]) < abs(view.strides[2])


def _value(view: View) -> str:
    return as_f32(view.dtype, element(view.source, view.dtype, "x", "at"))


def _find_ranks(builder: ProgramBuilder, view: View, ranks: int, start: int, rank: str) -> None:
    """Append the maximum over each line of a view (B, lines, K) to the ranks from `start` on."""
    batch, lines, depth = view.shape
    dense = _lines_dense(view)
    sources = [*source_parameter(view), (ranks, "GLOBAL u32 *RESTRICT ranks")]
    segment = SEGMENT if dense else LONG_SEGMENT
    segments = -(-depth // segment)
    items = batch * lines * segments * (1 if dense else GROUP_SIZE)
    fields = _fields(view) | {
        "parameters": ", ".join(text for _, text in sources),
        "items": items,
        "segment": segment,
        "segments": segments,
        "group": GROUP_SIZE,
        "ranks_at": start,
        "rank": rank.format(_value(view)),
    }
    text = (_RANKS_ACROSS if dense else _RANKS_ALONG).substitute(fields)
    builder.call("dot_ranks", text, [n for n, _ in sources], items, library=LIBRARY, group=GROUP_SIZE)


def quantise_lines(builder: ProgramBuilder, view: View, ranks: int, start: int, p: int, step: str, factor: str) -> View:
    """Append q = RN_int(x / step), stored with its axes in the source's order; return it as (B, lines, K).

    view: (B, lines, K); ranks: the buffer that holds those of the lines from `start` on; step: a function of dot.h;
    factor: empty, or a C expression of z and k with a `*` behind it.
    """
    batch, lines, depth = view.shape
    dense = _lines_dense(view)
    q = builder.buffer(4 * view.size)
    sources = [
        *source_parameter(view),
        (ranks, "GLOBAL const u32 *RESTRICT ranks"),
        (q, "GLOBAL i32 *RESTRICT q"),
    ]
    slow, fast = ((depth, "k"), (lines, "line")) if dense else ((lines, "line"), (depth, "k"))
    fields = _fields(view) | {
        "parameters": ", ".join(text for _, text in sources),
        "items": view.size,
        "slow": slow[0],
        "slow_name": slow[1],
        "fast": fast[0],
        "fast_name": fast[1],
        "step_of": step,
        "ranks_at": start,
        "p": p,
        "x": _value(view),
        "factor": factor,
    }
    builder.call("dot_quantise", _QUANTISE.substitute(fields), [n for n, _ in sources], view.size, library=LIBRARY)
    stored = View(q, "i32", (batch, slow[0], fast[0]), contiguous_strides((batch, slow[0], fast[0])))
    return stored.transpose((0, 2, 1)) if dense else stored


def lower_tiled_product(
    builder: ProgramBuilder, a: Lines, b: Lines, out: Lines, fields: Mapping[str, str], given: list[tuple[int, str]]
) -> None:
    """Append the tiled product of a (B, M, K) and b (B, N, K); out: (B, N, M).

    fields: the C types of a term and a sum, and `finish`, a C expression of s[i][j], z, row and column; given: the
    further buffers that it reads, with their parameters.
    """
    if not isinstance(out.view.source, int):
        raise AssertionError("a dot product writes to a buffer")
    batch, rows, columns, depth = a.batch, a.count, b.count, a.depth
    # work-items across a tile, and the sums of each: 8 x 4 are 64 registers
    wide, item_rows, item_columns = (64, 4, 1) if rows <= 8 else (8, 4, 1) if columns <= 8 else (16, 8, 4)
    high = GROUP_SIZE // wide
    tile_rows, tile_columns = high * item_rows, wide * item_columns
    across = -(-columns // tile_columns)
    tiles = -(-rows // tile_rows) * across
    sources = [*source_parameter(a.view, "a"), *source_parameter(b.view, "b"), *given]
    parameters = [text for _, text in sources]
    sizes = {
        "batch": batch,
        "rows": rows,
        "columns": columns,
        "depth": depth,
        "dtype": out.view.dtype,
        "to": out.index("z", "column", "row"),
        "tiles": tiles,
        "across": across,
        "tile_rows": tile_rows,
        "tile_columns": tile_columns,
        "wide": wide,
        "high": high,
        "item_rows": item_rows,
        "item_columns": item_columns,
        "pitch_a": tile_rows + 1,
        "pitch_b": tile_columns + 1,
        "tile_depth": TILE_DEPTH,
        "group": GROUP_SIZE,
    }
    text = _PRODUCT.substitute(
        sizes | dict(fields),
        load_a=_load_text(a, "a", "i0", tile_rows, fields["term"]),
        load_b=_load_text(b, "b", "j0", tile_columns, fields["term"]),
        parameters=", ".join([*parameters, f"GLOBAL {C_TYPES[out.view.dtype]} *RESTRICT out"]),
    )
    buffers = [*(n for n, _ in sources), out.view.source]
    builder.call("dot_product", text, buffers, batch * tiles * GROUP_SIZE, library=LIBRARY, group=GROUP_SIZE)


def _load_text(lines: Lines, name: str, first: str, tile_lines: int, term: str) -> str:
    """Return the copying of a tile to local memory, neighbours along the axis that lies dense; pitch: no bank twice."""
    dense = lines.lines_dense
    return _LOAD.substitute(
        count=tile_lines * TILE_DEPTH,
        group=GROUP_SIZE,
        line=f"t % {tile_lines}" if dense else f"t / {TILE_DEPTH}",
        k=f"t / {tile_lines}" if dense else f"t % {TILE_DEPTH}",
        at=lines.index("z", f"({first} + line)", "(k0 + k)"),
        first=first,
        lines=lines.count,
        depth=lines.depth,
        tile=f"t{name}",
        pitch=tile_lines + 1,
        term=term,
        x=element(lines.view.source, lines.view.dtype, name, "at"),
    )
