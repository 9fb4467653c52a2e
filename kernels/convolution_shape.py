"""The sizes of a convolution: its type rule, and what its attributes mean, resolved once for every implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from samebits.kernels.errors import OpError
from samebits.kernels.inference import COMPUTE_FLOATS, Types, check_dtype, check_type
from samebits.kernels.types import Attributes, TensorType

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConvShape:
    """G products of windows with filters. lhs is (G, samples, channels, *spatial), rhs (G, filters, channels, *window).

    Along each spatial axis, `count` elements from `begin` on, `lhs_dilation` apart and the first at `low`, stand among
    zeros in an axis of `padded` elements: padding and cropping are done. A dilation or stride that no two elements
    would show is 1.
    """

    groups: int  # feature groups, or batch groups
    by_batch: bool  # the groups divide the samples of lhs, not its channels
    samples: int  # of a group; in the result
    channels: int  # of a group
    filters: int  # of a group
    window: Sizes
    out: Sizes
    window_strides: Sizes
    rhs_dilation: Sizes
    lhs_dilation: Sizes
    padded: Sizes
    begin: Sizes
    count: Sizes
    low: Sizes

    @property
    def depth(self) -> int:
        """Return K, the number of terms of a sum."""
        return self.channels * prod(self.window)

    @property
    def positions(self) -> int:
        """Return the number of windows of a sample."""
        return prod(self.out)

    @property
    def result(self) -> Sizes:
        """Return the shape of the result: (samples, G * filters, *out)."""
        return (self.samples, self.groups * self.filters, *self.out)

    @property
    def span(self) -> Sizes:
        """Return how many elements a dilated window covers along each axis."""
        return tuple(_dilated(n, d) for n, d in zip(self.window, self.rhs_dilation, strict=True))


def conv_general_dilated(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Return the result (N / batch_group_count, O, *out) of lhs (N, C, *spatial), rhs (O, C/groups, *window)."""
    return TensorType(types[0].dtype, conv_shape(op, types, attributes).result)


def conv_shape(op: str, types: Types, attributes: Attributes) -> ConvShape:
    """Return the resolved sizes; raises OpError for operands and attributes that do not fit."""
    lhs, rhs = types
    a: Any = attributes
    _check_operands(op, lhs, rhs)
    ones = (1,) * (lhs.rank - 2)
    strides, lhs_dilation, rhs_dilation = (
        _per_axis(op, name, ones if a[name] is None else a[name], len(ones))
        for name in ("window_strides", "lhs_dilation", "rhs_dilation")
    )
    if len(a["padding"]) != len(ones):
        raise OpError(op, f"padding {list(a['padding'])} wants a pair for each of {len(ones)} spatial axes")
    _check_groups(op, lhs, rhs, a["feature_group_count"], a["batch_group_count"])
    axes = [
        _axis(*sizes)
        for sizes in zip(lhs.shape[2:], rhs.shape[2:], strides, a["padding"], lhs_dilation, rhs_dilation, strict=True)
    ]
    out, strides, rhs_dilation, lhs_dilation, padded, begin, count, low = zip(*axes, strict=True)
    groups = a["feature_group_count"] * a["batch_group_count"]  # one of them is 1
    shape = ConvShape(
        groups=groups,
        by_batch=a["batch_group_count"] > 1,
        samples=lhs.shape[0] // a["batch_group_count"],
        channels=rhs.shape[1],
        filters=rhs.shape[0] // groups,
        window=rhs.shape[2:],
        out=out,
        window_strides=strides,
        rhs_dilation=rhs_dilation,
        lhs_dilation=lhs_dilation,
        padded=padded,
        begin=begin,
        count=count,
        low=low,
    )
    check_type(op, TensorType(lhs.dtype, (*lhs.shape[:2], *padded)))
    check_type(op, TensorType(lhs.dtype, shape.result))
    return shape


def _check_operands(op: str, lhs: TensorType, rhs: TensorType) -> None:
    check_dtype(op, lhs, COMPUTE_FLOATS)
    if lhs.dtype != rhs.dtype:
        raise OpError(op, f"operands differ in type: {lhs} and {rhs} (convert first)")
    if lhs.rank != rhs.rank or not 3 <= lhs.rank <= 5:
        raise OpError(op, f"want (N, C, spatial) and (O, C/groups, window) of 1 to 3 axes, got {lhs} and {rhs}")


def _per_axis(op: str, name: str, values: Sizes, axes: int) -> Sizes:
    if len(values) != axes or min(values) < 1:
        raise OpError(op, f"{name} {list(values)} wants a positive number for each of {axes} spatial axes")
    return values


def _check_groups(op: str, lhs: TensorType, rhs: TensorType, features: int, batches: int) -> None:
    if min(features, batches) != 1:
        raise OpError(op, f"{features} feature groups and {batches} batch groups: want positive numbers, one of them 1")
    if lhs.shape[1] != rhs.shape[1] * features:
        wanted = f"{rhs.shape[1]} channels" + (f" in each of {features} groups" if features > 1 else "")
        raise OpError(op, f"{lhs} has {lhs.shape[1]} channels, the filters {rhs} take {wanted}")
    if rhs.shape[0] % features or rhs.shape[0] % batches:
        raise OpError(op, f"{rhs.shape[0]} filters do not divide into {max(features, batches)} groups")
    if lhs.shape[0] % batches:
        raise OpError(op, f"{lhs.shape[0]} samples do not divide into {batches} batch groups")


def _dilated(size: int, dilation: int) -> int:
    """Return the size of an axis whose elements are moved `dilation` apart; 0 stays 0, as in JAX."""
    return (size - 1) * dilation + 1 if size else 0


def _axis(
    spatial: int, window: int, stride: int, padding: Sequence[int], lhs_dilation: int, rhs_dilation: int
) -> tuple[int, ...]:
    """Return out, stride, rhs dilation, lhs dilation, padded, begin, count, low of one spatial axis."""
    lhs_dilation = lhs_dilation if spatial > 1 else 1
    rhs_dilation = rhs_dilation if window > 1 else 1
    low, high = padding
    padded = max(0, _dilated(spatial, lhs_dilation) + low + high)
    out = max(0, (padded - _dilated(window, rhs_dilation)) // stride + 1)
    begin = min(spatial, max(0, -(low // lhs_dilation)))  # the first element that is not cropped
    end = min(spatial, max(begin, -((low - padded) // lhs_dilation)))
    first = low + begin * lhs_dilation if begin < end else 0
    return out, stride if out > 1 else 1, rhs_dilation, lhs_dilation, padded, begin, end - begin, first
