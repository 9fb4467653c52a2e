"""Kernels of dot_general bit for bit against the NumPy engine, in both layouts: borders, strides, corners, types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import dtype_name, numpy_dtype
from samebits.kernels.codegen import dot_cpu
from samebits.kernels.codegen.dot import lower_dot
from samebits.kernels.codegen.program import Layout, ProgramBuilder
from samebits.kernels.codegen.view import COUNT, Splat, View, stored
from samebits.kernels.dot import dot_general
from samebits.kernels.types import TensorType
from tests.kernels.dot_products import TOP, Case, Product, check_bits, float_contents, product_of
from tests.kernels.float_samples import sample
from tests.kernels.run_program import run_lowering

LAYOUTS: tuple[Layout, ...] = ("cpu", "gpu")

BORDERS = [
    Case((1, 1, 1, 1)),
    Case((2, 2, 7, 8), "plain", "columns", "high"),
    Case((1, 9, 8, 2), "plain", "rows"),
    Case((1, 63, 9, 65), "transposed", "both"),
    Case((1, 64, 65, 63), "half", "columns"),
    Case((1, 65, 63, 7), "transposed", "rows", "high"),
    Case((3, 5, 64, 9), "cut", "both", "high"),
    Case((2, 3, 129, 127), "cut", "rows"),
    Case((3, 7, 31, 33), "shared", "both"),
    Case((3, 8, 31, 6), "repeated", "columns"),
    Case((3, 129, 5, 4), "repeated", "rows"),
    Case((1, 4, 511, 128), "half", "both"),
    Case((1, 1, 512, 129), "plain", "both", "high"),
    Case((1, 129, 513, 1), "plain", "both"),
    Case((1, 12, 1025, 10), "transposed", "columns"),
    Case((1, 6, 30, 9), "plain", "both", "highest", "bf16"),
    Case((2, 7, 260, 8), "half", "rows", "highest", "f16"),
]
GPU_BORDERS = [
    Case((3, 5, 64, 9), "cut", "both", "high"),
    Case((1, 65, 63, 129), "transposed", "rows"),
    Case((2, 9, 513, 1), "half", "columns"),
    Case((2, 7, 1025, 8), "plain", "both", "highest", "bf16"),
    Case((3, 8, 31, 6), "repeated", "columns", "high", "f16"),
]


@pytest.mark.parametrize("case", BORDERS, ids=str)
def test_dot_on_a_cpu_has_the_bits_of_the_numpy_engine(case: Case) -> None:
    for what, a, b in float_contents(case, seed=sum(case.sizes)):
        product_of(case, "cpu").check(a, b, what)


@pytest.mark.parametrize("case", GPU_BORDERS, ids=str)
def test_dot_on_a_gpu_has_the_bits_of_the_numpy_engine(case: Case) -> None:
    for what, a, b in float_contents(case, seed=sum(case.sizes)):
        product_of(case, "gpu").check(a, b, what)


def test_dot_in_separate_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    # several tiles and partial sums, ends of both in the midst of a panel
    monkeypatch.setattr(dot_cpu, "_SINGLE", 0)
    case = Case((2, 101, 700, 131))
    product = Product(case, "cpu")
    for what, a, b in float_contents(case, seed=7):
        product.check(a, b, what)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dot_lowers_p_beyond_2_to_the_18(layout: Layout) -> None:
    case = Case((1, 2, 2**18 + 1, 1), "plain", "columns")
    product = Product(case, layout)
    a, b = np.full((1, 2, 2**18 + 1), TOP), np.full((1, 2**18 + 1, 1), TOP)
    a[:, 0] = sample("ordinary", (1, 2**18 + 1), "f32", 1)
    b[:, 2**17 :] *= np.float32(-1)
    a[:, 1, 17] = 2.0**-21
    product.check(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dot_sums_exactly_beyond_2_to_the_53(layout: Layout) -> None:
    k = 4098
    product = product_of(Case((1, 2, k, 3), "plain", "columns"), layout)
    # one unit, then halves of 2^54 and more that cancel: a sum that rounds anywhere loses the unit
    a, b = np.full((1, 2, k), TOP), np.full((1, k, 3), TOP)
    a[:, :, 0] = b[:, 0] = 2.0**-22
    b[:, k // 2 :] *= np.float32(-1)
    a[:, :, -1] = 0
    product.check(a, b, "unit")
    # S = 2^54 + 2^30 + 1: f64 drops the unit, which leaves a tie of f32 that rounds the other way
    a, b = np.full((1, 2, k), np.float32(0.5)), np.full((1, k, 3), np.float32(0.5))
    a[:, :, 9] = b[:, 9] = 2.0**-7
    a[:, :, 2000] = b[:, 2000] = 2.0**-22
    product.check(a, b, "tie")
    a[:, 1] *= np.float32(-1)
    b[:, 2000, 1] *= np.float32(-1)
    product.check(a, b, "ties of both signs")


@pytest.mark.parametrize(
    ("dtype", "layout"), [("i8", "cpu"), ("u16", "cpu"), ("i32", "cpu"), ("u64", "cpu"), ("i16", "gpu"), ("i64", "gpu")]
)
def test_dot_of_integers_wraps(dtype: str, layout: Layout) -> None:
    form = {"u16": "half", "i32": "cut", "u64": "transposed", "i64": "cut"}.get(dtype, "plain")
    case = Case((2, 33, 65, 67), form, dtype=dtype)
    rng = np.random.default_rng(3)
    a, b = (
        rng.integers(0, 256, (int(np.prod(shape)), numpy_dtype(dtype).itemsize), np.uint8)
        .view(numpy_dtype(dtype))
        .reshape(shape)
        for shape in case.stored_shapes()
    )
    Product(case, layout).check(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dot_of_nothing_is_plus_zero(layout: Layout) -> None:
    def lower(builder: ProgramBuilder, operands: Any, out: View) -> None:
        lower_dot(builder, operands[0], operands[1], out, precision="highest", grid="both")

    a, b = np.zeros((2, 3, 0), np.float32), np.zeros((2, 0, 5), np.float32)
    got = run_lowering(lower, [a, b], TensorType("f32", (2, 3, 5)), layout=layout)
    assert not got.view(np.uint32).any()
    builder = ProgramBuilder(layout)
    empty = stored(builder.buffer(0), TensorType("f32", (2, 0, 4)))
    b_view = stored(builder.buffer(2 * 4 * 5 * 4), TensorType("f32", (2, 4, 5)))
    out = stored(builder.buffer(0), TensorType("f32", (2, 0, 5)))
    lower_dot(builder, empty, b_view, out, precision="high", grid="rows")
    assert builder.steps == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dot_of_operands_without_a_buffer(layout: Layout) -> None:
    def lower(builder: ProgramBuilder, operands: Any, out: View) -> None:
        a = View(COUNT, "f32", (1, 3, 5), (0, 5, 1), 2)
        b = View(Splat(np.float32(-0.75).tobytes()), "f32", (1, 5, 4), (0, 0, 0))
        lower_dot(builder, a, b, out, precision="highest", grid="both")

    got = run_lowering(lower, [], TensorType("f32", (1, 3, 4)), layout=layout)
    a = (np.arange(15, dtype=np.float32) + 2).reshape(1, 3, 5)
    check_bits(got, dot_general(a, np.full((1, 5, 4), -0.75, np.float32)), layout)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_dot_of_any_floats(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from([BORDERS[2], BORDERS[6], BORDERS[9], BORDERS[15]]))
    kind = np.dtype(f"<u{numpy_dtype(case.dtype).itemsize}")
    contents = []
    for shape in case.stored_shapes():
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        picks = data.draw(st.lists(st.integers(0, 2 ** (8 * kind.itemsize) - 1), min_size=1, max_size=12))
        bits = rng.choice(np.array(picks, kind), shape)
        contents.append(bits.view(numpy_dtype(case.dtype)))
    assert dtype_name(contents[0].dtype) == case.dtype
    product_of(case, "cpu").check(contents[0], contents[1])


def test_dot_refuses_what_it_has_not() -> None:
    builder = ProgramBuilder("cpu")
    a = stored(builder.buffer(64), TensorType("f32", (1, 2, 3)))
    b = stored(builder.buffer(64), TensorType("f32", (1, 3, 4)))
    out = stored(builder.buffer(64), TensorType("f32", (1, 2, 4)))
    for bad in (
        {"precision": "low", "grid": "both"},
        {"precision": "high", "grid": "none"},
    ):
        with pytest.raises(ValueError, match="no precision"):
            lower_dot(builder, a, b, out, **bad)
    with pytest.raises(ValueError, match="do not give"):
        lower_dot(builder, b, a, out, precision="high", grid="both")
    with pytest.raises(ValueError, match="not defined"):
        lower_dot(builder, a, b, View(2, "bool", (1, 2, 4), (8, 4, 1)), precision="high", grid="both")
