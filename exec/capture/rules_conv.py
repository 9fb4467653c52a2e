"""Lowering rules: convolution and its gradients, all by `conv_general_dilated` (layout NCHW, OIHW, NCHW).

For one axis with stride s, padding p, dilation d and window k: y[t] = sum_j x[t s - p + j d] w[j]. The gradient of x
dilates y by s and convolves with the reversed window; the gradient of w convolves x with y dilated by s, in steps of d.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.capture.windows import per_axis

Sizes = Sequence[int]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Stride, padding and dilation of each spatial axis, and the number of groups of channels."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int

    def axes(self, *sizes: Sizes) -> Iterator[tuple[int, ...]]:
        """Return for each spatial axis its sizes, then stride, padding and dilation."""
        return zip(*sizes, self.stride, self.padding, self.dilation, strict=True)


def _geometry(rank: int, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Geometry:
    """Return the geometry of `rank` spatial axes."""
    return Geometry(per_axis(stride, rank), per_axis(padding, rank), per_axis(dilation, rank), groups)


def _convolve(
    low: Lowering, lhs: ValueRef, rhs: ValueRef, padding: Sequence[tuple[int, int]], **attributes: Any
) -> ValueRef:
    ones = (1,) * len(padding)
    defaults = {
        **dict.fromkeys(("window_strides", "lhs_dilation", "rhs_dilation"), ones),
        **dict.fromkeys(("feature_group_count", "batch_group_count"), 1),
    }
    given = {**defaults, **attributes, "padding": tuple(padding), "precision": low.precision}
    return low.op("conv_general_dilated", lhs, rhs, **given)


def _forward(low: Lowering, x: ValueRef, weight: ValueRef, out: Sizes, geometry: Geometry) -> ValueRef:
    """Return the convolution of x (n, c, *spatial) with weight (o, c / groups, *window), of spatial sizes `out`."""
    pads = [
        (p, (wanted - 1) * s + (window - 1) * d + 1 - size - p)
        for size, window, wanted, s, p, d in geometry.axes(x.type.shape[2:], weight.type.shape[2:], out)
    ]
    steps = {"window_strides": geometry.stride, "rhs_dilation": geometry.dilation}
    return _convolve(low, x, weight, pads, **steps, feature_group_count=geometry.groups)


def _turned(low: Lowering, weight: ValueRef, groups: int) -> ValueRef:
    """Return weight (o, c / groups, *window) as (c, o / groups, *window), each window reversed."""
    o, c, *window = weight.type.shape
    grouped = low.reshape(weight, (groups, o // groups, c, *window))
    swapped = low.transpose(grouped, (0, 2, 1, *range(3, grouped.type.rank)))
    turned = low.reshape(swapped, (groups * c, o // groups, *window))
    for axis in range(2, turned.type.rank):
        turned = low.op("rev", turned, axis=axis)
    return turned


def _transposed(low: Lowering, y: ValueRef, weight: ValueRef, out: Sizes, geometry: Geometry) -> ValueRef:
    """Return the gradient of `_forward` in x, of spatial sizes `out`, for a gradient y (n, o, *spatial)."""
    pads = []
    for size, window, wanted, s, p, d in geometry.axes(y.type.shape[2:], weight.type.shape[2:], out):
        before = (window - 1) * d - p
        pads.append((before, wanted + (window - 1) * d - (size - 1) * s - 1 - before))
    steps = {"lhs_dilation": geometry.stride, "rhs_dilation": geometry.dilation}
    return _convolve(low, y, _turned(low, weight, geometry.groups), pads, **steps, feature_group_count=geometry.groups)


def _weight_gradient(low: Lowering, x: ValueRef, y: ValueRef, window: Sizes, geometry: Geometry) -> ValueRef:
    """Return the gradient of `_forward` in weight, (o, c / groups, *window), for a gradient y (n, o, *spatial)."""
    swap = (1, 0, *range(2, x.type.rank))
    pads = [
        (p, (k - 1) * d + (count - 1) * s + 1 - size - p)
        for size, count, k, s, p, d in geometry.axes(x.type.shape[2:], y.type.shape[2:], window)
    ]
    samples, filters = low.transpose(x, swap), low.transpose(y, swap)
    steps = {"window_strides": geometry.dilation, "rhs_dilation": geometry.stride}
    return low.transpose(_convolve(low, samples, filters, pads, **steps, batch_group_count=geometry.groups), swap)


@rule("convolution")
def _convolution(
    low: Lowering,
    x: ValueRef,
    weight: ValueRef,
    bias: ValueRef | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> ValueRef:
    rank = x.type.rank - 2
    geometry = _geometry(rank, stride, padding, dilation, groups)
    y = (_transposed if transposed else _forward)(low, x, weight, low.result.shape[2:], geometry)
    if bias is None:
        return y
    return low.op("add", y, low.broadcast(low.reshape(bias, (*bias.type.shape, *(1,) * rank)), y.type.shape))


@rule("convolution_backward")
def _convolution_backward(
    low: Lowering,
    gradient: ValueRef,
    x: ValueRef,
    weight: ValueRef,
    bias_sizes: Sizes | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
    mask: Sequence[bool],
) -> list[ValueRef | None]:
    geometry = _geometry(x.type.rank - 2, stride, padding, dilation, groups)
    back = _forward if transposed else _transposed
    image, filters = (gradient, x) if transposed else (x, gradient)
    spatial = [axis for axis in range(x.type.rank) if axis != 1]
    return [
        back(low, gradient, weight, x.type.shape[2:], geometry) if mask[0] else None,
        _weight_gradient(low, image, filters, weight.type.shape[2:], geometry) if mask[1] else None,
        low.reduce("reduce_sum", gradient, spatial) if mask[2] else None,
    ]
