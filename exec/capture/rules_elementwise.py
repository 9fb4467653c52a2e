"""Lowering rules: element-wise arithmetic, comparisons, activations and their gradients."""

from __future__ import annotations

import math
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import UNINITIALISED, Lowering, rule

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


@rule("div")
def _div(low: Lowering, a: Operand, b: Operand) -> ValueRef:
    return compute(low, "div", a, b)


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


@rule("relu")
def _relu(low: Lowering, x: ValueRef) -> ValueRef:
    return compute(low, "max", x, 0)


@rule("threshold_backward")
def _threshold_backward(low: Lowering, gradient: ValueRef, x: ValueRef, threshold: float) -> ValueRef:
    zero = low.full(0, low.result.dtype, low.result.shape)
    return low.op("select_n", low.op("le", x, low.full(threshold, x.type.dtype, x.type.shape)), gradient, zero)


@rule("leaky_relu")
def _leaky_relu(low: Lowering, x: ValueRef, slope: float = 0.01) -> ValueRef:
    positive = low.op("gt", x, low.full(0, x.type.dtype, x.type.shape))
    return low.op("select_n", positive, compute(low, "mul", x, slope), x)


@rule("leaky_relu_backward")
def _leaky_relu_backward(low: Lowering, gradient: ValueRef, x: ValueRef, slope: float, is_result: bool) -> ValueRef:
    positive = low.op("gt", x, low.full(0, x.type.dtype, x.type.shape))
    return low.op("select_n", positive, compute(low, "mul", gradient, slope), gradient)


@rule("tanh_backward")
def _tanh_backward(low: Lowering, gradient: ValueRef, y: ValueRef) -> ValueRef:
    return compute(low, "mul", gradient, compute(low, "sub", 1, compute(low, "mul", y, y)))


@rule("sigmoid_backward")
def _sigmoid_backward(low: Lowering, gradient: ValueRef, y: ValueRef) -> ValueRef:
    return compute(low, "mul", gradient, compute(low, "mul", y, compute(low, "sub", 1, y)))


@rule("silu")
def _silu(low: Lowering, x: ValueRef) -> ValueRef:
    return compute(low, "mul", x, compute(low, "logistic", x))


@rule("silu_backward")
def _silu_backward(low: Lowering, gradient: ValueRef, x: ValueRef) -> ValueRef:
    s = compute(low, "logistic", x)
    slope = compute(low, "mul", s, compute(low, "add", 1, compute(low, "mul", x, compute(low, "sub", 1, s))))
    return compute(low, "mul", gradient, slope)


@rule("gelu")
def _gelu(low: Lowering, x: ValueRef, approximate: str = "none") -> ValueRef:
    if approximate == "tanh":
        inner = compute(low, "add", 1, compute(low, "tanh", _gelu_inner(low, x)))
        return compute(low, "mul", compute(low, "mul", 0.5, x), inner)
    tail = compute(low, "add", 1, compute(low, "erf", compute(low, "mul", x, math.sqrt(0.5))))
    return compute(low, "mul", compute(low, "mul", 0.5, x), tail)


@rule("gelu_backward")
def _gelu_backward(low: Lowering, gradient: ValueRef, x: ValueRef, approximate: str = "none") -> ValueRef:
    if approximate == "tanh":
        t = compute(low, "tanh", _gelu_inner(low, x))
        scale = math.sqrt(2 / math.pi)
        inner = compute(
            low, "mul", scale, compute(low, "add", 1, compute(low, "mul", 0.134145, compute(low, "mul", x, x)))
        )
        bend = compute(low, "mul", compute(low, "sub", 1, compute(low, "mul", t, t)), inner)
        slope = compute(low, "mul", 0.5, compute(low, "add", compute(low, "add", 1, t), compute(low, "mul", x, bend)))
        return compute(low, "mul", gradient, slope)
    cdf = compute(low, "mul", 0.5, compute(low, "add", 1, compute(low, "erf", compute(low, "mul", x, math.sqrt(0.5)))))
    bell = compute(low, "exp", compute(low, "mul", -0.5, compute(low, "mul", x, x)))
    pdf = compute(low, "mul", 1 / math.sqrt(2 * math.pi), bell)
    return compute(low, "mul", gradient, compute(low, "add", cdf, compute(low, "mul", x, pdf)))


def _gelu_inner(low: Lowering, x: ValueRef) -> ValueRef:
    cube = compute(low, "mul", compute(low, "mul", x, x), x)
    sum_ = compute(low, "add", x, compute(low, "mul", 0.044715, cube))
    return compute(low, "mul", math.sqrt(2 / math.pi), sum_)


@rule("_to_copy")
def _to_copy(low: Lowering, x: ValueRef, **options: Any) -> ValueRef:
    return low.cast(x, low.result.dtype)


@rule("copy", "fill", "zero")
def _copy(low: Lowering, target: ValueRef, source: Operand = 0, non_blocking: bool = False) -> ValueRef:
    return low.tensor(source, low.result.dtype, low.result.shape)


@rule("clone", "detach", "alias", "lift_fresh", "lift_fresh_copy", "contiguous", "requires_grad", "positive")
def _identity(low: Lowering, x: ValueRef, *rest: Any, **options: Any) -> ValueRef:
    return x


@rule("full", "full_like", "new_full", "scalar_tensor")
def _full(low: Lowering, *arguments: Any, **options: Any) -> ValueRef:
    value: float = options["fill_value"] if "fill_value" in options else arguments[-1]
    return low.full(value, low.result.dtype, low.result.shape)


@rule("empty", "empty_like", "new_empty")
def _empty(low: Lowering, *arguments: Any, **options: Any) -> Any:
    return UNINITIALISED


@rule("zeros", "zeros_like", "new_zeros")
def _zeros(low: Lowering, *arguments: Any, **options: Any) -> ValueRef:
    return low.full(0, low.result.dtype, low.result.shape)


@rule("ones", "ones_like", "new_ones")
def _ones(low: Lowering, *arguments: Any, **options: Any) -> ValueRef:
    return low.full(1, low.result.dtype, low.result.shape)


@rule("arange")
def _arange(low: Lowering, *bounds: float, **options: Any) -> ValueRef:
    start, step = (bounds[0] if len(bounds) > 1 else 0), (bounds[2] if len(bounds) > 2 else 1)
    count = low.op("iota", dtype=low.result.dtype, shape=low.result.shape, dimension=0)
    if step != 1:
        count = compute(low, "mul", count, step)
    return count if start == 0 else compute(low, "add", count, start)
