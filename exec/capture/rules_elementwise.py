"""Lowering rules: element-wise arithmetic, comparisons and logic."""

from __future__ import annotations

from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import Lowering, rule

Operand = ValueRef | float | int | bool
_HALVES = ("f16", "bf16")


def compute(low: Lowering, name: str, *operands: Operand, **attributes: Any) -> ValueRef:
    """Broadcast and promote the operands to the result's type and apply one op.

    A number beside a half-precision tensor is not rounded to half first: torch computes in f32 and rounds the result.
    """
    dtype, shape = low.result.dtype, low.result.shape
    wide = "f32" if dtype in _HALVES and not all(isinstance(v, ValueRef) for v in operands) else dtype
    tensors = [low.tensor(operand, wide, shape) for operand in operands]
    return low.cast(low.op(name, *tensors, **attributes), dtype)


def _scaled(low: Lowering, value: Operand, alpha: float) -> Operand:
    if alpha == 1:
        return value
    return value * alpha if not isinstance(value, ValueRef) else compute(low, "mul", value, alpha)


@rule("add")
def _add(low: Lowering, a: Operand, b: Operand, alpha: float = 1) -> ValueRef:
    if low.result.dtype == "bool":
        return compute(low, "or", a, b)
    return compute(low, "add", a, _scaled(low, b, alpha))


@rule("sub")
def _sub(low: Lowering, a: Operand, b: Operand, alpha: float = 1) -> ValueRef:
    return compute(low, "sub", a, _scaled(low, b, alpha))


@rule("rsub")
def _rsub(low: Lowering, a: Operand, b: Operand, alpha: float = 1) -> ValueRef:
    return compute(low, "sub", b, _scaled(low, a, alpha))


@rule("mul")
def _mul(low: Lowering, a: Operand, b: Operand) -> ValueRef:
    return compute(low, "and" if low.result.dtype == "bool" else "mul", a, b)


@rule("maximum")
def _maximum(low: Lowering, a: ValueRef, b: ValueRef) -> ValueRef:
    return compute(low, "max", a, b)


@rule("minimum")
def _minimum(low: Lowering, a: ValueRef, b: ValueRef) -> ValueRef:
    return compute(low, "min", a, b)


@rule("addcmul")
def _addcmul(low: Lowering, x: ValueRef, a: ValueRef, b: ValueRef, value: float = 1) -> ValueRef:
    return compute(low, "add", x, _scaled(low, compute(low, "mul", a, b), value))


@rule("addcdiv")
def _addcdiv(low: Lowering, x: ValueRef, a: ValueRef, b: ValueRef, value: float = 1) -> ValueRef:
    return compute(low, "add", x, _scaled(low, compute(low, "div", a, b), value))


@rule("lerp")
def _lerp(low: Lowering, start: ValueRef, end: ValueRef, weight: Operand) -> ValueRef:
    return compute(low, "add", start, compute(low, "mul", compute(low, "sub", end, start), weight))


def _unary(aten: str, name: str) -> None:
    @rule(aten)
    def lower_unary(low: Lowering, x: ValueRef) -> ValueRef:
        return compute(low, name, x)


for _aten, _name in {
    **{name: name for name in ("neg", "abs", "exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "erf")},
    **{name: name for name in ("sin", "cos", "tan", "tanh", "erfc", "sinh", "cosh", "asin", "acos")},
    **{name: name for name in ("atan", "floor", "ceil", "round")},
    "sigmoid": "logistic",
}.items():
    _unary(_aten, _name)


@rule("sign", "sgn")
def _sign(low: Lowering, x: ValueRef) -> ValueRef:
    if x.type.dtype not in ("f16", "bf16", "f32", "f64"):
        return compute(low, "sign", x)
    zero = low.full(0, x.type.dtype, x.type.shape)  # torch's sign of NaN
    return low.op("select_n", low.op("ne", x, x), compute(low, "sign", x), zero)


@rule("reciprocal")
def _reciprocal(low: Lowering, x: ValueRef) -> ValueRef:
    return compute(low, "div", 1, x) if low.result.dtype == "f64" else compute(low, "reciprocal", x)


@rule("pow")
def _pow(low: Lowering, x: Operand, exponent: Operand) -> ValueRef:
    if not isinstance(x, ValueRef) or isinstance(exponent, ValueRef):
        return compute(low, "pow", x, exponent)
    if exponent == 0.5:
        return compute(low, "sqrt", x)
    if exponent == -0.5:
        return compute(low, "rsqrt", x)
    if exponent == -1:
        return _reciprocal(low, x)
    if exponent in (1, 2, 3, 4):
        square = compute(low, "mul", x, x) if exponent > 1 else x
        return {1: low.cast(x, low.result.dtype), 2: square}.get(int(exponent)) or compute(
            low, "mul", square, x if exponent == 3 else square
        )
    return compute(low, "pow", x, exponent)


@rule("square")
def _square(low: Lowering, x: ValueRef) -> ValueRef:
    return compute(low, "mul", x, x)


def _comparison(name: str) -> None:
    @rule(name)
    def lower_comparison(low: Lowering, a: Operand, b: Operand) -> ValueRef:
        dtype, shape = low.operand_dtype(), low.result.shape
        return low.op(name, low.tensor(a, dtype, shape), low.tensor(b, dtype, shape))


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name)


def _logical(aten: str, name: str, *, on_bool: bool) -> None:
    @rule(aten)
    def lower_logical(low: Lowering, *operands: Operand) -> ValueRef:
        dtype = "bool" if on_bool else low.result.dtype
        return low.op(name, *(low.tensor(operand, dtype, low.result.shape) for operand in operands))


for _name in ("and", "or", "xor", "not"):
    _logical(f"logical_{_name}", _name, on_bool=True)
    _logical(f"bitwise_{_name}", _name, on_bool=False)
for _aten in ("bitwise_left_shift", "__lshift__"):
    _logical(_aten, "shift_left", on_bool=False)


@rule("bitwise_right_shift", "__rshift__")
def _right_shift(low: Lowering, a: Operand, b: Operand) -> ValueRef:
    unsigned = low.result.dtype.startswith("u")
    return compute(low, "shift_right_logical" if unsigned else "shift_right_arithmetic", a, b)


@rule("isfinite")
def _isfinite(low: Lowering, x: ValueRef) -> ValueRef:
    return low.op("is_finite", x)


@rule("isnan")
def _isnan(low: Lowering, x: ValueRef) -> ValueRef:
    return low.op("ne", x, x)


@rule("where")
def _where(low: Lowering, which: ValueRef, a: Operand, b: Operand) -> ValueRef:
    dtype, shape = low.result.dtype, low.result.shape
    return low.op(
        "select_n", low.tensor(which, "bool", shape), low.tensor(b, dtype, shape), low.tensor(a, dtype, shape)
    )


@rule("masked_fill")
def _masked_fill(low: Lowering, x: ValueRef, mask: ValueRef, value: Operand) -> ValueRef:
    return _where(low, mask, value, x)


@rule("clamp")
def _clamp(low: Lowering, x: ValueRef, lowest: Operand | None = None, highest: Operand | None = None) -> ValueRef:
    if lowest is not None:
        x = compute(low, "max", x, lowest)
    return x if highest is None else compute(low, "min", x, highest)


@rule("clamp_min")
def _clamp_min(low: Lowering, x: ValueRef, lowest: Operand) -> ValueRef:
    return compute(low, "max", x, lowest)


@rule("clamp_max")
def _clamp_max(low: Lowering, x: ValueRef, highest: Operand) -> ValueRef:
    return compute(low, "min", x, highest)


@rule("_to_copy")
def _to_copy(low: Lowering, x: ValueRef, **options: Any) -> ValueRef:
    return low.cast(x, low.result.dtype)


@rule("copy", "fill", "zero")
def _copy(low: Lowering, target: ValueRef, source: Operand = 0, non_blocking: bool = False) -> ValueRef:
    return low.tensor(source, low.result.dtype, low.result.shape)


@rule("clone", "detach", "alias", "lift_fresh", "lift_fresh_copy", "contiguous", "requires_grad", "positive")
def _identity(low: Lowering, x: ValueRef, *rest: Any, **options: Any) -> ValueRef:
    return x
