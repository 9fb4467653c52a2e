"""dot_general: matrix products as exact integer dot products on shared grids, rounded once.

Out (i, j) contracts K values. With p = 22 (`highest`) or 15 (`high`), lowered for K > 2^18, and the exponents of
dot_grid.py: qa = RN_int(a * 2^(f_k + p - ea_i)), qb = RN_int(b * 2^(p - f_k - eb_j)), S = sum_k qa * qb (exact),
out = RN_T(S * 2^(ea_i + eb_j - 2p)). No order of summation appears, so none can change a bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import INTEGERS, dtype_name, numpy_dtype
from samebits.kernels.dot_grid import Exponents, Grid, find_exponents, find_wide_exponents, quantise, scale_factor
from samebits.kernels.exact_matmul import matmul_bounded, matmul_wrapping, safe_depth
from samebits.kernels.grid import clog2
from samebits.kernels.rounding import DTypeLike, element_type, nan_of, round_scaled_int, round_to, widen

Array = npt.NDArray[Any]
Axes: TypeAlias = Sequence[int]
# ((lhs_contract, rhs_contract), (lhs_batch, rhs_batch)), as JAX writes it
DimensionNumbers: TypeAlias = tuple[tuple[Axes, Axes], tuple[Axes, Axes]]
Precision = Literal["highest", "high"]

_PRECISION_BITS: Final = {"highest": 22, "high": 15}
_GRIDS: Final = ("both", "columns", "rows")
_FLOATS: Final = ("f32", "bf16", "f16")
_ROWS_ELEMENTS: Final = 1 << 15  # elements of the result that are converted at a time, to stay in cache


def dot_precision(precision: Precision, depth: int) -> int:
    """Return p for K = depth >= 1: K * 2^(2p) <= 2^62, so that S fits int64."""
    return min(_PRECISION_BITS[precision], (62 - clog2(depth)) // 2)


def dot_general(
    a: Array,
    b: Array,
    *,
    dimension_numbers: DimensionNumbers | None = None,
    precision: Precision = "highest",
    grid: Grid = "both",
    dtype_out: DTypeLike | None = None,
) -> Array:
    """Contract a with b; result axes: batch, free axes of a, free axes of b. Operands have one element type.

    dimension_numbers: ((a contract, b contract), (a batch, b batch)); None: the last axis of a with the last but one
    of b, all axes before them batch. f32, bf16, f16: rounded once to `dtype_out`, any float type, by default the
    operands'. Integers: exact, wrapped. Raises TypeError for other types, ValueError for shapes that don't fit.
    """
    a, b = np.asarray(a), np.asarray(b)
    if precision not in _PRECISION_BITS or grid not in _GRIDS:
        raise ValueError(f"no precision {precision!r} with grid {grid!r}")
    name, target = _dot_types(a, b, dtype_out)
    shape, left, right = _as_matrices(a, b, dimension_numbers)
    if name in INTEGERS:
        return matmul_wrapping(left, right).reshape(shape)
    result_shape = (left.shape[0], left.shape[1], right.shape[2])
    if left.size == 0 or right.size == 0:
        return round_to(np.zeros(shape), target)
    with np.errstate(all="ignore"):
        result = _float_product(widen(left), widen(right), dot_precision(precision, left.shape[2]), grid, target)
    if result.shape != result_shape:
        raise AssertionError(f"product has shape {result.shape}, want {result_shape}")
    return result.reshape(shape)


def _dot_types(a: Array, b: Array, dtype_out: DTypeLike | None) -> tuple[str, str]:
    name, other = dtype_name(a.dtype), dtype_name(b.dtype)
    target = name if dtype_out is None else element_type(dtype_out)
    if name != other or name not in (*_FLOATS, *INTEGERS):
        raise TypeError(f"dot_general is not defined for {name} and {other}")
    if (target not in (*_FLOATS, "f64")) if name in _FLOATS else target != name:
        raise TypeError(f"dot_general of {name} cannot give {target}")
    return name, target


def _as_matrices(a: Array, b: Array, numbers: DimensionNumbers | None) -> tuple[tuple[int, ...], Array, Array]:
    """Return the result's shape, a as (B, M, K) and b as (B, K, N); views where the strides allow it."""
    if numbers is None:
        if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2]:
            raise ValueError(f"shapes {a.shape} and {b.shape} are no matrix product: give dimension_numbers")
        count = math.prod(a.shape[:-2])
        return (*a.shape[:-1], b.shape[-1]), a.reshape(count, *a.shape[-2:]), b.reshape(count, *b.shape[-2:])
    (a_contract, b_contract), (a_batch, b_batch) = numbers
    a_free, b_free = _free_axes(a, a_contract, a_batch), _free_axes(b, b_contract, b_batch)
    batch, contract = _sizes(a, a_batch), _sizes(a, a_contract)
    if _sizes(b, b_batch) != batch or _sizes(b, b_contract) != contract:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not fit dimension_numbers {numbers}")
    rows, columns = _sizes(a, a_free), _sizes(b, b_free)
    left = a.transpose(*a_batch, *a_free, *a_contract)
    right = b.transpose(*b_batch, *b_contract, *b_free)
    sizes = [math.prod(group) for group in (batch, rows, contract, columns)]
    return (*batch, *rows, *columns), left.reshape(sizes[:3]), right.reshape(sizes[0], *sizes[2:])


def _free_axes(x: Array, contract: Axes, batch: Axes) -> tuple[int, ...]:
    used = [*contract, *batch]
    if len(set(used)) != len(used) or any(not 0 <= axis < x.ndim for axis in used):
        raise ValueError(f"axes {used} are not distinct axes of shape {x.shape}")
    return tuple(axis for axis in range(x.ndim) if axis not in used)


def _sizes(x: Array, axes: Axes) -> tuple[int, ...]:
    return tuple(x.shape[axis] for axis in axes)


def _float_product(a: Array, b: Array, p: int, grid: Grid, target: str) -> Array:
    """Multiply a (B, M, K) by b (B, K, N), f32 both and not empty."""
    exponents = find_exponents(a, b, grid)
    if exponents is not None:
        return _product_on(exponents, a, b, p, target)
    a_bad, b_bad = ~np.isfinite(a), ~np.isfinite(b)
    wide_a, wide_b = (np.where(bad, 0.0, x.astype(np.float64)) for x, bad in ((a, a_bad), (b, b_bad)))
    exponents = find_wide_exponents(wide_a, wide_b, grid)
    result = _product_on(exponents, wide_a, wide_b, p, target)
    # a NaN or an infinity, anywhere in the row of a or the column of b, wins over everything, zeros included
    rows, columns = np.logical_or.reduce(a_bad, axis=2), np.logical_or.reduce(b_bad, axis=1)
    result[rows[:, :, None] | columns[:, None, :]] = nan_of(target)
    return result


def _product_on(exponents: Exponents, a: Array, b: Array, p: int, target: str) -> Array:
    ea, eb, work = exponents.ea, exponents.eb, exponents.work
    b_lines = np.full((1, 1), p) if eb is None else p - eb
    norm = a.shape[2] > safe_depth(p)
    qa, a_norm = quantise(a, exponents.up, scale_factor(p - ea, work), 2, norm=norm, slot="a")
    qb, b_norm = quantise(b, exponents.down, scale_factor(b_lines, work), 1, norm=norm, slot="b")
    s = matmul_bounded(qa, qb, p, a_norm * b_norm)
    return scale_and_round(s, (ea - p)[:, :, None], -b_lines[:, None, :], target)


def scale_and_round(s: Array, row: Array, column: Array, target: str) -> Array:
    """RN_T(s * 2^(row + column)); s: (B, M, N) int64 or whole f64 within 2^53, row: (B, M, 1), column: (B, 1, N)."""
    result = np.empty(s.shape, numpy_dtype(target))
    work = np.dtype(np.float32 if s.dtype == np.float64 and target == "f32" and _fits_f32(row, column) else np.float64)
    row_scale, column_scale = scale_factor(row, work), scale_factor(column, work)
    for block in _blocks(s.shape):
        rows = row_scale[block]
        columns = column_scale[block[0]] if column_scale.shape[0] > 1 else column_scale
        if s.dtype == np.int64:
            columns = column[block[0]] if column.shape[0] > 1 else column
            result[block] = round_scaled_int(s[block], row[block] + columns, target)
        elif work == np.float32:  # RN_f32(s) * 2^k is RN_f32(s * 2^k) where the result is normal or infinite
            part = result[block]
            part[...] = s[block]
            np.multiply(part, rows, out=part)
            np.multiply(part, columns, out=part)
            np.add(part, np.float32(0), out=part)  # turns -0 into +0
        else:
            scaled = np.multiply(np.multiply(s[block], rows), columns)
            result[block] = round_to(np.add(scaled, 0.0), target)
    return result


def _fits_f32(row: Array, column: Array) -> bool:
    """Say whether f32 holds both scales, s * 2^row and every nonzero result as normal numbers, for 1 <= |s| <= 2^53."""
    lowest, highest = (row.min(), column.min()), (row.max(), column.max())
    return bool(min(lowest) >= -126 and max(highest) <= 74 and sum(lowest) >= -126)


def _blocks(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Cut (B, M, N) into ranges of B and M of some ten thousand elements each."""
    batches, rows, columns = shape
    step = max(1, _ROWS_ELEMENTS // columns)
    if step >= rows:
        step = max(1, step // rows)
        return [(slice(start, start + step), slice(0, rows)) for start in range(0, batches, step)]
    starts = range(0, rows, step)
    return [(slice(i, i + 1), slice(start, start + step)) for i in range(batches) for start in starts]
