"""Lowering rules: activation functions and their gradients, as formulas in f32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import Term, done, results, term
from samebits.exec.capture.lowering import Lowering, rule


def _formula(*names: str) -> Callable[[Callable[..., Term]], Callable[..., Term]]:
    """Register a function of terms (and numbers) as a rule; its result is rounded once."""

    def register(function: Callable[..., Term]) -> Callable[..., Term]:
        @rule(*names)
        def lower_formula(low: Lowering, *arguments: Any, **options: Any) -> ValueRef:
            wide = (term(low, a) if isinstance(a, ValueRef) else a for a in arguments)
            return done(low, function(*wide, **options))

        return function

    return register


def clamped(x: Term, lowest: float, highest: float) -> Term:
    """Return x within lowest..highest; NaN stays."""
    return x.op("max", lowest).op("min", highest)


@_formula("elu")
def _elu(x: Term, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Term:
    return (x > 0).pick(x * scale, (x * input_scale).op("expm1") * (alpha * scale))


@_formula("elu_backward")
def _elu_backward(g: Term, alpha: float, scale: float, input_scale: float, is_result: bool, x: Term) -> Term:
    """x is the result y where `is_result`: alpha scale e^(input_scale x) is then y + alpha scale."""
    slope = x + alpha * scale if is_result else (x * input_scale).op("exp") * (alpha * scale)
    return g * (x > 0).pick(scale, slope * input_scale)


@_formula("celu")
def _celu(x: Term, alpha: float = 1) -> Term:
    return _elu(x, alpha, 1, 1 / alpha)


@_formula("softplus")
def _softplus(x: Term, beta: float = 1, threshold: float = 20) -> Term:
    return (x * beta > threshold).pick(x, (x * beta).op("exp").op("log1p") / beta)


@_formula("softplus_backward")
def _softplus_backward(g: Term, x: Term, beta: float, threshold: float) -> Term:
    return g * (x * beta > threshold).pick(1.0, (x * beta).op("logistic"))


@_formula("hardtanh")
def _hardtanh(x: Term, lowest: float = -1, highest: float = 1) -> Term:
    return clamped(x, lowest, highest)


@_formula("hardtanh_backward")
def _hardtanh_backward(g: Term, x: Term, lowest: float, highest: float) -> Term:
    return ((x <= lowest) | (x >= highest)).pick(0, g)


@_formula("hardsigmoid")
def _hardsigmoid(x: Term) -> Term:
    return clamped(x + 3, 0, 6) / 6


@_formula("hardsigmoid_backward")
def _hardsigmoid_backward(g: Term, x: Term) -> Term:
    return ((x > -3) & (x < 3)).pick(g / 6, 0)


@_formula("hardswish")
def _hardswish(x: Term) -> Term:
    return x * clamped(x + 3, 0, 6) / 6


@_formula("hardswish_backward")
def _hardswish_backward(g: Term, x: Term) -> Term:
    return (x <= -3).pick(0, (x < 3).pick(g * (x / 3 + 0.5), g))


@_formula("mish")
def _mish(x: Term) -> Term:
    return x * x.op("exp").op("log1p").op("tanh")


@_formula("mish_backward")
def _mish_backward(g: Term, x: Term) -> Term:
    t = x.op("exp").op("log1p").op("tanh")
    return g * (t + x * x.op("logistic") * (1 - t * t))


@_formula("logit")
def _logit(x: Term, eps: float | None = None) -> Term:
    z = x if eps is None else clamped(x, eps, 1 - eps)
    return (z / (1 - z)).op("log")


@_formula("logit_backward")
def _logit_backward(g: Term, x: Term, eps: float | None = None) -> Term:
    slope = g / (x * (1 - x))
    if eps is None:
        return ((x < 0) | (x > 1)).pick(float("nan"), slope)
    return ((x < eps) | (x > 1 - eps)).pick(0, slope)


@rule("log_sigmoid_forward")
def _log_sigmoid(low: Lowering, x: ValueRef) -> Any:
    """min(x, 0) - log1p(e^-|x|); torch's second result is a buffer that its backward may use and ours does not."""
    wide = term(low, x)
    value = done(low, wide.op("min", 0) - (-wide.op("abs")).op("exp").op("log1p"), x.type)
    buffer = results(low)[1]
    return value, None if buffer is None else low.full(0, buffer.dtype, buffer.shape)


@_formula("log_sigmoid_backward")
def _log_sigmoid_backward(g: Term, x: Term, buffer: Any) -> Term:
    return g * (-x).op("logistic")


def _halves(x: Term, axis: int) -> tuple[Term, Term]:
    axis %= len(x.shape)
    half = x.shape[axis] // 2
    starts = [[first if i == axis else 0 for i in range(len(x.shape))] for first in (0, half)]
    limits = [[first + half if i == axis else n for i, n in enumerate(x.shape)] for first in (0, half)]
    ones = [1] * len(x.shape)
    low = x.low
    a, b = (
        Term(low, low.op("slice", x.value, start_indices=start, limit_indices=limit, strides=ones))
        for start, limit in zip(starts, limits, strict=True)
    )
    return a, b


@_formula("glu")
def _glu(x: Term, axis: int = -1) -> Term:
    a, b = _halves(x, axis)
    return a * b.op("logistic")


@_formula("glu_backward")
def _glu_backward(g: Term, x: Term, axis: int) -> Term:
    a, b = _halves(x, axis)
    gate = b.op("logistic")
    parts = (g * gate, g * a * gate * (1 - gate))
    return Term(x.low, x.low.op("concatenate", *(part.value for part in parts), dimension=axis % len(x.shape)))


@_formula("_prelu_kernel")
def _prelu(x: Term, weight: Term) -> Term:
    return (x > 0).pick(x, x * weight)


@rule("_prelu_kernel_backward")
def _prelu_backward(low: Lowering, gradient: ValueRef, x: ValueRef, weight: ValueRef) -> Any:
    g, wide, w = (term(low, value) for value in (gradient, x, weight))
    found = ((wide > 0).pick(g, g * w), (wide > 0).pick(0, g * wide))
    return [None if t is None else done(low, f, t) for f, t in zip(found, results(low), strict=True)]


@_formula("threshold")
def _threshold(x: Term, threshold: float, value: float) -> Term:
    return (x <= threshold).pick(value, x)


@_formula("softshrink")
def _softshrink(x: Term, width: float = 0.5) -> Term:
    return (x > width).pick(x - width, (x < -width).pick(x + width, x * 0))


@_formula("hardshrink")
def _hardshrink(x: Term, width: float = 0.5) -> Term:
    return ((x >= -width) & (x <= width)).pick(0, x)


@_formula("softshrink_backward", "hardshrink_backward")
def _shrink_backward(g: Term, x: Term, width: float) -> Term:
    return ((x >= -width) & (x <= width)).pick(0, g)
