"""Lowering rules: sorting and searching. Ties keep their order; NaN counts as greatest, as in torch."""

from __future__ import annotations

from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import FLOATS, Term, operands
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.capture.rules_shape import cut
from samebits.exec.errors import CaptureError

_MOST_BOUNDARIES = 1024


def _sorted(low: Lowering, x: ValueRef, axis: int, descending: bool) -> tuple[ValueRef, ValueRef]:
    if not x.type.rank:
        return x, low.full(0, "i64", ())
    axis %= x.type.rank
    return (
        low.op("sort", x, axis=axis, descending=descending),
        low.op("argsort", x, axis=axis, descending=descending),
    )


@rule("sort")
def _sort(low: Lowering, x: ValueRef, *positional: Any, **options: Any) -> Any:
    """Take sort(x, dim, descending) and sort(x, *, stable, dim, descending)."""
    given = dict(zip(("dim", "descending"), positional, strict=False)) | options
    return _sorted(low, x, given.get("dim", -1), given.get("descending", False))


@rule("topk")
def _topk(low: Lowering, x: ValueRef, k: int, axis: int = -1, largest: bool = True, sorted_: bool = True) -> Any:
    found = _sorted(low, x, axis, largest)
    return found if not x.type.rank else tuple(cut(low, v, axis % x.type.rank, 0, k) for v in found)


def _kth(low: Lowering, x: ValueRef, k: int, axis: int, keep: bool) -> tuple[ValueRef, ValueRef]:
    """Return the k-th least element (from 0) along an axis and its position."""
    found = _sorted(low, x, axis, False)
    if not x.type.rank:
        return found
    axis %= x.type.rank
    rest = tuple(1 if i == axis else n for i, n in enumerate(x.type.shape) if keep or i != axis)
    value, index = (low.reshape(cut(low, v, axis, k, k + 1), rest) for v in found)
    return value, index


@rule("kthvalue")
def _kthvalue(low: Lowering, x: ValueRef, k: int, axis: int = -1, keep: bool = False) -> Any:
    return _kth(low, x, k - 1, axis, keep)


@rule("median")
def _median(low: Lowering, x: ValueRef, axis: int | None = None, keep: bool = False) -> Any:
    """Of an even number of elements the lower one; NaN if there is any."""
    flat = x if axis is not None else low.reshape(x, (x.type.size,))
    count = flat.type.shape[axis or 0] if flat.type.rank else 1
    value, index = _kth(low, flat, (count - 1) // 2, axis or 0, keep)
    if x.type.dtype in FLOATS:
        last_value, _ = _kth(low, flat, count - 1, axis or 0, keep)
        has_nan = Term(low, last_value).op("ne", Term(low, last_value))
        value, index = (
            has_nan.pick(Term(low, last), Term(low, one)).value
            for last, one in ((last_value, value), (_first_nan(low, flat, axis or 0, keep), index))
        )
    return value if axis is None else (value, index)


def _first_nan(low: Lowering, x: ValueRef, axis: int, keep: bool) -> ValueRef:
    if not x.type.rank:
        return low.full(0, "i64", ())
    axis %= x.type.rank
    index = low.op("argmax", x, axis=axis)
    return low.reshape(index, [1 if i == axis else n for i, n in enumerate(x.type.shape) if keep or i != axis])


def _search(low: Lowering, boundaries: Term, values: Term, right: bool, name: str) -> ValueRef:
    """Return how many boundaries (..., m) lie before each value (..., n): a count of comparisons."""
    count = boundaries.shape[-1]
    if count > _MOST_BOUNDARIES:
        raise CaptureError(f"aten.{name} in {count} boundaries has no rule (at most {_MOST_BOUNDARIES})")
    x = values.reshape(*values.shape, 1)
    b = boundaries.reshape(*boundaries.shape[:-1], 1, count) if len(boundaries.shape) > 1 else boundaries
    after = b > x if right else b >= x
    if values.dtype in FLOATS:
        after = after | (b.op("ne", b) & (x.op("eq", x) if right else x.op("eq", x) | b.op("ne", b)))
    before = (~after).to(low.result.dtype)
    return before.sum([len(before.shape) - 1], keep=False).value


@rule("bucketize")
def _bucketize(
    low: Lowering, x: Any, boundaries: ValueRef, *, out_int32: bool = False, right: bool = False
) -> ValueRef:
    values, bounds = operands(low, x, boundaries)
    return _search(low, bounds, values, right, "bucketize")


@rule("searchsorted")
def _searchsorted(
    low: Lowering,
    boundaries: ValueRef,
    x: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: ValueRef | None = None,
) -> ValueRef:
    if sorter is not None:
        raise CaptureError("aten.searchsorted with a sorter has no rule; sort the boundaries first")
    bounds, values = operands(low, boundaries, x)
    return _search(low, bounds, values, right or side == "right", "searchsorted")
