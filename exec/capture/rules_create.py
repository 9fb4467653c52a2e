"""Lowering rules: tensors made of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import FLOATS, HALVES, done, iota
from samebits.exec.capture.lowering import UNINITIALISED, Lowering, rule
from samebits.exec.errors import CaptureError


@rule("full", "full_like", "new_full", "scalar_tensor")
def _full(low: Lowering, *arguments: Any, **options: Any) -> ValueRef:
    value: float = options["fill_value"] if "fill_value" in options else arguments[-1]
    return low.full(value, low.result.dtype, low.result.shape)


@rule("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
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
    """start + i step, for floats in f64 and rounded once more, as torch does on a CPU."""
    start, step = (bounds[0] if len(bounds) > 1 else 0), (bounds[2] if len(bounds) > 2 else 1)
    whole = float(start).is_integer() and float(step).is_integer()
    dtype = low.result.dtype if whole and low.result.dtype not in HALVES else "f64"
    found = iota(low, low.result.shape, 0, dtype)
    if step != 1:
        found = found * step
    if start != 0:
        found = found + start
    return low.cast(found.value, low.result.dtype)


@rule("linspace")
def _linspace(low: Lowering, start: float, end: float, steps: int, **options: Any) -> ValueRef:
    """start + i step in the first half, end - (steps - 1 - i) step in the second, as in torch."""
    if isinstance(start, ValueRef) or isinstance(end, ValueRef) or low.result.dtype not in FLOATS:
        raise CaptureError("aten.linspace has a rule for floats between numbers; use start + step * torch.arange(n)")
    if steps < 2:
        return low.full(start, low.result.dtype, low.result.shape)
    step = (end - start) / (steps - 1)
    i = iota(low, (steps,), 0, "f64")
    return done(low, (i < steps // 2).pick(start + i * step, end - (steps - 1 - i) * step))


@rule("eye")
def _eye(low: Lowering, *sizes: int, **options: Any) -> ValueRef:
    shape = low.result.shape
    return iota(low, shape, 0).op("eq", iota(low, shape, 1)).to(low.result.dtype).value


@rule("tril_indices", "triu_indices")
def _triangle_indices(low: Lowering, rows: int, columns: int, offset: int = 0, **options: Any) -> ValueRef:
    lower = "tril" in str(low.node.target)
    found = (np.tril_indices if lower else np.triu_indices)(rows, offset, columns)
    return low.cast(low.builder.constant(np.asarray(found, np.int64)), low.result.dtype)
