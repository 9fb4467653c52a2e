"""sqrt, rsqrt and reciprocal."""

from __future__ import annotations

import numpy as np

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, DoubleDouble


def sqrt_f64(x: F64) -> F64:
    """sqrt(x). Rounding the f64 root again is innocent for f32 arguments.

    A midpoint M of the target has t + 1 <= 25 bits. If M^2 = x the f64 root is exact. Otherwise M^2 and x differ by at
    least 2^-50 relatively, so the root and M differ by 2^-51, and the f64 root is on the same side of M.
    """
    return np.sqrt(x)


def reciprocal_f64(x: F64) -> F64:
    """1 / x. Rounding the f64 quotient again is innocent: a midpoint M has |M x - 1| >= 2^-49 or M x = 1."""
    return 1.0 / x


def rsqrt_f64(x: F64) -> F64:
    """1 / sqrt(x), x > 0 finite."""
    return 1.0 / np.sqrt(x)


def rsqrt(x: F64) -> DoubleDouble:
    """1 / sqrt(x), x > 0 finite; exact for powers of four. One Newton step with an exact residual."""
    root = 1.0 / np.sqrt(x)
    square = dd.two_prod(root, root)
    rest = dd.sub(DoubleDouble(1.0, 0.0), dd.mul(square, dd.exactly(x)))
    # The second-order term of the series, 3/8 rest^2, is below 2^-104.
    correction = 0.5 * rest.hi + 0.375 * rest.hi * rest.hi
    return dd.fast_two_sum(root, root * correction)
