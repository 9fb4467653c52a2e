"""dot_general on CUDA's int8 matrix units: whole numbers as balanced base-256 digits, exact sums of digit products.

q = d0 + 256 d1 + 65536 d2 with digits in -128..127, three for p > 15, two below. Products of digits go into one i32
sum for each shift, five or three, which stay in registers; S = sum of s_n 2^(8 n) in i64. An i32 sum of K <= 32768
terms of three products, each at most 2^14, is below 2^31. So this engine agrees with the others on every bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Template
from typing import Final

from samebits.kernels.codegen.ctypes_of import C_TYPES
from samebits.kernels.codegen.lines import Lines
from samebits.kernels.codegen.program import GROUP_SIZE, ProgramBuilder

LIBRARY: Final = ("dot.h", "tensor.h")
TILE: Final = 64  # rows and columns of a group's result; four warps of 32 x 32
STEP: Final = 32  # depths of one instruction, and of one stage in local memory
PITCH: Final = STEP + 16  # bytes of a line there: no two lanes of a fragment meet in a bank
MAX_DEPTH: Final = 32768
LEAST: Final = 32  # rows, columns and depth below which tiles would be mostly padding

_SPLIT: Final = Template("""\
// digits: ($batch, $count, $padded_lines, $padded_depth) i8 of q: ($batch, $lines, $depth) i32; zeros around
KERNEL void NAME(GLOBAL const i32 *RESTRICT q, GLOBAL u32 *RESTRICT digits) {
    if (ITEM >= $items) return;
    i64 k0 = ITEM % $words * 4, line = ITEM / $words % $padded_lines, z = ITEM / ($words * (i64)$padded_lines);
    u32 packed[$count];
    for (i32 d = 0; d < $count; d++) packed[d] = 0u;
    for (i32 i = 0; i < 4; i++) {
        i64 k = k0 + i;
        i64 at = $at;
        i32 rest = line < $lines && k < $depth ? q[at] : 0;
        for (i32 d = 0; d < $count; d++) {
            i32 digit = (i32)(i8)(rest & 255);
            packed[d] |= (u32)(digit & 255) << (8 * i);
            rest = (rest - digit) / 256;
        }
    }
    for (i32 d = 0; d < $count; d++)
        digits[((z * $count + d) * $padded_lines + line) * $words + k0 / 4] = packed[d];
}
""")

_PRODUCT: Final = Template("""\
// out: ($batch, $rows, $columns) $dtype   K = $depth   $count digits, $sums sums of each result in registers
KERNEL void NAME($parameters) {
    LOCAL __align__(16) u32 stages[2 * $stage_words];
    i64 z = GROUP / $tiles, i0 = GROUP % $tiles / $across * $tile, j0 = GROUP % $across * $tile;
    i32 warp = LOCAL_ITEM / 32, g = LOCAL_ITEM % 32 / 4, t = LOCAL_ITEM % 4;
    i32 row0 = warp / 2 * 32, column0 = warp % 2 * 32;
    i32 s[$sums][2][4][4];
    for (i32 n = 0; n < $sums; n++)
        for (i32 i = 0; i < 2; i++)
            for (i32 j = 0; j < 4; j++)
                for (i32 c = 0; c < 4; c++) s[n][i][j][c] = 0;
    for (i32 step = -1; step < $steps; step++) {
        if (step + 1 < $steps) {
            u32 *to = stages + (step + 1) % 2 * $stage_words;
            for (i32 x = LOCAL_ITEM; x < $copies; x += $group) {  // 16 bytes: half, line, digit, operand
                i32 half = x % 2, line = x / 2 % $tile, d = x / (2 * $tile) % $count, right = x / (2 * $tile * $count);
                i64 from_a = ((z * $count + d) * $padded_rows + i0 + line) * $words;
                i64 from_b = ((z * $count + d) * $padded_columns + j0 + line) * $words;
                const u32 *from = (right ? b + from_b : a + from_a) + (step + 1) * ($step / 4) + half * 4;
                copy_16(to + ((right * $count + d) * $tile + line) * ($pitch / 4) + half * 4, from);
            }
        }
        end_group();
        if (step < 0) continue;
        copies_done(1);
        BARRIER();
        const u32 *at = stages + step % 2 * $stage_words;
        u32 right[$count][4][2];
        #pragma unroll
        for (i32 d = 0; d < $count; d++)
            for (i32 j = 0; j < 4; j++)
                for (i32 h = 0; h < 2; h++)
                    right[d][j][h] = at[(($count + d) * $tile + column0 + j * 8 + g) * ($pitch / 4) + t + h * 4];
        #pragma unroll
        for (i32 i = 0; i < 2; i++)
            #pragma unroll
            for (i32 d = 0; d < $count; d++) {
                u32 left[4];
                for (i32 h = 0; h < 4; h++)
                    left[h] = at[(d * $tile + row0 + i * 16 + g + h % 2 * 8) * ($pitch / 4) + t + h / 2 * 4];
                #pragma unroll
                for (i32 e = 0; e < $count; e++)
                    #pragma unroll
                    for (i32 j = 0; j < 4; j++) mma_s8(s[d + e][i][j], left, right[e][j]);
            }
        BARRIER();
    }
    for (i32 i = 0; i < 2; i++)
        for (i32 j = 0; j < 4; j++)
            for (i32 c = 0; c < 4; c++) {
                i64 row = i0 + row0 + i * 16 + g + c / 2 * 8, column = j0 + column0 + j * 8 + 2 * t + c % 2;
                i64 total = 0;
                for (i32 n = $sums - 1; n >= 0; n--) total = total * 256 + s[n][i][j][c];
                if (row < $rows && column < $columns) out[$to] = $finish;
            }
}
""")


def suits_tensor_cores(rows: int, columns: int, depth: int) -> bool:
    """Say whether the digit engine takes a product of this size."""
    return min(rows, columns, depth) >= LEAST and depth <= MAX_DEPTH


def digit_count(p: int) -> int:
    """Return the number of digits that hold every |q| <= 127 * 2^(p-7)."""
    return 3 if p > 15 else 2


def digits_bytes(q: Lines, p: int) -> int:
    """Return the size of the digits of an operand, padded to whole tiles."""
    return q.batch * -(-q.count // TILE) * TILE * -(-q.depth // STEP) * STEP * digit_count(p)


def lower_digit_product(
    builder: ProgramBuilder, a: Lines, b: Lines, out: Lines, p: int, finish: str, given: Sequence[tuple[int, str]]
) -> None:
    """Append out = finish(sum of a b). a: (B, M, K), b: (B, N, K) i32 with |q| <= 127 * 2^(p-7), out: (B, N, M).

    finish: a C expression of `total`, z, row and column; given: the further buffers it reads, with their parameters.
    """
    batch, rows, columns, depth = a.batch, a.count, b.count, a.depth
    if not isinstance(out.view.source, int):
        raise AssertionError("a dot product writes to a buffer")
    count = digit_count(p)
    across = -(-columns // TILE)
    tiles = -(-rows // TILE) * across
    padded = -(-depth // STEP) * STEP
    parameters = ["GLOBAL const u32 *RESTRICT a", "GLOBAL const u32 *RESTRICT b", *(text for _, text in given)]
    text = _PRODUCT.substitute(
        batch=batch,
        rows=rows,
        columns=columns,
        depth=depth,
        dtype=out.view.dtype,
        to=out.index("z", "column", "row"),
        count=count,
        sums=2 * count - 1,
        tiles=tiles,
        across=across,
        tile=TILE,
        step=STEP,
        steps=padded // STEP,
        pitch=PITCH,
        words=padded // 4,
        stage_words=2 * count * TILE * PITCH // 4,
        copies=2 * count * TILE * 2,
        group=GROUP_SIZE,
        padded_rows=-(-rows // TILE) * TILE,
        padded_columns=across * TILE,
        finish=finish,
        parameters=", ".join([*parameters, f"GLOBAL {C_TYPES[out.view.dtype]} *RESTRICT out"]),
    )
    digits = [_split(builder, lines, count) for lines in (a, b)]
    buffers = [*digits, *(number for number, _ in given), out.view.source]
    builder.call("dot_tensor", text, buffers, batch * tiles * GROUP_SIZE, library=LIBRARY, group=GROUP_SIZE)


def _split(builder: ProgramBuilder, q: Lines, count: int) -> int:
    """Append the splitting of q (B, lines, K) i32 into digit planes, padded to whole tiles; return their buffer."""
    if not isinstance(q.view.source, int):
        raise AssertionError("quantised operands are in a buffer")
    batch, lines, depth = q.batch, q.count, q.depth
    padded_lines, padded_depth = -(-lines // TILE) * TILE, -(-depth // STEP) * STEP
    items = batch * padded_lines * (padded_depth // 4)
    digits = builder.buffer(4 * items * count)
    text = _SPLIT.substitute(
        batch=batch,
        count=count,
        lines=lines,
        depth=depth,
        padded_lines=padded_lines,
        padded_depth=padded_depth,
        words=padded_depth // 4,
        items=items,
        at=q.index("z", "line", "k"),
    )
    builder.call("dot_digits", text, [q.view.source, digits], items, library=LIBRARY)
    return digits
