"""cumsum: prefixes of exact integer sums, all on the grid of the whole row, each rounded once."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from samebits.cas.dtype import FLOATS
from samebits.kernels.codegen.ctypes_of import C_TYPES, as_f32, element
from samebits.kernels.codegen.folds import LIBRARY, Fold, lower_fold, source_parameter
from samebits.kernels.codegen.program import CHUNK, ProgramBuilder
from samebits.kernels.codegen.view import View, collapse
from samebits.kernels.codegen.walk import LEAST_LANES, Dims, offset_text
from samebits.kernels.grid import clog2
from samebits.kernels.sums import sum_precision

TILE: Final = 256  # lanes, or elements of a row that wait between the running sum and its rounding
CPU_SEGMENT: Final = 1 << 15
CPU_WHOLE: Final = 1 << 17
GPU_SEGMENT: Final = 256
MAGIC_LIMIT: Final = 51  # bits of a whole number that fit below MAGIC


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows along one axis. Strides are those of x and of out; lanes are neighbouring rows (1: none)."""

    x: View
    terms: int
    steps: tuple[int, int]  # along the axis
    x_dims: Dims
    out_dims: Dims
    lane_size: int
    lane_steps: tuple[int, int]
    lanes: int
    segment: int  # terms of a segment

    @property
    def groups(self) -> int:
        """Return the number of tiles of rows (of rows, where there are no lanes)."""
        return prod(size for size, _ in self.x_dims) * self.tiles

    @property
    def tiles(self) -> int:
        return -(-self.lane_size // self.lanes)

    @property
    def rows(self) -> int:
        return prod(size for size, _ in self.x_dims) * self.lane_size

    @property
    def segments(self) -> int:
        return -(-self.terms // self.segment)


def lower_cumsum(builder: ProgramBuilder, x: View, out: View, axis: int) -> None:
    """Append the kernels of a cumulative sum along an axis; out: contiguous, of x's shape and type."""
    if not isinstance(out.source, int):
        raise AssertionError("cumsum writes to a buffer")
    if out.size == 0:
        return
    rows = _plan(builder, x, out, axis)
    emitter = _Emitter(rows, builder.layout == "cpu")
    if rows.segments == 1:
        emitter.call(builder, "cumsum", emitter.whole(), [(out.source, f"GLOBAL {C_TYPES[x.dtype]} *RESTRICT out")])
        return
    total = "u64"
    sums = (builder.buffer(8 * rows.segments * rows.rows), f"GLOBAL {total} *RESTRICT sums")
    used = [sums]
    if x.dtype in FLOATS:
        tops = builder.buffer(4 * rows.rows)
        fold = Fold("u32", "0u", "max", f"finite_magnitude_f32({as_f32(x.dtype, 'VALUE')})")
        lower_fold(builder, fold, x, (axis,), tops, "u32")
        seen = builder.buffer(4 * (rows.segments + 1) * rows.rows)
        used += [(tops, "GLOBAL const u32 *RESTRICT tops"), (seen, "GLOBAL u32 *RESTRICT seens")]
    emitter.call(builder, "cumsum_totals", emitter.totals(), used)
    emitter.call(builder, "cumsum_starts", emitter.starts(), [u for u in used if "tops" not in u[1]], source=False)
    target = (out.source, f"GLOBAL {C_TYPES[x.dtype]} *RESTRICT out")
    emitter.call(builder, "cumsum", emitter.prefixes(), [*used, target])


def _plan(builder: ProgramBuilder, x: View, out: View, axis: int) -> _Rows:
    others = [i for i in range(len(x.shape)) if i != axis]
    shape, *strides = ([v[i] for i in others] for v in (x.shape, x.strides, out.strides))
    sizes, (mine, theirs) = collapse(shape, strides)
    dims = list(zip(sizes, mine, theirs, strict=True))
    lane = (1, 0, 0)
    on_cpu = builder.layout == "cpu"
    if on_cpu and dims and dims[-1][0] >= LEAST_LANES and out.strides[axis] != 1:
        lane = dims.pop()
    lanes = min(lane[0], TILE)
    terms = x.shape[axis]
    segment = terms
    if not on_cpu:
        segment = min(terms, GPU_SEGMENT)
    elif terms * lanes > CPU_WHOLE and x.size // (terms * lanes) < 16:
        segment = max(1, CPU_SEGMENT // lanes)
    x_dims, out_dims = (tuple((d[0], d[which]) for d in dims) for which in (1, 2))
    steps = (x.strides[axis], out.strides[axis])
    return _Rows(x, terms, steps, x_dims, out_dims, lane[0], lane[1:], lanes, segment)


class _Emitter:
    """Writes the texts of one cumsum."""

    def __init__(self, rows: _Rows, on_cpu: bool) -> None:
        self._rows = rows
        self._float = rows.x.dtype in FLOATS
        self._dtype = rows.x.dtype
        self._p = sum_precision(rows.terms)
        rows_each = max(1, CHUNK // max(1, rows.terms * rows.lanes)) if on_cpu else 1
        self._per = rows_each if rows.segments == 1 else 1  # groups of an item

    def call(
        self,
        builder: ProgramBuilder,
        label: str,
        body: str,
        used: list[tuple[int, str]],
        *,
        source: bool = True,
    ) -> None:
        """Append the call of a kernel with this body, on x (if `source`) and the buffers used."""
        parameters = [*(source_parameter(self._rows.x) if source else []), *used]
        items = -(-self._rows.groups // self._per) * (self._rows.segments if source else 1)
        builder.call_body(label, parameters, body, items, library=LIBRARY)

    def whole(self) -> str:
        """Return the body that does whole rows at once."""
        if not self._float:
            return self._frame(self._start("0", "0u") + self._write_integers())
        top = self._declare("u32", "top", "0u")
        top += self._each_element("u32 m = magnitude_f32({value}); top@ = m > top@ ? m : top@;")
        finite = self._each_lane("top@ = 0u;")
        finite += self._each_element("u32 m = finite_magnitude_f32({value}); top@ = m > top@ ? m : top@;")
        search = f"{top}{self._worst('top@ >= F32_INF_BITS')}if (special) {{\n{finite}}}\n"
        return self._frame(search + self._scales() + self._start("0", "0u") + self._write())

    def totals(self) -> str:
        """Return the body that adds up each segment of each row, and says which special values it holds."""
        text = self._load_tops() + self._start("0", "0u")
        add = "total@ += {bits}; seen@ |= seen_f32({value});" if self._float else "total@ += (u64){value};"
        text += self._each_element(add)
        keep = f"sums[segment * {self._rows.rows} + #] = total@;"
        keep += f" seens[segment * {self._rows.rows} + #] = seen@;" if self._float else ""
        return self._frame(text + self._each_lane(keep))

    def starts(self) -> str:
        """Return the body that turns what segments hold into what stands before them; then the whole row's."""
        place = f"s * {self._rows.rows} + #"
        step = f"u64 next = total@ + sums[{place}]; sums[{place}] = total@; total@ = next;"
        if self._float:
            step += f" u32 more = seen@ | seens[{place}]; seens[{place}] = seen@; seen@ = more;"
        loop = f"for (i64 s = 0; s < {self._rows.segments}; s++) {{\n{self._each_lane(step)}}}\n"
        last = self._each_lane(f"seens[{self._rows.segments * self._rows.rows} + #] = seen@;") if self._float else ""
        return self._frame(self._start("0", "0u") + loop + last, cut=False)

    def prefixes(self) -> str:
        """Return the body that writes the prefixes of each segment."""
        r = self._rows
        place = f"segment * {r.rows} + #"
        start = self._load_tops() + self._start(f"sums[{place}]", f"seens[{place}]")
        if not self._float:
            return self._frame(start + self._write_integers())
        return self._frame(start + self._worst(f"seens[{r.segments * r.rows} + #] != 0u") + self._write())

    def _worst(self, test: str) -> str:
        """Return the text that sets `special` where any row at hand holds a NaN or an infinity."""
        return "u32 special = 0u;\n" + self._each_lane(f"special |= {test} ? 1u : 0u;")

    def _frame(self, body: str, *, cut: bool = True) -> str:
        r = self._rows
        segments = r.segments if cut else 1
        group = f"i64 segment = ITEM % {segments}, first = ITEM / {segments} * {self._per};\n"
        group += f"i64 last = first + {self._per} < {r.groups} ? first + {self._per} : {r.groups};\n"
        group += f"i64 begin = segment * {r.segment}, end = begin + {r.segment};\n"
        group += f"if (end > {r.terms}) end = {r.terms};\n"
        where = f"i64 row = g / {r.tiles}, lane = g % {r.tiles} * {r.lanes}, o = row * {r.lane_size} + lane;\n"
        if "base" in body:
            where += f"i64 base = {r.x.offset} + {offset_text('row', r.x_dims)} + lane * ({r.lane_steps[0]});\n"
        if "place" in body:
            where += f"i64 place = {offset_text('row', r.out_dims)} + lane * {r.lane_steps[1]};\n"
        if r.lanes > 1:
            left = f"{r.lane_size} - lane"
            where += f"i32 n = (i32)({left} < {r.lanes} ? {left} : {r.lanes});\n"
        body = body.replace("@", "[k]" if r.lanes > 1 else "").replace("#", "(o + k)" if r.lanes > 1 else "o")
        return f"{group}for (i64 g = first; g < last; g++) {{\n{where}{body}}}\n"

    def _declare(self, kind: str, name: str, value: str) -> str:
        if self._rows.lanes > 1:
            return f"{kind} {name}[{self._rows.lanes}];\n" + self._each_lane(f"{name}[k] = {value};")
        return f"{kind} {name} = {value};\n"

    def _each_lane(self, statement: str) -> str:
        return f"for (i32 k = 0; k < n; k++) {{ {statement} }}\n" if self._rows.lanes > 1 else f"{{ {statement} }}\n"

    def _load_tops(self) -> str:
        return self._declare("u32", "top", "tops[#]") + self._scales() if self._float else ""

    def _scales(self) -> str:
        scale = self._declare("f64", "scale", f"pow2_f64({self._p} - grid_exponent(top@))")
        return scale + self._declare("f64", "unit", f"pow2_f64(grid_exponent(top@) - {self._p})")

    def _start(self, total: str, seen: str) -> str:
        text = self._declare("u64", "total", total)
        return text + self._declare("u32", "seen", seen) if self._float else text

    def _value(self, step: str) -> str:
        """Return the element at position `step` of the row, as f32 where it is a float."""
        lane = f" + k * ({self._rows.lane_steps[0]})" if self._rows.lanes > 1 else ""
        index = f"base + ({step}) * ({self._rows.steps[0]}){lane}"
        x = element(self._rows.x.source, self._dtype, "x", index)
        return as_f32(self._dtype, x) if self._float else x

    def _each_element(self, statement: str) -> str:
        """Return the loop over a segment. {value}: the element; {bits}: what it adds to the total."""
        value = self._value("t")
        bits = f"on_grid(from_bits32(seen_f32({value}) != 0u ? 0u : bits32({value})), scale@) - (u64)MAGIC_BITS"
        text = statement.replace("{value}", value).replace("{bits}", bits)
        return f"for (i64 t = begin; t < end; t++) {{\n{self._each_lane(text)}}}\n"

    def _write_integers(self) -> str:
        kind = C_TYPES[self._dtype]
        return self._each_element(f"total@ += (u64){{value}}; {self._target('t')} = ({kind})total@;")

    def _target(self, step: str) -> str:
        r = self._rows
        lane = f" + k * {r.lane_steps[1]}" if r.lanes > 1 else ""
        return f"out[place + ({step}) * {r.steps[1]}{lane}]"

    def _write(self) -> str:
        """Return the loops that write prefixes: one for rows of finite values, one that also tracks special ones."""
        r = self._rows
        # sums below 2^51 turn into f64 by the magic number, longer ones may need rounding to odd
        small = self._p + clog2(r.terms) <= MAGIC_LIMIT
        total = "total@" if r.lanes > 1 else "sum[j]"
        exact = f"from_bits64({total} + (u64)MAGIC_BITS) - MAGIC" if small else f"odd_i64((i64){total})"
        fast = f"round_{self._dtype}(({exact}) * unit@)"
        if r.lanes > 1:
            careful = f"round_{self._dtype}(sum_value((i64)total@, unit@, seen@))"
            target = self._target("t")
            slow_text = self._each_element(f"total@ += {{bits}}; seen@ |= seen_f32({{value}}); {target} = {careful};")
            plain = f"total@ += on_grid({{value}}, scale@) - (u64)MAGIC_BITS; {target} = {fast};"
            return f"if (special) {{\n{slow_text}}} else {{\n{self._each_element(plain)}}}\n"
        return f"u64 sum[{TILE}];\nif (special) {{\n{self._write_special_row()}}} else {{\n{self._write_row(fast)}}}\n"

    def _write_row(self, result: str) -> str:
        """Return the loop over a row of finite floats in tiles: quantise, add up (the one serial part), round."""
        return f"""for (i64 t0 = begin; t0 < end; t0 += {TILE}) {{
i32 m = (i32)(end - t0 < {TILE} ? end - t0 : {TILE});
for (i32 j = 0; j < m; j++) sum[j] = on_grid({self._value("t0 + j")}, scale) - (u64)MAGIC_BITS;
for (i32 j = 0; j < m; j++) {{ total += sum[j]; sum[j] = total; }}
for (i32 j = 0; j < m; j++) {self._target("t0 + j")} = {result};
}}
"""

    def _write_special_row(self) -> str:
        result = f"round_{self._dtype}(sum_value((i64)total, unit, seen))"
        return self._each_element(f"total += {{bits}}; seen |= seen_f32({{value}}); {self._target('t')} = {result};")
