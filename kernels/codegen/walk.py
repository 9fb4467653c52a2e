"""How work-items walk over the groups of a reduction: loops as C text, for a view of any strides.

A group is what goes into one output. An item of the cpu layout takes whole rows (the reduced axis lies dense in
memory), or a tile of columns (the kept axis does, and each column has its own accumulator, a lane), in chunks when the
groups are long. An item of the gpu layout takes every S-th element of one group.

In bodies, `@` stands for the lane's subscript ("" or "[k]"), `#` for the number of the output, and ELEMENT for the
element at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from samebits.kernels.codegen.ctypes_of import element
from samebits.kernels.codegen.program import CHUNK, Layout
from samebits.kernels.codegen.view import View, collapse

Dims = tuple[tuple[int, int], ...]  # (size, stride), outermost first

LANES: Final = 256  # columns of a tile: 1 KiB of f32, with its accumulators well within the first cache
MOST_LANES: Final = 1024
LEAST_LANES: Final = 8
WHOLE: Final = 1 << 17  # a cpu item takes up to this many elements before a group is cut
SEGMENT: Final = 1 << 16  # elements of a segment on a cpu
ENOUGH_ITEMS: Final = 16  # cpu: this many items are not cut further
GPU_ITEMS: Final = 1 << 16
GPU_TERMS: Final = 32  # least elements of a segment on a gpu


@dataclass(frozen=True, slots=True)
class Walk:
    """One way over all elements. A step takes `part` elements of the inner axis (or one of each lane)."""

    x: View
    layout: Layout
    outputs: int
    terms: int  # elements of a group
    kept: Dims  # without the lanes' axis
    outer: Dims  # the steps; the last one counts the parts of the inner axis
    inner: tuple[int, int]  # size and stride: of the reduced axis within a step, or of the lanes' axis
    part: int
    column: bool  # lanes (cpu), or neighbouring items on neighbouring outputs (gpu)
    width: int = 1  # lanes of an item, or outputs that an item does one after another
    segments: int = 1

    @property
    def steps(self) -> int:
        """Return the steps of a group."""
        return prod(size for size, _ in self.outer)

    @property
    def items(self) -> int:
        """Return the number of work-items."""
        if self.layout == "gpu":
            return self.outputs * self.segments
        if self.column:
            return prod(size for size, _ in self.kept) * self._tiles * self.segments
        return -(-self.outputs // self.width) * self.segments

    @property
    def lanes(self) -> bool:
        """Say whether an item has several accumulators."""
        return self.column and self.layout == "cpu"

    @property
    def _tiles(self) -> int:
        return -(-self.inner[0] // self.width)

    def framed(self, body: str) -> str:
        """Return the statements of a kernel whose items choose their outputs and run `body`."""
        opening, closing = self._frame()
        lane, output = ("[k]", "(o + k)") if self.lanes else ("", "o")
        text = body.replace("@", lane).replace("#", output)
        return f"{opening}{text}{closing}"

    def declare(self, kind: str, name: str, value: str) -> str:
        """Return the declaration of an accumulator, for each lane."""
        if not self.lanes:
            return f"{kind} {name} = {value};\n"
        return f"{kind} {name}[{self.width}];\n" + self.each(f"{name}[k] = {value};")

    def each(self, statement: str) -> str:
        """Return a statement that is run once for each output of the item."""
        return f"for (i32 k = 0; k < n; k++) {{ {statement} }}\n" if self.lanes else f"{{ {statement} }}\n"

    def loop(self, statement: str, before: str = "", after: str = "") -> str:
        """Return the loop that runs a statement for every element; `before` and `after` for every step.

        The statement sees ELEMENT, t (number of the step) and, where there is an inner loop, k.
        """
        stride = self.inner[1]
        at = "at" if self.layout == "gpu" or not stride else "at + k" if stride == 1 else f"at + k * ({stride})"
        text = statement.replace("ELEMENT", element(self.x.source, self.x.dtype, "x", at))
        step = f"i64 at = base + {offset_text('t', self.outer)};\n"
        if self.layout == "gpu":
            return f"for (i64 t = begin; t < {self.steps}; t += {self.segments}) {{\n{step}{before}{text}{after}}}\n"
        inner = f"for (i32 k = 0; k < n; k++) {{ {text} }}\n"
        if not self.lanes:
            step += f"i32 n = {self._part_text()};\n"
        return f"for (i64 t = begin; t < end; t++) {{\n{step}{before}{inner}{after}}}\n"

    def _part_text(self) -> str:
        size = self.inner[0]
        if size <= self.part:
            return str(size)
        parts = -(-size // self.part)
        if size % self.part == 0:
            return str(self.part)
        return f"(i32)(t % {parts} == {parts - 1} ? {size - (parts - 1) * self.part} : {self.part})"

    def _frame(self) -> tuple[str, str]:
        start = self.x.offset
        if self.layout == "gpu":
            order = f"item / {self.segments}, begin = item % {self.segments}"
            if self.column:
                order = f"item % {self.outputs}, begin = item / {self.outputs}"
            guard = f"i64 item = ITEM;\nif (item >= {self.items}) return;\n"
            base = f"i64 base = {start} + {offset_text('o', self.kept)};\n"
            segment = ", segment = begin" if self.segments > 1 else ""
            return f"{guard}i64 o = {order}{segment};\n{base}", ""
        per = -(-self.steps // self.segments)
        last = "end" if self.segments == 1 else f"(begin + {per} < {self.steps} ? begin + {per} : {self.steps})"
        last = str(self.steps) if self.segments == 1 else last
        segment = f"i64 segment = ITEM % {self.segments}, begin = segment * {per}, end = {last};\n"
        if self.lanes:
            return segment + self._tile_text(), ""
        rows = f"i64 first = ITEM / {self.segments} * {self.width}, last = first + {self.width};\n"
        rows += f"if (last > {self.outputs}) last = {self.outputs};\n"
        base = f"i64 base = {start} + {offset_text('o', self.kept)};\n"
        return f"{segment}{rows}for (i64 o = first; o < last; o++) {{\n{base}", "}\n"

    def _tile_text(self) -> str:
        size, stride = self.inner
        tiles, width = self._tiles, self.width
        text = f"i64 group = ITEM / {self.segments * tiles}, lane = ITEM / {self.segments} % {tiles} * {width};\n"
        text += f"i64 o = group * {size} + lane;\n"
        text += f"i32 n = (i32)({size} - lane < {width} ? {size} - lane : {width});\n"
        return text + f"i64 base = {self.x.offset} + {offset_text('group', self.kept)} + lane * ({stride});\n"


def plan_walk(x: View, axes: Sequence[int], layout: Layout, *, cut: bool = True) -> Walk:
    """Return the walk over groups along `axes`. `cut`: long groups may be cut into segments."""
    kept_axes = [axis for axis in range(len(x.shape)) if axis not in axes]
    outputs, terms = (prod(x.shape[axis] for axis in some) for some in (kept_axes, axes))
    if terms == 0:
        return Walk(replace(x, offset=0), layout, outputs, 0, (), ((0, 0),), (1, 0), 1, False, CHUNK)
    x, reduced = _ascending(x, axes)
    kept = _dims([x.shape[axis] for axis in kept_axes], [x.strides[axis] for axis in kept_axes])
    inner_reduced = reduced[-1] if reduced else (1, 0)
    lanes = kept[-1] if kept else (1, 0)
    column = lanes[0] >= LEAST_LANES and (0 < abs(lanes[1]) < abs(inner_reduced[1]) or inner_reduced[0] == 1)
    if layout == "gpu":
        walk = Walk(x, layout, outputs, terms, kept, reduced, (1, 0), 1, column)
    elif column:
        walk = Walk(x, layout, outputs, terms, kept[:-1], reduced, lanes, 1, True, _lanes(lanes[0], terms))
    else:
        walk = Walk(x, layout, outputs, terms, kept, reduced[:-1], inner_reduced, inner_reduced[0], False)
        walk = replace(walk, width=max(1, CHUNK // terms))
    return _cut(walk) if cut else walk


def _ascending(x: View, axes: Sequence[int]) -> tuple[View, Dims]:
    """Return the reduced axes with positive strides, widest first: the order of a group's elements is free."""
    for axis in axes:
        if x.strides[axis] < 0:
            x = x.reverse(axis)
    by_stride = sorted(axes, key=lambda axis: -x.strides[axis])
    return x, _dims([x.shape[axis] for axis in by_stride], [x.strides[axis] for axis in by_stride])


def _dims(shape: Sequence[int], strides: Sequence[int]) -> Dims:
    sizes, (steps,) = collapse(shape, [strides])
    return tuple(zip(sizes, steps, strict=True))


def _lanes(size: int, terms: int) -> int:
    """Return the lanes of a tile: tiles of nearly equal width, wider ones for short groups."""
    wanted = min(MOST_LANES, max(LANES, CHUNK // terms))
    tiles = -(-size // wanted)
    even = -(-size // tiles)
    return min(size, -(-even // LEAST_LANES) * LEAST_LANES)


def _cut(walk: Walk) -> Walk:
    """Return the walk with long groups cut into segments."""
    if walk.outputs == 0:
        return walk
    if walk.layout == "gpu":
        most = -(-walk.terms // GPU_TERMS)
        wanted = max(-(-GPU_ITEMS // walk.outputs), 1 if walk.column else GPU_TERMS)
        return replace(walk, segments=min(most, wanted)) if walk.terms > 2 * GPU_TERMS else walk
    each = walk.terms * walk.width
    if walk.items >= ENOUGH_ITEMS or each <= WHOLE:
        return walk
    if not walk.column and walk.part > SEGMENT:
        size, stride = walk.inner
        parts = -(-size // CHUNK)
        walk = replace(walk, outer=(*walk.outer, (parts, CHUNK * stride)), part=CHUNK)
    per = max(1, walk.steps * SEGMENT // each)
    return replace(walk, segments=-(-walk.steps // per))


def offset_text(index: str, dims: Dims) -> str:
    """Return the C expression of the offset of element `index` of axes (size, stride) in C order."""
    terms = []
    weight = prod(size for size, _ in dims)
    for number, (size, stride) in enumerate(dims):
        weight //= max(size, 1)
        if not stride or size == 1:
            continue
        place = index if weight == 1 else f"{index} / {weight}"
        place = place if number == 0 else f"{place} % {size}"
        terms.append(place if stride == 1 else f"({place}) * ({stride})")
    return " + ".join(f"({term})" for term in terms) or "0"
