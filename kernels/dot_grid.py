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
_NARROW: Final = 60  # |exponent| up to which f32 holds every scaled value that matters
_F32_BIAS: Final = np.int32(127)
_F32_FRACTION: Final = np.int32(23)
_F32_CARRY: Final = np.int32(0x20000)  # e of a normal f32 is ((bits + carry) >> 23) - 126
# integer type of the same width, and the mask that clears its sign bit
_MAGNITUDE: Final[dict[np.dtype[Any], tuple[np.dtype[Any], Any]]] = {
    np.dtype(np.float32): (np.dtype(np.int32), np.int32(0x7FFFFFFF)),
    np.dtype(np.float64): (np.dtype(np.int64), np.int64(0x7FFFFFFFFFFFFFFF)),
}


@dataclass(frozen=True, slots=True)
class Exponents:
    """The grid of one product; a' = a * 2^f_k and b' = b * 2^-f_k."""

    f: Array | None  # (B, K) integers, None stands for zeros
    ea: Array  # (B, M)
    eb: Array | None  # (B, N), None stands for zeros
    work: np.dtype[Any]  # f32 or f64, in which quantising is exact


def find_exponents(a: Array, b: Array, grid: Grid) -> Exponents | None:
    """Return the grid of a (B, M, K) and b (B, K, N) f32, or None if it needs the wide form.

    That is: some exponent lies beyond +-60, or there is a NaN or an infinity.
    """
    f = eb = None
    if grid != "columns":
        f = _narrow_exponents(_largest_bits(b, 2, None))
        if f is None:
            return None
    ea = _scaled_narrow_exponents(a, 2, f)
    if ea is None:
        return None
    if grid != "rows":
        eb = _scaled_narrow_exponents(b, 1, None if f is None else -f)
        if eb is None:
            return None
    return Exponents(f, ea, eb, np.dtype(np.float32))


def find_wide_exponents(a: Array, b: Array, grid: Grid) -> Exponents:
    """Return the grid of a (B, M, K) and b (B, K, N): finite f64 that hold f32 values of any size."""
    f = None if grid == "columns" else grid_exponent(_largest_bits(b, 2, None).view(np.float64))
    up, down = (None, None) if f is None else (power_of_two(f), power_of_two(-f))
    ea = grid_exponent(_largest_bits(a, 2, up).view(np.float64))
    eb = None if grid == "rows" else grid_exponent(_largest_bits(b, 1, down).view(np.float64))
    return Exponents(f, ea, eb, np.dtype(np.float64))


def scale_factor(exponent: Array, work: np.dtype[Any]) -> Array:
    """Return 2^exponent in the work type; f32 takes exponents within -126..127."""
    if work == np.float64:
        return power_of_two(exponent)
    bits: Array = (exponent.astype(np.int32, copy=False) + _F32_BIAS) << _F32_FRACTION
    return bits.view(np.float32)


def quantise(
    x: Array, k_exponent: Array | None, line_exponent: Array, k_axis: int, work: np.dtype[Any], *, norm: bool, slot: str
) -> tuple[npt.NDArray[np.float64], float]:
    """Return q = RN_int(x * 2^(k_exponent + line_exponent)) in f64, and a bound on the squared norms of its lines.

    x: (B, R, C) with K on axis `k_axis` (1 or 2) and lines, rows of a or columns of b, on the other one.
    k_exponent: (B, K) or None, line_exponent: (B, lines) or (1, 1). The bound is inf unless `norm` asks for it.
    q lives in the scratch memory `slot`.
    """
    if _runs_along_rows(x):
        q, bound = quantise(x.swapaxes(1, 2), k_exponent, line_exponent, 3 - k_axis, work, norm=norm, slot=slot)
        return q.swapaxes(1, 2), bound
    k_scale = None if k_exponent is None else _along(k_axis, scale_factor(k_exponent, work))
    line_scale = _along(3 - k_axis, scale_factor(line_exponent, work))
    q = SCRATCH.take(slot, x.shape)
    bound = _LineNorms(x.shape, k_axis) if norm else None
    buffer = np.empty(min(x.size, _TILE_ELEMENTS), work)
    for tile in _tiles(x.shape):
        source = x[tile]
        t = _shaped(buffer, source)
        if k_scale is not None:
            source = np.multiply(source, _part(k_scale, tile), out=t)
        np.multiply(source, _part(line_scale, tile), out=t)
        np.rint(t, out=t)
        if bound is not None:
            bound.take(t, tile)
        q[tile] = t
    return q, np.inf if bound is None else bound.upper()


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


def _scaled_narrow_exponents(x: Array, axis: int, shift: Array | None) -> Array | None:
    """Return e(max |x * 2^shift|) along `axis`, or None if f32 cannot tell it."""
    if shift is None:
        return _narrow_exponents(_largest_bits(x, axis, None))
    largest = _largest_bits(x, axis, scale_factor(shift, x.dtype))
    if not largest.all() and _largest_bits(x, axis, None)[largest == 0].any():
        return None  # not zero, but it vanished when scaled
    return _narrow_exponents(largest)


def _narrow_exponents(largest: Array) -> Array | None:
    """Return e(m) from the bits of f32 m, 0 for m = 0; None if any lies beyond the narrow range or is not finite."""
    e: Array = ((largest + _F32_CARRY) >> _F32_FRACTION) - np.int32(126)
    if e.max() > _NARROW:
        return None
    if e.min() < -_NARROW:
        e[largest == 0] = 0
        if e.min() < -_NARROW:
            return None
    return e


def _along(axis: int, scale: Array) -> Array:
    """Turn (B, size) into (B, size, 1) for axis 1, (B, 1, size) for axis 2."""
    return scale[:, :, None] if axis == 1 else scale[:, None, :]


def _runs_along_rows(x: Array) -> bool:
    """Say whether axis 1 is the fast one in memory, as in a transposed matrix."""
    return bool(abs(x.strides[1]) < abs(x.strides[2]) and x.shape[1] > 1)


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Cut (B, R, C) into ranges of B and R, of about as many elements as stay in cache; all of C goes together."""
    batches, rows, columns = shape
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
