"""Reductions: reduce_sum, reduce_max, reduce_min, reduce_and, reduce_or; arg_reductions and cumsums stand beside it."""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.cas.dtype import FLOATS, numpy_dtype
from samebits.kernels.codegen.arg_reductions import lower_arg_reduction
from samebits.kernels.codegen.ctypes_of import C_TYPES, as_f32
from samebits.kernels.codegen.cumsums import lower_cumsum
from samebits.kernels.codegen.folds import LIBRARY, Fold, lower_fold, partials, source_parameter
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import View
from samebits.kernels.codegen.walk import Walk, plan_walk
from samebits.kernels.sums import sum_precision

__all__ = ["lower_arg_reduction", "lower_cumsum", "lower_reduction"]

_SIGN: Final = {"f32": "0x80000000u", "f64": "0x8000000000000000ul", "bf16": "0x8000", "f16": "0x8000"}
_RANK_TYPE: Final = {"f32": "u32", "f64": "u64", "bf16": "u16", "f16": "u16"}


def lower_reduction(builder: ProgramBuilder, op: str, x: View, out: View, axes: tuple[int, ...]) -> None:
    """Append the kernels of a reduction over `axes` of any view x; out: contiguous, x's other axes in order."""
    if not isinstance(out.source, int):
        raise AssertionError("a reduction writes to a buffer")
    if op == "reduce_sum" and x.dtype in FLOATS:
        _float_sum(builder, x, out.source, axes)
    else:
        lower_fold(builder, _fold(op, x.dtype), x, axes, out.source, x.dtype)


def _fold(op: str, dtype: str) -> Fold:
    """Return the one pass of a reduction to an extreme or to an integer sum."""
    if op == "reduce_sum":
        wide = "u64" if numpy_dtype(dtype).itemsize == 8 else "u32"  # wraps at its width, so at every lesser one too
        return Fold(wide, "0", "add", f"({wide})VALUE")
    is_max = op in ("reduce_max", "reduce_or")
    if dtype in FLOATS:
        flip = "0" if is_max else _SIGN[dtype]
        bits = {"f32": "bits32(VALUE)", "f64": "bits64(VALUE)"}.get(dtype, "VALUE")
        back = {"f32": "from_bits32({})", "f64": "from_bits64({})"}.get(dtype, "{}")
        kind = _RANK_TYPE[dtype]
        finish = back.format(f"unrank_{dtype}(TOTAL, {flip})")
        return Fold(kind, "0", "max", f"rank_{dtype}({bits}, {flip})", finish)
    if dtype == "bool":
        return Fold("u8", "0" if is_max else "1", "max" if is_max else "min", "VALUE")
    return Fold(dtype, least_or_greatest(dtype, least=is_max), "max" if is_max else "min", "VALUE")


def least_or_greatest(dtype: str, *, least: bool) -> str:
    """Return the C literal of an integer type's least or greatest value."""
    info = np.iinfo(numpy_dtype(dtype))
    value = int(info.min) if least else int(info.max)
    suffix = "ul" if info.bits == 64 else "u"
    return f"(({C_TYPES[dtype]}){value % (1 << info.bits):#x}{suffix})"


def _float_sum(builder: ProgramBuilder, x: View, out: int, axes: tuple[int, ...]) -> None:
    """Two passes: the greatest magnitude, then the sum on its grid; in one kernel where no group is cut."""
    if x.dtype not in ("f32", "bf16", "f16"):
        raise AssertionError(f"no sums of {x.dtype}")
    walk = plan_walk(x, axes, builder.layout)
    if walk.outputs == 0:
        return
    kind = C_TYPES[x.dtype]
    p = sum_precision(walk.terms)
    value = as_f32(x.dtype, "ELEMENT")
    parameters = [*source_parameter(x), (out, f"GLOBAL {kind} *RESTRICT out")]
    total = f"(i64)(TOTAL - {walk.terms}ul * (u64)MAGIC_BITS)"
    if walk.segments == 1:
        body = walk.declare("u32", "top", "0u")
        body += walk.loop(f"u32 m = magnitude_f32({value}); top@ = m > top@ ? m : top@;")
        body += _sum_pass(walk, value, p)
        result = _rounded(x.dtype, f"sum_value({total.replace('TOTAL', 'total@')}, STEP, seen@)", p, "top@")
        body += walk.each(f"out[#] = {result};")
        builder.call_body("sum", parameters, walk.framed(body), walk.items, library=LIBRARY)
        return
    tops = builder.buffer(4 * walk.outputs)
    lower_fold(builder, Fold("u32", "0u", "max", f"magnitude_f32({as_f32(x.dtype, 'VALUE')})"), x, axes, tops, "u32")
    sums = builder.buffer(8 * walk.outputs * walk.segments)
    body = walk.declare("u32", "top", "tops[#]") + _sum_pass(walk, value, p)
    part = "top@ < F32_INF_BITS ? total@ : seen_as_counts(seen@)"
    body += walk.each(f"sums[segment * {walk.outputs} + #] = {part};")
    top_parameter = (tops, "GLOBAL const u32 *RESTRICT tops")
    parameters = [*source_parameter(x), top_parameter, (sums, "GLOBAL u64 *RESTRICT sums")]
    builder.call_body("sum", parameters, walk.framed(body), walk.items, library=LIBRARY)
    seen = "tops[#] < F32_INF_BITS ? 0u : counts_as_seen(TOTAL)"
    finish = _rounded(x.dtype, f"sum_value({total}, STEP, {seen})", p, "tops[#]")
    parts = partials(sums, "u64", walk.segments, walk.outputs)
    lower_fold(builder, Fold("u64", "0", "add", "VALUE", finish), parts, (0,), out, x.dtype, [top_parameter])


def _sum_pass(walk: Walk, value: str, p: int) -> str:
    """Return the pass that adds up a group on the grid of `top`, and looks for special values only if top is one."""
    text = walk.declare("f64", "scale", f"pow2_f64({p} - grid_exponent(top@))")
    text += walk.declare("u64", "total", "0")
    text += walk.declare("u32", "seen", "0u")
    text += walk.loop(f"total@ += on_grid({value}, scale@);")
    text += "u32 worst = 0u;\n" + walk.each("worst = top@ > worst ? top@ : worst;")
    return text + "if (worst >= F32_INF_BITS) {\n" + walk.loop(f"seen@ |= seen_f32({value});") + "}\n"


def _rounded(dtype: str, result: str, p: int, top: str) -> str:
    return f"round_{dtype}({result.replace('STEP', f'pow2_f64(grid_exponent({top}) - {p})')})"
