"""dot_general of floats on a CPU with int8 instructions: balanced digits, multiplied by a library, exact sums.

q = d_0 + 2^W d_1 + 2^(2W) d_2 + ... with digits in -2^(W-1) .. 2^(W-1) - 1. The pairs of digits of one shift n, side by
side along K, are one int8 product; its i32 sums s_n cannot overflow, and S = sum of s_n 2^(W n) fits i64. Nothing
rounds before the end, so this engine agrees with the others on every bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from string import Template
from typing import Final

from samebits.kernels.codegen.ctypes_of import C_TYPES
from samebits.kernels.codegen.dot_stages import Plan, Stage, call_stage, make_plan, make_sides, preparing_stages
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.host import MAX_TERMS, digit_bits, most_products, shift_blocks, takes_unsigned
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import View

RUN: Final = 64  # neighbouring digits that are made at once; columns of a panel of the right side
LINES: Final = 16  # runs of a piece of work: rows of the left side, depths of the right one
RESULTS: Final = 8192  # results that one work-item rounds
# Below it, or where a side is narrow, waking another library's threads some five times costs more than it saves.
LEAST_WORK: Final = 1 << 26  # multiply-adds
LEAST_SIDE: Final = 64

_SPLIT: Final = Template("""
// digits of whole numbers q[0 .. n), to the places of one run in the blocks of each shift
FN void NAME_split(GLOBAL const f64 *RESTRICT q, i64 n, GLOBAL i8 *RESTRICT digits, i64 z, $place) {
    i8 d[$count * $run];
    for (i64 i = 0; i < n; i++) {
        i32 rest = (i32)q[i];
$each
    }
$copies
}
""")


def digit_count(p: int, bits: int) -> int:
    """Return the number of balanced digits of so many bits that hold every |q| <= 127 * 2^(p-7)."""
    most, reach, count = 127 << p >> 7, 0, 0
    while reach < most:
        reach, count = (reach << bits) + (1 << bits - 1) - 1, count + 1
    return count


def suits_digits(rows: int, columns: int, depth: int, p: int) -> bool:
    """Say whether the digit engine takes a product of this size, and pays on this CPU."""
    count = digit_count(p, digit_bits())
    large = min(rows, columns, depth) >= LEAST_SIDE and rows * columns * depth >= LEAST_WORK
    return large and count * depth <= MAX_TERMS and count * count <= most_products()


def lower_float_digits(
    builder: ProgramBuilder, a: View, b: View, out: View, *, p: int, grid: str, bits: int | None = None
) -> None:
    """Append out = RN(a b). a: (B, M, K), b: (B, K, N), out: (B, M, N), none empty; p and grid as in kernels/dot.py.

    bits: W, of a digit; by default what this CPU's instructions take. Raises ValueError if a sum could overflow.
    """
    engine, width = builder.int8_engine, digit_bits() if bits is None else bits
    if not isinstance(out.source, int) or engine is None:
        raise AssertionError("a product of digits has an engine and writes to a buffer")
    count = digit_count(p, width)
    rows, columns = make_sides(a, b, p, grid)
    plan = make_plan(rows, replace(columns, width=RUN), out, swapped=False)
    if count * plan.depth > MAX_TERMS:
        raise ValueError(f"K = {plan.depth} is too long for {count} digits")
    head = f"// {out.shape} {out.dtype}   K = {plan.depth}, p = {p}, grid {grid}, {count} digits of {width} bits\n"
    work = builder.buffer(8 * plan.size)
    sources = [*source_parameter(a, "a"), *source_parameter(b, "b"), (work, "GLOBAL f64 *RESTRICT w")]
    for stage in preparing_stages(plan, b):
        call_stage(builder, stage, head, sources, plan.batch)
    digits = []
    for stage, side in (
        (_left_stage(plan, count, width, takes_unsigned(engine)), plan.left),
        (_right_stage(plan, count, width), plan.right),
    ):
        digits.append(builder.buffer(plan.batch * side.lines * plan.depth * count * count))
        given = [(work, "GLOBAL const f64 *RESTRICT w"), (digits[-1], "GLOBAL i8 *RESTRICT digits")]
        call_stage(builder, stage, head, given, plan.batch)
    batch, m, n = out.shape
    sums = builder.buffer(4 * (2 * count - 1) * out.size)
    builder.host("digit_product", [*digits, sums], (engine, batch, m, n, plan.depth, count), writes=(2,))
    given = [
        (work, "GLOBAL const f64 *RESTRICT w"),
        (sums, "GLOBAL const i32 *RESTRICT sums"),
        (out.source, f"GLOBAL {C_TYPES[out.dtype]} *RESTRICT out"),
    ]
    call_stage(builder, _total_stage(plan, count, width), head, given, batch)


def _left_stage(plan: Plan, count: int, width: int, unsigned: bool) -> Stage:
    """Write the blocks of the left side: for each shift (B, M, n K), digit after digit along a row."""
    lines, depth = plan.left.lines, plan.depth
    places, start = [], 0
    for first, pairs in shift_blocks(count):
        for d in range(first, first + pairs):
            places.append((d, f"{start} + ((z * {lines} + row) * {pairs} + {d - first}) * {depth}l + k"))
        start += plan.batch * lines * pairs * depth
    text = _split_text(places, count, width, "i64 row, i64 k", " ^ (i8)-128" if unsigned else "")
    body = f"""\
    i64 end = (item + 1) * {LINES} < {lines} ? (item + 1) * {LINES} : {lines};
    for (i64 row = item * {LINES}; row < end; row++)
        for (i64 k = 0; k < {depth}; k += {RUN})
            NAME_split(w + {plan.panels[0]} + (z * {plan.left.padded} + row) * {depth}l + k,
                       {depth} - k < {RUN} ? {depth} - k : {RUN}, digits, z, row, k);
"""
    return Stage("dot_left_digits", text, body, -(-lines // LINES))


def _right_stage(plan: Plan, count: int, width: int) -> Stage:
    """Write the blocks of the right side: for each shift (B, n K, N), digits in the reverse order along K."""
    lines, depth = plan.right.lines, plan.depth
    places, start = [], 0
    for shift, (first, pairs) in enumerate(shift_blocks(count)):
        for d in range(first, first + pairs):
            places.append((shift - d, f"{start} + ((z * {pairs} + {d - first}) * {depth}l + k) * {lines} + column"))
        start += plan.batch * lines * pairs * depth
    text = _split_text(places, count, width, "i64 k, i64 column", "")
    pieces = -(-depth // LINES)
    body = f"""\
    i64 column = item / {pieces} * {RUN}, k0 = item % {pieces} * {LINES};
    i64 n = {lines} - column < {RUN} ? {lines} - column : {RUN};
    i64 end = k0 + {LINES} < {depth} ? k0 + {LINES} : {depth};
    for (i64 k = k0; k < end; k++)
        NAME_split(w + {plan.panels[1]} + (z * {plan.right.padded} + column) * {depth}l + k * {RUN}, n, digits, z,
                   k, column);
"""
    return Stage("dot_right_digits", text, body, plan.right.padded // RUN * pieces)


def _split_text(places: Sequence[tuple[int, str]], count: int, width: int, place: str, flip: str) -> str:
    """Return the function NAME_split. places: digits, and where a run of each begins; flip: what makes s8 u8."""
    half, mask = 1 << width - 1, (1 << width) - 1
    each = [
        f"        i32 d{d} = ((rest + {half}) & {mask}) - {half}; d[{d * RUN} + i] = (i8)d{d}{flip};"
        f" rest = (rest - d{d}) / {1 << width};"
        for d in range(count)
    ]
    copies = [f"    for (i64 i = 0; i < n; i++) digits[{at} + i] = d[{d * RUN} + i];" for d, at in places]
    return _SPLIT.substitute(place=place, count=count, run=RUN, each="\n".join(each), copies="\n".join(copies))


def _total_stage(plan: Plan, count: int, width: int) -> Stage:
    """Add the sums of the shifts and round: out = RN(S * left step * right step)."""
    _, rows, columns = plan.out.shape
    lines = max(1, RESULTS // columns)
    left, right = plan.steps
    body = f"""\
    GLOBAL const f64 *ls = w + {left} + z * {plan.left.padded}, *rs = w + {right} + z * {plan.right.padded};
    i64 end = (item + 1) * {lines} < {rows} ? (item + 1) * {lines} : {rows};
    for (i64 row = item * {lines}; row < end; row++)
        for (i64 column = 0; column < {columns}; column++) {{
            i64 at = (z * {rows} + row) * {columns} + column, total = 0;
            for (i32 n = {2 * count - 2}; n >= 0; n--) total = total * {1 << width} + sums[n * {plan.out.size}l + at];
            out[at] = round_{plan.out.dtype}(odd_i64(total) * ls[row] * rs[column]);
        }}
"""
    return Stage("dot_total", "", body, -(-rows // lines))
