"""max, min, and, or, argmax, argmin: against plain loops over the bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.extremes import argmax, argmin, reduce_and, reduce_max, reduce_min, reduce_or
from tests.kernels import oracle_exact as oracle
from tests.kernels.float_samples import KINDS, bits_of, from_bits, sample

FLOATS = ("f16", "bf16", "f32", "f64")


def rank(bits: int, name: str) -> int:
    """Return a place in the order -inf ... -0 < +0 ... inf."""
    size = oracle.magnitude(bits, name)
    return -size - 1 if oracle.sign_of(bits, name) else size


def extreme(row: list[int], name: str, *, is_max: bool) -> int:
    """Return the bits of the extreme of a row."""
    if any(oracle.is_nan(bits, name) for bits in row):
        return oracle.NAN[name]
    empty = oracle.INF[name] | (int(is_max) << (oracle.FORMATS[name][3] - 1))
    return (max if is_max else min)([*row, empty], key=lambda bits: rank(bits, name))


def first_index(row: list[int], name: str, *, is_max: bool) -> int:
    """Return the first index of the extreme, NaN before all."""
    for i, bits in enumerate(row):
        if oracle.is_nan(bits, name):
            return i
    ranks = [0 if oracle.magnitude(bits, name) == 0 else rank(bits, name) for bits in row]
    return ranks.index(max(ranks) if is_max else min(ranks))


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 33])
def test_extremes_of_floats_equal_plain_loops(name: str, kind: str, n: int) -> None:
    x = sample(kind, (6, n), name, seed=n)
    rows = bits_of(x)
    assert bits_of(reduce_max(x, (1,))) == [extreme(row, name, is_max=True) for row in rows]
    assert bits_of(reduce_min(x, (1,))) == [extreme(row, name, is_max=False) for row in rows]
    assert bits_of(reduce_max(x.T, (0,))) == bits_of(reduce_max(x, (1,)))
    if n:
        assert argmax(x, 1).tolist() == [first_index(row, name, is_max=True) for row in rows]
        assert argmin(x, 1).tolist() == [first_index(row, name, is_max=False) for row in rows]
        assert argmin(x.T, 0).tolist() == argmin(x, -1).tolist()


@pytest.mark.parametrize("name", FLOATS)
def test_extremes_order_zeros_and_arg_does_not(name: str) -> None:
    top = 1 << (oracle.FORMATS[name][3] - 1)
    for row in ([0, top], [top, 0]):
        x = from_bits(row, name)
        assert bits_of(reduce_max(x)) == 0
        assert bits_of(reduce_min(x)) == top
        assert int(argmax(x, 0)) == int(argmin(x, 0)) == 0


def test_extremes_of_nothing() -> None:
    assert bits_of(reduce_max(np.zeros((2, 0), np.float32), (1,))) == [0xFF800000] * 2
    assert bits_of(reduce_min(np.zeros((2, 0), np.float32), (1,))) == [0x7F800000] * 2
    assert int(reduce_max(np.zeros(0, np.int16))) == -32768
    assert int(reduce_min(np.zeros(0, np.uint64))) == 2**64 - 1
    assert not bool(reduce_max(np.zeros(0, np.bool_)))
    assert bool(reduce_min(np.zeros(0, np.bool_)))
    assert bool(reduce_and(np.zeros(0, np.bool_)))
    assert not bool(reduce_or(np.zeros(0, np.bool_)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, np.bool_])
def test_extremes_of_integers(dtype: Any) -> None:
    x = np.random.default_rng(1).integers(0, 2**63 - 1, (4, 9)).astype(dtype)
    if dtype == np.uint64:
        x[0, 3] = 2**64 - 1
    assert reduce_max(x, (1,)).tolist() == [max(row) for row in x.tolist()]
    assert reduce_min(x, (0,)).tolist() == [min(column) for column in x.T.tolist()]
    assert reduce_max(x, (1,)).dtype == x.dtype
    assert argmax(x, 1).tolist() == [row.index(max(row)) for row in x.tolist()]
    assert argmin(x, 1).tolist() == [row.index(min(row)) for row in x.tolist()]
    assert argmax(x, 1).dtype == np.int64


def test_reduce_without_axes_keeps_elements_and_canonicalises_nan() -> None:
    x = from_bits([0xFFC00001, 0x80000000, 0x3F800000], "f32")
    assert bits_of(reduce_max(x, ())) == [0x7FC00000, 0x80000000, 0x3F800000]


def test_arg_refuses_an_empty_axis_and_a_scalar() -> None:
    for function in (argmax, argmin):
        with pytest.raises(ValueError, match="empty axis"):
            function(np.zeros((2, 0), np.float32), 1)
        with pytest.raises(ValueError, match="axis"):
            function(np.zeros((), np.float32), 0)
    assert argmax(np.zeros((0, 2), np.float32), 1).shape == (0,)


def test_reduce_and_or_take_bool_only() -> None:
    x = np.array([[True, False], [True, True]])
    assert reduce_and(x, (1,)).tolist() == [False, True]
    assert reduce_or(x, (0,)).tolist() == [True, True]
    for function in (reduce_and, reduce_or):
        with pytest.raises(TypeError):
            function(np.zeros(1, np.int8))


@settings(max_examples=100, deadline=None)
@given(row=st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=40), name=st.sampled_from(["f16", "bf16"]))
def test_extremes_of_any_bits_equal_plain_loops(row: list[int], name: str) -> None:
    x = np.asarray(row, np.uint16).view(numpy_dtype(name))
    assert bits_of(reduce_max(x)) == extreme(row, name, is_max=True)
    assert bits_of(reduce_min(x)) == extreme(row, name, is_max=False)
    assert int(argmax(x, 0)) == first_index(row, name, is_max=True)
    assert int(argmin(x, 0)) == first_index(row, name, is_max=False)
