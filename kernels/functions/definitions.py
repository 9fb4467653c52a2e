"""What each function is made of: its two evaluations, where they hold, and its values outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from samebits.kernels.functions import (
    error_function,
    exponential,
    hyperbolic,
    inverse_trigonometric,
    logarithm,
    roots,
    trigonometric,
)
from samebits.kernels.functions.doubledouble import F64, Bools, DoubleDouble

# For arguments as f64: where the value is a special one, and that value there (anything elsewhere).
Special: TypeAlias = Callable[[F64], tuple[Bools, F64]]

_INF: Final = float("inf")
_NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Function:
    """One real function of an f32 argument."""

    fast: Callable[[F64], F64]  # relative error below 2^-45
    accurate: Callable[[F64], DoubleDouble] | None = None  # below 2^-90; None: the fast f64 value rounds correctly
    low: float = -_INF  # arguments below low give what low gives, in every result type;
    high: float = _INF  # above high, what high gives
    odd: bool = False  # f(-x) = -f(x): evaluated for x >= 0 only
    even: bool = False  # f(-x) = f(x): evaluated for x >= 0 only
    special: Special | None = None


def _infinite(x: F64) -> tuple[Bools, F64]:
    """sin, cos, tan: NaN at infinity."""
    return np.isinf(x), np.full_like(x, _NAN)


def _outside_unit(x: F64) -> tuple[Bools, F64]:
    """asin, acos: NaN beyond -1 .. 1."""
    return np.abs(x) > 1.0, np.full_like(x, _NAN)


def _log_ends(x: F64) -> tuple[Bools, F64]:
    """-inf at 0, inf at inf, NaN below 0."""
    return (x <= 0) | (x == _INF), np.where(x == 0, -_INF, np.where(x < 0, _NAN, _INF))


def _log1p_ends(x: F64) -> tuple[Bools, F64]:
    """-inf at -1, inf at inf, NaN below -1, zero as it is."""
    mask, value = _log_ends(1.0 + x)
    return mask | (x == 0), np.where(x == 0, x, value)


def _rsqrt_ends(x: F64) -> tuple[Bools, F64]:
    """Infinity with the sign of zero at 0, +0 at inf, NaN below 0."""
    return (x <= 0) | (x == _INF), np.where(x == 0, np.copysign(_INF, x), np.where(x < 0, _NAN, 0.0))


def _zero(x: F64) -> tuple[Bools, F64]:
    """Zero as it is, for functions that are not odd."""
    return x == 0, x


FUNCTIONS: Final[dict[str, Function]] = {
    "exp": Function(exponential.exp_f64, exponential.exp, -200.0, 200.0),
    "exp2": Function(exponential.exp2_f64, exponential.exp2, -200.0, 200.0),
    "expm1": Function(exponential.expm1_f64, exponential.expm1, -200.0, 200.0, special=_zero),
    "log": Function(logarithm.log_f64, logarithm.log, special=_log_ends),
    "log2": Function(logarithm.log2_f64, logarithm.log2, special=_log_ends),
    "log1p": Function(logarithm.log1p_f64, logarithm.log1p, special=_log1p_ends),
    "sqrt": Function(roots.sqrt_f64),
    "rsqrt": Function(roots.rsqrt_f64, roots.rsqrt, special=_rsqrt_ends),
    "reciprocal": Function(roots.reciprocal_f64),
    "sin": Function(trigonometric.sin_f64, trigonometric.sin, odd=True, special=_infinite),
    "cos": Function(trigonometric.cos_f64, trigonometric.cos, even=True, special=_infinite),
    "tan": Function(trigonometric.tan_f64, trigonometric.tan, odd=True, special=_infinite),
    "tanh": Function(hyperbolic.tanh_f64, hyperbolic.tanh, high=40.0, odd=True),
    "erf": Function(error_function.erf_f64, error_function.erf, high=error_function.SATURATED, odd=True),
    "erfc": Function(error_function.erfc_f64, error_function.erfc, -error_function.SATURATED, error_function.SATURATED),
    "logistic": Function(exponential.logistic_f64, exponential.logistic, -200.0, 200.0),
    "sinh": Function(hyperbolic.sinh_f64, hyperbolic.sinh, high=200.0, odd=True),
    "cosh": Function(hyperbolic.cosh_f64, hyperbolic.cosh, high=200.0, even=True),
    "asin": Function(inverse_trigonometric.asin_f64, inverse_trigonometric.asin, odd=True, special=_outside_unit),
    "acos": Function(inverse_trigonometric.acos_f64, inverse_trigonometric.acos, special=_outside_unit),
    "atan": Function(inverse_trigonometric.atan_f64, inverse_trigonometric.atan, high=2.0**128, odd=True),
}
UNARY: Final = tuple(FUNCTIONS)
