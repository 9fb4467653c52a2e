"""The engines give the one integer product, and never let a partial sum pass 2^53."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.kernels.dot_grid import quantise
from samebits.kernels.exact_matmul import matmul_bounded, matmul_wrapping, plan_chunks, safe_depth

MAX_22 = 127 * 2**15  # the largest |q| for p = 22


def exact(a: Any, b: Any) -> Any:
    """Multiply in Python integers."""
    return a.astype(np.int64).astype(object) @ b.astype(np.int64).astype(object)


def test_safe_depth_keeps_sums_below_2_to_the_53() -> None:
    assert safe_depth(22) == 512
    assert 512 * MAX_22**2 < 2**53 < 513 * 2**44
    for p in range(1, 23):
        assert safe_depth(p) * (127 * 2**p) ** 2 < 2**53 * 128**2


@pytest.mark.parametrize("k", [1, 512, 513, 1024, 1025, 3000])
def test_matmul_bounded_is_exact_on_the_largest_digits(k: int) -> None:
    qa = np.full((1, 2, k), float(MAX_22))
    qb = np.full((1, k, 2), float(MAX_22))
    qa[0, 0, -1] = qb[0, -1, 0] = 1.0
    qb[0, :, 1] *= np.where(np.arange(k) % 3 == 0, -1, 1)
    got = matmul_bounded(qa, qb, 22, np.inf)
    assert got[0].astype(np.int64).tolist() == exact(qa[0], qb[0]).tolist()


def test_matmul_bounded_trusts_only_a_proven_bound() -> None:
    qa = np.full((1, 1, 1024), float(MAX_22))
    assert matmul_bounded(qa, qa.swapaxes(1, 2), 22, np.inf).dtype == np.int64
    assert matmul_bounded(qa / MAX_22, qa.swapaxes(1, 2), 22, 1024.0 * 1024 * MAX_22**2).dtype == np.float64


@pytest.mark.parametrize("k", [512, 513, 2000, 4096, 5000])
@pytest.mark.parametrize("fraction", [1.0, 0.6, 0.1])
def test_plan_chunks_covers_k_and_bounds_every_chunk(k: int, fraction: float) -> None:
    rng = np.random.default_rng(k)
    qa = np.rint(rng.uniform(0, fraction * MAX_22, (2, 3, k)))
    qb = np.rint(rng.uniform(0, fraction * MAX_22, (2, k, 3)))
    chunks = plan_chunks(qa, qb, 512)
    assert chunks[0][0] == 0
    assert chunks[-1][1] == k
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(chunks))
    for start, stop in chunks:
        for i in range(2):
            sums = exact(np.abs(qa[i, :, start:stop]), np.abs(qb[i, start:stop]))
            assert max(max(row) for row in sums.tolist()) < 2**53


def test_plan_chunks_merges_small_blocks() -> None:
    q = np.ones((1, 1, 5000))
    assert plan_chunks(q, q.swapaxes(1, 2), 512) == [(0, 5000)]


@pytest.mark.parametrize("k_axis", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(1, 600, 700), (3, 64, 513), (2, 1, 40000), (2, 40000, 1)])
def test_quantise_bounds_the_norm_from_above(k_axis: int, transposed: bool, shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
    if transposed:
        x = x.swapaxes(1, 2)
    line = np.full((shape[0], x.shape[3 - k_axis]), 2.0**21, np.float32)
    q, bound = quantise(x, None, line, k_axis, norm=True, slot="test")
    whole = q.astype(np.int64)
    assert whole.tolist() == np.rint(x.astype(np.float64) * 2.0**21).astype(np.int64).tolist()
    largest = int((whole * whole).sum(axis=k_axis).max())
    assert largest <= bound <= largest * (1 + 2.0**-7)


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(*[st.integers(0, 40)] * 3),
    batch=st.integers(1, 2),
    kind=st.sampled_from("iu"),
    log=st.integers(0, 3),
)
def test_matmul_wrapping_is_the_product_modulo_the_width(
    shape: tuple[int, int, int], batch: int, kind: str, log: int
) -> None:
    dtype = np.dtype(f"<{kind}{1 << log}")
    info, (m, k, n) = np.iinfo(dtype), shape
    rng = np.random.default_rng(m + k + n)
    a = rng.integers(info.min, info.max, (batch, m, k), dtype=dtype, endpoint=True)
    b = rng.integers(info.min, info.max, (batch, k, n), dtype=dtype, endpoint=True)
    got = matmul_wrapping(a, b)
    assert got.shape == (batch, m, n)
    bits = 8 * dtype.itemsize
    for i in range(batch):
        wanted = [
            [
                (sum(int(x) * int(y) for x, y in zip(row, column, strict=True)) - info.min) % 2**bits + info.min
                for column in b[i].T
            ]
            for row in a[i]
        ]
        assert got[i].tolist() == wanted
