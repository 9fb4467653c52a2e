"""argsort on kernels, against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from samebits.cas.dtype import DTYPES
from samebits.kernels.codegen.program import Layout, ProgramBuilder
from samebits.kernels.codegen.sorting import lower_argsort
from samebits.kernels.codegen.view import View
from tests.kernels.kernel_cases import Comparison, random_elements

LAYOUTS: tuple[Layout, ...] = ("cpu", "gpu")
LONG = {"cpu": ("f32", "i64", "bf16", "u8"), "gpu": ("f16",)}  # a byte of the key, a pass
LENGTHS = {"cpu": 70, "gpu": 520}  # past the rows that are sorted by counting


def add(comparison: Comparison, x: Any, axis: int, descending: bool, style: str = "plain") -> None:
    """Add an argsort of x to a comparison."""

    def lowering(builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
        lower_argsort(builder, views[0], out, axis, descending)

    comparison.add(lowering, "argsort", [x], {"axis": axis, "descending": descending}, style)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_argsort_of_every_type_equals_the_reference(layout: Layout) -> None:
    comparison = Comparison(layout)
    for seed, name in enumerate(DTYPES):
        if name in LONG[layout]:
            add(
                comparison, random_elements(name, (3, LENGTHS[layout]), seed, ("any", "few")[seed % 2]), 1, seed % 4 < 2
            )
        add(comparison, random_elements(name, (21, 4), seed, ("few", "any")[seed % 2]), 0, seed % 4 >= 2)
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_argsort_straddles_the_borders_of_its_methods(layout: Layout) -> None:
    comparison = Comparison(layout)
    for n in (0, 1, 64, 65, 16384, 16385) if layout == "cpu" else (0, 512, 9000):
        add(comparison, random_elements("f32", (n,), n, "any"), 0, n % 2 == 0)
    add(comparison, random_elements("i16", (17, 20000 if layout == "cpu" else 900), 3, "any"), 1, False)
    add(comparison, random_elements("u8", (2, 33000), 4, "any"), 1, True)
    add(comparison, np.zeros((3, 0), np.float32), 1, False)
    comparison.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_argsort_takes_any_axis_of_strided_views(layout: Layout) -> None:
    comparison = Comparison(layout)
    x = random_elements("f32", (4, 70, 6), 1, "few")
    for axis, style in ((0, "transposed"), (1, "reversed"), (2, "stepped")):
        add(comparison, x, axis, axis == 1, style)
    comparison.check()
