"""Round exactly known values once to an element type, and give NaN its one canonical form.

Everything goes through round-to-odd: a value cut to a few more bits than needed, with its last bit set when anything
was lost, still rounds to the right neighbour afterwards. So no value is ever rounded to nearest twice.
Source: S. Boldo, G. Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to
odd", IEEE Trans. Computers 57 (2008).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import dtype_name, numpy_dtype

Array: TypeAlias = npt.NDArray[Any]
DTypeLike: TypeAlias = "str | np.dtype[Any]"  # a name of cas/dtype.py, or NumPy's dtype of it

_NAN_BITS: Final = {"f32": 0x7FC00000, "bf16": 0x7FC0, "f16": 0x7E00, "f64": 0x7FF8000000000000}
_INF_BITS: Final = {"f32": 0x7F800000, "bf16": 0x7F80, "f16": 0x7C00, "f64": 0x7FF0000000000000}
_UNSIGNED: Final[dict[int, np.dtype[Any]]] = {size: np.dtype(f"<u{size}") for size in (1, 2, 4, 8)}
# Bits of S below this position are folded into one sticky bit: 64 - 11 = 53 bits are left, at least 43 of them in use.
_STICKY_BITS: Final = 11


def element_type(dtype: DTypeLike) -> str:
    """Return the element type's name, given the name or its NumPy dtype; raises NodeError or TypeError if unknown."""
    return dtype_name(numpy_dtype(dtype) if isinstance(dtype, str) else np.dtype(dtype))


def to_bits(x: Array) -> Array:
    """View elements as unsigned integers of their width (bool: bytes 0 and 1). Same memory, same shape."""
    x = np.asarray(x)
    bits: Array = x.view(_UNSIGNED[x.dtype.itemsize])
    return bits


def is_nan(x: Array) -> npt.NDArray[np.bool_]:
    """Say of each element whether it is a NaN; integers and bool never are."""
    name = dtype_name(x.dtype)
    if name not in _INF_BITS:
        return np.zeros(x.shape, np.bool_)
    if name == "bf16":
        bits = to_bits(x)
        return np.asarray((bits & bits.dtype.type(0x7FFF)) > bits.dtype.type(0x7F80))
    return np.asarray(np.isnan(x))


def canonical_nan(x: Array) -> Array:
    """Replace every NaN by the canonical one of its type. Returns `x` itself where there is nothing to replace."""
    x = np.asarray(x)
    name = dtype_name(x.dtype)
    if name not in _NAN_BITS:
        return x
    nan = is_nan(x)
    if not nan.any():
        return x
    bits = to_bits(x)
    return np.where(nan, bits.dtype.type(_NAN_BITS[name]), bits).view(x.dtype)


def nan_of(dtype: DTypeLike) -> Array:
    """Return the canonical NaN of a float type as a 0-d array."""
    name = element_type(dtype)
    return _from_pattern(name, _NAN_BITS)


def infinity_of(dtype: DTypeLike) -> Array:
    """Return +inf of a float type as a 0-d array."""
    return _from_pattern(element_type(dtype), _INF_BITS)


def _from_pattern(name: str, patterns: dict[str, int]) -> Array:
    if name not in patterns:
        raise TypeError(f"{name} is not a float type")
    dtype = numpy_dtype(name)
    pattern: Array = np.asarray(patterns[name], _UNSIGNED[dtype.itemsize])
    return pattern.view(dtype)


def widen(x: Array) -> npt.NDArray[np.float32]:
    """Return f16, bf16 or f32 values exactly as f32 (f32: `x` itself); raises TypeError for any other type."""
    x = np.asarray(x)
    name = dtype_name(x.dtype)
    if name == "f32":
        return x
    if name == "bf16":
        # NumPy turns 0-d arrays into scalars on the way, hence asarray
        return np.asarray(to_bits(x).astype(np.uint32) << np.uint32(16)).view(np.float32)
    if name == "f16":
        with np.errstate(all="ignore"):
            return x.astype(np.float32)
    raise TypeError(f"{name} does not widen to f32")


def round_to(x: Array, dtype: DTypeLike) -> Array:
    """RN_T(x) for f64 `x`: nearest, ties to even, gradual underflow, overflow to inf, canonical NaN. Always a copy."""
    x = np.asarray(x)
    if x.dtype != np.float64:
        raise TypeError(f"round_to takes f64 values, not {x.dtype}")
    name = element_type(dtype)
    if name == "f64":
        return canonical_nan(x.copy())
    if name == "f32":
        with np.errstate(all="ignore"):
            return canonical_nan(x.astype(np.float32))
    if name == "bf16":
        bits = _odd_f32_bits(x)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = np.asarray((bits + (np.uint32(0x7FFF) + even)) >> np.uint32(16)).astype(np.uint16)
        nan = np.isnan(x)
        if nan.any():
            rounded = np.where(nan, np.uint16(_NAN_BITS["bf16"]), rounded)
        return rounded.view(numpy_dtype("bf16"))
    if name == "f16":
        with np.errstate(all="ignore"):
            return canonical_nan(_odd_f32_bits(x).view(np.float32).astype(np.float16))
    raise TypeError(f"cannot round to {name}: it is not a float type")


def _odd_f32_bits(x: Array) -> npt.NDArray[np.uint32]:
    """Round f64 to odd at f32 (overflow gives the largest finite f32, which is odd); return the bits. NaN is NaN."""
    with np.errstate(all="ignore"):
        nearest = np.asarray(x.astype(np.float32))
        back = np.asarray(nearest.astype(np.float64))
    bits = nearest.view(np.uint32)
    inexact = (back != x) & ~np.isnan(x)
    too_far = inexact & (np.abs(back) > np.abs(x))  # one step towards zero truncates
    return np.asarray((bits - too_far.astype(np.uint32)) | inexact.astype(np.uint32))


def round_odd_sum(hi: Array, lo: Array) -> npt.NDArray[np.float64]:
    """Round the exact sum hi + lo to odd at 53 bits; hi must be RN(hi + lo), as an error-free two_sum leaves it.

    A sum that rounds to odd here may be rounded to nearest in f32, bf16 or f16 afterwards. Infinite or NaN `hi`
    comes back as it is.
    """
    hi, lo = np.broadcast_arrays(np.asarray(hi, np.float64), np.asarray(lo, np.float64))
    bits = hi.view(np.int64)
    # Only an even hi moves: its neighbour on lo's side is odd. Growing |hi| adds one to the bits of either sign.
    moves = (lo != 0) & (lo == lo) & np.isfinite(hi) & ((bits & 1) == 0)
    step = np.where(np.signbit(lo) == np.signbit(hi), np.int64(1), np.int64(-1))
    return np.asarray(np.where(moves, bits + step, bits)).view(np.float64)


def power_of_two(exponent: Array) -> npt.NDArray[np.float64]:
    """Return 2^exponent as f64; exponents are integers within -1022..1023, others are brought to the nearer end."""
    clipped = np.minimum(np.maximum(np.asarray(exponent, np.int64), -1022), 1023)
    return np.asarray((clipped + 1023) << 52).view(np.float64)


def round_scaled_int(s: Array, exponent: Array, dtype: DTypeLike) -> Array:
    """RN_T(s * 2^exponent), rounded once. s: int64, whole range; exponent: integers that broadcast against s.

    For f64 results exponents must lie within -1022..960, so that the scaling is exact (ValueError).
    """
    s = np.asarray(s)
    exponent = np.asarray(exponent)
    if s.dtype != np.int64 or exponent.dtype.kind not in "iu":
        raise TypeError(f"round_scaled_int takes int64 and integer exponents, not {s.dtype} and {exponent.dtype}")
    name = element_type(dtype)
    if name == "f64":
        if exponent.size and (exponent.min() < -1022 or exponent.max() > 960):
            raise ValueError("exponents of an f64 result must lie within -1022..960")
        return np.asarray(s.astype(np.float64) * power_of_two(exponent))
    # Beyond the clipped range every nonzero s overflows or vanishes in f32, bf16 and f16, as with the clipped exponent.
    with np.errstate(all="ignore"):
        scaled = np.asarray(odd_float(s) * power_of_two(exponent))
    return round_to(scaled, name)


def odd_float(s: Array) -> npt.NDArray[np.float64]:
    """Return int64 or uint64 values as f64, rounded to odd where |s| >= 2^53 (43 to 53 bits are kept), else exactly."""
    s = np.asarray(s)
    kind = s.dtype.type
    # In two's complement the floor is one of the two enclosing multiples of 2^11, and OR picks the odd one.
    sticky = np.asarray((s & kind((1 << _STICKY_BITS) - 1)) != 0).astype(s.dtype) << kind(_STICKY_BITS)
    cut = ((s >> kind(_STICKY_BITS)) << kind(_STICKY_BITS)) | sticky
    small = s < kind(1 << 53) if s.dtype.kind == "u" else (s < kind(1 << 53)) & (s > kind(-(1 << 53)))
    return np.asarray(np.where(small, s, cut)).astype(np.float64)
