"""Views: where the elements of a tensor come from. Slices, transposes and broadcasts cost nothing; they are views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final, Literal, TypeAlias

from samebits.kernels.types import TensorType


@dataclass(frozen=True, slots=True)
class Splat:
    """Every element is this one, given as little-endian bytes."""

    value: bytes


COUNT: Final[Literal["count"]] = "count"  # element i of the source is the number i
# a buffer of the program, by number; the numbers 0, 1, 2, ...; or one element
Source: TypeAlias = "int | Literal['count'] | Splat"


@dataclass(frozen=True, slots=True)
class View:
    """Element (i, j, ...) is element offset + i * strides[0] + j * strides[1] + ... of the source."""

    source: Source
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements; may be 0 or negative
    offset: int = 0

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return prod(self.shape)

    @property
    def type(self) -> TensorType:
        """Return element type and shape."""
        return TensorType(self.dtype, self.shape)

    def is_contiguous(self) -> bool:
        """Say whether the elements lie in C order without gaps, from the first of the source on."""
        if self.offset or not isinstance(self.source, int):
            return False
        wanted = contiguous_strides(self.shape)
        return all(n == 1 or s == w for n, s, w in zip(self.shape, self.strides, wanted, strict=True))

    def transpose(self, permutation: Sequence[int]) -> View:
        """Return the axes in another order."""
        shape, strides = (tuple(values[axis] for axis in permutation) for values in (self.shape, self.strides))
        return replace(self, shape=shape, strides=strides)

    def broadcast(self, shape: Sequence[int], dimensions: Sequence[int]) -> View:
        """Return a view whose axis dimensions[i] is axis i; other axes, and axes of size 1, repeat."""
        strides = [0] * len(shape)
        for axis, dim in enumerate(dimensions):
            strides[dim] = 0 if self.shape[axis] == 1 else self.strides[axis]
        return replace(self, shape=tuple(shape), strides=tuple(strides))

    def slice(self, starts: Sequence[int], limits: Sequence[int], steps: Sequence[int]) -> View:
        """Return elements start, start + step, ... below the limit of each axis."""
        shape = tuple(max(0, -(-(b - a) // c)) for a, b, c in zip(starts, limits, steps, strict=True))
        offset = self.offset + sum(a * s for a, s in zip(starts, self.strides, strict=True))
        strides = tuple(s * c for s, c in zip(self.strides, steps, strict=True))
        return replace(self, shape=shape, strides=strides, offset=offset)

    def reverse(self, axis: int) -> View:
        """Return the elements of one axis in reverse order."""
        offset = self.offset + (max(self.shape[axis], 1) - 1) * self.strides[axis]
        strides = tuple(-s if i == axis else s for i, s in enumerate(self.strides))
        return replace(self, strides=strides, offset=offset)

    def reshape(self, shape: Sequence[int]) -> View | None:
        """Return the elements, in C order, as another shape; None if no strides describe that."""
        if isinstance(self.source, Splat) or self.size == 0:
            return replace(self, shape=tuple(shape), strides=(0,) * len(shape), offset=0)
        sizes, steps = collapse(self.shape, [self.strides])
        old = list(zip(sizes, steps[0], strict=True))  # maximal runs, outermost first
        strides: list[int] = []
        for size in reversed(shape):
            if size == 1:
                strides.append(0)
                continue
            if not old:
                return None
            run, step = old.pop()
            if run % size:
                return None
            strides.append(step)
            if run > size:
                old.append((run // size, step * size))
        if old:
            raise AssertionError(f"{self.shape} does not reshape to {tuple(shape)}")
        return replace(self, shape=tuple(shape), strides=tuple(reversed(strides)))


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of C order, in elements."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def stored(buffer: int, tensor: TensorType) -> View:
    """Return the view of a whole buffer that holds a tensor in C order."""
    return View(buffer, tensor.dtype, tensor.shape, contiguous_strides(tensor.shape))


def collapse(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Merge neighbouring axes that are one run in every list of strides; axes of size 1 go.

    Example: shape (4, 3, 5) with strides (15, 5, 1) and (0, 0, 0) becomes (60,) with (1,) and (0,).
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        here = [each[axis] for each in strides]
        if sizes and all(mine[-1] == step * size for mine, step in zip(steps, here, strict=True)):
            sizes[-1] *= size
            for mine, step in zip(steps, here, strict=True):
                mine[-1] = step
            continue
        sizes.append(size)
        for mine, step in zip(steps, here, strict=True):
            mine.append(step)
    return tuple(sizes), tuple(tuple(mine) for mine in steps)
