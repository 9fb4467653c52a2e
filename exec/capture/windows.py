"""Windows that slide over the last axes of a tensor: geometry, reading every window, adding windows back.

For an axis of size n, window size k, stride s, padding p (at both ends) and dilation d, window t reads the positions
t s - p + j d for j = 0 .. k-1. What lies outside 0 .. n-1 is padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final

import numpy as np

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import Term
from samebits.exec.capture.lowering import Lowering
from samebits.exec.capture.rules_shape import cut, place, spread
from samebits.exec.errors import CaptureError

_MOST_POSITIONS: Final = 1024


@dataclass(frozen=True, slots=True)
class Axis:
    """The windows along one axis; `count` of them."""

    size: int
    window: int
    stride: int
    padding: int
    dilation: int
    count: int

    @property
    def high(self) -> int:
        """Return the padding after the axis that the last window reads; at least 0."""
        last = (self.count - 1) * self.stride + (self.window - 1) * self.dilation + 1
        return max(0, last - self.size - self.padding)

    @property
    def tiles(self) -> bool:
        """Tell whether the windows lie side by side and cover the axis exactly."""
        side_by_side = self.stride == self.window and self.dilation == 1 and self.padding == 0
        return side_by_side and self.count * self.window == self.size

    @property
    def elements(self) -> list[int]:
        """Return for each window how many of its positions are no padding."""
        return [len(self.positions(t)) for t in range(self.count)]

    def positions(self, t: int) -> range:
        """Return the positions that window t reads, without padding."""
        start = t * self.stride - self.padding
        skipped = max(0, -(start // self.dilation))
        return range(
            start + skipped * self.dilation, min(self.size, start + self.window * self.dilation), self.dilation
        )


def axes_of(
    sizes: Sequence[int],
    counts: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[Axis]:
    """Return the geometry of each axis; an argument of one number holds for all, no strides mean the window's sizes."""
    whole = [per_axis(given, len(sizes)) for given in (window, stride or window, padding, dilation)]
    return [Axis(*one) for one in zip(sizes, *whole, counts, strict=True)]


def per_axis(values: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return a number for each of `rank` axes; torch lets one stand for all."""
    return tuple(values) * (rank if len(values) == 1 else 1)


def padded(low: Lowering, x: ValueRef, axes: Sequence[Axis], value: float | int | bool) -> ValueRef:
    """Return `x` with padding on its last axes."""
    before, after = ([0] * x.type.rank for _ in range(2))
    first = x.type.rank - len(axes)
    for i, axis in enumerate(axes):
        before[first + i], after[first + i] = axis.padding, axis.high
    if not any(before) and not any(after):
        return x
    return low.op("pad", x, low.builder.scalar(value, x.type.dtype), low=before, high=after)


def shifted(low: Lowering, x: ValueRef, position: int, axis: Axis, j: int) -> ValueRef:
    """Return position j of every window along one axis of a padded tensor."""
    start = j * axis.dilation
    stop = start + (axis.count - 1) * axis.stride + 1 if axis.count else start
    return cut(low, x, position, start, stop, axis.stride)


def read_windows(low: Lowering, x: ValueRef, axes: Sequence[Axis], value: float | int | bool = 0) -> ValueRef:
    """Return all windows over the last axes of x (*lead, *sizes) as (*lead, positions, *counts)."""
    lead = x.type.shape[: x.type.rank - len(axes)]
    counts = [axis.count for axis in axes]
    whole = padded(low, x, axes, value)
    parts = []
    for offsets in _offsets(axes):
        part = whole
        for i, (axis, j) in enumerate(zip(axes, offsets, strict=True)):
            part = shifted(low, part, len(lead) + i, axis, j)
        parts.append(low.reshape(part, (*lead, 1, *counts)))
    return low.op("concatenate", *parts, dimension=len(lead))


def add_windows(low: Lowering, windows: ValueRef, axes: Sequence[Axis]) -> ValueRef:
    """Return (*lead, *sizes) whose elements are the exact sums of all window positions that read them.

    windows: (*lead, positions, *counts), the adjoint of `read_windows`; what lies in the padding is dropped.
    """
    first = windows.type.rank - len(axes)
    parts = []
    for number, offsets in enumerate(_offsets(axes)):
        part = cut(low, windows, first - 1, number, number + 1)
        for i, (axis, j) in enumerate(zip(axes, offsets, strict=True)):
            part = _put_back(low, part, first + i, axis, j)
        parts.append(part)
    return low.reduce("reduce_sum", low.op("concatenate", *parts, dimension=first - 1), [first - 1])


def _put_back(low: Lowering, part: ValueRef, position: int, axis: Axis, j: int) -> ValueRef:
    """Return zeros of the axis's size with position j of every window at its place."""
    places = [t * axis.stride + j * axis.dilation - axis.padding for t in range(axis.count)]
    inside = [t for t, place in enumerate(places) if 0 <= place < axis.size]
    spread_out = cut(low, part, position, inside[0], inside[-1] + 1) if inside else cut(low, part, position, 0, 0)
    spread_out = spread(low, spread_out, position, axis.stride)
    return place(low, spread_out, position, places[inside[0]] if inside else 0, axis.size)


def products(low: Lowering, per_axis: Sequence[Sequence[int]]) -> Term:
    """Return the products over the axes of small whole numbers, one per window, as f32 (*counts) or ()."""
    result = Term(low, low.builder.scalar(1, "f32"))
    for i, numbers in enumerate(per_axis):
        alike = numbers[0] if len(set(numbers)) == 1 else None
        array = np.asarray(numbers if alike is None else alike, np.float32)
        factor = Term(low, low.builder.constant(array))
        result = result * (factor.reshape(len(numbers), *(1,) * (len(per_axis) - 1 - i)) if alike is None else factor)
    return result


def _offsets(axes: Sequence[Axis]) -> Iterator[tuple[int, ...]]:
    positions = prod(axis.window for axis in axes)
    if positions > _MOST_POSITIONS:
        raise CaptureError(
            f"a window of {positions} positions has no rule (at most {_MOST_POSITIONS}) unless windows tile their input"
        )
    return product(*(range(axis.window) for axis in axes))
