"""exp, exp2, expm1 and logistic: 2^k (1 + expm1(r)) with |r| <= ln(2)/2 and the Taylor series of expm1."""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, DoubleDouble
from samebits.kernels.functions.series import INVERSE_FACTORIALS
from samebits.kernels.rounding import power_of_two

# ln 2 = A + B + C: A and B have 40 bits or fewer, so k A and k B are exact for |k| < 2^12; C = RN(ln 2 - A - B).
LN2_A: Final = float.fromhex("0x1.62e42fefa2000p-1")
LN2_B: Final = float.fromhex("0x1.9ef35793c6000p-41")
LN2_C: Final = float.fromhex("0x1.673007e5ed5e8p-81")
# ln 2 and log2 e, each RN(c) and RN(c - hi)
LN2: Final = DoubleDouble(float.fromhex("0x1.62e42fefa39efp-1"), float.fromhex("0x1.abc9e3b39803fp-56"))
LOG2_E: Final = DoubleDouble(float.fromhex("0x1.71547652b82fep+0"), float.fromhex("0x1.777d0ffda0d24p-56"))

_ONE: Final = DoubleDouble(1.0, 0.0)
_SHORT: Final = INVERSE_FACTORIALS[1:15]  # (exp(r) - 1) / r: the rest is below 2^-59 for |r| <= 0.35
_LONG: Final = INVERSE_FACTORIALS[1:25]  # the rest is below 2^-117


def expm1_reduced_f64(x: F64) -> tuple[F64, F64]:
    """Return k and m with exp(x) = 2^k (1 + m), -0.3 < m < 0.42, |x| < 1400; m is good to 2^-50 relatively at k = 0."""
    k = np.rint(x * LOG2_E.hi)
    r = (x - k * LN2_A) - k * LN2_B
    return k, r * dd.horner_f64(_SHORT, r)


def expm1_reduced(x: DoubleDouble) -> tuple[F64, DoubleDouble]:
    """Return k and m with exp(x) = 2^k (1 + m) as `expm1_reduced_f64`, m as a pair."""
    k = np.rint(x.hi * LOG2_E.hi)
    r = dd.sub(dd.sub(x, dd.two_sum(k * LN2_A, k * LN2_B)), dd.exactly(k * LN2_C))
    return k, dd.mul(r, dd.horner(_LONG, r))


def exp_f64(x: F64) -> F64:
    """exp(x), |x| <= 300."""
    k, m = expm1_reduced_f64(x)
    return (1.0 + m) * power_of_two(k)


def exp_pair(x: DoubleDouble) -> DoubleDouble:
    """exp(x), |x| <= 300."""
    k, m = expm1_reduced(x)
    return dd.scale(dd.add(_ONE, m), power_of_two(k))


def exp(x: F64) -> DoubleDouble:
    """exp(x), |x| <= 300."""
    return exp_pair(dd.exactly(x))


def exp2_f64(x: F64) -> F64:
    """2^x, |x| <= 300."""
    k = np.rint(x)
    r = (x - k) * LN2.hi
    return np.asarray((1.0 + r * dd.horner_f64(_SHORT, r)) * power_of_two(k))


def exp2(x: F64) -> DoubleDouble:
    """2^x, |x| <= 300; exact for whole x."""
    return exp2_pair(dd.exactly(x))


def exp2_pair(x: DoubleDouble) -> DoubleDouble:
    """2^x, |x| <= 300; exact for whole x."""
    k = np.rint(x.hi)
    r = dd.mul(dd.sub(x, dd.exactly(k)), LN2)
    return dd.scale(dd.add(_ONE, dd.mul(r, dd.horner(_LONG, r))), power_of_two(k))


def expm1_f64(x: F64) -> F64:
    """exp(x) - 1, |x| <= 300, to 2^-49 relatively for tiny x too."""
    k, m = expm1_reduced_f64(x)
    power = power_of_two(k)
    return m * power + (power - 1.0)


def expm1(x: F64) -> DoubleDouble:
    """exp(x) - 1, |x| <= 300; near 0 the pair is (x, x^2/2)."""
    k, m = expm1_reduced(dd.exactly(x))
    power = power_of_two(k)
    return dd.add(dd.two_sum(power, -1.0), dd.scale(m, power))


def logistic_f64(x: F64) -> F64:
    """1 / (1 + exp(-x)), |x| <= 300."""
    return 1.0 / (1.0 + exp_f64(-x))


def logistic(x: F64) -> DoubleDouble:
    """1 / (1 + exp(-x)), |x| <= 300."""
    return dd.div(dd.exactly(np.ones_like(x)), dd.add(_ONE, exp_pair(dd.exactly(-x))))
