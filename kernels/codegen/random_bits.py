"""Kernels of the counter-based generators: one block of words for each counter."""

from __future__ import annotations

from typing import Final

from samebits.kernels.codegen.ctypes_of import element
from samebits.kernels.codegen.folds import source_parameter
from samebits.kernels.codegen.program import CHUNK, ProgramBuilder
from samebits.kernels.codegen.view import View, collapse
from samebits.kernels.codegen.walk import offset_text

_ROUNDS: Final = {"philox4x32": "PHILOX(c0, c1, c2, c3, k0, k1)", "threefry2x32": "THREEFRY(c0, c1, k0, k1)"}


def lower_random(builder: ProgramBuilder, op: str, counter: View, key: View, out: View) -> None:
    """Append the kernel of a generator. counter: (..., 4) or (..., 2) u32, key: (2,) u32, out: contiguous."""
    if not isinstance(out.source, int):
        raise AssertionError("random words go to a buffer")
    if out.size == 0:
        return
    words = counter.shape[-1]
    blocks = out.size // words
    sizes, (steps,) = collapse(counter.shape[:-1], [counter.strides[:-1]])
    at = f"{counter.offset} + {offset_text('i', tuple(zip(sizes, steps, strict=True)))}"
    stride = counter.strides[-1]
    loads = [f"u32 c{j} = {element(counter.source, 'u32', 'counters', f'{at} + {j * stride}')};" for j in range(words)]
    stores = [f"out[i * {words} + {j}] = c{j};" for j in range(words)]
    body = "\n".join([*loads, _ROUNDS[op], *stores])
    if builder.layout == "cpu":
        per = CHUNK // words
        frame = f"i64 first = ITEM * {per}, last = first + {per} < {blocks} ? first + {per} : {blocks};\n"
        body = f"{frame}for (i64 i = first; i < last; i++) {{\n{body}\n}}\n"
        items = -(-blocks // per)
    else:
        body = f"i64 i = ITEM;\nif (i >= {blocks}) return;\n{body}\n"
        items = blocks
    keys = [element(key.source, "u32", "keys", f"{key.offset + j * key.strides[0]}") for j in range(2)]
    body = f"u32 k0 = {keys[0]}, k1 = {keys[1]};\n{body}"
    parameters = [*source_parameter(counter, "counters"), *source_parameter(key, "keys")]
    parameters.append((out.source, "GLOBAL u32 *RESTRICT out"))
    builder.call_body(op, parameters, body, items, library=("random.h",))
