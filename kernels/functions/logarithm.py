"""log, log2 and log1p: x = 2^k (1 + f), log(1 + f) = 2 atanh(s) with s = f / (2 + f), |s| < 0.172."""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, DoubleDouble
from samebits.kernels.functions.exponential import LN2, LN2_A, LN2_B, LN2_C, LOG2_E
from samebits.kernels.functions.series import ODD_RECIPROCALS
from samebits.kernels.rounding import power_of_two

_SQRT_HALF_BITS: Final = 0x3FE6A09E667F3BCD  # sqrt(1/2), the least 1 + f
_SHORT: Final = ODD_RECIPROCALS[:12]  # atanh(s) / s in s^2: the rest is below 2^-65
_LONG: Final = ODD_RECIPROCALS[:22]  # the rest is below 2^-117


def split(x: F64) -> tuple[F64, F64]:
    """Return k and m with x = 2^k m, sqrt(1/2) <= m < sqrt(2), for normal x > 0; exact."""
    bits = x.view(np.int64)
    k = (bits - _SQRT_HALF_BITS) >> 52
    return k.astype(np.float64), (bits - (k << 52)).view(np.float64)


def _log1p_reduced_f64(f: F64) -> F64:
    s = f / (2.0 + f)
    return 2.0 * s * dd.horner_f64(_SHORT, s * s)


def _log1p_reduced(f: DoubleDouble) -> DoubleDouble:
    s = dd.div(f, dd.add(f, DoubleDouble(2.0, 0.0)))
    return dd.scale(dd.mul(s, dd.horner(_LONG, dd.mul(s, s))), 2.0)


def _add_exponent(k: F64, log_m: DoubleDouble) -> DoubleDouble:
    """k ln 2 + log_m. The terms do not cancel: |log_m| <= ln(2) / 2."""
    return dd.add(dd.add(dd.two_sum(k * LN2_A, k * LN2_B), dd.exactly(k * LN2_C)), log_m)


def log_f64(x: F64) -> F64:
    """log(x), x > 0 finite."""
    k, m = split(x)
    return np.asarray(k * LN2.hi + _log1p_reduced_f64(m - 1.0))


def log(x: F64) -> DoubleDouble:
    """log(x), x > 0 finite."""
    k, m = split(x)
    return _add_exponent(k, _log1p_reduced(dd.exactly(m - 1.0)))


def log2_f64(x: F64) -> F64:
    """log2(x), x > 0 finite."""
    k, m = split(x)
    return np.asarray(k + _log1p_reduced_f64(m - 1.0) * LOG2_E.hi)


def log2(x: F64) -> DoubleDouble:
    """log2(x), x > 0 finite; exact for powers of two."""
    k, m = split(x)
    return dd.add(dd.exactly(k), dd.mul(_log1p_reduced(dd.exactly(m - 1.0)), LOG2_E))


def log1p_f64(x: F64) -> F64:
    """log(1 + x), x > -1 finite, to 2^-49 relatively for tiny x too."""
    k, m = split(1.0 + x)
    return np.asarray(k * LN2.hi + _log1p_reduced_f64(np.where(k == 0, x, m - 1.0)))


def log1p(x: F64) -> DoubleDouble:
    """log(1 + x), x > -1 finite; near 0 the pair is (x, -x^2/2)."""
    y = dd.two_sum(1.0, x)
    k, m = split(y.hi)
    f = dd.add(dd.exactly(m - 1.0), dd.exactly(y.lo * power_of_two(-k)))
    return _add_exponent(k, _log1p_reduced(dd.select(k == 0, dd.exactly(x), f)))
