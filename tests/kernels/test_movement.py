"""Sorting and scattering by the reference, against Python's own sort and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.kernels import movement
from samebits.kernels.errors import OpError
from tests.kernels.float_samples import sample


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("name", ["f32", "bf16", "f64"])
@given(seed=st.integers(0, 1 << 30), size=st.integers(0, 40))
def test_sort_moves_the_bits_that_argsort_names(name: str, descending: bool, size: int, seed: int) -> None:
    x = sample("any", (size,), name, seed)
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    places = movement.argsort(x, 0, descending)
    assert sorted(places.tolist()) == list(range(size))
    assert movement.sort(x, 0, descending).view(unsigned).tolist() == x.view(unsigned)[places].tolist()


def test_scatter_replaces_rows_and_keeps_the_others() -> None:
    operand = np.arange(8, dtype=np.int16).reshape(4, 2)
    result = movement.scatter(operand, np.array([3, 0], np.uint8), np.array([[-1, -2], [-3, -4]], np.int16))
    assert result.tolist() == [[-3, -4], [2, 3], [4, 5], [-1, -2]]
    assert operand.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("indices", "message"),
    [([1, 1], "index 1 occurs twice"), ([0, 4], r"index 4 is outside 0\.\.3"), ([-1], "index -1 is outside")],
)
def test_scatter_refuses_indices(indices: list[int], message: str) -> None:
    with pytest.raises(OpError, match=f"scatter: {message}"):
        movement.scatter(np.zeros(4, np.float32), np.array(indices), np.ones(len(indices), np.float32))
