"""The grids of an exact dot product: exponents f_k, ea_i, eb_j, and the whole numbers qa, qb on them.

Both are computed in f32 where no exponent is near f32's ends, else in f64; scaling by powers of two is exact in either,
so the choice changes no bit. Work goes through tiles that stay in a core's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from samebits.kernels.grid import grid_exponent
from samebits.kernels.rounding import power_of_two
from samebits.kernels.scratch import SCRATCH

Array = npt.NDArray[Any]
Grid = Literal["both", "columns", "rows"]

_TILE_ELEMENTS: Final = 1 << 15
_NARROW: Final = np.int32(60)  # |exponent| up to which f32 holds every scaled value that matters
_F32_BIAS: Final = np.int32(127)
_F32_FRACTION: Final = np.int32(23)
_F32_CARRY: Final = np.int32(0x20000)  # e of a normal f32 is ((bits + carry) >> 23) - 126
_F32_E_BIAS: Final = np.int32(126)
_F32: Final[np.dtype[Any]] = np.dtype(np.float32)
# integer type of the same width, and the mask that clears its sign bit
_MAGNITUDE: Final[dict[np.dtype[Any], tuple[np.dtype[Any], Any]]] = {
    np.dtype(np.float32): (np.dtype(np.int32), np.int32(0x7FFFFFFF)),
    np.dtype(np.float64): (np.dtype(np.int64), np.int64(0x7FFFFFFFFFFFFFFF)),
}


@dataclass(frozen=True, slots=True)
class Exponents:
    """The grid of one product; a' = a * 2^f_k and b' = b * 2^-f_k."""

    up: Array | None  # 2^f_k, (B, K) in the work type; None: f = 0
    down: Array | None  # 2^-f_k
    ea: Array  # (B, M) integers
    eb: Array | None  # (B, N) integers, None stands for zeros
    work: np.dtype[Any]  # f32 or f64, in which quantising is exact


def find_exponents(a: Array, b: Array, grid: Grid) -> Exponents | None:
    """Return the grid of a (B, M, K) and b (B, K, N) f32, or None if it needs the wide form.

    That is: some exponent lies beyond +-60, or there is a NaN or an infinity.
    """
    up = down = eb = None
    if grid != "columns":
        f = _narrow_exponents(b, 2, None)
        if f is None:
            return None
        up, down = scale_factor(f, _F32), scale_factor(-f, _F32)
    ea = _narrow_exponents(a, 2, up)
    if ea is None:
        return None
    if grid != "rows":
        eb = _narrow_exponents(b, 1, down)
        if eb is None:
            return None
    return Exponents(up, down, ea, eb, _F32)


def find_wide_exponents(a: Array, b: Array, grid: Grid) -> Exponents:
    """Return the grid of a (B, M, K) and b (B, K, N): finite f64 that hold f32 values of any size."""
    up = down = None
    if grid != "columns":
        f = grid_exponent(_largest_bits(b, 2, None).view(np.float64))
        up, down = power_of_two(f), power_of_two(-f)
    ea = grid_exponent(_largest_bits(a, 2, up).view(np.float64))
    eb = None if grid == "rows" else grid_exponent(_largest_bits(b, 1, down).view(np.float64))
    return Exponents(up, down, ea, eb, np.dtype(np.float64))


def scale_factor(exponent: Array, work: np.dtype[Any]) -> Array:
    """Return 2^exponent in the work type; f32 takes exponents within -126..127."""
    if work == np.float64:
        return power_of_two(exponent)
    bits: Array = (exponent.astype(np.int32, copy=False) + _F32_BIAS) << _F32_FRACTION
    return bits.view(np.float32)


def quantise(
    x: Array, k_scale: Array | None, line_scale: Array, k_axis: int, *, norm: bool, slot: str
) -> tuple[npt.NDArray[np.float64], float]:
    """Return q = RN_int(x * k_scale * line_scale) in f64, and a bound on the squared norms of its lines.

    x: (B, R, C) with K on axis `k_axis` (1 or 2) and lines, rows of a or columns of b, on the other one.
    k_scale: (B, K) or None, line_scale: (B, lines) or (1, 1): powers of two in the work type.
    The bound is inf unless `norm` asks for it. q lives in the scratch memory `slot`.
    """
    if _runs_along_rows(x):
        q, bound = quantise(x.swapaxes(1, 2), k_scale, line_scale, 3 - k_axis, norm=norm, slot=slot)
        return q.swapaxes(1, 2), bound
    along_k = None if k_scale is None else _along(k_axis, k_scale)
    along_lines = _along(3 - k_axis, line_scale)
    q = SCRATCH.take(slot, x.shape)
    norms = _LineNorms(x.shape, k_axis) if norm else None
    buffer = np.empty(min(x.size, _TILE_ELEMENTS), line_scale.dtype)
    for tile in _tiles(x.shape):
        source = x[tile]
        t = _shaped(buffer, source)
        if along_k is not None:
            source = np.multiply(source, _part(along_k, tile), out=t)
        np.multiply(source, _part(along_lines, tile), out=t)
        np.rint(t, out=t)
        if norms is not None:
            norms.take(t, tile)
        q[tile] = t
    return q, np.inf if norms is None else norms.upper()


class _LineNorms:
    """Collects the squared norms of all lines, in any order and roughly: `upper` allows for every rounding."""

    __slots__ = ("_depth", "_k_axis", "_sums")

    def __init__(self, shape: tuple[int, ...], k_axis: int) -> None:
        self._k_axis, self._depth = k_axis, shape[k_axis]
        self._sums = np.zeros((shape[0], shape[3 - k_axis]), np.float64)

    def take(self, t: Array, tile: tuple[slice, slice]) -> None:
        """Add one tile of whole numbers; a sum of K squares is off by at most K steps of the work type."""
        if self._k_axis == 2:
            self._sums[tile] = np.vecdot(t, t)
        else:
            self._sums[tile[0]] += np.einsum("brc,brc->bc", t, t)

    def upper(self) -> float:
        """Return a bound that no line's exact squared norm exceeds."""
        slack = self._depth * 2.0**-24
        # computed >= exact * (1 - g) with g = slack / (1 - slack), and 1 / (1 - g) <= 1 + 2 slack up to slack = 1/4
        return float(self._sums.max()) * (1 + 2 * slack) if slack <= 0.25 else np.inf


def _largest_bits(x: Array, axis: int, scale: Array | None) -> Array:
    """Return the bits, as signed integers, of max |x * scale| along `axis` (1 or 2) of x (B, R, C) f32 or f64.

    scale: per index of `axis`, (B, size), of x's type. A NaN or an infinity gives the bits of one.
    """
    if _runs_along_rows(x):
        return _largest_bits(x.swapaxes(1, 2), 3 - axis, scale)
    integer, mask = _MAGNITUDE[x.dtype]
    along = None if scale is None else _along(axis, scale)
    largest = np.zeros((x.shape[0], x.shape[3 - axis]), integer)
    buffer = np.empty(min(x.size, _TILE_ELEMENTS), x.dtype)
    for tile in _tiles(x.shape):
        source = x[tile]
        t = _shaped(buffer, source)
        if along is not None:
            source = np.multiply(source, _part(along, tile), out=t)
        bits = np.bitwise_and(source.view(integer), mask, out=t.view(integer))
        if axis == 2:
            np.maximum.reduce(bits, axis=2, out=largest[tile])
        else:
            here = largest[tile[0]]
            np.maximum(here, np.maximum.reduce(bits, axis=1), out=here)
    return largest


def _narrow_exponents(x: Array, axis: int, scale: Array | None) -> Array | None:
    """Return e(max |x * scale|) along `axis` of f32 x, 0 where that is 0; None if f32 cannot tell it.

    It cannot where an e lies beyond the narrow range, where x is not finite, or where it vanished when scaled.
    """
    largest = _largest_bits(x, axis, scale)
    e: Array = ((largest + _F32_CARRY) >> _F32_FRACTION) - _F32_E_BIAS
    if (e + _NARROW).view(np.uint32).max() <= 2 * _NARROW:  # a negative number is a large one here
        return e
    zero = largest == 0
    if scale is not None and _largest_bits(x, axis, None)[zero].any():
        return None
    e[zero] = 0
    return e if abs(e).max() <= _NARROW else None


def _along(axis: int, scale: Array) -> Array:
    """Turn (B, size) into (B, size, 1) for axis 1, (B, 1, size) for axis 2."""
    return scale[:, :, None] if axis == 1 else scale[:, None, :]


def _runs_along_rows(x: Array) -> bool:
    """Say whether axis 1 is the fast one in memory, as in a transposed matrix."""
    return bool(abs(x.strides[1]) < abs(x.strides[2]) and x.shape[1] > 1)


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Cut (B, R, C) into ranges of B and R, of about as many elements as stay in cache; all of C goes together."""
    batches, rows, columns = shape
    if batches * rows * columns <= _TILE_ELEMENTS:
        yield slice(None), slice(None)
        return
    if rows * columns <= _TILE_ELEMENTS:
        step = max(1, _TILE_ELEMENTS // max(1, rows * columns))
        for start in range(0, batches, step):
            yield slice(start, start + step), slice(0, rows)
        return
    step = max(1, _TILE_ELEMENTS // columns)
    for batch in range(batches):
        for start in range(0, rows, step):
            yield slice(batch, batch + 1), slice(start, start + step)


def _shaped(buffer: Array, like: Array) -> Array:
    """Return the front of a flat buffer in the shape of a tile; a tile of one long row gets memory of its own."""
    if like.size > buffer.size:
        return np.empty(like.shape, buffer.dtype)
    return buffer[: like.size].reshape(like.shape)


def _part(scale: Array, tile: tuple[slice, slice]) -> Array:
    """Return what a tile needs of a scale that is (B or 1, R, 1) or (B or 1, 1, C)."""
    batches = tile[0] if scale.shape[0] > 1 else slice(None)
    return scale[batches, tile[1]] if scale.shape[1] > 1 else scale[batches]
