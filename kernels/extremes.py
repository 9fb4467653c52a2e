"""Reductions that pick or combine elements without arithmetic: max, min, and, or, argmax, argmin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import FLOATS, dtype_name
from samebits.kernels.order import from_order_keys, order_keys
from samebits.kernels.rounding import infinity_of, is_nan, nan_of, to_bits

Array = npt.NDArray[Any]
Axes = Sequence[int] | None


def checked_axes(x: Array, axes: Axes) -> tuple[int, ...]:
    """Return axes as non-negative, distinct and ascending; None stands for all of them. Raises ValueError."""
    given = range(x.ndim) if axes is None else axes
    for axis in given:
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"axis {axis} is outside an array of {x.ndim} dimensions")
    found = sorted(axis % x.ndim for axis in given)
    if len(set(found)) != len(found):
        raise ValueError(f"axes {list(given)} name one axis twice")
    return tuple(found)


def reduce_max(x: Array, axes: Axes = None) -> Array:
    """IEEE maximum of each group (-0 < +0, NaN propagates, canonical). Empty: -inf, the least integer, or false."""
    return _reduce_extreme(np.asarray(x), axes, is_max=True)


def reduce_min(x: Array, axes: Axes = None) -> Array:
    """IEEE minimum of each group, as `reduce_max`. Empty: +inf, the greatest integer, or true."""
    return _reduce_extreme(np.asarray(x), axes, is_max=False)


def _reduce_extreme(x: Array, axes: Axes, *, is_max: bool) -> Array:
    axis = checked_axes(x, axes)
    reduce = np.maximum.reduce if is_max else np.minimum.reduce
    name = dtype_name(x.dtype)
    if name == "bool":
        return reduce_or(x, axis) if is_max else reduce_and(x, axis)
    if name not in FLOATS:
        info = np.iinfo(x.dtype)
        return np.asarray(reduce(x, axis=axis, initial=info.min if is_max else info.max))
    infinity = infinity_of(name)
    worst = order_keys(-infinity if is_max else infinity)
    # A NaN's key may win over the infinities, but its group is overwritten.
    best = np.asarray(reduce(order_keys(x), axis=axis, initial=worst[()]))
    nan = np.logical_or.reduce(is_nan(x), axis=axis)
    bits = to_bits(from_order_keys(best, x.dtype))
    return np.asarray(np.where(nan, to_bits(nan_of(name)), bits)).view(x.dtype)


def reduce_and(x: Array, axes: Axes = None) -> Array:
    """Say whether all of each group is true. bool only; empty: true."""
    return np.asarray(np.logical_and.reduce(_bool("reduce_and", x), axis=checked_axes(x, axes)))


def reduce_or(x: Array, axes: Axes = None) -> Array:
    """Say whether any of each group is true. bool only; empty: false."""
    return np.asarray(np.logical_or.reduce(_bool("reduce_or", x), axis=checked_axes(x, axes)))


def _bool(op: str, x: Array) -> Array:
    if x.dtype != np.bool_:
        raise TypeError(f"{op} takes bool, not {x.dtype}")
    return x


def argmax(x: Array, axis: int) -> npt.NDArray[np.int64]:
    """Return the first index of the greatest element along `axis`; a NaN is the greatest, -0 equals +0.

    Raises ValueError for an empty axis.
    """
    keys, nan = _arg_keys(np.asarray(x), axis)
    return np.asarray(
        np.argmax(np.where(nan, keys.dtype.type(np.iinfo(keys.dtype).max), keys), axis=axis), dtype=np.int64
    )


def argmin(x: Array, axis: int) -> npt.NDArray[np.int64]:
    """Return the first index of the least element along `axis`; a NaN is the least, -0 equals +0.

    Raises ValueError for an empty axis.
    """
    keys, nan = _arg_keys(np.asarray(x), axis)
    return np.asarray(
        np.argmin(np.where(nan, keys.dtype.type(np.iinfo(keys.dtype).min), keys), axis=axis), dtype=np.int64
    )


def _arg_keys(x: Array, axis: int) -> tuple[Array, npt.NDArray[np.bool_]]:
    (axis,) = checked_axes(x, (axis,))
    if x.shape[axis] == 0:
        raise ValueError("an empty axis has no extreme")
    nan = is_nan(x)
    if dtype_name(x.dtype) not in FLOATS:
        return x.view(np.uint8) if x.dtype == np.bool_ else x, nan
    keys = order_keys(x)
    return np.where(keys == -1, keys.dtype.type(0), keys), nan  # -1 is the key of -0
