"""Lowering rules: padding, repeating, rolling, triangles, diagonals and sliding views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import Term, iota
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.capture.rules_shape import cut, place, spread
from samebits.exec.capture.windows import Axis, add_windows, read_windows
from samebits.exec.errors import CaptureError


@rule("constant_pad_nd")
def _constant_pad(low: Lowering, x: ValueRef, widths: Sequence[int], value: float = 0) -> ValueRef:
    """Pad the last axes first, (low, high) each; a negative width crops."""
    before, after = [0] * x.type.rank, [0] * x.type.rank
    for i in range(len(widths) // 2):
        axis = x.type.rank - 1 - i
        first, last = widths[2 * i], widths[2 * i + 1]
        before[axis], after[axis] = max(0, first), max(0, last)
        size = x.type.shape[axis]
        # A crop wider than the axis eats into the padding of the other end.
        before[axis] += min(0, size + min(0, last)) if first > 0 else 0
        after[axis] += min(0, size + min(0, first)) if last > 0 else 0
        x = cut(low, x, axis, min(size, max(0, -first)), max(min(size, max(0, -first)), size + min(0, last)))
    if not any(before) and not any(after):
        return x
    return low.op("pad", x, low.builder.scalar(value, x.type.dtype), low=before, high=after)


def _mirrored(size: int, before: int, after: int) -> list[int]:
    return [abs(i) if i < size else 2 * (size - 1) - i for i in range(-before, size + after)]


def _replicated(size: int, before: int, after: int) -> list[int]:
    return [min(max(i, 0), size - 1) for i in range(-before, size + after)]


def _runs(places: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return positions as runs (first, count, step) with steps -1, 0 or 1."""
    runs: list[tuple[int, int, int]] = []
    for place_ in places:
        first, count, step = runs[-1] if runs else (0, 0, 0)
        next_step = place_ - (first + (count - 1) * step)
        if count and (next_step == step or (count == 1 and abs(next_step) <= 1)):
            runs[-1] = (first, count + 1, next_step)
        else:
            runs.append((place_, 1, 0))
    return runs


def _read_run(low: Lowering, x: ValueRef, axis: int, run: tuple[int, int, int]) -> ValueRef:
    first, count, step = run
    if step == 0:
        shape = [count if i == axis else n for i, n in enumerate(x.type.shape)]
        return low.broadcast(cut(low, x, axis, first, first + 1), shape)
    start = min(first, first + (count - 1) * step)
    part = cut(low, x, axis, start, start + count)
    return part if step == 1 else low.op("rev", part, axis=axis)


def _write_run(low: Lowering, part: ValueRef, axis: int, run: tuple[int, int, int], size: int) -> ValueRef:
    first, count, step = run
    if step == 0:
        return place(low, low.reduce("reduce_sum", part, [axis], keep=True), axis, first, size)
    turned = part if step == 1 else low.op("rev", part, axis=axis)
    return place(low, turned, axis, min(first, first + (count - 1) * step), size)


def _sum_of(low: Lowering, parts: Sequence[ValueRef]) -> ValueRef:
    """Return the exact sum of tensors of one shape."""
    slots = [low.reshape(part, (1, *part.type.shape)) for part in parts]
    return low.reduce("reduce_sum", low.op("concatenate", *slots, dimension=0), [0])


def _pad_by_position(aten: str, positions: Callable[[int, int, int], list[int]]) -> None:
    """Register forward and backward of a padding whose elements are copies of others, axis by axis."""

    def maps(shape: Sequence[int], widths: Sequence[int]) -> list[tuple[int, list[tuple[int, int, int]]]]:
        axes = [len(shape) - 1 - i for i in range(len(widths) // 2)]
        return [(a, _runs(positions(shape[a], widths[2 * i], widths[2 * i + 1]))) for i, a in enumerate(axes)]

    @rule(aten)
    def lower_pad(low: Lowering, x: ValueRef, widths: Sequence[int]) -> ValueRef:
        for axis, runs in maps(x.type.shape, widths):
            x = low.op("concatenate", *(_read_run(low, x, axis, run) for run in runs), dimension=axis)
        return x

    @rule(f"{aten}_backward")
    def lower_pad_backward(low: Lowering, gradient: ValueRef, x: ValueRef, widths: Sequence[int]) -> ValueRef:
        for axis, runs in reversed(maps(x.type.shape, widths)):
            parts, start = [], 0
            for run in runs:
                part = cut(low, gradient, axis, start, start + run[1])
                parts.append(_write_run(low, part, axis, run, x.type.shape[axis]))
                start += run[1]
            gradient = _sum_of(low, parts)
        return gradient


for _rank in (1, 2, 3):
    _pad_by_position(f"reflection_pad{_rank}d", _mirrored)
    _pad_by_position(f"replication_pad{_rank}d", _replicated)


@rule("repeat")
def _repeat(low: Lowering, x: ValueRef, repeats: Sequence[int]) -> ValueRef:
    shape = (*(1,) * (len(repeats) - x.type.rank), *x.type.shape)
    slots = [n for size in shape for n in (1, size)]
    whole = [n for times, size in zip(repeats, shape, strict=True) for n in (times, size)]
    return low.reshape(low.broadcast(low.reshape(x, slots), whole), low.result.shape)


@rule("unbind")
def _unbind(low: Lowering, x: ValueRef, axis: int = 0) -> list[ValueRef]:
    axis %= x.type.rank
    rest = x.type.shape[:axis] + x.type.shape[axis + 1 :]
    return [low.reshape(cut(low, x, axis, i, i + 1), rest) for i in range(x.type.shape[axis])]


@rule("roll")
def _roll(low: Lowering, x: ValueRef, shifts: Sequence[int], axes: Sequence[int] = ()) -> ValueRef:
    whole = x if axes else low.reshape(x, (x.type.size,))
    for shift, axis in zip(shifts, axes or (0,), strict=True):
        axis %= max(1, whole.type.rank)
        size = whole.type.shape[axis]
        start = -shift % size if size else 0
        if start:
            parts = (cut(low, whole, axis, start, size), cut(low, whole, axis, 0, start))
            whole = low.op("concatenate", *parts, dimension=axis)
    return low.reshape(whole, x.type.shape)


@rule("rot90")
def _rot90(low: Lowering, x: ValueRef, times: int = 1, axes: Sequence[int] = (0, 1)) -> ValueRef:
    first, second = (axis % x.type.rank for axis in axes)
    swap = list(range(x.type.rank))
    swap[first], swap[second] = second, first
    if times % 4 == 1:
        return low.transpose(low.op("rev", x, axis=second), swap)
    if times % 4 == 3:
        return low.op("rev", low.transpose(x, swap), axis=second)
    return low.op("rev", low.op("rev", x, axis=first), axis=second) if times % 4 == 2 else x


def _triangle(low: Lowering, x: ValueRef, lower: bool, diagonal: int) -> ValueRef:
    """Keep the elements on and below (or above) a diagonal; the others become 0."""
    shape = x.type.shape[-2:]
    offset = iota(low, shape, 1) - iota(low, shape, 0)
    kept = offset <= diagonal if lower else offset >= diagonal
    return kept.pick(Term(low, x), 0).value


@rule("tril")
def _tril(low: Lowering, x: ValueRef, diagonal: int = 0) -> ValueRef:
    return _triangle(low, x, True, diagonal)


@rule("triu")
def _triu(low: Lowering, x: ValueRef, diagonal: int = 0) -> ValueRef:
    return _triangle(low, x, False, diagonal)


def _matrices(low: Lowering, x: ValueRef, first: int, second: int) -> ValueRef:
    """Return x with two axes moved to the end and flattened to one."""
    first, second = first % x.type.rank, second % x.type.rank
    order = [axis for axis in range(x.type.rank) if axis not in (first, second)]
    moved = low.transpose(x, [*order, first, second])
    *lead, rows, columns = moved.type.shape
    return low.reshape(moved, (*lead, rows * columns))


def _diagonal_range(rows: int, columns: int, offset: int) -> tuple[int, int]:
    """Return the first flat position and the length of a diagonal of a matrix."""
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    return (offset if offset >= 0 else -offset * columns) if count else 0, count


@rule("diagonal", "diagonal_copy")
def _diagonal(low: Lowering, x: ValueRef, offset: int = 0, dim1: int = 0, dim2: int = 1) -> ValueRef:
    rows, columns = x.type.shape[dim1], x.type.shape[dim2]
    start, count = _diagonal_range(rows, columns, offset)
    flat = _matrices(low, x, dim1, dim2)
    stop = start + (count - 1) * (columns + 1) + 1 if count else start
    return cut(low, flat, flat.type.rank - 1, start, stop, columns + 1)


def _on_diagonal(low: Lowering, values: ValueRef, rows: int, columns: int, offset: int) -> ValueRef:
    """Return matrices (..., rows, columns) of zeros with `values` on a diagonal."""
    start, _ = _diagonal_range(rows, columns, offset)
    axis = values.type.rank - 1
    flat = place(low, spread(low, values, axis, columns + 1), axis, start, rows * columns)
    return low.reshape(flat, (*values.type.shape[:-1], rows, columns))


def _last_axes_to(low: Lowering, x: ValueRef, dim1: int, dim2: int) -> ValueRef:
    """Move the last two axes to the places `dim1` and `dim2`."""
    rank = x.type.rank
    first, second = dim1 % rank, dim2 % rank
    rest = iter(range(rank - 2))
    order = [rank - 2 if i == first else rank - 1 if i == second else next(rest) for i in range(rank)]
    return low.transpose(x, order)


@rule("diagonal_backward")
def _diagonal_backward(
    low: Lowering, gradient: ValueRef, sizes: Sequence[int], offset: int, dim1: int, dim2: int
) -> ValueRef:
    return _last_axes_to(low, _on_diagonal(low, gradient, sizes[dim1], sizes[dim2], offset), dim1, dim2)


@rule("diagonal_scatter")
def _diagonal_scatter(
    low: Lowering, x: ValueRef, source: ValueRef, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> ValueRef:
    rows, columns = x.type.shape[dim1], x.type.shape[dim2]
    new = _last_axes_to(low, _on_diagonal(low, source, rows, columns, offset), dim1, dim2)
    shape = [n if axis in (dim1 % x.type.rank, dim2 % x.type.rank) else 1 for axis, n in enumerate(x.type.shape)]
    hit = (iota(low, shape, dim2 % x.type.rank) - iota(low, shape, dim1 % x.type.rank)).op("eq", offset)
    return hit.pick(Term(low, new), Term(low, x)).value


@rule("diag_embed")
def _diag_embed(low: Lowering, x: ValueRef, offset: int = 0, dim1: int = -2, dim2: int = -1) -> ValueRef:
    size = x.type.shape[-1] + abs(offset)
    return _last_axes_to(low, _on_diagonal(low, x, size, size, offset), dim1, dim2)


def _slid(size: int, window: int, step: int) -> Axis:
    return Axis(size, window, step, 0, 1, (size - window) // step + 1)


@rule("unfold")
def _unfold(low: Lowering, x: ValueRef, axis: int, window: int, step: int) -> ValueRef:
    axis %= x.type.rank
    order = [*(i for i in range(x.type.rank) if i != axis), axis]
    windows = read_windows(low, low.transpose(x, order), [_slid(x.type.shape[axis], window, step)])
    rank = windows.type.rank  # (*others, window, count) -> (..., count, ..., window)
    return low.transpose(windows, [*range(axis), rank - 1, *range(axis, rank - 2), rank - 2])


@rule("unfold_backward")
def _unfold_backward(
    low: Lowering, gradient: ValueRef, sizes: Sequence[int], axis: int, window: int, step: int
) -> ValueRef:
    axis %= len(sizes)
    rank = gradient.type.rank
    order = [*(i for i in range(rank - 1) if i != axis), rank - 1, axis]
    whole = add_windows(low, low.transpose(gradient, order), [_slid(sizes[axis], window, step)])
    return low.transpose(whole, [*range(axis), len(sizes) - 1, *range(axis, len(sizes) - 1)])


@rule("pixel_shuffle")
def _pixel_shuffle(low: Lowering, x: ValueRef, factor: int) -> ValueRef:
    *lead, channels, height, width = x.type.shape
    slots = low.reshape(x, (*lead, channels // factor**2, factor, factor, height, width))
    n = len(lead)
    return low.reshape(low.transpose(slots, [*range(n + 1), n + 3, n + 1, n + 4, n + 2]), low.result.shape)


@rule("pixel_unshuffle")
def _pixel_unshuffle(low: Lowering, x: ValueRef, factor: int) -> ValueRef:
    *lead, channels, height, width = x.type.shape
    slots = low.reshape(x, (*lead, channels, height // factor, factor, width // factor, factor))
    n = len(lead)
    return low.reshape(low.transpose(slots, [*range(n + 1), n + 2, n + 4, n + 1, n + 3]), low.result.shape)


@rule("masked_scatter")
def _masked_scatter(low: Lowering, *arguments: Any) -> ValueRef:
    raise CaptureError(
        "aten.masked_scatter has no rule: how many elements it takes depends on data; use torch.where with a source of "
        "the full shape"
    )
