"""pow and atan2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, Bools, DoubleDouble
from samebits.kernels.functions.exponential import exp2_f64, exp2_pair
from samebits.kernels.functions.inverse_trigonometric import PI, angle, angle_f64
from samebits.kernels.functions.logarithm import log2, log2_f64

_LARGEST_EXPONENT: Final = 200.0  # 2^200 and 2^-200 round to infinity and 0 in every type, as all beyond
_LARGEST_POWER: Final = 15  # 3^16 has more than 25 bits
_ROOTS: Final = 3  # 3^16 has more than 24 bits: no more than three square roots of an f32 are whole


@dataclass(frozen=True, slots=True)
class FunctionOfTwo:
    """One real function of two f32 arguments."""

    fast: Callable[[F64, F64], F64]  # any arguments; relative error below epsilon
    accurate: Callable[[F64, F64], DoubleDouble]  # arguments with a finite, nonzero result; below 2^-90
    epsilon: float


def _is_odd(y: F64) -> Bools:
    """Say where y is an odd whole number."""
    half = y * 0.5
    return np.asarray((y == np.rint(y)) & (half != np.rint(half)) & np.isfinite(y))


def _pow_sign(x: F64, y: F64) -> Bools:
    """Say where x^y has a minus."""
    return np.signbit(x) & _is_odd(y)


def pow_f64(x: F64, y: F64) -> F64:
    """x^y for any arguments: special values of IEEE 754-2019 section 9.2.1, else 2^(y log2 |x|)."""
    size = np.abs(x)
    ordinary = (size > 0) & (size < np.inf)
    log = np.where(ordinary, log2_f64(np.where(ordinary, size, 1.0)), np.where(size == 0, -np.inf, size))
    exponent = np.where((y == 0) | (size == 1.0), 0.0, y * log)
    value = exp2_f64(np.minimum(np.maximum(exponent, -_LARGEST_EXPONENT), _LARGEST_EXPONENT))
    value = np.where(size == 0, np.where(y > 0, 0.0, np.where(y < 0, np.inf, value)), value)
    value = np.where(_pow_sign(x, y), -value, value)
    fractional = (x < 0) & (size < np.inf) & np.isfinite(y) & (y != np.rint(y))
    undefined = fractional | np.isnan(x) | np.isnan(y)
    return np.where((y == 0) | (x == 1.0), 1.0, np.where(undefined, np.nan, value))


def pow_pair(x: F64, y: F64) -> DoubleDouble:
    """x^y for ordinary arguments; exact wherever the power has 53 bits or fewer and could be a midpoint."""
    size = np.abs(x)
    exponent = dd.mul(log2(size), dd.exactly(y))
    outside = np.abs(exponent.hi) > _LARGEST_EXPONENT
    exponent = dd.select(outside, dd.exactly(np.copysign(_LARGEST_EXPONENT, exponent.hi)), exponent)
    exact, power = _exact_power(size, y)
    value = dd.select(exact, dd.exactly(power), exp2_pair(exponent))
    return dd.select(_pow_sign(x, y), dd.neg(value), value)


def _exact_power(x: F64, y: F64) -> tuple[Bools, F64]:
    """Return where x^y is found to have 53 bits or fewer, and the power there, x > 0.

    A midpoint has 25 bits or fewer. So if x is no power of two (those are exact in `log2` and `exp2_pair`), y = k/2^j,
    x has a 2^j-th root of finitely many bits, and the k-th power of that needs k <= 15.
    """
    root, k = x, y
    for _ in range(_ROOTS):
        next_root = np.sqrt(root)
        square = dd.two_prod(next_root, next_root)
        take = (k != np.rint(k)) & (square.hi == root) & (square.lo == 0)
        root, k = np.where(take, next_root, root), np.where(take, 2.0 * k, k)
    exact = (k == np.rint(k)) & (k >= 1) & (k <= _LARGEST_POWER)
    power = np.ones_like(x)
    for n in range(1, _LARGEST_POWER + 1):
        product = dd.two_prod(power, root)
        multiply = k >= n
        power = np.where(multiply, product.hi, power)
        exact = exact & (~multiply | (product.lo == 0))
    return exact & (power > 2.0**-300), power


def atan2_f64(y: F64, x: F64) -> F64:
    """Return the angle of (x, y) for any arguments: special values of IEEE 754-2019 section 9.2.1."""
    # A single infinite side acts as 1 against 0, two as 1 against 1.
    width = np.where(np.isinf(x), np.copysign(1.0, x), np.where(np.isinf(y), np.copysign(0.0, x), x))
    height = np.where(np.isinf(y), 1.0, np.where(np.isinf(x), 0.0, np.abs(y)))
    on_axis = height == 0
    undefined = np.isnan(x) | np.isnan(y)
    unsafe = on_axis | undefined
    a = angle_f64(np.where(unsafe, 1.0, width), np.where(unsafe, 1.0, height))
    a = np.where(on_axis, np.where(np.signbit(x), PI.hi, 0.0), a)
    return np.where(undefined, np.nan, np.where(np.signbit(y), -a, a))


def atan2_pair(y: F64, x: F64) -> DoubleDouble:
    """Return the angle of (x, y) for finite arguments with y != 0."""
    a = angle(dd.exactly(x), dd.exactly(np.abs(y)))
    return dd.select(y < 0, dd.neg(a), a)


FUNCTIONS_OF_TWO: Final[dict[str, FunctionOfTwo]] = {
    "pow": FunctionOfTwo(pow_f64, pow_pair, 2.0**-40),  # 150 times the error of log2
    "atan2": FunctionOfTwo(atan2_f64, atan2_pair, 2.0**-44),
}
BINARY: Final = tuple(FUNCTIONS_OF_TWO)
