"""sin, cos and tan: the Taylor series of sin and cos on |r| <= pi/4, chosen by the quadrant.

Arguments are not negative.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, Bools, DoubleDouble
from samebits.kernels.functions.quadrant import Ints, reduce, reduce_f64
from samebits.kernels.functions.series import INVERSE_FACTORIALS

_ALTERNATING: Final = tuple(dd.neg(c) if n % 4 >= 2 else c for n, c in enumerate(INVERSE_FACTORIALS))
_SIN: Final = _ALTERNATING[1:30:2]  # sin(r) / r in r^2: the rest is below 2^-123
_COS: Final = _ALTERNATING[0:29:2]  # the rest is below 2^-118
_SIN_SHORT: Final = _SIN[:9]  # the rest is below 2^-63
_COS_SHORT: Final = _COS[:10]  # the rest is below 2^-68


def _sin_cos_f64(r: F64) -> tuple[F64, F64]:
    square = r * r
    return r * dd.horner_f64(_SIN_SHORT, square), dd.horner_f64(_COS_SHORT, square)


def _sin_cos(r: DoubleDouble) -> tuple[DoubleDouble, DoubleDouble]:
    square = dd.mul(r, r)
    return dd.mul(r, dd.horner(_SIN, square)), dd.horner(_COS, square)


def _odd(q: Ints) -> Bools:
    return np.asarray((q & 1) == 1)


def _lower_half(q: Ints) -> Bools:
    return np.asarray((q & 2) == 2)


def _sin_in_quadrant_f64(q: Ints, r: F64) -> F64:
    sin_r, cos_r = _sin_cos_f64(r)
    chosen = np.where(_odd(q), cos_r, sin_r)
    return np.where(_lower_half(q), -chosen, chosen)


def _sin_in_quadrant(q: Ints, r: DoubleDouble) -> DoubleDouble:
    sin_r, cos_r = _sin_cos(r)
    chosen = dd.select(_odd(q), cos_r, sin_r)
    return dd.select(_lower_half(q), dd.neg(chosen), chosen)


def sin_f64(x: F64) -> F64:
    """sin(x), x >= 0 an f32 value."""
    return _sin_in_quadrant_f64(*reduce_f64(x))


def sin(x: F64) -> DoubleDouble:
    """sin(x), x >= 0 an f32 value; near 0 the pair is (x, -x^3/6)."""
    return _sin_in_quadrant(*reduce(x))


def cos_f64(x: F64) -> F64:
    """cos(x), x >= 0 an f32 value."""
    q, r = reduce_f64(x)
    return _sin_in_quadrant_f64(q + 1, r)


def cos(x: F64) -> DoubleDouble:
    """cos(x), x >= 0 an f32 value."""
    q, r = reduce(x)
    return _sin_in_quadrant(q + 1, r)


def tan_f64(x: F64) -> F64:
    """tan(x), x >= 0 an f32 value."""
    q, r = reduce_f64(x)
    sin_r, cos_r = _sin_cos_f64(r)
    odd = _odd(q)
    return np.where(odd, -cos_r, sin_r) / np.where(odd, sin_r, cos_r)


def tan(x: F64) -> DoubleDouble:
    """tan(x), x >= 0 an f32 value; near 0 the pair is (x, x^3/3)."""
    q, r = reduce(x)
    sin_r, cos_r = _sin_cos(r)
    odd = _odd(q)
    return dd.div(dd.select(odd, dd.neg(cos_r), sin_r), dd.select(odd, sin_r, cos_r))
