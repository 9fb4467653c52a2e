"""Lowering rules: pooling, forward and backward, over one to three axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import FLOATS, HALVES, Term, done, iota, results, term
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.capture.windows import Axis, add_windows, axes_of, padded, products, read_windows, shifted
from samebits.exec.errors import CaptureError
from samebits.kernels.types import TensorType

Sizes = Sequence[int]
_RANKS = (2, 3)  # of the ATen ops; 1-d pooling reaches us as 2-d


def _geometry(x: TensorType, out: TensorType, rank: int, window: Sizes, *rest: Sizes) -> list[Axis]:
    return axes_of(x.shape[x.rank - rank :], out.shape[out.rank - rank :], window, *rest)


def _least(dtype: str) -> float | int:
    """Return what max pooling pads with: nothing is less."""
    if dtype in FLOATS:
        return -float("inf")
    return 0 if dtype.startswith("u") else -(2 ** (int(dtype[1:]) - 1))


def _maxima(low: Lowering, x: ValueRef, axes: Sequence[Axis]) -> tuple[Term, Term]:
    """Return the maximum of each window and its position, counted within the pooled axes.

    Of equal maxima the first counts, of several NaN the last, as in torch. One axis is pooled after the other, from
    the last to the first, so k * k comparisons become k + k; position -1 marks padding, which loses to anything.
    """
    first = x.type.rank - len(axes)
    sizes = x.type.shape[first:]
    position = iota(low, (prod(sizes),), 0).reshape(*sizes).broadcast(x.type.shape)
    values, positions = padded(low, x, axes, _least(x.type.dtype)), padded(low, position.value, axes, -1)
    for i, axis in reversed(list(enumerate(axes))):
        best, where = (Term(low, shifted(low, whole, first + i, axis, 0)) for whole in (values, positions))
        for j in range(1, axis.window):
            value, at = (Term(low, shifted(low, whole, first + i, axis, j)) for whole in (values, positions))
            better = (value > best) | ((where < 0) & (at >= 0))
            if x.type.dtype in FLOATS:
                better = better | value.op("ne", value)
            best, where = better.pick(value, best), better.pick(at, where)
        values, positions = best.value, where.value
    return Term(low, values), Term(low, positions)


def _max_pool(rank: int) -> None:
    @rule(f"max_pool{rank}d_with_indices")
    def lower_max_pool(
        low: Lowering,
        x: ValueRef,
        window: Sizes,
        stride: Sizes = (),
        padding: Sizes = (0,),
        dilation: Sizes = (1,),
        ceil_mode: bool = False,
    ) -> Any:
        out = results(low)[0]
        assert out is not None
        best, where = _maxima(low, x, _geometry(x.type, out, rank, window, stride, padding, dilation))
        return best.value, where.value

    @rule(f"max_pool{rank}d_with_indices_backward")
    def lower_max_pool_backward(low: Lowering, gradient: ValueRef, x: ValueRef, *rest: Any) -> ValueRef:
        return _add_at(low, gradient, rest[-1], rank)


def _add_at(low: Lowering, gradient: ValueRef, indices: ValueRef, rank: int) -> ValueRef:
    """Return zeros like the result at hand with each gradient added at its position in its plane."""
    shape = low.result.shape
    plane = prod(shape[len(shape) - rank :])
    planes = low.result.size // max(1, plane)
    places = gradient.type.size // max(1, planes)
    flat = iota(low, (planes, 1), 0) * plane + Term(low, indices).reshape(planes, places)
    zeros = low.full(0, gradient.type.dtype, (low.result.size,))
    updates = low.reshape(gradient, (planes, places))
    return low.reshape(low.op("scatter_add", zeros, flat.value, updates), shape)


for _rank in _RANKS:
    _max_pool(_rank)


def _means(low: Lowering, x: ValueRef, axes: Sequence[Axis], divisor: Term) -> ValueRef:
    wide = low.cast(x, "f32") if x.type.dtype in HALVES else x
    lead = x.type.shape[: x.type.rank - len(axes)]
    if all(axis.tiles for axis in axes):
        tiled = low.reshape(wide, (*lead, *(n for axis in axes for n in (axis.count, axis.window))))
        total = low.reduce("reduce_sum", tiled, range(len(lead) + 1, tiled.type.rank, 2))
    else:
        total = low.reduce("reduce_sum", read_windows(low, wide, axes), [len(lead)])
    return done(low, Term(low, total) / divisor.to(total.type.dtype))


def _means_backward(low: Lowering, gradient: ValueRef, axes: Sequence[Axis], divisor: Term) -> ValueRef:
    share = term(low, gradient)
    share = share / divisor.to(share.dtype)
    lead = share.shape[: len(share.shape) - len(axes)]
    if all(axis.tiles for axis in axes):
        slots = share.reshape(*lead, *(n for axis in axes for n in (axis.count, 1)))
        tiled = slots.broadcast((*lead, *(n for axis in axes for n in (axis.count, axis.window))))
        return done(low, tiled.reshape(*low.result.shape))
    counts = [axis.count for axis in axes]
    positions = prod(axis.window for axis in axes)
    windows = share.reshape(*lead, 1, *counts).broadcast((*lead, positions, *counts))
    return done(low, Term(low, add_windows(low, windows.value, axes)))


def _divisor(low: Lowering, axes: Sequence[Axis], count_padding: bool, override: int | None) -> Term:
    """Return by what the sum of each window is divided: its positions, with or without those in the padding."""
    if override:
        return Term(low, low.builder.scalar(override, "f32"))
    if not count_padding:
        return products(low, [axis.elements for axis in axes])
    return products(low, [[_with_padding(axis, t) for t in range(axis.count)] for axis in axes])


def _with_padding(axis: Axis, t: int) -> int:
    """Return the positions of window t, those in the padding counted, those beyond it (by ceil_mode) not."""
    start = t * axis.stride - axis.padding
    return min(start + axis.window, axis.size + axis.padding) - start


def _average_pool(rank: int) -> None:
    @rule(f"avg_pool{rank}d")
    def lower_average_pool(
        low: Lowering,
        x: ValueRef,
        window: Sizes,
        stride: Sizes = (),
        padding: Sizes = (0,),
        ceil_mode: bool = False,
        count_padding: bool = True,
        override: int | None = None,
    ) -> ValueRef:
        axes = _geometry(x.type, low.result, rank, window, stride, padding, (1,))
        return _means(low, x, axes, _divisor(low, axes, count_padding, override))

    @rule(f"avg_pool{rank}d_backward")
    def lower_average_pool_backward(
        low: Lowering,
        gradient: ValueRef,
        x: ValueRef,
        window: Sizes,
        stride: Sizes,
        padding: Sizes,
        ceil_mode: bool,
        count_padding: bool,
        override: int | None,
    ) -> ValueRef:
        axes = _geometry(x.type, gradient.type, rank, window, stride, padding, (1,))
        return _means_backward(low, gradient, axes, _divisor(low, axes, count_padding, override))

    @rule(f"_adaptive_avg_pool{rank}d")
    def lower_adaptive(low: Lowering, x: ValueRef, size: Sizes) -> ValueRef:
        axes = _adaptive(x.type, low.result, rank, f"_adaptive_avg_pool{rank}d")
        return _means(low, x, axes, _divisor(low, axes, True, None))

    @rule(f"_adaptive_avg_pool{rank}d_backward")
    def lower_adaptive_backward(low: Lowering, gradient: ValueRef, x: ValueRef) -> ValueRef:
        axes = _adaptive(x.type, gradient.type, rank, f"_adaptive_avg_pool{rank}d")
        return _means_backward(low, gradient, axes, _divisor(low, axes, True, None))


for _rank in _RANKS:
    _average_pool(_rank)


def _adaptive(x: TensorType, out: TensorType, rank: int, name: str) -> list[Axis]:
    """Return the windows of adaptive pooling, which tile the input."""
    sizes, counts = x.shape[x.rank - rank :], out.shape[out.rank - rank :]
    for size, count in zip(sizes, counts, strict=True):
        if not count or size % count:
            raise CaptureError(
                f"aten.{name} of {size} elements to {count} has no rule: the size must be a multiple of the output "
                "size; pad or crop the input, or pool with fixed windows"
            )
    windows = [size // count for size, count in zip(sizes, counts, strict=True)]
    return axes_of(sizes, counts, windows, windows, (0,), (1,))


@rule("adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max_pool(low: Lowering, x: ValueRef, size: Sizes) -> Any:
    out = results(low)[0]
    assert out is not None
    best, where = _maxima(low, x, _adaptive(x.type, out, len(size), f"adaptive_max_pool{len(size)}d"))
    return best.value, where.value


@rule("adaptive_max_pool2d_backward")
def _adaptive_max_pool2d_backward(low: Lowering, gradient: ValueRef, x: ValueRef, indices: ValueRef) -> ValueRef:
    return _add_at(low, gradient, indices, 2)


@rule("adaptive_max_pool3d_backward")
def _adaptive_max_pool3d_backward(low: Lowering, gradient: ValueRef, x: ValueRef, indices: ValueRef) -> ValueRef:
    return _add_at(low, gradient, indices, 3)


@rule("im2col")
def _im2col(low: Lowering, x: ValueRef, window: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> ValueRef:
    axes = _columns(x.type, window, dilation, padding, stride)
    return low.reshape(read_windows(low, x, axes), low.result.shape)


@rule("col2im")
def _col2im(
    low: Lowering, x: ValueRef, size: Sizes, window: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> ValueRef:
    axes = _columns(low.result, window, dilation, padding, stride)
    lead = low.result.shape[: low.result.rank - 2]
    counts = [axis.count for axis in axes]
    windows = term(low, x).reshape(*lead, axes[0].window * axes[1].window, *counts)
    return done(low, Term(low, add_windows(low, windows.value, axes)))


def _columns(image: TensorType, window: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> list[Axis]:
    sizes = image.shape[image.rank - 2 :]
    whole = zip(sizes, window, stride, padding, dilation, strict=True)
    return [Axis(n, k, s, p, d, (n + 2 * p - d * (k - 1) - 1) // s + 1) for n, k, s, p, d in whole]


@rule("upsample_nearest2d")
def _upsample_nearest(low: Lowering, x: ValueRef, size: Sizes, *scales: float | None) -> ValueRef:
    axes = _adaptive(low.result, x.type, 2, "upsample_nearest2d")
    lead = x.type.shape[:2]
    slots = Term(low, x).reshape(*lead, *(n for axis in axes for n in (axis.count, 1)))
    tiled = slots.broadcast((*lead, *(n for axis in axes for n in (axis.count, axis.window))))
    return low.reshape(tiled.value, low.result.shape)


@rule("upsample_nearest2d_backward")
def _upsample_nearest_backward(
    low: Lowering, gradient: ValueRef, size: Sizes, input_size: Sizes, *scales: float | None
) -> ValueRef:
    axes = _adaptive(gradient.type, low.result, 2, "upsample_nearest2d")
    return _means(low, gradient, axes, Term(low, low.builder.scalar(1, "f32")))
