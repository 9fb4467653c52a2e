"""Double-double arithmetic: a value is the unevaluated sum of two f64, good for about 104 bits.

Every operation is built from IEEE + - * / sqrt alone, so it gives the same bits on any machine; no fma is assumed.
A pair may carry a `lo` far below `hi` (1 + 2^-300): none of the operations drops it where it would decide a rounding.
Sources: T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math. 18 (1971);
M. Joldes, J.-M. Muller, V. Popescu, "Tight and rigorous error bounds for basic building blocks of double-word
arithmetic", ACM TOMS 44 (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

F64: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_SPLITTER: Final = 134217729.0  # 2^27 + 1


@dataclass(frozen=True, slots=True)
class DoubleDouble:
    """The exact sum hi + lo, with hi = RN(hi + lo). Arrays of one shape, or Python floats for a constant."""

    hi: Any
    lo: Any


def exactly(x: Any) -> DoubleDouble:
    """Return f64 values as pairs."""
    return DoubleDouble(x, x * 0.0)


def select(condition: Bools, if_true: DoubleDouble, if_false: DoubleDouble) -> DoubleDouble:
    """Choose element by element."""
    return DoubleDouble(np.where(condition, if_true.hi, if_false.hi), np.where(condition, if_true.lo, if_false.lo))


def two_sum(a: Any, b: Any) -> DoubleDouble:
    """Return a + b exactly, barring overflow (Knuth)."""
    hi = a + b
    part = hi - a
    return DoubleDouble(hi, (a - (hi - part)) + (b - part))


def fast_two_sum(a: Any, b: Any) -> DoubleDouble:
    """Return a + b exactly where |a| >= |b| or a = 0 (Dekker)."""
    hi = a + b
    return DoubleDouble(hi, b - (hi - a))


def two_prod(a: Any, b: Any) -> DoubleDouble:
    """Return a * b exactly, for magnitudes below 2^990 and products above 2^-960 (Dekker, Veltkamp)."""
    hi = a * b
    a1 = _upper_half(a)
    b1 = _upper_half(b)
    a2 = a - a1
    b2 = b - b1
    return DoubleDouble(hi, a2 * b2 - (((hi - a1 * b1) - a2 * b1) - a1 * b2))


def _upper_half(a: Any) -> Any:
    scaled = a * _SPLITTER
    return scaled - (scaled - a)


def add(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a + b; relative error <= 3 * 2^-106 even where the terms cancel."""
    s = two_sum(a.hi, b.hi)
    t = two_sum(a.lo, b.lo)
    s = fast_two_sum(s.hi, s.lo + t.hi)
    return fast_two_sum(s.hi, s.lo + t.lo)


def neg(a: DoubleDouble) -> DoubleDouble:
    """Return -a, exactly."""
    return DoubleDouble(-a.hi, -a.lo)


def sub(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a - b; error as `add`."""
    return add(a, neg(b))


def scale(a: DoubleDouble, power: Any) -> DoubleDouble:
    """Return a times a power of two, exactly."""
    return DoubleDouble(a.hi * power, a.lo * power)


def mul(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a * b; relative error <= 5 * 2^-106."""
    p = two_prod(a.hi, b.hi)
    return fast_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi))


def div(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a / b; relative error <= 10 * 2^-106. Three quotient digits, so a tiny correction survives."""
    q1 = a.hi / b.hi
    r = sub(a, mul(exactly(q1), b))
    q2 = r.hi / b.hi
    r = sub(r, mul(exactly(q2), b))
    q3 = r.hi / b.hi
    q = fast_two_sum(q1, q2)
    return add(q, exactly(q3))


def sqrt(a: DoubleDouble) -> DoubleDouble:
    """Return the root of a >= 0; relative error <= 4 * 2^-106 (one Newton step from the f64 root)."""
    root = np.sqrt(a.hi)
    rest = sub(a, two_prod(root, root))
    return fast_two_sum(root, np.where(root > 0, rest.hi / (2.0 * root), 0.0))


def horner(coefficients: Sequence[DoubleDouble], x: DoubleDouble) -> DoubleDouble:
    """Return sum c_n x^n, constant term first."""
    result = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = add(mul(result, x), coefficient)
    return result


def horner_f64(coefficients: Sequence[DoubleDouble], x: F64) -> F64:
    """Return sum c_n x^n in plain f64, from the upper halves of the coefficients."""
    result: F64 = x * coefficients[-1].hi
    for coefficient in coefficients[-2:0:-1]:
        result += coefficient.hi
        result *= x
    result += coefficients[0].hi
    return result


def read_table(text: str) -> tuple[DoubleDouble, ...]:
    """Parse lines of two hexadecimal floats, hi and lo."""
    rows = [line.split() for line in text.strip().splitlines()]
    return tuple(DoubleDouble(float.fromhex(hi), float.fromhex(lo)) for hi, lo in rows)
