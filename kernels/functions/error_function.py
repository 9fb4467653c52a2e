"""erf and erfc: the Maclaurin series of erf below 1, exp(-x^2) erfcx(x) above, erfcx by one polynomial."""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, DoubleDouble
from samebits.kernels.functions.erfcx_table import ERFCX_LONG, ERFCX_SHORT
from samebits.kernels.functions.exponential import exp_f64, exp_pair
from samebits.kernels.functions.series import ERF_SERIES

SATURATED: Final = 10.5  # erfc(10.5) = 2^-163 rounds to 0 in every type, as all beyond it
_SERIES_BELOW: Final = 1.0
_CENTRE: Final = 3.25  # of the variable u of erfcx_table.py
_SHORT: Final = ERF_SERIES[:20]  # the rest is below 2^-65
_ONE: Final = DoubleDouble(1.0, 0.0)


def _erf_series_f64(x: F64) -> F64:
    """erf(x), 0 <= x <= 1."""
    return x * dd.horner_f64(_SHORT, x * x)


def _erf_series(x: F64) -> DoubleDouble:
    """erf(x), 0 <= x <= 1; the rest of the series is below 2^-113."""
    return dd.mul(dd.exactly(x), dd.horner(ERF_SERIES, dd.two_prod(x, x)))


def _erfc_tail_f64(x: F64) -> F64:
    """erfc(x), 1 <= x <= 10.5; x has 24 bits, so its square is exact."""
    u = (x - _CENTRE) / (x + _CENTRE)
    return exp_f64(-(x * x)) * dd.horner_f64(ERFCX_SHORT, u)


def _erfc_tail(x: F64) -> DoubleDouble:
    """erfc(x), 1 <= x <= 10.5."""
    u = dd.div(dd.exactly(x - _CENTRE), dd.exactly(x + _CENTRE))
    return dd.mul(exp_pair(dd.neg(dd.two_prod(x, x))), dd.horner(ERFCX_LONG, u))


def erf_f64(x: F64) -> F64:
    """erf(x), 0 <= x <= 10.5."""
    small = _erf_series_f64(np.minimum(x, _SERIES_BELOW))
    return np.where(x < _SERIES_BELOW, small, 1.0 - _erfc_tail_f64(np.maximum(x, _SERIES_BELOW)))


def erf(x: F64) -> DoubleDouble:
    """erf(x), 0 <= x <= 10.5."""
    small = _erf_series(np.minimum(x, _SERIES_BELOW))
    large = dd.sub(_ONE, _erfc_tail(np.maximum(x, _SERIES_BELOW)))
    return dd.select(x < _SERIES_BELOW, small, large)


def erfc_f64(x: F64) -> F64:
    """erfc(x), |x| <= 10.5."""
    size = np.abs(x)
    small = 1.0 - np.copysign(_erf_series_f64(np.minimum(size, _SERIES_BELOW)), x)
    tail = _erfc_tail_f64(np.maximum(size, _SERIES_BELOW))
    return np.where(size < _SERIES_BELOW, small, np.where(x < 0, 2.0 - tail, tail))


def erfc(x: F64) -> DoubleDouble:
    """erfc(x), |x| <= 10.5."""
    size = np.abs(x)
    small = _erf_series(np.minimum(size, _SERIES_BELOW))
    tail = _erfc_tail(np.maximum(size, _SERIES_BELOW))
    signed = dd.select(x < 0, dd.neg(small), small)
    large = dd.select(x < 0, dd.sub(DoubleDouble(2.0, 0.0), tail), tail)
    return dd.select(size < _SERIES_BELOW, dd.sub(_ONE, signed), large)
