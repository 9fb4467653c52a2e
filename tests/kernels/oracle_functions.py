"""An oracle for the functions: GNU MPFR through gmpy2, rounded once. It shares no code with the package.

MPFR rounds correctly to any precision and exponent range, subnormals included. What it lacks (logistic) is computed to
300 bits and must round alike a little below and above.
"""

from __future__ import annotations

import struct
from typing import Any

import gmpy2

# name -> (precision, emin, emax, exponent bits) in MPFR's convention: values are 0.1xxx 2^e, emin is that of the least
# subnormal.
FORMATS = {"f32": (24, -148, 128, 8), "bf16": (8, -132, 128, 8), "f16": (11, -23, 16, 5)}
NAN = {"f32": 0x7FC00000, "bf16": 0x7FC0, "f16": 0x7E00}
_CONTEXTS = {
    name: gmpy2.context(precision=p, emin=emin, emax=emax, subnormalize=True, round=gmpy2.RoundToNearest)
    for name, (p, emin, emax, _) in FORMATS.items()
}
_WIDE = gmpy2.context(precision=300, emin=gmpy2.get_emin_min(), emax=gmpy2.get_emax_max())
_EXACT = gmpy2.context(precision=64, emin=gmpy2.get_emin_min(), emax=gmpy2.get_emax_max())

_METHODS = {
    **{name: name for name in ("exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "sin", "cos", "tan", "tanh")},
    **{name: name for name in ("erf", "erfc", "sinh", "cosh", "asin", "acos", "atan", "atan2", "pow")},
    "rsqrt": "rec_sqrt",
}


def oracle(name: str, x: float, dtype: str) -> int:
    """Return the bits of RN_dtype(f(x)) for an x that f32 holds exactly."""
    context = _CONTEXTS[dtype]
    if name == "rsqrt" and x == 0:
        return pack(_EXACT.div(1, wide(x)), dtype)  # IEEE 754: rSqrt(-0) = -inf
    if name == "logistic":
        return _logistic(x, dtype)
    if name == "reciprocal":
        return pack(context.div(1, wide(x)), dtype)
    return pack(getattr(context, _METHODS[name])(wide(x)), dtype)


def oracle2(name: str, x: float, y: float, dtype: str) -> int:
    """Return the bits of RN_dtype(f(x, y)), f pow or atan2, for arguments that f32 holds exactly."""
    return pack(getattr(_CONTEXTS[dtype], _METHODS[name])(wide(x), wide(y)), dtype)


def wide(x: float) -> Any:
    """Return a Python float as an MPFR number, exactly."""
    with gmpy2.context(_EXACT):
        return gmpy2.mpfr(x)


def _logistic(x: float, dtype: str) -> int:
    if x == 0:
        return pack(wide(0.5), dtype)
    value = _WIDE.div(1, _WIDE.add(1, _WIDE.exp(-wide(x))))
    if not gmpy2.is_finite(value) or value == 0:
        return pack(value, dtype)
    slack = _WIDE.exp2(wide(-280.0))
    context = _CONTEXTS[dtype]
    below, above = (context.mul(value, _WIDE.add(1, s)) for s in (-slack, slack))
    # A product of the context is rounded once from the exact one.
    if pack(below, dtype) != pack(above, dtype):
        raise ArithmeticError(f"logistic({x!r}) needs more than 300 bits")
    return pack(below, dtype)


def pack(value: Any, dtype: str) -> int:
    """Return the bits of an MPFR number that the format holds exactly."""
    p, emin, _, exponent_bits = FORMATS[dtype]
    sign = int(gmpy2.is_signed(value)) << (p + exponent_bits - 1)
    if gmpy2.is_nan(value):
        return NAN[dtype]
    if gmpy2.is_infinite(value):
        return sign | ((1 << exponent_bits) - 1) << (p - 1)
    if value == 0:
        return sign
    mantissa, exponent = value.as_mantissa_exp()
    # in units of the least subnormal, 2^(emin - 1)
    shift = int(exponent) - (emin - 1)
    units = abs(int(mantissa))
    units, rest = (units << shift, 0) if shift >= 0 else divmod(units, 1 << -shift)
    excess = max(0, units.bit_length() - p)
    if rest or units & ((1 << excess) - 1):
        raise ArithmeticError(f"{value} is not a value of {dtype}")
    return sign | (excess << (p - 1)) + (units >> excess)


def value_of_f32(bits: int) -> float:
    """Return the value of f32 bits."""
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])
