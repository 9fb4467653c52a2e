"""The counter-based generators on kernels, against the reference, which Random123's known answers check."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from samebits.kernels.codegen.program import Layout, ProgramBuilder
from samebits.kernels.codegen.random_bits import lower_random
from samebits.kernels.codegen.view import View
from tests.kernels.kernel_cases import Comparison


def lower(op: str, builder: ProgramBuilder, views: Sequence[View], out: View) -> None:
    lower_random(builder, op, views[0], views[1], out)


@pytest.mark.parametrize("layout", ["cpu", "gpu"])
@pytest.mark.parametrize(("op", "words", "chunk"), [("philox4x32", 4, 2048), ("threefry2x32", 2, 4096)])
def test_generator_equals_the_reference(op: str, words: int, chunk: int, layout: Layout) -> None:
    comparison = Comparison(layout)
    rng = np.random.default_rng(words)
    key = np.array([0xFFFFFFFF, 0x80000001], np.uint32)
    for blocks in (0, 1, chunk, chunk + 1):
        counter = rng.integers(0, 2**32, (blocks, words), dtype=np.uint32)
        comparison.add(partial(lower, op), op, [counter, key], {})
    nested = rng.integers(0, 2**32, (words, 3, 5), dtype=np.uint32)
    comparison.add(partial(lower, op), op, [nested, key], {}, "transposed")
    comparison.add(partial(lower, op), op, [np.full((2, words), 0xFFFFFFFF, np.uint32), key], {}, "reversed")
    comparison.check()
