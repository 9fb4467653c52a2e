"""Sums as exact integer sums on the group's grid: reduce_sum, cumsum, scatter_add.

For a group of n values, m = max|x_i| over its finite ones, e = e(m), p = min(40, 62 - clog2(n)):
q_i = RN_int(x_i * 2^(p-e)), S = sum of q_i (exact in int64, in any order), sum = RN_T(S * 2^(e-p)). m = 0 gives +0;
a NaN or both infinities give NaN, one kind of infinity gives it. Integers wrap in their own type.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import INTEGERS, dtype_name
from samebits.kernels.arithmetic import add
from samebits.kernels.extremes import Axes, checked_axes
from samebits.kernels.grid import clog2, grid_exponent
from samebits.kernels.rounding import (
    DTypeLike,
    element_type,
    infinity_of,
    nan_of,
    power_of_two,
    round_scaled_int,
    round_to,
    to_bits,
    widen,
)

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

MAX_PRECISION: Final = 40  # bits of p
EXACT_F64_BITS: Final = 53
_F32_INFINITY: Final = np.uint32(0x7F800000)
_MAGNITUDE: Final = np.uint32(0x7FFFFFFF)


def sum_precision(n: int) -> int:
    """Return p for a group of n >= 1 values: |S| < n * 2^p <= 2^62."""
    return min(MAX_PRECISION, 62 - clog2(n))


def reduce_sum(x: Array, axes: Axes = None, dtype_out: DTypeLike | None = None) -> Array:
    """Sum over `axes` (None: all; (): each element is a group). Raises TypeError for f64 and bool operands.

    x: f32, bf16, f16 (result rounded once to `dtype_out`, by default the operand's type) or an integer type.
    """
    x = np.asarray(x)
    axis = checked_axes(x, axes)
    name, target = _sum_types("reduce_sum", x, dtype_out)
    if name in INTEGERS:
        return np.asarray(np.add.reduce(x, axis=axis, dtype=x.dtype))
    shape = tuple(size for i, size in enumerate(x.shape) if i not in axis)
    n = int(np.prod([x.shape[i] for i in axis], dtype=np.int64))
    if x.size == 0:
        return round_to(np.zeros(shape), target)
    values, special = _split_special(widen(x))
    exponent = grid_exponent(_largest(values, axis))
    p = sum_precision(n)
    q = _on_grid(values, p - exponent)
    exponent = exponent.reshape(shape) - p
    if p + clog2(n) <= EXACT_F64_BITS:  # every partial sum of these whole numbers is exact in f64
        total = np.add(np.add.reduce(q, axis=axis), 0.0)  # + 0.0 turns -0 into +0
        result = round_to(np.asarray(total * power_of_two(exponent)), target)
    else:
        result = round_scaled_int(np.asarray(np.add.reduce(q.astype(np.int64), axis=axis)), exponent, target)
    if special is None:
        return result
    flags = (np.asarray(np.logical_or.reduce(flag, axis=axis)) for flag in special)
    return _with_special(result, *flags)


def cumsum(x: Array, axis: int) -> Array:
    """Sum every prefix along `axis`, all on the grid of the whole row, each rounded once. Types as `reduce_sum`.

    A NaN or an infinity affects only the prefixes that contain it.
    """
    x = np.asarray(x)
    (axis,) = checked_axes(x, (axis,))
    name, target = _sum_types("cumsum", x, None)
    if name in INTEGERS or x.size == 0:
        return np.asarray(np.add.accumulate(x, axis=axis, dtype=x.dtype)) if name in INTEGERS else x.copy()
    values, special = _split_special(widen(x))
    exponent = grid_exponent(_largest(values, (axis,)))
    p = sum_precision(x.shape[axis])
    totals = np.add.accumulate(_on_grid(values, p - exponent).astype(np.int64), axis=axis)
    result = round_scaled_int(totals, exponent - p, target)
    if special is None:
        return result
    return _with_special(result, *(np.logical_or.accumulate(flag, axis=axis) for flag in special))


def scatter_add(operand: Array, indices: Array, updates: Array) -> Array:
    """Add update slices to the rows that `indices` name: operand + RN_T(S * 2^(e-p)), and RN_T of that sum.

    operand: (N, *rest), indices: integers of any shape (*s), updates: (*s, *rest) of the operand's type -> as operand.
    The group of row i is every slice that lands on it; it has one e, S is per element, p comes from the total number
    of indices. Rows without an update keep their bits. An index outside 0..N-1 raises ValueError.
    """
    operand, indices, updates = np.asarray(operand), np.asarray(indices), np.asarray(updates)
    name, _ = _sum_types("scatter_add", operand, None)
    _check_scatter(operand, indices, updates)
    result = operand.copy()
    rows = indices.reshape(-1).astype(np.int64)
    if rows.size == 0 or operand.size == 0:
        return result
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    touched = rows[starts]
    width = operand.size // operand.shape[0]
    slices = updates.reshape(order.size, width)[order]
    if name in INTEGERS:
        total = np.add.reduceat(slices, starts, axis=0, dtype=operand.dtype)
    else:
        total = _sum_slices(slices, starts, name)
    old = operand.reshape(operand.shape[0], width)[touched]
    result.reshape(operand.shape[0], width)[touched] = add(old, total)
    return result


def _sum_slices(slices: Array, starts: npt.NDArray[np.int64], name: str) -> Array:
    """Sum runs of slices, (n, width) -> (len(starts), width); run k begins at starts[k] and has one grid."""
    values, special = _split_special(widen(slices))
    exponent = grid_exponent(np.maximum.reduceat(_largest(values, (1,)), starts, axis=0))
    p = sum_precision(len(slices))
    lengths = np.diff(starts, append=len(slices))
    q = _on_grid(values, p - np.repeat(exponent, lengths, axis=0)).astype(np.int64)
    result = round_scaled_int(np.add.reduceat(q, starts, axis=0), exponent - p, name)
    if special is None:
        return result
    return _with_special(result, *(np.logical_or.reduceat(flag, starts, axis=0) for flag in special))


def _check_scatter(operand: Array, indices: Array, updates: Array) -> None:
    if operand.ndim == 0:
        raise ValueError("scatter_add takes an operand with at least one axis")
    if indices.dtype.kind not in "iu" or updates.dtype != operand.dtype:
        raise TypeError(
            f"scatter_add takes integer indices and {operand.dtype} updates, not {indices.dtype} and {updates.dtype}"
        )
    if updates.shape != indices.shape + operand.shape[1:]:
        raise ValueError(f"updates have shape {updates.shape}, want {indices.shape + operand.shape[1:]}")
    outside = (indices < 0) | (indices >= operand.shape[0])
    if outside.any():
        raise ValueError(f"index {indices[outside].flat[0]} is outside 0..{operand.shape[0] - 1}")


def _sum_types(op: str, x: Array, dtype_out: DTypeLike | None) -> tuple[str, str]:
    name = dtype_name(x.dtype)
    target = name if dtype_out is None else element_type(dtype_out)
    if name not in ("f32", "bf16", "f16", *INTEGERS):
        raise TypeError(f"{op} is not defined for {name}")
    if name in INTEGERS and target != name:
        raise TypeError(f"{op} of {name} stays {name}")
    return name, target


def _largest(values: Array, axis: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return max|x| over `axis` of finite f32 values, with those axes kept as 1."""
    bits = np.bitwise_and(to_bits(values), _MAGNITUDE)  # magnitudes order like their bits
    return np.asarray(np.maximum.reduce(bits, axis=axis, keepdims=True)).view(np.float32)


def _on_grid(values: Array, scale_exponent: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return RN_int(x * 2^scale_exponent) as whole numbers in f64, each below 2^40."""
    q = np.asarray(np.multiply(values, power_of_two(scale_exponent), dtype=np.float64))
    return np.asarray(np.rint(q, out=q))


def _split_special(values: Array) -> tuple[Array, tuple[Bools, Bools, Bools] | None]:
    """Return f32 values with 0 in place of NaN and infinities, and where NaN, +inf and -inf were (None: nowhere)."""
    bits = to_bits(values)
    magnitude = np.bitwise_and(bits, _MAGNITUDE)
    if not (magnitude >= _F32_INFINITY).any():
        return values, None
    nan = magnitude > _F32_INFINITY
    infinite = magnitude == _F32_INFINITY
    negative = bits > _MAGNITUDE
    finite = np.where(nan | infinite, np.float32(0), values)
    return finite, (np.asarray(nan), np.asarray(infinite & ~negative), np.asarray(infinite & negative))


def _with_special(result: Array, nan: Bools, plus: Bools, minus: Bools) -> Array:
    """Put NaN and infinities over the sums of groups that contain such values."""
    bits = to_bits(result)
    infinity = infinity_of(dtype_name(result.dtype))
    bits = np.where(plus, to_bits(infinity), np.where(minus, to_bits(-infinity), bits))
    return np.asarray(np.where(nan | (plus & minus), to_bits(nan_of(dtype_name(result.dtype))), bits)).view(
        result.dtype
    )
