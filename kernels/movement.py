"""Exact data movement: bits go to other places, none changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebits.kernels.errors import OpError
from samebits.kernels.rounding import is_nan

Array = NDArray[Any]


def broadcast_in_dim(x: Array, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]) -> Array:
    """Return a view of `x` whose axis i is result axis broadcast_dimensions[i]; all others repeat."""
    placed = [1] * len(shape)
    for size, dim in zip(x.shape, broadcast_dimensions, strict=True):
        placed[dim] = size
    return np.broadcast_to(x.reshape(placed), shape)


def pad(x: Array, value: Array, low: tuple[int, ...], high: tuple[int, ...]) -> Array:
    """Return `x` with `low` and `high` elements of the scalar `value` around it."""
    shape = tuple(a + n + b for a, n, b in zip(low, x.shape, high, strict=True))
    result = np.full(shape, value, dtype=x.dtype)
    result[tuple(slice(a, a + n) for a, n in zip(low, x.shape, strict=True))] = x
    return result


def gather(operand: Array, indices: Array) -> Array:
    """Return rows `indices` of `operand`; an index outside 0..n-1 raises OpError naming it."""
    return np.asarray(operand[_checked_rows("gather", indices, operand.shape[0])])


def scatter(operand: Array, indices: Array, updates: Array) -> Array:
    """Return `operand` with rows `indices` replaced by `updates`; an index that occurs twice raises OpError naming it.

    operand: (n, *rest), indices: integers (*s), updates: (*s, *rest).
    """
    rows = _checked_rows("scatter", indices, operand.shape[0]).reshape(-1)
    found, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        raise OpError("scatter", f"index {found[counts > 1][0]} occurs twice")
    result = operand.copy()
    result[rows] = updates.reshape(rows.size, *operand.shape[1:])
    return result


def _checked_rows(op: str, indices: Array, rows: int) -> NDArray[np.int64]:
    if indices.size:
        lowest, highest = indices.min(), indices.max()
        if lowest < 0 or highest >= rows:
            wrong = lowest if lowest < 0 else highest
            raise OpError(op, f"index {wrong} is outside 0..{rows - 1}")
    return indices.astype(np.int64)


def sort(x: Array, axis: int, descending: bool) -> Array:
    """Return the elements in the order of `argsort`; bits move as they are."""
    return np.asarray(np.take_along_axis(x, argsort(x, axis, descending), axis))


def argsort(x: Array, axis: int, descending: bool) -> Array:
    """Return the stable sorting positions (int64): -inf .. -0, +0 .. inf, NaN; or descending, NaN first."""
    keys = _order_keys(x)
    if descending:
        keys = ~keys  # reverses the order of unsigned keys and keeps ties stable
    return np.argsort(keys, axis=axis, kind="stable").astype(np.int64)


def _order_keys(x: Array) -> Array:
    """Return unsigned integers in the order of the values of `x` (-0 before +0, all NaN equal and largest)."""
    if x.dtype == np.bool_:
        return x.astype(np.uint8)
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    if x.dtype.kind == "u":
        return x
    bits = np.ascontiguousarray(x).view(unsigned)
    sign = unsigned.type(1 << (8 * x.dtype.itemsize - 1))
    if x.dtype.kind == "i":
        return np.asarray(bits ^ sign)
    keys = np.where(bits & sign, ~bits, bits | sign)
    return np.asarray(np.where(is_nan(x), ~unsigned.type(0), keys))
