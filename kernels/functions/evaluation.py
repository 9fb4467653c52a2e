"""Evaluate a function with one correct rounding: f64 first, pairs of f64 where that can't decide.

The f64 value v has a relative error below epsilon. If v (1 - epsilon) and v (1 + epsilon) round alike, so does the real
value. Otherwise (about 3 in a million for f32) the value is computed to 2^-90, far closer than these functions of an
f32 come to a midpoint without lying on it (logistic: 2^-77), then rounded to odd in f64 and to the result type.
Source: A. Ziv, "Fast evaluation of elementary mathematical functions with correctly rounded last bit", TOMS 17 (1991).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.errors import UnknownOpError
from samebits.kernels.functions.definitions import FUNCTIONS, Function
from samebits.kernels.functions.doubledouble import F64, DoubleDouble
from samebits.kernels.functions.two_arguments import FUNCTIONS_OF_TWO
from samebits.kernels.rounding import round_odd_sum, round_to, to_bits

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]

EPSILON: Final = 2.0**-44
_CHUNK: Final = 1 << 14  # elements; the working arrays of a chunk stay in the cache
_SAFE: Final = 0.5  # an argument that every function takes
_DTYPES: Final = ("f32", "bf16", "f16")


def evaluate(name: str, x: F32, dtype: str) -> Array:
    """Return RN_dtype(f(x)) for f32 `x` of any shape; dtype is f32, bf16 or f16.

    Raises UnknownOpError for a name that is not in UNARY, TypeError for other types.
    """
    function = FUNCTIONS.get(name)
    if function is None:
        raise UnknownOpError(name)
    x = _checked(name, x, dtype)
    accurate = None if function.accurate is None else lambda wide: _accurate_value(function, wide)
    return _round_once((x,), dtype, lambda wide: _fast_value(function, wide), accurate, EPSILON)


def evaluate2(name: str, x: F32, y: F32, dtype: str) -> Array:
    """Return RN_dtype(f(x, y)) for f32 arrays that broadcast; dtype is f32, bf16 or f16. atan2 takes (y, x) as ever.

    Raises UnknownOpError for a name that is not in BINARY, TypeError for other types.
    """
    function = FUNCTIONS_OF_TWO.get(name)
    if function is None:
        raise UnknownOpError(name)
    operands = np.broadcast_arrays(_checked(name, x, dtype), _checked(name, y, dtype))
    return _round_once(tuple(operands), dtype, function.fast, function.accurate, function.epsilon)


def _checked(name: str, x: F32, dtype: str) -> F32:
    x = np.asarray(x)
    if x.dtype != np.float32 or dtype not in _DTYPES:
        raise TypeError(f"{name} takes f32 values and gives {', '.join(_DTYPES)}, not {x.dtype} to {dtype}")
    return x


def _round_once(
    operands: tuple[F32, ...],
    dtype: str,
    fast: Callable[..., F64],
    accurate: Callable[..., DoubleDouble] | None,
    epsilon: float,
) -> Array:
    """Round what `fast` and, where needed, `accurate` say of the operands, which have one shape.

    fast: relative error below epsilon, special values included. accurate: None if f64 values round correctly as they
    are; it is called only for results that `fast` leaves undecided, which are finite and not 0.
    """
    shape = operands[0].shape
    flat = [np.ascontiguousarray(operand).reshape(-1) for operand in operands]
    result = np.empty(flat[0].shape, numpy_dtype(dtype))
    undecided: list[npt.NDArray[np.intp]] = []
    with np.errstate(all="ignore"):
        for start in range(0, result.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            v = fast(*(x[part].astype(np.float64) for x in flat))
            if accurate is None:
                result[part] = round_to(v, dtype)
                continue
            below, above = round_to(v * (1.0 - epsilon), dtype), round_to(v * (1.0 + epsilon), dtype)
            result[part] = below
            undecided.append(np.flatnonzero(to_bits(below) != to_bits(above)) + start)
        at = np.concatenate(undecided) if undecided else np.empty(0, np.intp)
        for start in range(0, at.size, _CHUNK):
            if accurate is None:
                raise AssertionError("a value that rounds correctly in f64 is never undecided")
            where = at[start : start + _CHUNK]
            pair = accurate(*(x[where].astype(np.float64) for x in flat))
            result[where] = round_to(round_odd_sum(pair.hi, pair.lo), dtype)
    return result.reshape(shape)


def _fast_value(function: Function, x: F64) -> F64:
    """Return f(x) in f64 for any argument at all."""
    special, value = np.isnan(x), x
    if function.special is not None:
        mask, value = function.special(x)
        value = np.where(special, x, value)
        special = special | mask
    any_special = bool(special.any())
    v = function.fast(_argument(function, np.where(special, _SAFE, x) if any_special else x))
    if function.odd:
        v = np.where(np.signbit(x), -v, v)
    return np.where(special, value, v) if any_special else v


def _accurate_value(function: Function, x: F64) -> DoubleDouble:
    """Return f(x) as a pair for ordinary arguments."""
    if function.accurate is None:
        raise AssertionError("this function has no evaluation with pairs")
    pair = function.accurate(_argument(function, x))
    if not function.odd:
        return pair
    negative = np.signbit(x)
    return DoubleDouble(np.where(negative, -pair.hi, pair.hi), np.where(negative, -pair.lo, pair.lo))


def _argument(function: Function, x: F64) -> F64:
    """Bring ordinary arguments to where the evaluations hold."""
    if function.odd or function.even:
        x = np.abs(x)
    if function.low > -np.inf:
        x = np.maximum(x, function.low)
    return np.minimum(x, function.high) if function.high < np.inf else x
