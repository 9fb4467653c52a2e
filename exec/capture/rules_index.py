"""Lowering rules: reading and writing at positions that tensors give.

Every rule counts positions over some leading or flattened axes and uses `gather`, `scatter` or `scatter_add` on rows.
A position outside its axis becomes row -1, which stops the run with an error. Writing without accumulation uses
`scatter`, which stops the run where a position occurs twice: PyTorch leaves open which of the values would win.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import Term, iota
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.capture.rules_shape import cut, place, spread
from samebits.exec.errors import CaptureError

Indices = Sequence[ValueRef | None]
_MASK = (
    "a boolean mask reads a number of elements that depends on data; use torch.where, masked_fill or a product with "
    "the mask instead"
)


def _checked(low: Lowering, index: ValueRef, size: int, *, negative: bool) -> tuple[Term, Term]:
    """Return an index as i64, counted from the front, and whether it lies in 0..size-1."""
    at = Term(low, low.cast(index, "i64"))
    if negative:
        at = (at < 0).pick(at + size, at)
    return at, (at >= 0) & (at < size)


def _combined(low: Lowering, indices: Sequence[ValueRef], sizes: Sequence[int], *, negative: bool = True) -> Term:
    """Return the row of a tensor whose axes of these sizes were flattened, or -1 if any index is outside its axis."""
    row, inside = _checked(low, indices[0], sizes[0], negative=negative)
    for index, size in zip(indices[1:], sizes[1:], strict=True):
        at, within = _checked(low, index, size, negative=negative)
        row, inside = row * size + at, inside & within
    return inside.pick(row, -1)


def _leading(low: Lowering, x: ValueRef, axes: Sequence[int]) -> tuple[ValueRef, list[int]]:
    """Return x with `axes` moved to the front and flattened to one, and the permutation used."""
    order = [*axes, *(axis for axis in range(x.type.rank) if axis not in axes)]
    moved = low.transpose(x, order)
    rows = prod(x.type.shape[axis] for axis in axes)
    return low.reshape(moved, (rows, *moved.type.shape[len(axes) :])), order


def _inverse(order: Sequence[int]) -> list[int]:
    return [int(axis) for axis in np.argsort(order)]


def _restored(low: Lowering, rows: ValueRef, x: ValueRef, order: Sequence[int]) -> ValueRef:
    """Undo `_leading`."""
    moved = [x.type.shape[axis] for axis in order]
    return low.transpose(low.reshape(rows, moved), _inverse(order))


def _given(x: ValueRef, indices: Indices) -> tuple[list[int], list[ValueRef]]:
    """Return the indexed axes and their index tensors; raises CaptureError for masks."""
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    tensors = [index for index in indices if index is not None]
    if any(index.type.dtype in ("bool", "u8") for index in tensors):
        raise CaptureError(_MASK)
    return axes, tensors


def _first_axis(axes: Sequence[int]) -> int:
    """Return where the axes of the indices stand in the result: at the first indexed axis if these are neighbours."""
    return axes[0] if list(axes) == list(range(axes[0], axes[-1] + 1)) else 0


@rule("index", "_unsafe_index")
def _index(low: Lowering, x: ValueRef, indices: Indices) -> ValueRef:
    axes, tensors = _given(x, indices)
    row = _combined(low, tensors, [x.type.shape[axis] for axis in axes])
    rows, _ = _leading(low, x, axes)
    found = low.op("gather", rows, row.value)
    rank, first = len(row.shape), _first_axis(axes)
    order = [*range(rank, rank + first), *range(rank), *range(rank + first, found.type.rank)]
    return low.transpose(found, order)


@rule("index_put", "_unsafe_index_put", "_index_put_impl")
def _index_put(
    low: Lowering, x: ValueRef, indices: Indices, values: ValueRef, accumulate: bool = False, unsafe: bool = False
) -> ValueRef:
    if len(indices) == 1 and indices[0] is not None and indices[0].type.dtype == "bool":
        return _put_where(low, x, indices[0], values, accumulate)
    axes, tensors = _given(x, indices)
    row = _combined(low, tensors, [x.type.shape[axis] for axis in axes])
    rows, order = _leading(low, x, axes)
    rank, first = len(row.shape), _first_axis(axes)
    rest = rows.type.shape[1:]
    whole = low.broadcast(values, (*rest[:first], *row.shape, *rest[first:]))
    updates = low.transpose(whole, [*range(first, first + rank), *range(first), *range(first + rank, whole.type.rank)])
    name = "scatter_add" if accumulate else "scatter"
    return _restored(low, low.op(name, rows, row.value, updates), x, order)


def _put_where(low: Lowering, x: ValueRef, mask: ValueRef, values: ValueRef, accumulate: bool) -> ValueRef:
    """Write one number where a mask holds."""
    if values.type.size != 1 or accumulate:
        raise CaptureError(f"aten.index_put: {_MASK}")
    which = low.reshape(mask, (*mask.type.shape, *(1,) * (x.type.rank - mask.type.rank)))
    value = low.broadcast(low.reshape(values, ()), x.type.shape)
    return low.op("select_n", low.broadcast(which, x.type.shape), x, value)


def _elements(low: Lowering, index: ValueRef, shape: Sequence[int], axis: int) -> Term:
    """Return for each entry of `index` the flat position in `shape` that it names along `axis`, or -1."""
    at, inside = _checked(low, index, shape[axis], negative=False)
    flat = at * prod(shape[axis + 1 :])
    for i in range(len(shape)):
        if i != axis and index.type.shape[i] != 1:
            flat = flat + iota(low, index.type.shape, i) * prod(shape[i + 1 :])
    return inside.pick(flat, -1)


def _flat(low: Lowering, x: ValueRef) -> ValueRef:
    return low.reshape(x, (x.type.size,))


def _at_least_1d(low: Lowering, *values: ValueRef) -> list[ValueRef]:
    return [value if value.type.rank else low.reshape(value, (1,)) for value in values]


@rule("gather")
def _gather(low: Lowering, x: ValueRef, axis: int, index: ValueRef, *, sparse_grad: bool = False) -> ValueRef:
    x, index = _at_least_1d(low, x, index)
    if not index.type.size:
        return low.full(0, low.result.dtype, low.result.shape)
    places = _elements(low, index, x.type.shape, axis % x.type.rank)
    return low.reshape(low.op("gather", _flat(low, x), places.value), low.result.shape)


def _scattered(low: Lowering, op: str, x: ValueRef, axis: int, index: ValueRef, source: ValueRef) -> ValueRef:
    shape = x.type.shape
    x, index, source = _at_least_1d(low, x, index, source)
    if not index.type.size:
        return low.reshape(x, shape)
    places = _elements(low, index, x.type.shape, axis % x.type.rank)
    for i, size in enumerate(index.type.shape):
        source = _front(low, source, i, size)
    return low.reshape(low.op(op, _flat(low, x), places.value, source), shape)


def _front(low: Lowering, x: ValueRef, axis: int, size: int) -> ValueRef:
    limits = [size if i == axis else n for i, n in enumerate(x.type.shape)]
    if tuple(limits) == x.type.shape:
        return x
    return low.op("slice", x, start_indices=[0] * len(limits), limit_indices=limits, strides=[1] * len(limits))


def _marked(low: Lowering, shape: Sequence[int], axis: int, index: ValueRef) -> Term:
    """Return where any entry of `index` points; the same place may be named more than once."""
    ones = low.full(1, "i32", index.type.shape)
    return Term(low, _scattered(low, "scatter_add", low.full(0, "i32", shape), axis, index, ones)) > 0


@rule("scatter")
def _scatter(
    low: Lowering, x: ValueRef, axis: int, index: ValueRef, source: Any, *, reduce: str | None = None
) -> ValueRef:
    if reduce == "add":
        return _scatter_add(low, x, axis, index, low.tensor(source, x.type.dtype, index.type.shape))
    if reduce is not None:
        raise CaptureError(f"aten.scatter with reduce={reduce!r} has no rule; reduce='add' has one")
    if isinstance(source, ValueRef):
        return _scattered(low, "scatter", x, axis, index, source)
    hit = _marked(low, x.type.shape, axis, index)
    return hit.pick(Term(low, low.full(source, x.type.dtype, ())), Term(low, x)).value


@rule("scatter_add")
def _scatter_add(low: Lowering, x: ValueRef, axis: int, index: ValueRef, source: ValueRef) -> ValueRef:
    return _scattered(low, "scatter_add", x, axis, index, source)


@rule("scatter_reduce")
def _scatter_reduce(
    low: Lowering, x: ValueRef, axis: int, index: ValueRef, source: ValueRef, reduce: str, *, include_self: bool = True
) -> ValueRef:
    if reduce != "sum" or not include_self:
        raise CaptureError(
            f"aten.scatter_reduce with reduce={reduce!r}, include_self={include_self} has no rule; "
            "reduce='sum' with include_self=True has one"
        )
    return _scattered(low, "scatter_add", x, axis, index, source)


def _axis_rows(low: Lowering, x: ValueRef, axis: int, index: ValueRef) -> tuple[ValueRef, ValueRef, list[int]]:
    """Return x with `axis` first, the checked index (n,) along it, and the permutation used."""
    (index,) = _at_least_1d(low, index)
    rows, order = _leading(low, x, [axis])
    return rows, _combined(low, [index], [x.type.shape[axis]], negative=False).value, order


@rule("index_select")
def _index_select(low: Lowering, x: ValueRef, axis: int, index: ValueRef) -> ValueRef:
    whole, _ = _at_least_1d(low, x, index)
    rows, index, order = _axis_rows(low, whole, axis % whole.type.rank, index)
    return low.reshape(low.transpose(low.op("gather", rows, index), _inverse(order)), low.result.shape)


def _index_rows(low: Lowering, op: str, x: ValueRef, axis: int, index: ValueRef, source: ValueRef) -> ValueRef:
    whole, source = _at_least_1d(low, x, source)
    rows, index, order = _axis_rows(low, whole, axis % whole.type.rank, index)
    updates = low.transpose(source, order)
    return low.reshape(_restored(low, low.op(op, rows, index, updates), whole, order), x.type.shape)


@rule("index_add")
def _index_add(
    low: Lowering, x: ValueRef, axis: int, index: ValueRef, source: ValueRef, *, alpha: float = 1
) -> ValueRef:
    scaled = source if alpha == 1 else (Term(low, source) * alpha).value
    return _index_rows(low, "scatter_add", x, axis, index, scaled)


@rule("index_copy")
def _index_copy(low: Lowering, x: ValueRef, axis: int, index: ValueRef, source: ValueRef) -> ValueRef:
    return _index_rows(low, "scatter", x, axis, index, source)


@rule("index_fill")
def _index_fill(low: Lowering, x: ValueRef, axis: int, index: ValueRef, value: Any) -> ValueRef:
    if not x.type.rank:
        return low.tensor(value, x.type.dtype, ())
    axis %= x.type.rank
    (index,) = _at_least_1d(low, index)
    hit = _marked(low, (x.type.shape[axis],), 0, index)
    which = hit.reshape(x.type.shape[axis], *(1,) * (x.type.rank - 1 - axis))
    return which.pick(Term(low, low.tensor(value, x.type.dtype, ())), Term(low, x)).value


@rule("take")
def _take(low: Lowering, x: ValueRef, index: ValueRef) -> ValueRef:
    return low.op("gather", _flat(low, x), _combined(low, [index], [x.type.size]).value)


@rule("put")
def _put(low: Lowering, x: ValueRef, index: ValueRef, source: ValueRef, accumulate: bool = False) -> ValueRef:
    places = _combined(low, [index], [x.type.size])
    name = "scatter_add" if accumulate else "scatter"
    return low.reshape(low.op(name, _flat(low, x), places.value, source), x.type.shape)


@rule("slice_scatter")
def _slice_scatter(
    low: Lowering,
    x: ValueRef,
    source: ValueRef,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> ValueRef:
    axis %= x.type.rank
    places = range(x.type.shape[axis])[slice(start, end, step)]
    return _written(low, x, source, axis, places)


@rule("select_scatter")
def _select_scatter(low: Lowering, x: ValueRef, source: ValueRef, axis: int, index: int) -> ValueRef:
    axis %= x.type.rank
    index %= x.type.shape[axis]
    slot = [1 if i == axis else n for i, n in enumerate(x.type.shape)]
    return _written(low, x, low.reshape(source, slot), axis, range(index, index + 1))


def _written(low: Lowering, x: ValueRef, source: ValueRef, axis: int, places: range) -> ValueRef:
    """Return x with `source` at evenly spaced places of an axis."""
    if not places:
        return x
    size = x.type.shape[axis]
    shape = [len(places) if i == axis else n for i, n in enumerate(x.type.shape)]
    source = low.broadcast(low.cast(source, x.type.dtype), shape)
    if len(places) == 1 or places.step == 1:
        parts = [cut(low, x, axis, 0, places[0]), source, cut(low, x, axis, places[-1] + 1, size)]
        filled = [part for part in parts if part.type.shape[axis]]
        return filled[0] if len(filled) == 1 else low.op("concatenate", *filled, dimension=axis)
    at = iota(low, (size,), 0) - places.start
    which = (at >= 0) & (at <= places[-1] - places.start) & at.op("rem", places.step).op("eq", 0)
    spaced = place(low, spread(low, source, axis, places.step), axis, places.start, size)
    return which.reshape(size, *(1,) * (x.type.rank - 1 - axis)).pick(Term(low, spaced), Term(low, x)).value
