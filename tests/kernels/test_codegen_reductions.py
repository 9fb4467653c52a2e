"""Reductions, argmax, argmin and cumsum on kernels, bit for bit against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import DTYPES, FLOATS
from samebits.kernels.codegen.program import Layout, ProgramBuilder
from samebits.kernels.codegen.reductions import lower_arg_reduction, lower_cumsum, lower_reduction
from samebits.kernels.codegen.view import View
from samebits.kernels.types import TensorType
from tests.kernels.float_samples import from_bits
from tests.kernels.kernel_cases import Comparison, random_elements
from tests.kernels.run_program import run_lowering

LAYOUTS: tuple[Layout, ...] = ("cpu", "gpu")
UNSUMMED = ("f64", "bool")
SUMMED = ("f32", "bf16", "f16")


def add(comparison: Comparison, op: str, x: Any, axes: tuple[int, ...], style: str = "plain") -> None:
    """Add a reduction, an arg reduction or a cumsum of x to a comparison."""

    def lowering(builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
        if op == "cumsum":
            lower_cumsum(builder, views[0], out, axes[0])
        elif op.startswith("arg"):
            lower_arg_reduction(builder, op, views[0], out, axes[0])
        else:
            lower_reduction(builder, op, views[0], out, axes)

    attributes = {"axes": axes} if op.startswith("reduce") else {"axis": axes[0]}
    comparison.add(lowering, op, [x], attributes, style)


def operations(name: str) -> list[str]:
    """Return the reductions that are defined for an element type."""
    sums = [] if name in UNSUMMED else ["reduce_sum", "cumsum"]
    truths = ["reduce_and", "reduce_or"] if name == "bool" else []
    extremes = ["reduce_max", "reduce_min"]
    return [*sums, *truths, *extremes, "argmax", "argmin"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reductions_of_every_type_equal_the_reference(layout: Layout) -> None:
    comparison = Comparison(layout)
    shapes = (((6, 37), (1,), "plain"), ((37, 19), (0,), "plain"), ((9, 14), (0,), "transposed"))
    names = DTYPES if layout == "cpu" else ("f32", "f16", "f64", "i16", "u64", "bool")
    for seed, name in enumerate(names):
        chosen = operations(name) if name in FLOATS else operations(name)[seed % 2 :: 2]
        for number, op in enumerate(chosen):
            shape, axes, style = shapes[(seed + number) % 3]
            kind = "few" if op.startswith("arg") else "any"
            add(comparison, op, random_elements(name, shape, seed, kind), axes, style)
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_floats_of_mixed_magnitudes_equal_the_reference(layout: Layout) -> None:
    comparison = Comparison(layout)
    for name in SUMMED:
        for kind in ("wide", "subnormal"):
            x = np.concatenate([random_elements(name, (20, 40), 1, kind), random_elements(name, (4, 40), 2, "any")])
            add(comparison, "reduce_sum", x, (1 if kind == "wide" else 0,))
            if kind == "wide":
                add(comparison, "cumsum", x, (SUMMED.index(name) % 2,))
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", ["reduce_sum", "reduce_max", "argmin", "cumsum"])
def test_long_groups_are_cut_and_joined(op: str, layout: Layout) -> None:
    comparison = Comparison(layout)
    n = 200000
    x = random_elements("f32", (n,), n, "wide")
    x[[n // 3, n // 2]] = np.float32(3e38)
    add(comparison, op, x, (0,))
    x = x.copy()
    x[150000] = -np.inf if op == "reduce_sum" else np.nan
    add(comparison, op, x, (0,), "reversed")
    add(comparison, op, random_elements("f32", (3, 70001), 1, "wide"), (1,))
    columns = random_elements("f32", (4099, 70), 2, "wide")
    columns[4000, 7], columns[1, 8], columns[4098, 8] = np.nan, np.inf, -np.inf
    add(comparison, op, columns, (0,))
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_axes_of_strided_views(layout: Layout) -> None:
    comparison = Comparison(layout)
    x = random_elements("f32", (3, 5, 4, 9), 3, "wide")
    for axes in ((2,), (0, 2), (0, 1, 2, 3)) if layout == "gpu" else ((), (2,), (0, 2), (1, 3), (0, 1, 2, 3)):
        add(comparison, "reduce_sum", x, axes, ("plain", "transposed", "reversed", "stepped")[len(axes) % 4])
    for style in ("transposed", "reversed", "stepped"):
        add(comparison, "cumsum", x, (0 if style == "stepped" else 3,), style)
        add(comparison, "argmax", np.round(x), (3 if style == "stepped" else 0,), style)
        add(comparison, "reduce_min", x, (1, 2), style)
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_groups_and_empty_results(layout: Layout) -> None:
    comparison = Comparison(layout)
    for name, ops in (("f32", ("sum", "max", "min")), ("u16", ("sum", "max", "min")), ("bool", ("and", "or"))):
        for op in ops:
            add(comparison, f"reduce_{op}", random_elements(name, (3, 0), 0), (1,))
    for shape, axis in (((0,), 0), ((0, 4), 1), ((0, 4), 0)):
        add(comparison, "cumsum", np.zeros(shape, np.float32), (axis,))
    add(comparison, "reduce_sum", np.zeros((0, 4), np.float32), (1,))
    add(comparison, "argmax", np.zeros((0, 4), np.float32), (1,))
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_special_values_decide_sums_and_extremes(layout: Layout) -> None:
    inf, nan, top = 0x7F800000, 0xFF812345, 0x7F7FFFFF
    rows = [[0, 1 << 31, 0], [1 << 31] * 3, [inf, 1, 1], [inf | 1 << 31, 1, inf], [nan, inf, 0], [1, 0x80000002, 0]]
    rows += [[top, top, top], [top, top | 1 << 31, 1], [0x00800000, 0x80000001, 0], [nan, nan ^ 1 << 31, 0]]
    comparison = Comparison(layout)
    x = from_bits(rows, "f32")
    for op in ("reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin", "cumsum"):
        add(comparison, op, x, (1,))
        if op in ("reduce_sum", "cumsum"):
            add(comparison, op, np.repeat(x, 2, axis=0), (0,))
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_repeated_elements_and_numbers_without_a_buffer(layout: Layout) -> None:
    def lowering(builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
        repeated = views[0].broadcast((6, 300), (0,))
        lower_reduction(builder, "reduce_sum", repeated, out, (1,))

    x = random_elements("f32", (6,), 4, "wide")
    got = run_lowering(lowering, [x], TensorType("f32", (6,)), layout=layout)
    from samebits.kernels.sums import reduce_sum

    assert got.tobytes() == reduce_sum(np.repeat(x[:, None], 300, axis=1), (1,)).tobytes()

    def count(builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
        lower_reduction(builder, "reduce_sum", View("count", "i32", (5, 4), (4, 1), 1), out, (1,))

    assert run_lowering(count, [], TensorType("i32", (5,)), layout=layout).tolist() == [10, 26, 42, 58, 74]


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(FLOATS[:3]))
def test_reduce_sum_does_not_depend_on_order_or_layout(seed: int, name: str) -> None:
    x = random_elements(name, (500,), seed, "wide")
    shuffled = np.random.default_rng(seed).permutation(x)
    kind = TensorType(name, ())

    def lowering(builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
        lower_reduction(builder, "reduce_sum", views[0], out, (0,))

    found = {
        run_lowering(lowering, [each], kind, layout=layout).tobytes() for each in (x, shuffled) for layout in LAYOUTS
    }
    assert len(found) == 1
