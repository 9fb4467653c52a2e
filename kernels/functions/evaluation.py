"""Evaluate a function with one correct rounding: f64 first, pairs of f64 where that can't decide.

The f64 value v has a relative error below EPSILON. If v (1 - EPSILON) and v (1 + EPSILON) round alike, so does the real
value. Otherwise (about 3 in a million for f32) the value is computed to 2^-90, far closer than any f32 function comes to a
midpoint without lying on it, then rounded to odd in f64 and to the result type.
Source: A. Ziv, "Fast evaluation of elementary mathematical functions with correctly rounded last bit", TOMS 17 (1991).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.errors import UnknownOpError
from samebits.kernels.functions.definitions import FUNCTIONS, Function
from samebits.kernels.functions.doubledouble import F64, Bools
from samebits.kernels.rounding import round_odd_sum, round_to, to_bits

Array = npt.NDArray[Any]

EPSILON: Final = 2.0**-44
_CHUNK: Final = 1 << 14  # elements; the working arrays of a chunk stay in the cache
_SAFE: Final = 0.5  # an argument that every function takes
_DTYPES: Final = ("f32", "bf16", "f16")


def evaluate(name: str, x: npt.NDArray[np.float32], dtype: str) -> Array:
    """Return RN_dtype(f(x)) for f32 `x` of any shape; dtype is f32, bf16 or f16.

    Raises UnknownOpError for a name that is not in UNARY, TypeError for other types.
    """
    function = FUNCTIONS.get(name)
    if function is None:
        raise UnknownOpError(name)
    x = np.asarray(x)
    if x.dtype != np.float32 or dtype not in _DTYPES:
        raise TypeError(f"{name} takes f32 values and gives {', '.join(_DTYPES)}, not {x.dtype} to {dtype}")
    flat = np.ascontiguousarray(x).reshape(-1)
    result = np.empty(flat.shape, numpy_dtype(dtype))
    undecided: list[npt.NDArray[np.intp]] = []
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            result[part], open_ = _evaluate_fast(function, flat[part].astype(np.float64), dtype)
            if open_ is not None and open_.any():
                undecided.append(np.flatnonzero(open_) + start)
        if undecided:
            _settle(function, flat, dtype, np.concatenate(undecided), result)
    return result.reshape(x.shape)


def _evaluate_fast(function: Function, x: F64, dtype: str) -> tuple[Array, Bools | None]:
    """Return the rounded f64 value, and where it may be wrong (None: nowhere)."""
    if function.accurate is None:
        return round_to(function.fast(x), dtype), None
    special = np.isnan(x)
    value = x
    if function.special is not None:
        mask, value = function.special(x)
        value = np.where(special, x, value)
        special |= mask
    v = function.fast(_argument(function, np.where(special, _SAFE, x) if special.any() else x))
    if function.odd:
        v = np.where(np.signbit(x), -v, v)
    v = np.where(special, value, v)
    below, above = round_to(v * (1.0 - EPSILON), dtype), round_to(v * (1.0 + EPSILON), dtype)
    return below, to_bits(below) != to_bits(above)


def _argument(function: Function, x: F64) -> F64:
    """Bring ordinary arguments to where the evaluations hold."""
    if function.odd or function.even:
        x = np.abs(x)
    if function.low > -np.inf:
        x = np.maximum(x, function.low)
    return np.minimum(x, function.high) if function.high < np.inf else x


def _settle(
    function: Function, x: npt.NDArray[np.float32], dtype: str, at: npt.NDArray[np.intp], result: Array
) -> None:
    """Write the results at the given positions, computed with pairs."""
    if function.accurate is None:
        raise AssertionError("a function whose f64 value rounds correctly is never undecided")
    for start in range(0, at.size, _CHUNK):
        where = at[start : start + _CHUNK]
        wide = x[where].astype(np.float64)
        pair = function.accurate(_argument(function, wide))
        hi = round_odd_sum(pair.hi, pair.lo)
        if function.odd:
            hi = np.where(np.signbit(wide), -hi, hi)
        result[where] = round_to(hi, dtype)
