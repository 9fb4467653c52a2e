"""Lowering rules: reductions, matrix products and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.errors import CaptureError

_WIDE = {"f16": "f32", "bf16": "f32"}


def _axes(x: ValueRef, axes: Sequence[int] | int | None) -> Sequence[int]:
    if axes is None or axes == []:
        return range(x.type.rank)
    return [axes] if isinstance(axes, int) else axes


@rule("sum")
def _sum(low: Lowering, x: ValueRef, axes: Any = None, keep: bool = False, **options: Any) -> ValueRef:
    return low.reduce("reduce_sum", low.cast(x, low.result.dtype), _axes(x, axes), keep)


@rule("mean")
def _mean(low: Lowering, x: ValueRef, axes: Any = None, keep: bool = False, **options: Any) -> ValueRef:
    wide = low.cast(x, _WIDE.get(low.result.dtype, low.result.dtype))
    total = low.reduce("reduce_sum", wide, _axes(x, axes), keep)
    count = x.type.size // max(1, total.type.size)
    return low.cast(low.op("div", total, low.full(count, total.type.dtype, total.type.shape)), low.result.dtype)


def _extremes(low: Lowering, name: str, x: ValueRef, axes: Sequence[int], keep: bool) -> ValueRef:
    """Return the maxima or minima over axes; those of bool are an or, an and."""
    if x.type.dtype == "bool":
        name = "reduce_or" if name == "reduce_max" else "reduce_and"
    return low.reduce(name, x, axes, keep)


@rule("amax")
def _amax(low: Lowering, x: ValueRef, axes: Any = None, keep: bool = False) -> ValueRef:
    return _extremes(low, "reduce_max", x, _axes(x, axes), keep)


@rule("amin")
def _amin(low: Lowering, x: ValueRef, axes: Any = None, keep: bool = False) -> ValueRef:
    return _extremes(low, "reduce_min", x, _axes(x, axes), keep)


def _extreme(low: Lowering, name: str, x: ValueRef, other: Any, keep: bool) -> Any:
    """Lower max and min in their three forms: of everything, along an axis with indices, of two tensors."""
    if isinstance(other, ValueRef):
        return low.op(name, *(low.tensor(operand, low.result.dtype, low.result.shape) for operand in (x, other)))
    if other is None:
        return _extremes(low, f"reduce_{name}", x, range(x.type.rank), False)
    if not x.type.rank:
        return x, low.full(0, "i64", ())
    axis = other % x.type.rank
    values, indices = _extremes(low, f"reduce_{name}", x, [axis], keep), low.op(f"arg{name}", x, axis=axis)
    return values, low.reshape(indices, values.type.shape)


@rule("max")
def _max(low: Lowering, x: ValueRef, other: Any = None, keep: bool = False) -> Any:
    return _extreme(low, "max", x, other, keep)


@rule("min")
def _min(low: Lowering, x: ValueRef, other: Any = None, keep: bool = False) -> Any:
    return _extreme(low, "min", x, other, keep)


@rule("any")
def _any(low: Lowering, x: ValueRef, axes: Any = None, keep: bool = False) -> ValueRef:
    return low.cast(low.reduce("reduce_or", low.cast(x, "bool"), _axes(x, axes), keep), low.result.dtype)


@rule("all")
def _all(low: Lowering, x: ValueRef, axes: Any = None, keep: bool = False) -> ValueRef:
    return low.cast(low.reduce("reduce_and", low.cast(x, "bool"), _axes(x, axes), keep), low.result.dtype)


def _arg(low: Lowering, name: str, x: ValueRef, axis: int | None, keep: bool) -> ValueRef:
    flat = x if axis is not None else low.reshape(x, (x.type.size,))
    return low.reshape(low.op(name, flat, axis=(axis or 0) % flat.type.rank), low.result.shape)


@rule("argmax")
def _argmax(low: Lowering, x: ValueRef, axis: int | None = None, keep: bool = False) -> ValueRef:
    return _arg(low, "argmax", x, axis, keep)


@rule("argmin")
def _argmin(low: Lowering, x: ValueRef, axis: int | None = None, keep: bool = False) -> ValueRef:
    return _arg(low, "argmin", x, axis, keep)


@rule("cumsum")
def _cumsum(low: Lowering, x: ValueRef, axis: int, **options: Any) -> ValueRef:
    return low.op("cumsum", low.cast(x, low.result.dtype), axis=axis % x.type.rank)


def _linear(low: Lowering, a: ValueRef, b: ValueRef) -> ValueRef:
    """Return a b for matrices of a linear layer or its gradients: grid `both`."""
    dimensions = (((1,), (0,)), ((), ()))
    return low.op("dot_general", a, b, dimension_numbers=dimensions, precision=low.precision, grid="both")


@rule("mm")
def _mm(low: Lowering, a: ValueRef, b: ValueRef) -> ValueRef:
    return _linear(low, a, b)


def _plus(low: Lowering, bias: ValueRef, product: ValueRef, beta: float, alpha: float) -> ValueRef:
    """Return beta * bias + alpha * product."""
    shape, dtype = product.type.shape, product.type.dtype
    if alpha != 1:
        product = low.op("mul", product, low.full(alpha, dtype, shape))
    bias = low.broadcast(bias, shape)
    return low.op("add", bias if beta == 1 else low.op("mul", bias, low.full(beta, dtype, shape)), product)


@rule("addmm")
def _addmm(low: Lowering, bias: ValueRef, a: ValueRef, b: ValueRef, beta: float = 1, alpha: float = 1) -> ValueRef:
    return _plus(low, bias, _linear(low, a, b), beta, alpha)


@rule("baddbmm")
def _baddbmm(low: Lowering, bias: ValueRef, a: ValueRef, b: ValueRef, beta: float = 1, alpha: float = 1) -> ValueRef:
    return _plus(low, bias, _bmm(low, a, b), beta, alpha)


@rule("addbmm")
def _addbmm(low: Lowering, bias: ValueRef, a: ValueRef, b: ValueRef, beta: float = 1, alpha: float = 1) -> ValueRef:
    return _plus(low, bias, low.reduce("reduce_sum", _bmm(low, a, b), [0]), beta, alpha)


@rule("addmv")
def _addmv(low: Lowering, bias: ValueRef, a: ValueRef, x: ValueRef, beta: float = 1, alpha: float = 1) -> ValueRef:
    return _plus(low, bias, _mv(low, a, x), beta, alpha)


@rule("addr")
def _addr(low: Lowering, bias: ValueRef, a: ValueRef, b: ValueRef, beta: float = 1, alpha: float = 1) -> ValueRef:
    left = low.broadcast(low.reshape(a, (a.type.size, 1)), low.result.shape)
    return _plus(low, bias, low.op("mul", left, low.broadcast(b, low.result.shape)), beta, alpha)


@rule("mv")
def _mv(low: Lowering, a: ValueRef, x: ValueRef) -> ValueRef:
    return low.reshape(_linear(low, a, low.reshape(x, (*x.type.shape, 1))), low.result.shape)


@rule("dot", "vdot")
def _dot(low: Lowering, a: ValueRef, b: ValueRef) -> ValueRef:
    size = a.type.size
    return low.reshape(_linear(low, low.reshape(a, (1, size)), low.reshape(b, (size, 1))), ())


@rule("bmm")
def _bmm(low: Lowering, a: ValueRef, b: ValueRef) -> ValueRef:
    """A batch that shares one b is a linear layer, which torch traces so for rows that don't lie side by side."""
    op, parts = low.builder.producer(b)
    if op == "broadcast_in_dim" and parts[0].type.shape in (b.type.shape[1:], (1, *b.type.shape[1:])):
        batch, rows, depth = a.type.shape
        shared = low.reshape(parts[0], b.type.shape[1:])
        return low.reshape(_linear(low, low.reshape(a, (batch * rows, depth)), shared), low.result.shape)
    dimensions = (((2,), (1,)), ((0,), (0,)))
    return low.op("dot_general", a, b, dimension_numbers=dimensions, precision=low.precision, grid="columns")


def _not_f64(low: Lowering) -> None:
    if low.result.dtype == "f64":
        raise CaptureError("a softmax in float64 has no rule")


def _minus_max(low: Lowering, x: ValueRef, axis: int) -> ValueRef:
    return low.op("sub", x, low.along(low.reduce("reduce_max", x, [axis], keep=True)))


@rule("_softmax")
def _softmax(low: Lowering, x: ValueRef, axis: int, to_float: bool) -> ValueRef:
    _not_f64(low)
    exponentials = low.op("exp", _minus_max(low, low.cast(x, "f32"), axis))
    total = low.along(low.reduce("reduce_sum", exponentials, [axis], keep=True))
    return low.cast(low.op("div", exponentials, total), low.result.dtype)


@rule("_softmax_backward_data")
def _softmax_backward(low: Lowering, gradient: ValueRef, y: ValueRef, axis: int, dtype: Any) -> ValueRef:
    _not_f64(low)
    gradient, y = low.cast(gradient, "f32"), low.cast(y, "f32")
    product = low.op("mul", gradient, y)
    total = low.along(low.reduce("reduce_sum", product, [axis], keep=True))
    return low.cast(low.op("sub", product, low.op("mul", y, total)), low.result.dtype)


@rule("_log_softmax")
def _log_softmax(low: Lowering, x: ValueRef, axis: int, to_float: bool) -> ValueRef:
    _not_f64(low)
    shifted = _minus_max(low, low.cast(x, "f32"), axis)
    total = low.reduce("reduce_sum", low.op("exp", shifted), [axis], keep=True)
    return low.cast(low.op("sub", shifted, low.along(low.op("log", total))), low.result.dtype)


@rule("_log_softmax_backward_data")
def _log_softmax_backward(low: Lowering, gradient: ValueRef, y: ValueRef, axis: int, dtype: Any) -> ValueRef:
    _not_f64(low)
    gradient, y = low.cast(gradient, "f32"), low.cast(y, "f32")
    total = low.along(low.reduce("reduce_sum", gradient, [axis], keep=True))
    return low.cast(low.op("sub", gradient, low.op("mul", low.op("exp", y), total)), low.result.dtype)
