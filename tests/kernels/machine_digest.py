"""Print one hash over the results of every kernel; run in processes that see different machines."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from samebits.cas.dtype import numpy_dtype
from samebits.kernels import arithmetic, extremes, sums
from samebits.kernels.convert import convert
from samebits.kernels.dot import dot_general
from samebits.kernels.dot_grid import Grid
from samebits.kernels.random import philox4x32
from samebits.kernels.reference import apply

GRIDS: tuple[Grid, ...] = ("both", "columns", "rows")
SIZES = ((1, 1, 1), (64, 64, 128), (70, 513, 65), (33, 2100, 47), (260, 260, 260), (1, 5000, 300))
CONVOLUTIONS = (((3, 4, 20, 30), (6, 4, 3, 3)), ((5, 120, 9, 9), (8, 60, 3, 4)), ((2, 6, 40, 40), (6, 1, 5, 5)))


def draw(shape: tuple[int, ...], seed: int, low: int, high: int) -> Any:
    """Return f32 elements with exponents in low..high, from integers only."""
    size = int(np.prod(shape))
    counter = np.zeros((size, 4), np.uint32)
    counter[:, 0] = np.arange(size)
    words = philox4x32(counter, np.array([seed, 0], np.uint32))
    exponents = words[:, 0] % np.uint32(high - low + 1) + np.uint32(low + 127)
    bits = (exponents << np.uint32(23)) | (words[:, 1] & np.uint32(0x807FFFFF))
    return bits.view(np.float32).reshape(shape)


def results() -> Iterator[Any]:
    """Yield results of every kind."""
    for (m, k, n), (low, high) in itertools.product(SIZES, ((-3, 0), (-127, 127))):
        a, b = draw((m, k), 1, low, high), draw((k, n), 2, low, high)
        for grid in GRIDS:
            yield dot_general(a, b, grid=grid)
            yield dot_general(np.abs(a), np.abs(b), grid=grid, dtype_out="f64")
            yield dot_general(a, b, grid=grid, precision="high", dtype_out="bf16")
        yield dot_general(a.T.copy(), b.T.copy(), dimension_numbers=(((0,), (1,)), ((), ())))
        yield sums.reduce_sum(a, (1,))
        yield sums.reduce_sum(a, (0,), "bf16")
        yield sums.reduce_sum(b)
        yield sums.cumsum(a, 1)
        yield sums.scatter_add(b, np.arange(m) % k, draw((m, n), 3, low, high))
        yield from (
            extremes.reduce_max(a, (1,)),
            extremes.reduce_min(a, (0,)),
            extremes.argmax(a, 1),
            extremes.argmin(a, 1),
        )
    yield from convolutions()
    x, y, z = (draw((4099,), seed, -127, 128) for seed in (4, 5, 6))
    for name in ("f16", "bf16", "f32", "f64"):
        p, q, r = (convert(v, name) for v in (x, y, z))
        for function in (
            arithmetic.add,
            arithmetic.sub,
            arithmetic.mul,
            arithmetic.div,
            arithmetic.maximum,
            arithmetic.lt,
        ):
            yield function(p, q)
        yield from (
            arithmetic.floor(p),
            arithmetic.ceil(p),
            arithmetic.round_(p),
            arithmetic.trunc(p),
            arithmetic.sign(p),
        )
        if name != "f64":
            yield arithmetic.fma(p, q, r)
        for target in ("i8", "i32", "i64", "u64", "f16", "bf16", "f64"):
            yield convert(p, target)
    integers = x.view(np.int32)
    yield dot_general(integers[:4096].reshape(64, 64), integers[1:4097].reshape(64, 64))
    yield arithmetic.div(integers, y.view(np.int32))
    yield convert(integers.astype(np.int64) << 31, numpy_dtype("f32"))


def convolutions() -> Iterator[Any]:
    """Yield results of convolutions, short and long sums, in groups or not."""
    for (lhs, rhs), (low, high) in itertools.product(CONVOLUTIONS, ((-3, 0), (-127, 127))):
        x, w = draw(lhs, 7, low, high), draw(rhs, 8, low, high)
        for precision in ("highest", "high"):
            options: dict[str, Any] = {"padding": ((1, 2), (-1, 1)), "feature_group_count": lhs[1] // rhs[1]}
            yield apply("conv_general_dilated", x, w, window_strides=(2, 1), precision=precision, **options)


def digest() -> str:
    """Return the hash of all results, their types and shapes."""
    state = hashlib.sha256()
    for result in results():
        result = np.ascontiguousarray(result)
        state.update(f"{result.dtype}{result.shape}".encode())
        state.update(result.tobytes())
    return state.hexdigest()


if __name__ == "__main__":
    print(digest())
