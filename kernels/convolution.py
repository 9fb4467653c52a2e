"""conv_general_dilated: convolutions as exact integer dot products, rounded once.

A result is the dot product of a window of a sample and a filter: with p as in dot.py, K = channels of a group times
window, ex = e(max |x|) over the sample's channels of that group (all of them, read or not) and ew = e(max |w|) over the
filter, S = sum of RN_int(x * 2^(p-ex)) * RN_int(w * 2^(p-ew)) (exact), out = RN_T(S * 2^(ex + ew - 2p)).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import dtype_name, numpy_dtype
from samebits.kernels.convolution_shape import ConvShape
from samebits.kernels.dot import Precision, dot_precision, scale_and_round
from samebits.kernels.exact_matmul import matmul_bounded, safe_depth
from samebits.kernels.grid import grid_exponent
from samebits.kernels.rounding import nan_of, power_of_two, round_to, widen
from samebits.kernels.scratch import KEPT_ELEMENTS, SCRATCH

Array = npt.NDArray[Any]
Pieces = Iterator[tuple[slice, slice]]

_NORM_SLACK: Final = 1 + 2.0**-20  # covers the rounding of sums of up to 2^30 squares


def conv_general_dilated(lhs: Array, rhs: Array, shape: ConvShape, precision: Precision) -> Array:
    """Return the convolution, of shape `shape.result`. lhs: (N, C, *spatial), rhs: (O, C/groups, *window)."""
    target = dtype_name(lhs.dtype)
    if 0 in shape.result or shape.depth == 0:
        return round_to(np.zeros(shape.result), target)
    p = dot_precision(precision, shape.depth)
    with np.errstate(all="ignore"):
        x, ex, x_bad = _quantise(widen(_in_groups(lhs, shape)), 2, p)
        filters = widen(rhs).reshape(shape.groups, shape.filters, shape.depth)
        w, ew, w_bad = _quantise(filters, 2, p)
        result = np.empty((shape.samples, shape.groups, shape.filters, *shape.out), numpy_dtype(target))
        windows = _windows(_padded(x, shape), shape)
        for samples, rows in _pieces(shape):
            taken: Any = (samples, rows, *[slice(None)] * len(shape.out[1:]))
            s, sizes = _product(w, windows[(..., *taken)], p)
            column = np.repeat(ex[:, samples] - p, prod(sizes[1:]), axis=1)
            block = scale_and_round(s, (ew - p)[:, :, None], column[:, None, :], target)
            block = block.reshape(shape.groups, shape.filters, *sizes)
            result[samples, :, :, rows] = np.moveaxis(block, 2, 0)
    # a NaN or an infinity, anywhere in the group's sample or in the filter, wins over everything, zeros included
    result[x_bad.T[:, :, None] | w_bad] = nan_of(target)
    return result.reshape(shape.result)


def _in_groups(lhs: Array, shape: ConvShape) -> Array:
    """Return lhs as (G, samples, channels, *spatial)."""
    spatial = lhs.shape[2:]
    if shape.by_batch:
        return lhs.reshape(shape.groups, shape.samples, shape.channels, *spatial)
    return lhs.reshape(shape.samples, shape.groups, shape.channels, *spatial).swapaxes(0, 1)


def _quantise(x: Array, kept: int, p: int) -> tuple[Array, Array, Array]:
    """Return RN_int(x * 2^(p-e)) in f64, e, and whether there is a NaN or an infinity; one e per index of `kept` axes.

    x: f32; e and the last: of shape x.shape[:kept].
    """
    finite = np.isfinite(x)
    q = np.where(finite, x, np.float32(0)).astype(np.float64)
    axes = tuple(range(kept, x.ndim))
    e = grid_exponent(np.abs(q).max(axes, initial=0.0))
    scale = np.expand_dims(power_of_two(p - e), axes)
    np.rint(np.multiply(q, scale, out=q), out=q)
    return q, e, np.asarray(~finite.all(axes))


def _padded(x: Array, shape: ConvShape) -> Array:
    """Return x (G, samples, channels, *spatial) cropped, dilated and among zeros."""
    result = np.zeros((*x.shape[:3], *shape.padded))
    axes = list(zip(shape.begin, shape.count, shape.low, shape.lhs_dilation, strict=True))
    source = tuple(slice(begin, begin + count) for begin, count, _, _ in axes)
    target = tuple(slice(low, low + count * step, step) for _, count, low, step in axes)
    result[:, :, :, *target] = x[:, :, :, *source]
    return result


def _windows(x: Array, shape: ConvShape) -> Array:
    """Return all windows as a view (G, channels, *window, samples, *out)."""
    axes = tuple(range(3, x.ndim))
    every = np.lib.stride_tricks.sliding_window_view(x, shape.span, axes)
    positions = (slice(0, n * step, step) for n, step in zip(shape.out, shape.window_strides, strict=True))
    every = every[:, :, :, *positions, *(slice(None, None, step) for step in shape.rhs_dilation)]
    return every.transpose(0, 2, *range(x.ndim, every.ndim), 1, *axes)


def _pieces(shape: ConvShape) -> Pieces:
    """Cut samples and rows of positions into ranges whose windows fit the memory that is kept."""
    rows = max(1, KEPT_ELEMENTS // (shape.groups * shape.depth * prod(shape.out[1:])))
    if rows >= shape.out[0]:
        step = rows // shape.out[0]
        for start in range(0, shape.samples, step):
            yield slice(start, start + step), slice(None)
        return
    for sample in range(shape.samples):
        for start in range(0, shape.out[0], rows):
            yield slice(sample, sample + 1), slice(start, start + rows)


def _product(w: Array, windows: Array, p: int) -> tuple[Array, tuple[int, ...]]:
    """Return filters times windows, exactly, and the sizes of the axes that the columns run through.

    w: (G, filters, K), windows: (G, channels, *window, samples, *out), whole numbers.
    """
    depth = w.shape[2]
    spatial = (windows.ndim - 3) // 2
    sizes = windows.shape[2 + spatial :]
    columns = SCRATCH.take("b", windows.shape)
    columns[...] = windows
    columns = columns.reshape(w.shape[0], depth, prod(sizes))
    bound = np.inf
    if depth > safe_depth(p):
        norms = (np.einsum("gfk,gfk->gf", w, w), np.einsum("gkl,gkl->gl", columns, columns))
        bound = float(norms[0].max()) * float(norms[1].max()) * _NORM_SLACK
    return matmul_bounded(w, columns, p, bound), sizes
