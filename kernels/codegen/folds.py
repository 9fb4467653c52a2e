"""Reductions whose accumulator is an integer: greatest rank, wrapping sum, all, any. One pass, any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.codegen.ctypes_of import C_TYPES
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import View, contiguous_strides
from samebits.kernels.codegen.walk import plan_walk

Merge = Literal["max", "min", "add"]
LIBRARY: Final = ("reduce.h",)
_MERGES: Final[dict[str, str]] = {
    "max": "best@ = v > best@ ? v : best@;",
    "min": "best@ = v < best@ ? v : best@;",
    "add": "best@ += v;",
}


@dataclass(frozen=True, slots=True)
class Fold:
    """What one pass computes. `take` is a C expression of VALUE, an element; `finish` one of TOTAL, what they gave."""

    kind: str  # element type of the accumulator, an integer
    identity: str
    merge: Merge
    take: str
    finish: str = "TOTAL"


def lower_fold(
    builder: ProgramBuilder,
    fold: Fold,
    x: View,
    axes: Sequence[int],
    out: int,
    out_dtype: str,
    extra: Sequence[tuple[int, str]] = (),
) -> None:
    """Reduce `axes` of x into the buffer `out`. extra: buffers and parameters that `finish` reads, at output `#`."""
    walk = plan_walk(x, axes, builder.layout)
    if walk.outputs == 0:
        return
    kind = C_TYPES[fold.kind]
    whole = walk.segments == 1
    body = walk.declare(kind, "best", fold.identity)
    body += walk.loop(f"{kind} v = {fold.take.replace('VALUE', 'ELEMENT')}; {_MERGES[fold.merge]}")
    if whole:
        result = fold.finish.replace("TOTAL", "best@")
        body += walk.each(f"out[#] = ({C_TYPES[out_dtype]})({result});")
        target, target_kind, used = out, C_TYPES[out_dtype], list(extra)
    else:
        body += walk.each(f"out[segment * {walk.outputs} + #] = best@;")
        size_bytes = walk.segments * walk.outputs * numpy_dtype(fold.kind).itemsize
        target, target_kind, used = builder.buffer(size_bytes), kind, []
    parameters = [*source_parameter(x), (target, f"GLOBAL {target_kind} *RESTRICT out"), *used]
    builder.call_body("fold", parameters, walk.framed(body), walk.items, library=LIBRARY)
    if not whole:
        parts = partials(target, fold.kind, walk.segments, walk.outputs)
        lower_fold(builder, replace(fold, take="VALUE"), parts, (0,), out, out_dtype, extra)


def source_parameter(x: View, name: str = "x") -> list[tuple[int, str]]:
    """Return the buffer and the parameter of a view's source; nothing where it has no buffer."""
    if isinstance(x.source, int):
        return [(x.source, f"GLOBAL const {C_TYPES[x.dtype]} *RESTRICT {name}")]
    return []


def partials(buffer: int, dtype: str, segments: int, outputs: int) -> View:
    """Return the view of what segments found: (segments, outputs)."""
    shape = (segments, outputs)
    return View(buffer, dtype, shape, contiguous_strides(shape))
