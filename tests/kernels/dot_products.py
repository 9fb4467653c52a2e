"""Dot products as programs, for tests of every engine: cases, contents that reach their corners, comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.codegen.dot import lower_dot
from samebits.kernels.codegen.dot_digits import lower_float_digits
from samebits.kernels.codegen.program import Layout, ProgramBuilder
from samebits.kernels.codegen.view import View, stored
from samebits.kernels.dot import dot_general, dot_precision
from samebits.kernels.types import TensorType
from tests.kernels.float_samples import sample
from tests.kernels.run_program import Runner, as_array

Array = npt.NDArray[Any]
TOP = np.float32(127 / 128) - np.float32(2.0**-24)  # quantises to the largest whole number, 127 * 2^(p-7)


@dataclass(frozen=True)
class Case:
    """A product that is compiled once: sizes (B, M, K, N), how the operands lie in memory, attributes."""

    sizes: tuple[int, int, int, int]
    form: str = "plain"
    grid: str = "both"
    precision: str = "highest"
    dtype: str = "f32"

    def stored_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of what the buffers hold."""
        batch, m, k, n = self.sizes
        return {
            "plain": ((batch, m, k), (batch, k, n)),
            "transposed": ((batch, k, m), (batch, n, k)),
            "half": ((batch, m, k), (batch, n, k)),
            "shared": ((batch, m, k), (1, k, n)),
            "repeated": ((1, m, k), (batch, k, 1)),
            "cut": ((batch, m + 1, 2 * k), (batch, k, n + 3)),
        }[self.form]

    def views(self, a: View, b: View) -> tuple[View, View]:
        """Return the operands as (B, M, K) and (B, K, N)."""
        batch, m, k, n = self.sizes
        if self.form == "transposed":
            return a.transpose((0, 2, 1)), b.transpose((0, 2, 1))
        if self.form == "half":
            return a, b.transpose((0, 2, 1))
        if self.form in ("shared", "repeated"):
            return a.broadcast((batch, m, k), (0, 1, 2)), b.broadcast((batch, k, n), (0, 1, 2))
        if self.form == "cut":
            a = a.slice((0, 1, 1), (batch, m + 1, 2 * k), (1, 1, 2)).reverse(2)
            return a, b.slice((0, 0, 2), (batch, k, n + 2), (1, 1, 1)).reverse(1)
        return a, b

    def arrays(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Return the same of arrays."""
        batch, m, k, n = self.sizes
        if self.form == "transposed":
            return a.swapaxes(1, 2), b.swapaxes(1, 2)
        if self.form == "half":
            return a, b.swapaxes(1, 2)
        if self.form in ("shared", "repeated"):
            return np.broadcast_to(a, (batch, m, k)), np.broadcast_to(b, (batch, k, n))
        if self.form == "cut":
            return a[:, 1:, 1::2][:, :, ::-1], b[:, ::-1, 2 : n + 2]
        return a, b


class Product:
    """A compiled case."""

    def __init__(self, case: Case, layout: Layout, engine: str | None = None, bits: int | None = None) -> None:
        """Compile a case; engine: the library that multiplies digits of so many bits."""
        builder = ProgramBuilder(layout, engine)
        self._case = case
        operands = [
            stored(
                builder.buffer(numpy_dtype(case.dtype).itemsize * int(np.prod(shape))), TensorType(case.dtype, shape)
            )
            for shape in case.stored_shapes()
        ]
        self._type = TensorType(case.dtype, (case.sizes[0], case.sizes[1], case.sizes[3]))
        out = stored(builder.buffer(self._type.size_bytes), self._type)
        a, b = case.views(operands[0], operands[1])
        if engine is None:
            lower_dot(builder, a, b, out, precision=case.precision, grid=case.grid)
        else:
            p = dot_precision("highest" if case.precision == "highest" else "high", case.sizes[2])
            lower_float_digits(builder, a, b, out, p=p, grid=case.grid, bits=bits)
        self._runner = Runner(builder)

    def check(self, a: Array, b: Array, what: object = "") -> None:
        """Compare the product of these contents of the buffers with the NumPy engine's."""
        self._runner.write(0, a)
        self._runner.write(1, b)
        self._runner.write(2, np.full(self._type.size_bytes, 0xA5, np.uint8))
        self._runner.run()
        got = as_array(self._runner.read(2), self._type)
        left, right = self._case.arrays(a, b)
        grid: Any = self._case.grid
        precision: Any = self._case.precision
        wanted = dot_general(left, right, precision=precision, grid=grid)
        check_bits(got, wanted, (self._case, what))


def check_bits(got: Array, wanted: Array, what: object) -> None:
    """Compare two arrays of one type bit for bit."""
    assert got.dtype == wanted.dtype
    kind = np.dtype(f"<u{got.dtype.itemsize}")
    np.testing.assert_array_equal(got.view(kind), np.ascontiguousarray(wanted).view(kind), str(what))


@cache
def product_of(case: Case, layout: Layout, engine: str | None = None, bits: int | None = None) -> Product:
    """Compile a case once a session."""
    return Product(case, layout, engine, bits)


def float_contents(case: Case, seed: int) -> Iterator[tuple[str, Array, Array]]:
    """Yield contents of every kind for a case's buffers."""
    shapes = case.stored_shapes()
    for kind in ("ordinary", "subnormal", "huge", "wide", "any", "cancelling"):
        left, right = (sample(kind, shape, case.dtype, seed + i) for i, shape in enumerate(shapes))
        yield kind, left, right
    rng = np.random.default_rng(seed)
    a, b = (sample("ordinary", shape, case.dtype, seed + i) for i, shape in enumerate(shapes))
    for x in (a, b):  # some lines vanish, a few elements are huge, tiny or special
        x[:, rng.integers(0, x.shape[1])] = -0.0
        x[:, :, rng.integers(0, x.shape[2])] = 0.0
        for value in (np.nan, np.inf, -np.inf, 2.0**-149, -(2.0**-133), 2.0**127, 0.0):
            if rng.integers(0, 2):
                place = tuple(rng.integers(0, size) for size in x.shape)
                x[place] = np.float32(value).astype(x.dtype) if case.dtype != "f16" or value < 1e5 else np.inf
    yield "special", a, b
    top = TOP.astype(numpy_dtype(case.dtype))
    a, b = np.full(shapes[0], top), np.full(shapes[1], top)
    yield "largest whole numbers", a, b
    b = b.copy()
    b[:, ::2] *= b.dtype.type(-1)
    a[:, -1, -1] = b[:, -1, -1] = b.dtype.type(2.0**-22)
    yield "largest whole numbers that cancel", a, b
