"""gather and scatter_add on kernels, bit for bit against the reference; bad indices are reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import dtype_name, numpy_dtype
from samebits.kernels.codegen.program import Layout, ProgramBuilder
from samebits.kernels.codegen.scatter import lower_gather, lower_scatter_add
from samebits.kernels.codegen.view import Splat, View, stored
from samebits.kernels.types import TensorType
from tests.kernels.float_samples import from_bits
from tests.kernels.kernel_cases import Comparison, random_elements
from tests.kernels.run_program import Runner, run_lowering

LAYOUTS: tuple[Layout, ...] = ("cpu", "gpu")
SUMMED = {"cpu": ("f32", "bf16", "f16", "i8", "u16", "i64"), "gpu": ("f16", "f32", "u8", "i32", "u64")}


def scatter(builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
    operand, indices, updates = views
    lower_scatter_add(builder, operand, indices, updates, out, builder.buffer(16), 1)


def gather(builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
    operand, indices = views
    lower_gather(builder, operand, indices, out, builder.buffer(16), 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scatter_add_equals_the_reference(layout: Layout) -> None:
    comparison = Comparison(layout)
    for seed, name in enumerate(SUMMED[layout]):
        rows, rest, count = ((7, (), 40), (5, (3,), 23), (9, (2, 33), 12))[seed % 3]
        operand, updates = (random_elements(name, (n, *rest), seed + n) for n in (rows, count))
        indices = np.random.default_rng(seed).integers(0, rows - 1, count)
        comparison.add(scatter, "scatter_add", [operand, indices, updates], {})
    # more rows than updates: atomics; few rows: copies; long slices: by row
    sparse = [random_elements("f32", (n, 3), n, "any") for n in (70, 90)]
    comparison.add(scatter, "scatter_add", [sparse[0], np.random.default_rng(4).integers(0, 70, 90), sparse[1]], {})
    long = [random_elements("f32", (n, 300), n, "wide") for n in (8, 30)]
    comparison.add(scatter, "scatter_add", [long[0], np.random.default_rng(5).integers(0, 6, 30), long[1]], {})
    wide = [random_elements("f32", (n, 5), n, "wide") for n in (6, 100)]
    comparison.add(scatter, "scatter_add", [wide[0], np.random.default_rng(3).integers(0, 6, 100), wide[1]], {})
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scatter_add_straddles_chunks_and_takes_strided_operands(layout: Layout) -> None:
    comparison = Comparison(layout)
    for count in (1, 8193):
        indices = np.random.default_rng(count).integers(0, 300, count).astype(np.int32)
        updates = random_elements("f32", (count,), count, "wide")
        comparison.add(scatter, "scatter_add", [random_elements("f32", (600,), 1), indices, updates], {}, "stepped")
    operand, updates = random_elements("f32", (4, 6), 3), random_elements("f32", (2, 3, 4), 4)
    indices = np.array([[0, 5, 5], [5, 2, 0]], np.uint8)
    comparison.add(scatter, "scatter_add", [operand, indices, updates], {}, "transposed")
    for shape, many in (((0, 3), 0), ((3, 0), 2), ((3,), 0)):
        empty = np.zeros((many, *shape[1:]), np.float32)
        comparison.add(scatter, "scatter_add", [np.ones(shape, np.float32), np.zeros(many, np.int64), empty], {})
    comparison.check()


def test_scatter_add_keeps_the_bits_of_other_rows() -> None:
    operand = from_bits([0x7F800001, 0xFFC12345, 0x80000000, 0x80000000], "f32")
    updates = np.array([0.0, -0.0], np.float32)
    for layout in LAYOUTS:
        got = run_lowering(scatter, [operand, np.array([3, 3]), updates], TensorType("f32", (4,)), layout=layout)
        assert got.view(np.uint32).tolist() == [0x7F800001, 0xFFC12345, 0x80000000, 0]


def test_scatter_add_into_one_repeated_element() -> None:
    operand = random_elements("f32", (1,), 0, "ordinary")
    indices = np.array([2, 0, 2])
    updates = random_elements("f32", (3, 2), 1, "ordinary")

    def lowering(builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
        zeros = View(Splat(operand.tobytes()), "f32", (3, 2), (0, 0))
        lower_scatter_add(builder, zeros, views[0], views[1], out, builder.buffer(16), 1)

    got = run_lowering(lowering, [indices, updates], TensorType("f32", (3, 2)))
    from samebits.kernels.sums import scatter_add

    wanted = scatter_add(np.full((3, 2), operand[0], np.float32), indices, updates)
    assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gather_equals_the_reference(layout: Layout) -> None:
    comparison = Comparison(layout)
    for seed, name in enumerate(("f32", "bf16", "bool", "i64", "f64")):
        operand = random_elements(name, (5, 4, 6), seed)
        indices = np.random.default_rng(seed).integers(0, 5, (3, 2)).astype(numpy_dtype(("i8", "u64")[seed % 2]))
        comparison.add(gather, "gather", [operand, indices], {}, ("plain", "reversed")[seed % 2])
    operand = random_elements("f32", (100,), 9)
    for count in (0, 1, 8193):
        comparison.add(gather, "gather", [operand, np.random.default_rng(count).integers(0, 100, count)], {})
    comparison.add(gather, "gather", [np.ones((3, 0), np.float32), np.array([1, 2])], {})
    comparison.check()


def report(op: str, layout: Layout, operand: Any, indices: Any) -> tuple[list[int], Any]:
    """Return the words of the errors buffer and the result of an operation with code 7."""
    builder = ProgramBuilder(layout)
    updates = np.ones(indices.shape + operand.shape[1:], operand.dtype)
    arrays = [operand, indices] if op == "gather" else [operand, indices, updates]
    views = [stored(builder.buffer(x.nbytes), TensorType(dtype_name(x.dtype), x.shape)) for x in arrays]
    out_type = TensorType("f32", updates.shape if op == "gather" else operand.shape)
    out = stored(builder.buffer(out_type.size_bytes), out_type)
    errors = builder.buffer(16)
    if op == "gather":
        lower_gather(builder, views[0], views[1], out, errors, 7)
    else:
        lower_scatter_add(builder, views[0], views[1], views[2], out, errors, 7)
    runner = Runner(builder)
    for number, x in enumerate(arrays):
        runner.write(number, x)
    runner.write(errors, np.zeros(4, np.uint32))
    runner.run()
    assert isinstance(out.source, int)
    result = runner.read(out.source)[: out_type.size_bytes].view(np.float32)
    return runner.read(errors).view(np.uint32).tolist()[:3], result.reshape(out_type.shape)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", ["gather", "scatter_add"])
@pytest.mark.parametrize(("name", "bad"), [("i8", -128), ("u64", 2**63), ("i32", 3)])
def test_bad_index_is_reported(op: str, layout: Layout, name: str, bad: int) -> None:
    operand = np.arange(3, dtype=np.float32)
    words, result = report(op, layout, operand, np.array([1, bad, 1], numpy_dtype(name)))
    assert words == [7, bad & 0xFFFFFFFF, bad >> 32 & 0xFFFFFFFF]
    assert result.tolist() == [0, 3, 2] if op == "scatter_add" else result[[0, 2]].tolist() == [1, 1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
def test_bad_index_is_reported_where_nothing_is_moved(layout: Layout, shape: tuple[int, ...]) -> None:
    for op in ("gather", "scatter_add"):
        words, _ = report(op, layout, np.zeros(shape, np.float32), np.array([5]))
        assert words == [7, 5, 0]


def test_good_indices_leave_the_errors_alone() -> None:
    assert report("gather", "cpu", np.zeros(3, np.float32), np.array([0, 2]))[0] == [0, 0, 0]


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["f32", "f16"]))
def test_scatter_add_does_not_depend_on_the_order_of_updates(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    operand, updates = random_elements(name, (4, 3), seed, "wide"), random_elements(name, (50, 3), seed + 1, "wide")
    indices, order = rng.integers(0, 4, 50), rng.permutation(50)
    kind = TensorType(name, (4, 3))
    first = run_lowering(scatter, [operand, indices, updates], kind)
    second = run_lowering(scatter, [operand, indices[order], updates[order]], kind)
    assert first.tobytes() == second.tobytes()
