"""Lowering rules: element-wise functions written as formulas, and what has no rule with the way around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import FLOATS, HALVES, Term, done, term
from samebits.exec.capture.lowering import Lowering, refuse, rule

Number = ValueRef | float | int | bool
_INF: Final = float("inf")


def sign_bit(x: Term) -> Term:
    """Return whether the sign bit is set, also that of -0 and NaN."""
    if x.dtype not in FLOATS:
        return x < 0 if x.dtype.startswith("i") else x.op("ne", x)
    bits = Term(x.low, x.low.op("bitcast_convert_type", x.value, new_dtype=f"i{x.dtype[-2:]}"))
    return bits < 0


def _with_sign(size: Term, sign: Term) -> Term:
    positive = size.op("abs")
    return sign_bit(sign).pick(-positive, positive)


def _hypotenuse(x: Term, y: Term) -> Term:
    """sqrt(x^2 + y^2) scaled by the longer side, which cannot overflow before its time."""
    a, b = x.op("abs"), y.op("abs")
    longer, shorter = a.op("max", b), a.op("min", b)
    ratio = shorter / longer
    found = longer * (ratio * ratio + 1).op("sqrt")
    found = longer.op("eq", 0).pick(longer, found)
    return (a.op("eq", _INF) | b.op("eq", _INF)).pick(_INF, found)


def _log_add(x: Term, y: Term) -> Term:
    top = x.op("max", y)
    below = x.op("min", y)
    found = top + (below - top).op("exp").op("log1p")
    return (x.op("eq", y) & top.op("abs").op("eq", _INF)).pick(top, found)


def _number_first(name: str) -> Callable[[Term, Term], Term]:
    """Return max or min that prefers a number to NaN."""

    def choose(x: Term, y: Term) -> Term:
        if x.dtype not in FLOATS:
            return x.op(name, y)
        return x.op("ne", x).pick(y, y.op("ne", y).pick(x, x.op(name, y)))

    return choose


_UNARY: Final[dict[str, Callable[[Term], Term]]] = {
    "log10": lambda x: x.op("log") / math.log(10),
    "asinh": lambda x: _with_sign((x.op("abs") + x * x / (1 + (x * x + 1).op("sqrt"))).op("log1p"), x),
    "acosh": lambda x: (x + ((x - 1) * (x + 1)).op("sqrt")).op("log"),
    "atanh": lambda x: 0.5 * (2 * x / (1 - x)).op("log1p"),
    "sinc": lambda x: x.op("eq", 0).pick(1, (math.pi * x).op("sin") / (math.pi * x)),
    "deg2rad": lambda x: x * (math.pi / 180),
    "rad2deg": lambda x: x * (180 / math.pi),
    "isinf": lambda x: x.op("abs").op("eq", _INF) if x.dtype in FLOATS else x.op("ne", x),
    "isposinf": lambda x: x.op("eq", _INF) if x.dtype in FLOATS else x.op("ne", x),
    "isneginf": lambda x: x.op("eq", -_INF) if x.dtype in FLOATS else x.op("ne", x),
    "signbit": sign_bit,
}

_BINARY: Final[dict[str, Callable[[Term, Term], Term]]] = {
    "atan2": lambda y, x: y.op("atan2", x),
    "hypot": _hypotenuse,
    "copysign": _with_sign,
    "xlogy": lambda x, y: y.op("ne", y).pick(y, x.op("eq", 0).pick(x * 0, x * y.op("log"))),
    "logaddexp": _log_add,
    "fmax": _number_first("max"),
    "fmin": _number_first("min"),
    "heaviside": lambda x, y: x.op("eq", 0).pick(y, (x > 0).to(x.dtype)),
}


def _unary(name: str, formula: Callable[[Term], Term]) -> None:
    @rule(name)
    def lower_unary(low: Lowering, x: ValueRef) -> ValueRef:
        floating = x.type.dtype in FLOATS or low.result.dtype not in FLOATS
        return done(low, formula(term(low, x if floating else low.cast(x, low.result.dtype))))


def _binary(name: str, formula: Callable[[Term, Term], Term]) -> None:
    @rule(name)
    def lower_binary(low: Lowering, a: Number, b: Number) -> ValueRef:
        wide = "f32" if low.result.dtype in HALVES else low.result.dtype
        x, y = (Term(low, low.tensor(v, wide, v.type.shape if isinstance(v, ValueRef) else ())) for v in (a, b))
        return done(low, formula(x, y))


for _name, _formula in _UNARY.items():
    _unary(_name, _formula)
for _name, _formula_of_two in _BINARY.items():
    _binary(_name, _formula_of_two)

_LARGEST: Final = {"f16": 65504.0, "bf16": 3.3895313892515355e38, "f32": 3.4028234663852886e38}


@rule("nan_to_num")
def _nan_to_num(
    low: Lowering, x: ValueRef, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> ValueRef:
    if x.type.dtype not in FLOATS:
        return x
    whole, largest = Term(low, x), _LARGEST.get(x.type.dtype, 1.7976931348623157e308)
    found = whole.op("ne", whole).pick(nan or 0.0, whole)
    found = whole.op("eq", _INF).pick(largest if posinf is None else posinf, found)
    return whole.op("eq", -_INF).pick(-largest if neginf is None else neginf, found).value


_REFUSED: Final = {
    "erfinv": "sample normals with torch.randn instead",
    "lgamma": "use a table or a fixed number of terms",
    "cummax": "use torch.maximum over shifted copies, or cumsum of a mask",
    "cummin": "use torch.minimum over shifted copies",
    "logcumsumexp": "use log(cumsum(exp(x - x.amax())))",
    "mode": "count with one_hot and argmax",
    "view_as_complex": "complex numbers are not supported; keep real and imaginary parts as two tensors",
    "_cdist_forward": "use torch.cdist(..., compute_mode='use_mm_for_euclid_dist') or write the distances out",
}


for _name, _way_around in _REFUSED.items():
    refuse(_name, _way_around)
