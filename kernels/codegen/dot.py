"""dot_general as kernels: exact whole-number dot products, rounded once; see kernels/dot.py for the definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from samebits.cas.dtype import INTEGERS
from samebits.kernels.codegen.ctypes_of import C_TYPES
from samebits.kernels.codegen.dot_cpu import lower_float_cpu
from samebits.kernels.codegen.dot_digits import lower_float_digits, suits_digits
from samebits.kernels.codegen.dot_gpu import lower_float_gpu, lower_integer_gpu
from samebits.kernels.codegen.dot_integer import lower_integer_cpu
from samebits.kernels.codegen.program import CHUNK, ProgramBuilder
from samebits.kernels.codegen.view import View
from samebits.kernels.dot import dot_precision

_FLOATS: Final = ("f32", "bf16", "f16")
_PRECISIONS: Final = ("highest", "high")
_GRIDS: Final = ("both", "columns", "rows")


def lower_dot(builder: ProgramBuilder, a: View, b: View, out: View, *, precision: str, grid: str) -> None:
    """Append out = a b, rounded once (floats) or wrapping (integers).

    a: (B, M, K), b: (B, K, N), any strides; out: (B, M, N), contiguous, in a buffer; all of one element type.
    Raises ValueError for shapes, types or attributes that dot_general does not have.
    """
    _check(a, b, out, precision, grid)
    if out.size == 0:
        return
    if a.shape[2] == 0:
        fill_zero(builder, out)
        return
    a, b, out = _merge_batch(a, b, out)
    gpu = builder.layout == "gpu"
    if a.dtype in INTEGERS:
        (lower_integer_gpu if gpu else lower_integer_cpu)(builder, a, b, out)
        return
    p = dot_precision("highest" if precision == "highest" else "high", a.shape[2])
    if gpu:
        lower_float_gpu(builder, a, b, out, p=p, grid=grid)
    elif builder.int8_engine is not None and suits_digits(out.shape[1], out.shape[2], a.shape[2], p):
        lower_float_digits(builder, a, b, out, p=p, grid=grid)
    else:
        lower_float_cpu(builder, a, b, out, p=p, grid=grid)


def _check(a: View, b: View, out: View, precision: str, grid: str) -> None:
    if precision not in _PRECISIONS or grid not in _GRIDS:
        raise ValueError(f"no precision {precision!r} with grid {grid!r}")
    if not a.dtype == b.dtype == out.dtype or a.dtype not in (*_FLOATS, *INTEGERS):
        raise ValueError(f"dot_general is not defined for {a.dtype}, {b.dtype} and {out.dtype}")
    batch, rows, depth = a.shape
    if b.shape[:2] != (batch, depth) or out.shape != (batch, rows, b.shape[2]):
        raise ValueError(f"{a.shape} and {b.shape} do not give {out.shape}")
    if not isinstance(out.source, int) or (out.size and not out.is_contiguous()):
        raise ValueError("the result of dot_general is contiguous, in a buffer")


def _merge_batch(a: View, b: View, out: View) -> tuple[View, View, View]:
    """Make rows of batches that share one b, as in a linear layer: its scales depend on b alone."""
    batch, rows, depth = a.shape
    if batch == 1 or b.strides[0] != 0 or a.strides[0] != rows * a.strides[1]:
        return a, b, out
    columns = b.shape[2]
    merged = replace(a, shape=(1, batch * rows, depth), strides=(0, a.strides[1], a.strides[2]))
    result = replace(out, shape=(1, batch * rows, columns), strides=(0, columns, 1))
    return merged, replace(b, shape=(1, depth, columns)), result


def fill_zero(builder: ProgramBuilder, out: View) -> None:
    """Append out = +0; out: contiguous, in a buffer."""
    if not isinstance(out.source, int):
        raise AssertionError("checked before")
    per = CHUNK if builder.layout == "cpu" else 1
    text = f"""// y: ({out.size},)   y = +0, a sum of nothing
KERNEL void NAME(GLOBAL {C_TYPES[out.dtype]} *RESTRICT y) {{
    i64 begin = ITEM * {per};
    i64 end = begin + {per} < {out.size} ? begin + {per} : {out.size};
    for (i64 i = begin; i < end; i++) y[i] = 0;
}}
"""
    builder.call("dot_zero", text, [out.source], -(-out.size // per))
