"""Lowering rules: variances, norms, and reductions made of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import FLOATS, Term, done, results, term
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.capture.rules_shape import cut
from samebits.exec.errors import CaptureError

_LONGEST_PRODUCT = 64  # factors that are multiplied one by one


def all_axes(x: ValueRef, axes: Sequence[int] | int | None) -> list[int]:
    """Return the axes that torch means by its argument `dim`: none and an empty list are all."""
    if axes is None or axes == []:
        return list(range(x.type.rank))
    return [axis % max(1, x.type.rank) for axis in ([axes] if isinstance(axes, int) else axes)]


def _variance(low: Lowering, x: ValueRef, axes: Any, correction: float | None) -> tuple[Term, Term]:
    """Return the variance sum((x - mean)^2) / (n - correction) and the mean, their axes kept."""
    over = all_axes(x, axes)
    wide = term(low, x)
    mean = wide.mean(over)
    centred = wide - mean
    total = (centred * centred).sum(over)
    count = x.type.size // max(1, total.value.type.size)
    return total / max(0, count - (1 if correction is None else correction)), mean


def _kept(low: Lowering, formulas: Sequence[Term]) -> Any:
    """Round formulas and give them the shapes of the results at hand."""
    single = not isinstance(low.node.meta["val"], list | tuple)
    expected = [low.result] if single else results(low)
    found = [done(low, f.reshape(*e.shape), e) for f, e in zip(formulas, expected, strict=True) if e is not None]
    return found[0] if single else found


@rule("var")
def _var(low: Lowering, x: ValueRef, axes: Any = None, correction: Any = None, keepdim: bool = False) -> Any:
    return _kept(low, [_variance(low, x, axes, correction)[0]])


@rule("std")
def _std(low: Lowering, x: ValueRef, axes: Any = None, correction: Any = None, keepdim: bool = False) -> Any:
    return _kept(low, [_variance(low, x, axes, correction)[0].op("sqrt")])


@rule("var_mean")
def _var_mean(low: Lowering, x: ValueRef, axes: Any = None, correction: Any = None, keepdim: bool = False) -> Any:
    return _kept(low, _variance(low, x, axes, correction))


@rule("std_mean")
def _std_mean(low: Lowering, x: ValueRef, axes: Any = None, correction: Any = None, keepdim: bool = False) -> Any:
    variance, mean = _variance(low, x, axes, correction)
    return _kept(low, [variance.op("sqrt"), mean])


def _norm_of(x: Term, order: float, axes: Sequence[int]) -> Term:
    """Return (sum |x|^order)^(1/order), or its limit for 0 and the infinities."""
    size = x.op("abs")
    if order == float("inf"):
        return size.reduce("reduce_max", axes)
    if order == -float("inf"):
        return size.reduce("reduce_min", axes)
    if order == 0:
        return x.op("ne", 0).to(x.dtype).sum(axes)
    if order == 1:
        return size.sum(axes)
    if order == 2:
        return (x * x).sum(axes).op("sqrt")
    return size.op("pow", order).sum(axes).op("pow", 1 / order)


@rule("linalg_vector_norm")
def _vector_norm(
    low: Lowering, x: ValueRef, order: float = 2, axes: Any = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    wide = term(low, low.cast(x, low.result.dtype) if dtype is not None else x)
    return _kept(low, [_norm_of(wide, order, all_axes(x, axes))])


@rule("norm")
def _norm(
    low: Lowering, x: ValueRef, order: float | None = 2, axes: Any = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    return _vector_norm(low, x, 2 if order is None else order, axes, keepdim, dtype)


@rule("dist")
def _dist(low: Lowering, x: ValueRef, y: ValueRef, order: float = 2) -> Any:
    difference = term(low, x) - term(low, y)
    return _kept(low, [_norm_of(difference, order, range(len(difference.shape)))])


@rule("logsumexp")
def _logsumexp(low: Lowering, x: ValueRef, axes: Any, keepdim: bool = False) -> Any:
    over = all_axes(x, axes)
    wide = term(low, low.cast(x, low.result.dtype))
    top = wide.reduce("reduce_max", over)
    top = top.op("is_finite").pick(top, 0.0)
    return _kept(low, [(wide - top).op("exp").sum(over).op("log") + top])


@rule("aminmax")
def _aminmax(low: Lowering, x: ValueRef, *, dim: int | None = None, keepdim: bool = False) -> Any:
    over = all_axes(x, dim)
    whole = Term(low, x)
    return _kept(low, [whole.reduce("reduce_min", over), whole.reduce("reduce_max", over)])


@rule("count_nonzero")
def _count_nonzero(low: Lowering, x: ValueRef, axes: Any = None) -> Any:
    return _kept(low, [Term(low, x).op("ne", 0).to("i64").sum(all_axes(x, axes))])


@rule("nansum")
def _nansum(low: Lowering, x: ValueRef, axes: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    whole = Term(low, low.cast(x, low.result.dtype))
    numbers = whole.op("ne", whole).pick(0, whole) if x.type.dtype in FLOATS else whole
    return _kept(low, [numbers.sum(all_axes(x, axes))])


@rule("trace")
def _trace(low: Lowering, x: ValueRef) -> Any:
    rows, columns = x.type.shape
    flat = low.reshape(x, (rows * columns,))
    count = min(rows, columns)
    diagonal = cut(low, flat, 0, 0, (count - 1) * (columns + 1) + 1 if count else 0, columns + 1)
    return low.reduce("reduce_sum", low.cast(diagonal, low.result.dtype), [0])


def _prefix_products(low: Lowering, x: ValueRef, axis: int, name: str) -> list[Term]:
    """Return the products of the first 1, 2, ... factors along an axis (kept with size 1), each rounded."""
    count = x.type.shape[axis]
    if count > _LONGEST_PRODUCT:
        raise CaptureError(
            f"aten.{name} of {count} factors has no rule (at most {_LONGEST_PRODUCT}); sum their logarithms instead"
        )
    factors = [term(low, cut(low, x, axis, i, i + 1)) for i in range(count)]
    products = factors[:1]
    for factor in factors[1:]:
        products.append(products[-1] * factor)
    return products


@rule("prod")
def _prod(low: Lowering, x: ValueRef, axis: int | None = None, keepdim: bool = False, dtype: Any = None) -> Any:
    flat = x if axis is not None and x.type.rank else low.reshape(x, (x.type.size,))
    products = _prefix_products(low, low.cast(flat, low.result.dtype), (axis or 0) % flat.type.rank, "prod")
    return _kept(low, products[-1:]) if products else low.full(1, low.result.dtype, low.result.shape)


@rule("cumprod")
def _cumprod(low: Lowering, x: ValueRef, axis: int, dtype: Any = None) -> ValueRef:
    if not x.type.rank or not x.type.size:
        return low.cast(x, low.result.dtype)
    axis %= x.type.rank
    products = _prefix_products(low, low.cast(x, low.result.dtype), axis, "cumprod")
    return low.op("concatenate", *(low.cast(p.value, low.result.dtype) for p in products), dimension=axis)
