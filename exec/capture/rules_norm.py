"""Lowering rules: normalisation, forward and backward.

One formula for all (Ioffe, Szegedy 2015; Ba et al. 2016; Wu, He 2018): over the axes that share their statistics,
mean = sum(x) / n, var = sum((x - mean)^2) / n, rstd = rsqrt(var + eps), y = (x - mean) * rstd * weight + bias, in f32.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import Term, done, results, term
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.errors import CaptureError

Shape = Sequence[int]


def _deviation(x: Term, axes: Shape) -> tuple[Term, Term, Term]:
    """Return mean, x - mean and the biased variance."""
    mean = x.mean(axes)
    centred = x - mean
    return mean, centred, (centred * centred).mean(axes)


def _affine(xhat: Term, weight: ValueRef | None, bias: ValueRef | None, shape: Shape) -> Term:
    """Return xhat * weight + bias; `shape` is that of weight and bias, with 1 for each axis they repeat along."""
    if weight is not None:
        xhat = xhat * term(xhat.low, weight).reshape(*shape)
    return xhat if bias is None else xhat + term(xhat.low, bias).reshape(*shape)


def _normalised(
    low: Lowering, x: Term, axes: Shape, eps: float, affine: tuple[ValueRef | None, ValueRef | None], shape: Shape
) -> list[Term]:
    """Return y, mean and rstd, the statistics with their axes kept; x may be a reshaped operand."""
    mean, centred, var = _deviation(x, axes)
    rstd = (var + eps).op("rsqrt")
    xhat = (centred * rstd).reshape(*_first_shape(low))
    return [_affine(xhat, *affine, shape), mean, rstd]


def _first_shape(low: Lowering) -> tuple[int, ...]:
    """Return the shape of the first result of the node at hand."""
    expected = results(low)[0]
    assert expected is not None
    return expected.shape


def _rounded(low: Lowering, formulas: Sequence[Term | None]) -> list[ValueRef | None]:
    """Round formulas to the types of the results at hand; a result that torch leaves out is None."""
    found: list[ValueRef | None] = []
    for formula, expected in zip(formulas, results(low), strict=True):
        if formula is None or expected is None:
            found.append(None)
        else:
            found.append(done(low, formula.reshape(*expected.shape), expected))
    return found


def _saved(low: Lowering, statistic: ValueRef) -> Term:
    """Return a statistic that the forward pass saved, before it was rounded to half precision.

    On a CPU torch saves the statistics of a half-precision layer in half precision; its other devices keep f32.
    """
    op, parts = low.builder.producer(statistic)
    return (
        Term(low, parts[0]) if op == "convert_element_type" and parts[0].type.dtype == "f32" else term(low, statistic)
    )


def _gradients(
    gradient: Term, xhat: Term, rstd: Term, axes: Shape, weight: Term | None, affine_axes: Shape
) -> tuple[Term, Term, Term]:
    """Return the gradients of x, weight and bias.

    With g = gradient * weight: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), means over the shared axes.
    """
    dweight = (gradient * xhat).sum(affine_axes, keep=False)
    dbias = gradient.sum(affine_axes, keep=False)
    g = gradient if weight is None else gradient * weight
    return rstd * (g - g.mean(axes) - xhat * (g * xhat).mean(axes)), dweight, dbias


@rule("native_layer_norm")
def _layer_norm(
    low: Lowering, x: ValueRef, shape: Shape, weight: ValueRef | None, bias: ValueRef | None, eps: float
) -> Any:
    axes = range(x.type.rank - len(shape), x.type.rank)
    return _rounded(low, _normalised(low, term(low, x), axes, eps, (weight, bias), shape))


@rule("native_layer_norm_backward")
def _layer_norm_backward(
    low: Lowering,
    gradient: ValueRef,
    x: ValueRef,
    shape: Shape,
    mean: ValueRef,
    rstd: ValueRef,
    weight: ValueRef | None,
    bias: ValueRef | None,
    mask: Sequence[bool],
) -> Any:
    first = x.type.rank - len(shape)
    scale = _saved(low, rstd)
    xhat = (term(low, x) - _saved(low, mean)) * scale
    w = None if weight is None else term(low, weight)
    return _rounded(low, _gradients(term(low, gradient), xhat, scale, range(first, x.type.rank), w, range(first)))


def _grouped(low: Lowering, x: ValueRef, groups: int) -> Term:
    """Return x (n, c, *spatial) as (n, groups, c / groups, positions)."""
    n, c, *spatial = x.type.shape
    return term(low, x).reshape(n, groups, c // groups, prod(spatial))


@rule("native_group_norm")
def _group_norm(
    low: Lowering,
    x: ValueRef,
    weight: ValueRef | None,
    bias: ValueRef | None,
    n: int,
    c: int,
    positions: int,
    groups: int,
    eps: float,
) -> Any:
    shape = (c, *(1,) * (x.type.rank - 2))
    return _rounded(low, _normalised(low, _grouped(low, x, groups), (2, 3), eps, (weight, bias), shape))


@rule("native_group_norm_backward")
def _group_norm_backward(
    low: Lowering,
    gradient: ValueRef,
    x: ValueRef,
    mean: ValueRef,
    rstd: ValueRef,
    weight: ValueRef | None,
    n: int,
    c: int,
    positions: int,
    groups: int,
    mask: Sequence[bool],
) -> Any:
    scale = _saved(low, rstd).reshape(n, groups, 1, 1)
    xhat = (_grouped(low, x, groups) - _saved(low, mean).reshape(n, groups, 1, 1)) * scale
    w = None if weight is None else term(low, weight).reshape(1, groups, c // groups, 1)
    return _rounded(low, _gradients(_grouped(low, gradient, groups), xhat, scale, (2, 3), w, (0, 3)))


def _batch_norm(
    low: Lowering, x: ValueRef, weight: ValueRef | None, bias: ValueRef | None, eps: float
) -> tuple[Term, Term, Term, Term]:
    """Return y, mean, rstd and biased variance from the batch's own statistics."""
    axes, shape = _per_channel(x)
    mean, centred, var = _deviation(term(low, x), axes)
    rstd = (var + eps).op("rsqrt")
    return _affine(centred * rstd, weight, bias, shape), mean, rstd, var


def _per_channel(x: ValueRef) -> tuple[list[int], tuple[int, ...]]:
    """Return the axes over which batch norm takes its statistics, and the shape of one value per channel."""
    axes = [axis for axis in range(x.type.rank) if axis != 1]
    return axes, (x.type.shape[1], *(1,) * (x.type.rank - 2))


@rule("_native_batch_norm_legit_functional")
def _batch_norm_with_statistics(
    low: Lowering,
    x: ValueRef,
    weight: ValueRef | None,
    bias: ValueRef | None,
    running_mean: ValueRef,
    running_var: ValueRef,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    """Running statistics: (1 - momentum) * old + momentum * new, with the unbiased variance."""
    old_mean, old_var = term(low, running_mean), term(low, running_var)
    if not training:
        y = _with_running(low, x, weight, bias, old_mean, old_var, eps)
        return [y, *_no_statistics(low), running_mean, running_var]
    normal, mean, rstd, var = _batch_norm(low, x, weight, bias, eps)
    count = x.type.size // max(1, x.type.shape[1])
    channels = x.type.shape[1]
    new_mean = (1 - momentum) * old_mean + momentum * mean.reshape(channels)
    new_var = (1 - momentum) * old_var + momentum * (var.reshape(channels) * (count / max(1, count - 1)))
    return _rounded(low, [normal, mean, rstd, new_mean, new_var])


@rule("native_batch_norm", "_native_batch_norm_legit")
def _native_batch_norm(low: Lowering, x: ValueRef, weight: Any, bias: Any, *rest: Any) -> Any:
    *running, training, _, eps = rest  # _native_batch_norm_legit.no_stats has no running statistics
    if not training:
        y = _with_running(low, x, weight, bias, term(low, running[0]), term(low, running[1]), eps)
        return [y, *_no_statistics(low)]
    if any(statistic is not None for statistic in running):
        raise CaptureError(
            "aten.native_batch_norm in training updates its running statistics unseen; capture it as "
            "_native_batch_norm_legit, or use track_running_stats=False"
        )
    return _rounded(low, _batch_norm(low, x, weight, bias, eps)[:3])


@rule("_native_batch_norm_legit_no_training")
def _batch_norm_no_training(
    low: Lowering, x: ValueRef, weight: Any, bias: Any, mean: ValueRef, var: ValueRef, momentum: float, eps: float
) -> Any:
    return [_with_running(low, x, weight, bias, term(low, mean), term(low, var), eps), *_no_statistics(low)]


def _with_running(low: Lowering, x: ValueRef, weight: Any, bias: Any, mean: Term, var: Term, eps: float) -> ValueRef:
    _, shape = _per_channel(x)
    xhat = (term(low, x) - mean.reshape(*shape)) * (var.reshape(*shape) + eps).op("rsqrt")
    expected = results(low)[0]
    return done(low, _affine(xhat, weight, bias, shape), expected)


def _no_statistics(low: Lowering) -> list[ValueRef | None]:
    """Return the saved statistics of an evaluation, which torch gives no elements."""
    return [None if t is None else low.full(0, t.dtype, t.shape) for t in results(low)[1:3]]


@rule("native_batch_norm_backward")
def _batch_norm_backward(
    low: Lowering,
    gradient: ValueRef,
    x: ValueRef,
    weight: ValueRef | None,
    running_mean: ValueRef | None,
    running_var: ValueRef | None,
    mean: ValueRef | None,
    rstd: ValueRef | None,
    training: bool,
    eps: float,
    mask: Sequence[bool],
) -> Any:
    axes, shape = _per_channel(x)
    g, whole = term(low, gradient), term(low, x)
    w = None if weight is None else term(low, weight).reshape(*shape)
    if training:  # the statistics of the forward pass once more: equal expressions are shared
        _, centred, var = _deviation(whole, axes)
        scale = (var + eps).op("rsqrt")
        return _rounded(low, _gradients(g, centred * scale, scale, axes, w, axes))
    assert running_mean is not None and running_var is not None
    scale = (term(low, running_var).reshape(*shape) + eps).op("rsqrt")
    xhat = (whole - term(low, running_mean).reshape(*shape)) * scale
    dx = (g if w is None else g * w) * scale
    return _rounded(low, [dx, (g * xhat).sum(axes, keep=False), g.sum(axes, keep=False)])


def _length(v: Term, axis: int) -> tuple[Term, list[int]]:
    """Return the length of v for each position along `axis` (Salimans, Kingma 2016), and the other axes."""
    others = [i for i in range(len(v.shape)) if i != axis]
    return (v * v).sum(others).op("sqrt"), others


@rule("_weight_norm_interface")
def _weight_norm(low: Lowering, v: ValueRef, g: ValueRef, axis: int = 0) -> Any:
    direction = term(low, v)
    length, _ = _length(direction, axis % v.type.rank)
    return _rounded(low, [direction * (term(low, g) / length), length])


@rule("_weight_norm_interface_backward")
def _weight_norm_backward(
    low: Lowering, gradient: ValueRef, v: ValueRef, g: ValueRef, norms: ValueRef, axis: int
) -> Any:
    """With d = sum(gradient * v) / length: dg = d, dv = g / length (gradient - v d / length)."""
    direction, wide = term(low, v), term(low, gradient)
    length, others = _length(direction, axis % v.type.rank)
    along = (wide * direction).sum(others) / length
    return _rounded(low, [term(low, g) / length * (wide - direction * (along / length)), along])
