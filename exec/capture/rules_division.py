"""Lowering rules: division with its ways of rounding, and remainders.

A float remainder is exact: with q = RN(r / b), r - q b is a float (Sterbenz; a theorem on division), and each such
step leaves at most 2^-23 of r, so six steps bring any finite quotient below 2^23, where it can be truncated.
"""

from __future__ import annotations

from typing import Final

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import FLOATS, Term, done, operands
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.capture.rules_elementwise import compute
from samebits.exec.errors import CaptureError

Number = ValueRef | float | int | bool
_STEPS: Final = 6  # 6 * 23 bits is more than the 128 of a finite f32 quotient
_WHOLE: Final = 2.0**23  # a quotient below is truncated; one above is a whole number anyway


def truncated(x: Term) -> Term:
    """Return x without its fraction; the sign of a zero stays."""
    return (x < 0).pick(x.op("ceil"), x.op("floor")) if x.dtype in FLOATS else x


def _float_remainder(a: Term, b: Term) -> Term:
    """Return a - trunc(a / b) b, exactly, with the sign of a; NaN where a is infinite or b is 0."""
    size, rest = b.op("abs"), a.op("abs")
    for _ in range(_STEPS):
        quotient = rest / size
        large = quotient.op("abs") >= _WHOLE
        rest = large.pick((-quotient).op("fma", size, rest), rest)
    rest = (-truncated(rest / size)).op("fma", size, rest)
    rest = (rest < 0).pick(rest + size, rest)
    rest = (rest >= size).pick(rest - size, rest)
    rest = (size.op("eq", float("inf")) & a.op("is_finite")).pick(a.op("abs"), rest)
    negative = (a < 0) | (a.op("eq", 0) & (a.op("reciprocal") < 0))
    return negative.pick(-rest, rest)


def _remainder(a: Term, b: Term) -> Term:
    """Return the remainder of truncating division."""
    return _float_remainder(a, b) if a.dtype in FLOATS else a.op("rem", b)


def _corrected(a: Term, b: Term) -> tuple[Term, Term]:
    """Return the remainder of truncating division, and where flooring division goes one lower."""
    rest = _remainder(a, b)
    return rest, rest.op("ne", 0) & ((rest < 0) ^ (b < 0))


def _floor_quotient(a: Term, b: Term) -> Term:
    if a.dtype not in FLOATS:
        quotient = a / b
        return quotient if a.dtype.startswith("u") else _corrected(a, b)[1].pick(quotient - 1, quotient)
    rest, lower = _corrected(a, b)
    quotient = (a - rest) / b
    quotient = lower.pick(quotient - 1, quotient)
    whole = quotient.op("floor")
    whole = (quotient - whole > 0.5).pick(whole + 1, whole)
    return b.op("eq", 0).pick(a / b, quotient.op("eq", 0).pick(0 * (a / b), whole))


@rule("div")
def _div(low: Lowering, a: Number, b: Number, *, rounding_mode: str | None = None) -> ValueRef:
    if rounding_mode is None:
        return compute(low, "div", a, b)
    x, y = _wide(low, a, b)
    return done(low, _floor_quotient(x, y) if rounding_mode == "floor" else truncated(x / y))


def _wide(low: Lowering, a: Number, b: Number) -> list[Term]:
    terms = operands(low, a, b)
    if terms[0].dtype == "bool":
        raise CaptureError(f"{low.node.target} of booleans has no rule; convert them to integers")
    return terms


@rule("floor_divide")
def _floor_divide(low: Lowering, a: Number, b: Number) -> ValueRef:
    return done(low, _floor_quotient(*_wide(low, a, b)))


@rule("fmod")
def _fmod(low: Lowering, a: Number, b: Number) -> ValueRef:
    return done(low, _remainder(*_wide(low, a, b)))


@rule("remainder")
def _python_remainder(low: Lowering, a: Number, b: Number) -> ValueRef:
    x, y = _wide(low, a, b)
    rest, lower = _corrected(x, y)
    return done(low, lower.pick(rest + y, rest))


@rule("trunc")
def _trunc(low: Lowering, x: ValueRef) -> ValueRef:
    return truncated(Term(low, x)).value


@rule("frac")
def _frac(low: Lowering, x: ValueRef) -> ValueRef:
    whole = Term(low, x)
    return (whole - truncated(whole)).value
