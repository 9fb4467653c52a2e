"""Lowering rules: reductions, matrix products, softmax and losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.errors import CaptureError

_NONE, _MEAN, _SUM = 0, 1, 2  # ATen's codes of a loss reduction
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


@rule("amax")
def _amax(low: Lowering, x: ValueRef, axes: Any = None, keep: bool = False) -> ValueRef:
    return low.reduce("reduce_max", x, _axes(x, axes), keep)


@rule("amin")
def _amin(low: Lowering, x: ValueRef, axes: Any = None, keep: bool = False) -> ValueRef:
    return low.reduce("reduce_min", x, _axes(x, axes), keep)


def _extreme(low: Lowering, name: str, x: ValueRef, other: Any, keep: bool) -> Any:
    """Lower max and min in their three forms: of everything, along an axis with indices, of two tensors."""
    if isinstance(other, ValueRef):
        return low.op(name, *(low.tensor(operand, low.result.dtype, low.result.shape) for operand in (x, other)))
    if other is None:
        return low.reduce(f"reduce_{name}", x, range(x.type.rank))
    axis = other % x.type.rank
    values, indices = low.reduce(f"reduce_{name}", x, [axis], keep), low.op(f"arg{name}", x, axis=axis)
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


@rule("addmm")
def _addmm(low: Lowering, bias: ValueRef, a: ValueRef, b: ValueRef, beta: float = 1, alpha: float = 1) -> ValueRef:
    product = _linear(low, a, b)
    shape, dtype = product.type.shape, product.type.dtype
    if alpha != 1:
        product = low.op("mul", product, low.full(alpha, dtype, shape))
    bias = low.broadcast(bias, shape)
    return low.op("add", bias if beta == 1 else low.op("mul", bias, low.full(beta, dtype, shape)), product)


@rule("mv")
def _mv(low: Lowering, a: ValueRef, x: ValueRef) -> ValueRef:
    return low.reshape(_linear(low, a, low.reshape(x, (*x.type.shape, 1))), low.result.shape)


@rule("dot")
def _dot(low: Lowering, a: ValueRef, b: ValueRef) -> ValueRef:
    size = a.type.size
    return low.reshape(_linear(low, low.reshape(a, (1, size)), low.reshape(b, (size, 1))), ())


@rule("bmm")
def _bmm(low: Lowering, a: ValueRef, b: ValueRef) -> ValueRef:
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


def _targets(low: Lowering, x: ValueRef, target: ValueRef, weight: Any, ignore: int) -> tuple[ValueRef, ValueRef]:
    """Return (kept, target or 0 where ignored) of an (n, classes) loss."""
    if weight is not None:
        raise CaptureError("a loss with class weights has no rule")
    if x.type.rank != 2:
        raise CaptureError(f"the loss of a tensor of {x.type.rank} dimensions has no rule; flatten it to (n, classes)")
    kept = low.op("ne", target, low.full(ignore, target.type.dtype, target.type.shape))
    return kept, low.op("select_n", kept, low.full(0, target.type.dtype, target.type.shape), target)


@rule("nll_loss_forward")
def _nll_loss(
    low: Lowering, x: ValueRef, target: ValueRef, weight: Any, reduction: int, ignore: int
) -> tuple[ValueRef, ValueRef]:
    kept, safe = _targets(low, x, target, weight, ignore)
    rows, classes = x.type.shape
    row = low.op("iota", dtype=safe.type.dtype, shape=(rows,), dimension=0)
    limits = (low.full(bound, safe.type.dtype, (rows,)) for bound in (0, classes))
    known = low.op("and", low.op("ge", safe, next(limits)), low.op("lt", safe, next(limits)))
    flat = low.op("add", low.op("mul", row, low.full(classes, safe.type.dtype, (rows,))), safe)
    flat = low.op("select_n", known, low.full(-1, safe.type.dtype, (rows,)), flat)  # an unknown class stops the run
    picked = low.op("gather", low.reshape(x, (rows * classes,)), flat)
    losses = low.op("select_n", kept, low.full(0, x.type.dtype, (rows,)), low.op("neg", picked))
    count = low.reduce("reduce_sum", low.cast(kept, x.type.dtype), [0])
    if reduction == _NONE:
        return losses, count
    total = low.reduce("reduce_sum", losses, [0])
    return (low.op("div", total, count) if reduction == _MEAN else total), count


@rule("nll_loss_backward")
def _nll_loss_backward(
    low: Lowering,
    gradient: ValueRef,
    x: ValueRef,
    target: ValueRef,
    weight: Any,
    reduction: int,
    ignore: int,
    count: ValueRef,
) -> ValueRef:
    kept, safe = _targets(low, x, target, weight, ignore)
    rows, classes = x.type.shape
    share = low.op("neg", low.op("div", gradient, count) if reduction == _MEAN else gradient)
    share = low.broadcast(low.reshape(share, (rows, 1)) if reduction == _NONE else share, (rows, classes))
    class_ = low.op("iota", dtype=safe.type.dtype, shape=(rows, classes), dimension=1)
    hit = low.op("eq", class_, low.broadcast(low.reshape(safe, (rows, 1)), (rows, classes)))
    hit = low.op("and", hit, low.broadcast(low.reshape(kept, (rows, 1)), (rows, classes)))
    return low.op("select_n", hit, low.full(0, x.type.dtype, (rows, classes)), share)


@rule("mse_loss")
def _mse_loss(low: Lowering, x: ValueRef, target: ValueRef, reduction: int = _MEAN) -> ValueRef:
    shape = x.type.shape
    difference = low.op("sub", x, low.tensor(target, x.type.dtype, shape))
    square = low.op("mul", difference, difference)
    if reduction == _NONE:
        return square
    total = low.reduce("reduce_sum", square, range(len(shape)))
    return total if reduction == _SUM else low.op("div", total, low.full(x.type.size, x.type.dtype, ()))


@rule("mse_loss_backward")
def _mse_loss_backward(low: Lowering, gradient: ValueRef, x: ValueRef, target: ValueRef, reduction: int) -> ValueRef:
    shape, dtype = x.type.shape, x.type.dtype
    difference = low.op("sub", x, low.tensor(target, dtype, shape))
    factor = 2 / x.type.size if reduction == _MEAN else 2.0
    scaled = low.op("mul", low.full(factor, dtype, shape), difference)
    return low.op("mul", scaled, low.broadcast(gradient, shape))
