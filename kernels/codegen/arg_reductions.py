"""argmax and argmin: the first position of the greatest rank along one axis."""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.cas.dtype import FLOATS, numpy_dtype
from samebits.kernels.codegen.ctypes_of import C_TYPES
from samebits.kernels.codegen.folds import LIBRARY, source_parameter
from samebits.kernels.codegen.program import CHUNK, ProgramBuilder
from samebits.kernels.codegen.view import View
from samebits.kernels.codegen.walk import Walk, plan_walk

MOST_SEGMENTS: Final = 4096  # one item reads what all segments of its group found
_FAR: Final = "0x7FFFFFFFFFFFFFFFl"


def lower_arg_reduction(builder: ProgramBuilder, op: str, x: View, out: View, axis: int) -> None:
    """Append the kernels of argmax or argmin along an axis that is not empty; out: contiguous i64 positions."""
    if not isinstance(out.source, int):
        raise AssertionError("a reduction writes to a buffer")
    flipped = x.strides[axis] < 0
    walk = plan_walk(x, (axis,), builder.layout)
    if walk.outputs == 0:
        return
    if walk.segments > MOST_SEGMENTS or (flipped and walk.segments > 1):
        walk = plan_walk(x, (axis,), builder.layout, cut=False)
    dtype, key = _rank(op, x.dtype)
    kind = C_TYPES[dtype]
    # the walk goes along positive strides; where it had to turn the axis round, the last position is the first
    position = f"{walk.terms - 1} - ({{}})" if flipped else "{}"
    body = _search(walk, kind, key, flipped)
    if walk.segments == 1:
        body += walk.each(f"out[#] = {position.format('index@')};")
        parameters = [*source_parameter(x), (out.source, "GLOBAL i64 *RESTRICT out")]
    else:
        size = walk.segments * walk.outputs
        keys, indices = builder.buffer(size * numpy_dtype(dtype).itemsize), builder.buffer(8 * size)
        place = f"segment * {walk.outputs} + #"
        body += walk.each(f"keys[{place}] = best@; indices[{place}] = index@;")
        parameters = [*source_parameter(x), (keys, f"GLOBAL {kind} *RESTRICT keys")]
        parameters.append((indices, "GLOBAL i64 *RESTRICT indices"))
    builder.call_body(op, parameters, walk.framed(body), walk.items, library=LIBRARY)
    if walk.segments > 1:
        _merge(builder, walk, kind, [keys, indices, out.source])


def _rank(op: str, dtype: str) -> tuple[str, str]:
    """Return element type and C expression of an unsigned number that is greatest where the extreme is."""
    is_max = op == "argmax"
    if dtype in FLOATS:
        width = 8 * numpy_dtype(dtype).itemsize
        flip = "0" if is_max else f"{1 << (width - 1):#x}{'ul' if width == 64 else 'u'}"
        bits = {"f32": "bits32(ELEMENT)", "f64": "bits64(ELEMENT)"}.get(dtype, "ELEMENT")
        return f"u{width}", f"arg_rank_{dtype}({bits}, {flip})"
    unsigned = "u8" if dtype == "bool" else f"u{dtype[1:]}"
    sign = 0 if dtype == "bool" else int(np.iinfo(numpy_dtype(dtype)).min)  # of unsigned types: 0
    mask = sign % (1 << (8 * numpy_dtype(dtype).itemsize))
    key = f"(({unsigned})ELEMENT ^ {mask:#x}{'ul' if unsigned == 'u64' else 'u'})"
    return unsigned, f"({unsigned}){key}" if is_max else f"({unsigned})~{key}"


def _search(walk: Walk, kind: str, key: str, flipped: bool) -> str:
    """Return the text that finds `best` and `index`, the number of the step-wise first element that has it.

    `flipped`: the last one instead.
    """
    if walk.lanes or walk.layout == "gpu":
        # i32 positions are as wide as the lanes' ranks, so that they vectorise together
        number = "i32" if walk.steps < 1 << 31 else "i64"
        body = walk.declare(kind, "best", "0") + walk.declare(number, "index", f"({number})begin")
        order = ">=" if flipped else ">"
        step = f"i32 better = v {order} best@; best@ = better ? v : best@; index@ = better ? ({number})t : index@;"
        return body + walk.loop(f"{kind} v = {key}; {step}")
    body = walk.declare(kind, "best", "0")
    body += walk.loop(f"{kind} v = {key}; best = v > best ? v : best;")
    start, closer = ("-1", ">") if flipped else ("0x7FFFFFFF", "<")
    body += walk.declare("i64", "index", "-1" if flipped else _FAR)
    find = f"i32 here = {key} == best ? k : {start}; found = here {closer} found ? here : found;"
    at = f"t * {walk.part} + found" if walk.steps > 1 else "found"
    after = f"i64 whole = found == {start} ? index : {at};\nindex = whole {closer} index ? whole : index;\n"
    return body + walk.loop(find, before=f"i32 found = {start};\n", after=after)


def _merge(builder: ProgramBuilder, walk: Walk, kind: str, buffers: list[int]) -> None:
    """Append the kernel that picks, for every output, the greatest rank of its segments and the first such position."""
    per = max(1, CHUNK // walk.segments) if builder.layout == "cpu" else 1
    text = f"""KERNEL void NAME(GLOBAL const {kind} *RESTRICT keys, GLOBAL const i64 *RESTRICT indices,
    GLOBAL i64 *RESTRICT out) {{
i64 first = ITEM * {per}, last = first + {per} < {walk.outputs} ? first + {per} : {walk.outputs};
for (i64 o = first; o < last; o++) {{
{kind} best = keys[o];
i64 index = indices[o];
for (i64 s = 1; s < {walk.segments}; s++) {{
{kind} v = keys[s * {walk.outputs} + o];
i64 where = indices[s * {walk.outputs} + o];
i32 better = v > best || (v == best && where < index);
best = better ? v : best;
index = better ? where : index;
}}
out[o] = index;
}}
}}
"""
    builder.call("arg_merge", text, buffers, -(-walk.outputs // per))
