"""sinh, cosh and tanh from exp, and from the Taylor series of sinh and cosh near 0. Arguments are not negative."""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, DoubleDouble
from samebits.kernels.functions.exponential import exp, exp_f64, expm1, expm1_f64
from samebits.kernels.functions.series import INVERSE_FACTORIALS

_SERIES_BELOW: Final = 0.5
_SINH: Final = INVERSE_FACTORIALS[1:27:2]  # sinh(x) / x in x^2: the rest is below 2^-119 for x <= 1/2
_COSH: Final = INVERSE_FACTORIALS[0:26:2]  # the rest is below 2^-114


def sinh_f64(x: F64) -> F64:
    """sinh(x), 0 <= x <= 300: no subtraction, so tiny x are good too."""
    t = expm1_f64(x)
    return (t + t / (t + 1.0)) * 0.5


def sinh(x: F64) -> DoubleDouble:
    """sinh(x), 0 <= x <= 300; near 0 the pair is (x, x^3/6)."""
    power = exp(x)
    large = dd.scale(dd.sub(power, dd.div(dd.exactly(np.ones_like(x)), power)), 0.5)
    return dd.select(x < _SERIES_BELOW, _sinh_series(np.minimum(x, _SERIES_BELOW)), large)


def cosh_f64(x: F64) -> F64:
    """cosh(x), 0 <= x <= 300."""
    power = exp_f64(x)
    return (power + 1.0 / power) * 0.5


def cosh(x: F64) -> DoubleDouble:
    """cosh(x), 0 <= x <= 300."""
    power = exp(x)
    return dd.scale(dd.add(power, dd.div(dd.exactly(np.ones_like(x)), power)), 0.5)


def tanh_f64(x: F64) -> F64:
    """tanh(x), 0 <= x <= 100."""
    t = expm1_f64(2.0 * x)
    return t / (t + 2.0)


def tanh(x: F64) -> DoubleDouble:
    """tanh(x), 0 <= x <= 100; near 0 the pair is (x, -x^3/3)."""
    t = expm1(2.0 * x)
    large = dd.div(t, dd.add(t, DoubleDouble(2.0, 0.0)))
    small = np.minimum(x, _SERIES_BELOW)
    cosh_small = dd.horner(_COSH, dd.two_prod(small, small))
    return dd.select(x < _SERIES_BELOW, dd.div(_sinh_series(small), cosh_small), large)


def _sinh_series(x: F64) -> DoubleDouble:
    return dd.mul(dd.exactly(x), dd.horner(_SINH, dd.two_prod(x, x)))
