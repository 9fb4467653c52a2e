"""Lowering rules: ReLU, sigmoid, tanh, SiLU, GELU and their gradients."""

from __future__ import annotations

import math

from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.capture.rules_elementwise import compute


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
