"""argsort: stable sorting positions along one axis, by counting.

Short rows: an element's place is the number of elements before it, counted. Long rows: a stable counting sort by each
byte of the key, least first (radix sort; Knuth, The Art of Computer Programming 3, 5.2.5). Rows are cut into segments:
each counts its bytes, the counts become places, and each moves its elements there. No comparison, no lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from samebits.cas.dtype import FLOATS, numpy_dtype
from samebits.kernels.codegen.ctypes_of import C_TYPES, element
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.program import CHUNK, Parameters, ProgramBuilder
from samebits.kernels.codegen.slices import call_span, dims_of
from samebits.kernels.codegen.view import View, collapse, stored
from samebits.kernels.codegen.walk import Dims, offset_text
from samebits.kernels.errors import OpError
from samebits.kernels.types import TensorType

LIBRARY: Final = ("order.h",)
DIGITS: Final = 256  # values of a byte
COUNTED: Final = {"cpu": 64, "gpu": 512}  # rows up to this length are sorted by counting
WHOLE: Final = 1 << 14  # a cpu item sorts a row up to this length alone
ENOUGH_ROWS: Final = 16  # or any row, where there are so many
CPU_SEGMENT: Final = 1 << 14
GPU_SEGMENT: Final = 256
GPU_SEGMENTS: Final = 4096


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of `terms` keys. Strides of x and of out; `key` is the C expression of ELEMENT's key, of type `kind`."""

    x: View
    out: int
    rows: int
    terms: int
    steps: tuple[int, int]
    x_dims: Dims
    out_dims: Dims
    kind: str
    key: str

    @property
    def passes(self) -> int:
        """Return the bytes of a key."""
        return numpy_dtype(self.kind).itemsize

    def read(self, position: str, row: str = "row") -> str:
        """Return the key of the element at a position of a row of x."""
        index = f"{self.x.offset} + {offset_text(row, self.x_dims)} + ({position}) * ({self.steps[0]})"
        return self.key.replace("ELEMENT", element(self.x.source, self.x.dtype, "x", index))

    def write(self, place: str, value: str) -> str:
        """Return the statement that stores a position in the result."""
        return f"out[{offset_text('row', self.out_dims)} + (i64)({place}) * {self.steps[1]}] = (i64)({value});"


def lower_sort(builder: ProgramBuilder, x: View, out: View, axis: int, descending: bool) -> None:
    """Append the kernels that write x sorted along an axis: its sorting positions, then the elements there."""
    if not isinstance(out.source, int):
        raise AssertionError("sort writes to a buffer")
    if out.size == 0:
        return
    positions = builder.buffer(8 * x.size)
    lower_argsort(builder, x, stored(positions, TensorType("i64", x.shape)), axis, descending)
    inner = prod(x.shape[axis + 1 :])
    row, column = f"item / {inner * x.shape[axis]}", f"item % {inner}"
    outer_dims, inner_dims = dims_of(x, None, axis), dims_of(x, axis + 1)
    place = f"{x.offset} + {offset_text(row, outer_dims)} + places[item] * ({x.strides[axis]})"
    index = f"{place} + {offset_text(column, inner_dims)}"
    parameters = [
        *source_parameter(x),
        (positions, "GLOBAL const i64 *RESTRICT places"),
        (out.source, f"GLOBAL {C_TYPES[x.dtype]} *RESTRICT out"),
    ]
    call_span(builder, "sort", x.size, f"out[item] = {element(x.source, x.dtype, 'x', index)};\n", parameters)


def lower_argsort(builder: ProgramBuilder, x: View, out: View, axis: int, descending: bool) -> None:
    """Append the kernels that write sorting positions of x along an axis; out: contiguous i64 of x's shape."""
    if not isinstance(out.source, int):
        raise AssertionError("argsort writes to a buffer")
    if out.size == 0:
        return
    if x.shape[axis] >= 1 << 32:
        raise OpError("argsort", f"an axis of {x.shape[axis]} elements; kernels count to 2^32")
    rows = _plan(x, out, axis, descending)
    if rows.terms <= COUNTED[builder.layout]:
        _by_counting(builder, rows)
    elif builder.layout == "cpu" and (rows.terms <= WHOLE or rows.rows >= ENOUGH_ROWS):
        _whole_rows(builder, rows)
    else:
        _by_segments(builder, rows)


def _plan(x: View, out: View, axis: int, descending: bool) -> _Rows:
    others = [i for i in range(len(x.shape)) if i != axis]
    shape, *strides = ([v[i] for i in others] for v in (x.shape, x.strides, out.strides))
    sizes, (mine, theirs) = collapse(shape, strides)
    kind, key = _key(x.dtype, descending)
    x_dims, out_dims = (tuple(zip(sizes, steps, strict=True)) for steps in (mine, theirs))
    if not isinstance(out.source, int):
        raise AssertionError("argsort writes to a buffer")
    steps = (x.strides[axis], out.strides[axis])
    return _Rows(x, out.source, prod(shape), x.shape[axis], steps, x_dims, out_dims, kind, key)


def _key(dtype: str, descending: bool) -> tuple[str, str]:
    """Return the type and the C expression of the key of ELEMENT; keys order as the contract orders elements."""
    size = numpy_dtype(dtype).itemsize
    kind = f"u{8 * size}"
    if dtype in FLOATS:
        bits = {"f32": "bits32(ELEMENT)", "f64": "bits64(ELEMENT)"}.get(dtype, "ELEMENT")
        key = f"sort_key_{dtype}({bits})"
    elif dtype != "bool" and np.iinfo(numpy_dtype(dtype)).min < 0:
        key = f"(({kind})ELEMENT ^ ({kind})(({kind})1 << {8 * size - 1}))"
    else:
        key = f"({kind})ELEMENT"
    return kind, f"({kind})~{key}" if descending else f"({kind}){key}"


def _by_counting(builder: ProgramBuilder, rows: _Rows) -> None:
    """Append the kernel that counts, for each element, how many stand before it."""
    parameters = [*source_parameter(rows.x), (rows.out, "GLOBAL i64 *RESTRICT out")]
    n, kind = rows.terms, rows.kind
    if builder.layout == "gpu":
        body = f"""i64 item = ITEM;
if (item >= {rows.rows * n}) return;
i64 row = item / {n};
i32 i = (i32)(item % {n});
{kind} key = {rows.read("i")};
i32 place = 0;
for (i32 j = 0; j < {n}; j++) {{
{kind} other = {rows.read("j")};
place += other < key || (other == key && j < i);
}}
{rows.write("place", "i")}
"""
        builder.call_body("argsort_counting", parameters, body, rows.rows * n, library=LIBRARY)
        return
    per = max(1, CHUNK // (8 * n))
    body = f"""i64 first = ITEM * {per}, last = first + {per} < {rows.rows} ? first + {per} : {rows.rows};
{kind} keys[{n}];
for (i64 row = first; row < last; row++) {{
for (i32 j = 0; j < {n}; j++) keys[j] = {rows.read("j")};
for (i32 i = 0; i < {n}; i++) {{
{kind} key = keys[i];
i32 place = 0;
for (i32 j = 0; j < i; j++) place += keys[j] <= key;
for (i32 j = i + 1; j < {n}; j++) place += keys[j] < key;
{rows.write("place", "i")}
}}
}}
"""
    builder.call_body("argsort_counting", parameters, body, -(-rows.rows // per), library=LIBRARY)


class _Digits:
    """The temporaries of a radix sort, keys and positions twice, and what its passes read and write."""

    def __init__(self, builder: ProgramBuilder, rows: _Rows) -> None:
        self._rows = rows
        size = rows.rows * rows.terms
        copies = min(2, rows.passes - 1)
        self._keys = [
            (builder.buffer(rows.passes * size), f"GLOBAL {rows.kind} *RESTRICT keys{i}") for i in range(copies)
        ]
        self._places = [(builder.buffer(4 * size), f"GLOBAL u32 *RESTRICT places{i}") for i in range(copies)]

    def buffers(self, number: int) -> Parameters:
        """Return the buffers that a pass reads and writes."""
        rows = self._rows
        found = (
            source_parameter(rows.x) if number == 0 else [self._keys[(number - 1) % 2], self._places[(number - 1) % 2]]
        )
        if number == rows.passes - 1:
            return [*found, (rows.out, "GLOBAL i64 *RESTRICT out")]
        return [*found, self._keys[number % 2], self._places[number % 2]]

    def all_buffers(self) -> Parameters:
        """Return the buffers of all passes."""
        return [
            *source_parameter(self._rows.x),
            *self._keys,
            *self._places,
            (self._rows.out, "GLOBAL i64 *RESTRICT out"),
        ]

    def key(self, number: int) -> str:
        """Return the C expression of the key at position k of the row, before a pass."""
        if number == 0:
            return self._rows.read("k")
        return f"keys{(number - 1) % 2}[row * {self._rows.terms} + k]"

    def digit(self, number: int) -> str:
        """Return the C expression of the byte of `key` that a pass sorts by."""
        return f"(i32)(key >> {8 * number} & 255)"

    def move(self, number: int) -> str:
        """Return the statements that put `key`, of position k, to its `place`."""
        rows = self._rows
        position = "k" if number == 0 else f"places{(number - 1) % 2}[row * {rows.terms} + k]"
        if number == rows.passes - 1:
            return rows.write("place", position)
        target = f"[row * {rows.terms} + place]"
        return f"keys{number % 2}{target} = key; places{number % 2}{target} = (u32){position};"


def _whole_rows(builder: ProgramBuilder, rows: _Rows) -> None:
    """Append the kernel whose items sort whole rows."""
    digits = _Digits(builder, rows)
    per = max(1, CHUNK // rows.terms)
    text = f"i64 first = ITEM * {per}, last = first + {per} < {rows.rows} ? first + {per} : {rows.rows};\n"
    text += f"u32 count[{DIGITS}];\nfor (i64 row = first; row < last; row++) {{\n"
    for number in range(rows.passes):
        key = f"{rows.kind} key = {digits.key(number)};"
        text += f"""for (i32 d = 0; d < {DIGITS}; d++) count[d] = 0u;
for (i64 k = 0; k < {rows.terms}; k++) {{ {key} count[{digits.digit(number)}]++; }}
{_starts()}for (i64 k = 0; k < {rows.terms}; k++) {{
{key}
i64 place = count[{digits.digit(number)}]++;
{digits.move(number)}
}}
"""
    builder.call_body("argsort_rows", digits.all_buffers(), text + "}\n", -(-rows.rows // per), library=LIBRARY)


def _starts() -> str:
    """Return the text that turns counts into the place of each byte's first element."""
    step = "u32 here = count[d]; count[d] = start; start += here;"
    return f"{{ u32 start = 0u; for (i32 d = 0; d < {DIGITS}; d++) {{ {step} }} }}\n"


def _by_segments(builder: ProgramBuilder, rows: _Rows) -> None:
    """Append three kernels for each byte: count it in each segment, add up the counts, move the elements."""
    digits = _Digits(builder, rows)
    length = CPU_SEGMENT if builder.layout == "cpu" else max(GPU_SEGMENT, -(-rows.terms // GPU_SEGMENTS))
    segments = -(-rows.terms // length)
    counts = (builder.buffer(4 * rows.rows * DIGITS * segments), "GLOBAL u32 *RESTRICT counts")
    totals = (builder.buffer(4 * rows.rows * DIGITS), "GLOBAL u32 *RESTRICT totals")
    items = rows.rows * segments
    frame = f"""i64 item = ITEM;
if (item >= {items}) return;
i64 row = item / {segments}, segment = item % {segments}, begin = segment * {length};
i64 end = begin + {length} < {rows.terms} ? begin + {length} : {rows.terms};
u32 count[{DIGITS}];
"""
    place = f"counts[(row * {DIGITS} + d) * {segments} + segment]"
    for number in range(rows.passes):
        key = f"{rows.kind} key = {digits.key(number)};"
        digit = digits.digit(number)
        text = f"""{frame}for (i32 d = 0; d < {DIGITS}; d++) count[d] = 0u;
for (i64 k = begin; k < end; k++) {{ {key} count[{digit}]++; }}
for (i32 d = 0; d < {DIGITS}; d++) {place} = count[d];
"""
        reads = digits.buffers(number)[:1] if number or source_parameter(rows.x) else []
        builder.call_body("argsort_count", [*reads, counts], text, items, library=LIBRARY)
        _add_counts(builder, rows.rows * DIGITS, segments, [counts, totals])
        text = f"""{frame}for (i32 d = 0; d < {DIGITS}; d++) count[d] = totals[row * {DIGITS} + d];
{_starts()}for (i32 d = 0; d < {DIGITS}; d++) count[d] += {place};
for (i64 k = begin; k < end; k++) {{
{key}
i64 place = count[{digit}]++;
{digits.move(number)}
}}
"""
        builder.call_body("argsort_move", [*digits.buffers(number), counts, totals], text, items, library=LIBRARY)


def _add_counts(builder: ProgramBuilder, items: int, segments: int, parameters: Parameters) -> None:
    """Append the kernel that turns counts of one byte into the elements that earlier segments hold of it."""
    text = f"""i64 item = ITEM;
if (item >= {items}) return;
u32 total = 0u;
for (i64 s = item * {segments}; s < (item + 1) * {segments}; s++) {{
u32 here = counts[s];
counts[s] = total;
total += here;
}}
totals[item] = total;
"""
    builder.call_body("argsort_add", parameters, text, items, library=LIBRARY)
