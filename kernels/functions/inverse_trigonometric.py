"""asin, acos and atan, all as the angle of a point (x, y): atan(c) from a table, c in eighths, and a short series."""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, DoubleDouble
from samebits.kernels.functions.series import ATAN_EIGHTHS, ODD_RECIPROCALS

# pi/2 and pi, each RN(c) and RN(c - hi)
PI_2: Final = DoubleDouble(float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54"))
PI: Final = DoubleDouble(float.fromhex("0x1.921fb54442d18p+1"), float.fromhex("0x1.1a62633145c07p-53"))

# atan(t) / t in t^2, |t| < 0.0666
_LONG: Final = tuple(dd.neg(c) if n % 2 else c for n, c in enumerate(ODD_RECIPROCALS[:15]))  # the rest: below 2^-121
_SHORT: Final = _LONG[:8]  # the rest is below 2^-66
_TABLE_HI: Final = np.array([entry.hi for entry in ATAN_EIGHTHS])
_TABLE_LO: Final = np.array([entry.lo for entry in ATAN_EIGHTHS])


def angle_f64(x: F64, y: F64) -> F64:
    """Return the angle of (x, y) in 0 .. pi, y >= 0, (x, y) not (0, 0)."""
    size = np.abs(x)
    steep = y > size
    num, den = np.where(steep, size, y), np.where(steep, y, size)
    eighths = np.rint(8.0 * (num / den))
    c = eighths * 0.125
    t = (num - c * den) / (den + c * num)
    a = np.take(_TABLE_HI, eighths.astype(np.int64)) + t * dd.horner_f64(_SHORT, t * t)
    a = np.where(steep, PI_2.hi - a, a)
    return np.where(x < 0, PI.hi - a, a)


def angle(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return the angle of (x, y) in 0 .. pi as a pair, y >= 0, (x, y) not (0, 0)."""
    size = dd.select(x.hi < 0, dd.neg(x), x)
    steep = y.hi > size.hi
    num, den = dd.select(steep, size, y), dd.select(steep, y, size)
    eighths = np.rint(8.0 * (num.hi / den.hi))
    c = dd.exactly(eighths * 0.125)
    t = dd.div(dd.sub(num, dd.mul(c, den)), dd.add(den, dd.mul(c, num)))
    at = eighths.astype(np.int64)
    a = dd.mul(t, dd.horner(_LONG, dd.mul(t, t)))
    a = dd.add(DoubleDouble(np.take(_TABLE_HI, at), np.take(_TABLE_LO, at)), a)
    a = dd.select(steep, dd.sub(PI_2, a), a)
    return dd.select(x.hi < 0, dd.sub(PI, a), a)


def _cofactor(x: F64) -> DoubleDouble:
    """sqrt(1 - x^2), |x| <= 1 with 24 bits, so that x^2 is exact."""
    return dd.sqrt(dd.sub(DoubleDouble(1.0, 0.0), dd.two_prod(x, x)))


def asin_f64(x: F64) -> F64:
    """asin(x), 0 <= x <= 1."""
    return angle_f64(np.sqrt((1.0 - x) * (1.0 + x)), x)


def asin(x: F64) -> DoubleDouble:
    """asin(x), 0 <= x <= 1; near 0 the pair is (x, x^3/6)."""
    return angle(_cofactor(x), dd.exactly(x))


def acos_f64(x: F64) -> F64:
    """acos(x), |x| <= 1."""
    return angle_f64(x, np.sqrt((1.0 - x) * (1.0 + x)))


def acos(x: F64) -> DoubleDouble:
    """acos(x), |x| <= 1."""
    return angle(dd.exactly(x), _cofactor(x))


def atan_f64(x: F64) -> F64:
    """atan(x), 0 <= x <= 2^128."""
    return angle_f64(np.ones_like(x), x)


def atan(x: F64) -> DoubleDouble:
    """atan(x), 0 <= x <= 2^128; near 0 the pair is (x, -x^3/3)."""
    return angle(dd.exactly(np.ones_like(x)), dd.exactly(x))
