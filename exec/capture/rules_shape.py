"""Lowering rules: views and data movement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.errors import CaptureError


@rule("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten")
def _view(low: Lowering, x: ValueRef, *arguments: Any) -> ValueRef:
    if low.result.dtype != x.type.dtype:  # view(dtype) reads the bits anew
        return low.op("bitcast_convert_type", x, new_dtype=low.result.dtype)
    return low.reshape(x, low.result.shape)


@rule("expand")
def _expand(low: Lowering, x: ValueRef, size: Sequence[int], implicit: bool = False) -> ValueRef:
    return low.broadcast(x, low.result.shape)


@rule("t")
def _t(low: Lowering, x: ValueRef) -> ValueRef:
    return low.transpose(x, range(x.type.rank)[::-1])


@rule("transpose")
def _transpose(low: Lowering, x: ValueRef, first: int, second: int) -> ValueRef:
    axes = list(range(x.type.rank))
    axes[first], axes[second] = axes[second], axes[first]
    return low.transpose(x, axes)


@rule("permute")
def _permute(low: Lowering, x: ValueRef, axes: Sequence[int]) -> ValueRef:
    return low.transpose(x, [axis % x.type.rank for axis in axes])


def cut(low: Lowering, x: ValueRef, axis: int, start: int, stop: int, stride: int = 1) -> ValueRef:
    """Return x[..., start:stop:stride, ...] along one axis."""
    shape = x.type.shape
    starts, limits, strides = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], limits[axis], strides[axis] = start, stop, stride
    if (starts, limits, strides) == ([0] * len(shape), list(shape), [1] * len(shape)):
        return x
    return low.op("slice", x, start_indices=starts, limit_indices=limits, strides=strides)


def spread(low: Lowering, x: ValueRef, axis: int, step: int) -> ValueRef:
    """Return `x` with step - 1 zeros between neighbours along an axis: n elements become (n - 1) step + 1."""
    count = x.type.shape[axis]
    if step == 1 or count <= 1:
        return x
    before, after = x.type.shape[:axis], x.type.shape[axis + 1 :]
    slots = low.reshape(x, (*before, count, 1, *after))
    high = [step - 1 if i == axis + 1 else 0 for i in range(slots.type.rank)]
    zero = low.builder.scalar(0, x.type.dtype)
    wide = low.op("pad", slots, zero, low=[0] * slots.type.rank, high=high)
    return cut(low, low.reshape(wide, (*before, count * step, *after)), axis, 0, (count - 1) * step + 1)


def place(low: Lowering, part: ValueRef, axis: int, start: int, size: int) -> ValueRef:
    """Return zeros of `size` along `axis` with `part` at `start`."""
    before, after = [0] * part.type.rank, [0] * part.type.rank
    before[axis], after[axis] = start, size - start - part.type.shape[axis]
    if not before[axis] and not after[axis]:
        return part
    return low.op("pad", part, low.builder.scalar(0, part.type.dtype), low=before, high=after)


@rule("slice")
def _slice(
    low: Lowering, x: ValueRef, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> ValueRef:
    axis %= x.type.rank
    first, last, _ = slice(start, end).indices(x.type.shape[axis])
    return cut(low, x, axis, first, max(first, last), step)


@rule("select")
def _select(low: Lowering, x: ValueRef, axis: int, index: int) -> ValueRef:
    axis %= x.type.rank
    index %= x.type.shape[axis]
    return low.reshape(cut(low, x, axis, index, index + 1), low.result.shape)


@rule("split_with_sizes")
def _split_with_sizes(low: Lowering, x: ValueRef, sizes: Sequence[int], axis: int = 0) -> list[ValueRef]:
    axis %= x.type.rank
    parts, start = [], 0
    for size in sizes:
        parts.append(cut(low, x, axis, start, start + size))
        start += size
    return parts


@rule("split")
def _split(low: Lowering, x: ValueRef, size: int, axis: int = 0) -> list[ValueRef]:
    total = x.type.shape[axis]
    return _split_with_sizes(low, x, [min(size, total - i) for i in range(0, total, size)], axis)


@rule("cat")
def _cat(low: Lowering, parts: Sequence[ValueRef], axis: int = 0) -> ValueRef:
    cast = [low.cast(part, low.result.dtype) for part in parts if part.type.shape != (0,)]
    return low.op("concatenate", *cast, dimension=axis % low.result.rank)


@rule("stack")
def _stack(low: Lowering, parts: Sequence[ValueRef], axis: int = 0) -> ValueRef:
    axis %= low.result.rank
    slot = [1 if i == axis else n for i, n in enumerate(low.result.shape)]
    return low.op(
        "concatenate", *(low.reshape(low.cast(part, low.result.dtype), slot) for part in parts), dimension=axis
    )


@rule("flip")
def _flip(low: Lowering, x: ValueRef, axes: Sequence[int]) -> ValueRef:
    for axis in axes:
        x = low.op("rev", x, axis=axis % x.type.rank)
    return x


@rule("slice_backward")
def _slice_backward(
    low: Lowering, gradient: ValueRef, sizes: Sequence[int], axis: int, start: int, end: int, step: int
) -> ValueRef:
    axis %= len(sizes)
    first, _, _ = slice(start, end).indices(sizes[axis])
    return place(low, spread(low, gradient, axis, step), axis, first, sizes[axis])


@rule("select_backward")
def _select_backward(low: Lowering, gradient: ValueRef, sizes: Sequence[int], axis: int, index: int) -> ValueRef:
    axis %= len(sizes)
    slot = [1 if i == axis else n for i, n in enumerate(sizes)]
    return place(low, low.reshape(gradient, slot), axis, index % sizes[axis], sizes[axis])


@rule("embedding")
def _embedding(low: Lowering, weight: ValueRef, indices: ValueRef, *options: Any) -> ValueRef:
    return low.op("gather", weight, indices)


@rule("embedding_dense_backward")
def _embedding_dense_backward(
    low: Lowering, gradient: ValueRef, indices: ValueRef, rows: int, padding: int, by_frequency: bool
) -> ValueRef:
    if by_frequency:
        raise CaptureError("an embedding with scale_grad_by_freq has no rule")
    if padding >= 0:
        padded = low.op("eq", indices, low.full(padding, indices.type.dtype, indices.type.shape))
        mask = low.reshape(padded, (*indices.type.shape, 1))
        zero = low.full(0, gradient.type.dtype, gradient.type.shape)
        gradient = low.op("select_n", low.broadcast(mask, gradient.type.shape), gradient, zero)
    zeros = low.full(0, gradient.type.dtype, low.result.shape)
    return low.op("scatter_add", zeros, indices, gradient)
