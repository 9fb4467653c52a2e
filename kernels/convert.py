"""Casts between element types: every one rounds once, saturates or wraps as the contract says, and never warns."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import FLOATS, INTEGERS, dtype_name, numpy_dtype
from samebits.kernels.rounding import (
    DTypeLike,
    canonical_nan,
    element_type,
    odd_float,
    power_of_two,
    round_to,
    widen,
)

Array = npt.NDArray[Any]
_FLOATS: Final = frozenset(FLOATS)
_INTEGERS: Final = frozenset(INTEGERS)


def convert(x: Array, dtype: DTypeLike) -> Array:
    """Cast to `dtype`, of any element type from any. Every cast between floats makes NaN canonical, f32 to f32 too."""
    x = np.asarray(x)
    source, target = dtype_name(x.dtype), element_type(dtype)
    if source == target:
        return canonical_nan(x) if source in _FLOATS else x
    if target == "bool":
        return np.asarray((widen_f64(x) if source in _FLOATS else x) != 0)
    if target in _INTEGERS:
        return float_to_int(x, target) if source in _FLOATS else x.astype(numpy_dtype(target))
    return float_to_float(x, target) if source in _FLOATS else int_to_float(x, target)


def widen_f64(x: Array) -> npt.NDArray[np.float64]:
    """Return values of any float type exactly as f64 (f64: `x` itself). NaN stays NaN, its payload is unspecified."""
    with np.errstate(all="ignore"):
        return x if x.dtype == np.float64 else widen(x).astype(np.float64)


def float_to_float(x: Array, dtype: DTypeLike) -> Array:
    """Cast between float types: RN once, canonical NaN."""
    if element_type(dtype) == "f32" and x.dtype != np.float64:
        return canonical_nan(widen(x))
    return round_to(widen_f64(x), dtype)


def float_to_int(x: Array, dtype: DTypeLike) -> Array:
    """Cast toward zero; values beyond the integer type give its nearest end, NaN gives 0."""
    target = numpy_dtype(element_type(dtype))
    if target.kind not in "iu":
        raise TypeError(f"{target} is not an integer type")
    info = np.iinfo(target)
    with np.errstate(all="ignore"):  # a signalling NaN raises a flag
        whole = np.trunc(widen_f64(x))
        over, under = whole >= power_of_two(np.asarray(info.max.bit_length())), whole < float(info.min)
        inside = np.where(over | under | np.isnan(whole), 0.0, whole).astype(target)
    return np.asarray(np.where(over, target.type(info.max), np.where(under, target.type(info.min), inside)))


def int_to_float(x: Array, dtype: DTypeLike) -> Array:
    """Cast integers or bool: RN once, from all 64 bits."""
    name = element_type(dtype)
    if name not in _FLOATS or x.dtype.kind not in "iub":
        raise TypeError(f"int_to_float takes integers to a float type, not {x.dtype} to {name}")
    if x.dtype.kind == "b" or x.dtype.itemsize < 8 or name == "f64":
        return round_to(np.asarray(x.astype(np.float64)), name)
    return round_to(odd_float(x), name)
