"""Sums on the group's grid, bit for bit against exact rationals."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.sums import cumsum, reduce_sum, scatter_add, sum_precision
from tests.kernels import oracle_exact as oracle
from tests.kernels.float_samples import KINDS, bits_of, from_bits, sample

COMPUTE = ("f32", "bf16", "f16")


@pytest.mark.parametrize("name", COMPUTE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 64, 65])
def test_reduce_sum_equals_the_definition(name: str, kind: str, n: int) -> None:
    x = sample(kind, (4, n), name, seed=n)
    rows = bits_of(x)
    assert bits_of(reduce_sum(x, (1,))) == [oracle.reduce_sum(row, name) for row in rows]
    assert bits_of(reduce_sum(x, (1,), "f32")) == [oracle.reduce_sum(row, name, "f32") for row in rows]


@pytest.mark.parametrize("axes", [None, (), (0,), (1,), (2,), (0, 2), (2, 0), (-1,), (0, 1, 2)])
def test_reduce_sum_takes_any_axes(axes: tuple[int, ...] | None) -> None:
    x = sample("any", (2, 3, 4), "f32", seed=5)
    bits = bits_of(x)
    over = {axis % 3 for axis in (range(3) if axes is None else axes)}
    groups: dict[tuple[int, ...], list[int]] = {}
    for index in itertools.product(range(2), range(3), range(4)):
        kept = tuple(i for axis, i in enumerate(index) if axis not in over)
        groups.setdefault(kept, []).append(bits[index[0]][index[1]][index[2]])
    got = reduce_sum(x, axes)
    assert got.shape == tuple(size for axis, size in enumerate(x.shape) if axis not in over)
    assert [bits_of(got[kept]) for kept in groups] == [oracle.reduce_sum(group, "f32") for group in groups.values()]


@pytest.mark.parametrize("n", [8191, 8192, 8193])
def test_reduce_sum_crosses_from_f64_to_int64(n: int) -> None:
    x = sample("ordinary", (n,), "f32", seed=n)
    wanted = oracle.reduce_sum(bits_of(x), "f32")
    assert bits_of(reduce_sum(x)) == wanted
    assert bits_of(reduce_sum(np.random.default_rng(1).permutation(x))) == wanted
    full = np.full(n, np.float32(126.9999))
    assert bits_of(reduce_sum(full)) == oracle.reduce_sum(bits_of(full), "f32")


def test_reduce_sum_keeps_units_that_f64_would_lose() -> None:
    # S is about 2^55 and odd; a running f64 sum drops the units that come after the first 2^53
    x = np.full(2**15, np.float32(126.5))
    x[-257:] = np.float32(2.0**-33)
    total = (2**15 - 257) * (253 * 2**32) + 257
    wanted = oracle.rn(Fraction(total) * oracle.two_to(-33), "f64")
    for order in (x, x[::-1]):
        assert bits_of(reduce_sum(order, None, "f64")) == wanted
        columns = np.stack([order, order], axis=1)
        assert bits_of(reduce_sum(columns, (0,), "f64")) == [wanted, wanted]


def test_sum_precision_leaves_room_for_every_sum() -> None:
    assert [sum_precision(n) for n in (1, 2**22, 2**22 + 1, 2**40)] == [40, 40, 39, 22]


def test_reduce_sum_lowers_p_for_huge_groups() -> None:
    n = 2**22 + 1
    x = np.full(n, np.float32(1 + 2.0**-23))
    x[0] = np.float32(2.0**-38)
    # q = x * 2^(39 - 1) here: 2^-38 is worth one step; with p = 39 its neighbour 2^-39 would tie to 0
    s = (n - 1) * (2**38 + 2**15) + 1
    assert bits_of(reduce_sum(x, None, "f64")) == oracle.rn(Fraction(s) * oracle.two_to(-38), "f64")
    x[0] = np.float32(2.0**-39)
    assert bits_of(reduce_sum(x, None, "f64")) == oracle.rn(Fraction(s - 1) * oracle.two_to(-38), "f64")


def test_reduce_sum_of_negative_zeros_is_plus_zero() -> None:
    assert bits_of(reduce_sum(np.full((2, 3), -0.0, np.float32), (1,))) == [0, 0]
    assert bits_of(reduce_sum(np.full(10000, -0.0, np.float32))) == 0
    assert bits_of(reduce_sum(np.full(2, -0.0, np.float32), ())) == [0, 0]
    assert bits_of(reduce_sum(np.full((2, 1), -0.0, np.float32), (1,))) == [0, 0]


def test_reduce_sum_of_nothing_is_plus_zero() -> None:
    assert bits_of(reduce_sum(np.zeros((2, 0), np.float16), (1,))) == [0, 0]
    assert reduce_sum(np.zeros((0, 3), np.float32), (1,)).shape == (0,)
    assert bits_of(reduce_sum(np.zeros((0,), np.int32))) == 0


def test_reduce_sum_wraps_integers_in_their_type() -> None:
    x = np.array([100, 100, 100], np.int8)
    assert reduce_sum(x).dtype == np.int8
    assert int(reduce_sum(x)) == 44
    assert int(reduce_sum(np.array([2**63, 2**63, 5], np.uint64))) == 5


def test_reduce_sum_refuses_what_the_contract_does_not_have() -> None:
    for dtype in (np.float64, np.bool_, np.complex64):
        with pytest.raises(TypeError):
            reduce_sum(np.zeros(2, dtype))
    for axes in ((2,), (0, 0), (0, -2)):
        with pytest.raises(ValueError, match="ax"):
            reduce_sum(np.zeros((2, 2), np.float32), axes)


@settings(max_examples=150, deadline=None)
@given(
    bits=st.lists(st.integers(0, 2**32 - 1) | st.integers(0x3F000000, 0x40000000), min_size=1, max_size=20),
    seed=st.integers(0, 5),
)
def test_reduce_sum_is_the_definition_in_any_order(bits: list[int], seed: int) -> None:
    wanted = oracle.reduce_sum(bits, "f32")
    x = from_bits(bits, "f32")
    assert bits_of(reduce_sum(x)) == wanted
    assert bits_of(reduce_sum(np.random.default_rng(seed).permutation(x))) == wanted


@pytest.mark.parametrize("name", COMPUTE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 17])
def test_cumsum_equals_the_definition(name: str, kind: str, n: int) -> None:
    x = sample(kind, (3, n), name, seed=n + 1)
    rows = [oracle.cumsum(row, name) for row in bits_of(x)]
    assert bits_of(cumsum(x, 1)) == rows
    assert bits_of(cumsum(x.T, 0).T) == rows


def test_cumsum_lets_nan_and_infinity_touch_later_prefixes_only() -> None:
    x = np.array([1, 2, np.inf, 3, -np.inf, 4], np.float32)
    assert bits_of(cumsum(x, 0)) == [0x3F800000, 0x40400000, 0x7F800000, 0x7F800000, 0x7FC00000, 0x7FC00000]


def test_cumsum_wraps_integers() -> None:
    assert cumsum(np.array([200, 100, 1], np.uint8), 0).tolist() == [200, 44, 45]


def check_scatter(operand: Any, indices: Any, updates: Any, name: str) -> None:
    """Compare with the oracle, and with a shuffled order of the updates."""
    n, count = operand.shape[0], indices.size
    width = int(np.prod(operand.shape[1:]))
    wanted = oracle.scatter_add(
        bits_of(operand.reshape(n, width)), indices.reshape(-1).tolist(), bits_of(updates.reshape(count, width)), name
    )
    got = scatter_add(operand, indices, updates)
    assert got.shape == operand.shape
    assert got.dtype == operand.dtype
    assert bits_of(got.reshape(n, width)) == wanted
    order = np.random.default_rng(0).permutation(count)
    shuffled = updates.reshape(count, *operand.shape[1:])[order]
    assert bits_of(scatter_add(operand, indices.reshape(-1)[order], shuffled).reshape(n, width)) == wanted


@pytest.mark.parametrize("name", COMPUTE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "rest"), [((6,), (3,)), ((2, 5), ()), ((4,), (2, 2)), ((), (3,))])
def test_scatter_add_equals_the_definition(name: str, kind: str, shape: tuple[int, ...], rest: tuple[int, ...]) -> None:
    operand = sample(kind, (4, *rest), name, seed=1)
    indices = np.random.default_rng(2).integers(0, 3, shape)
    check_scatter(operand, np.asarray(indices), sample(kind, (*shape, *rest), name, seed=3), name)


def test_scatter_add_shares_one_exponent_per_row() -> None:
    # the second element of row 0 is quantised on the grid of the first: 2^-40 vanishes beside 1
    operand = np.zeros((2, 2), np.float32)
    updates = np.array([[1, 2.0**-45], [0, 2.0**-45]], np.float32)
    got = scatter_add(operand, np.array([0, 1]), updates)
    assert got.tolist() == [[1.0, 0.0], [0.0, 2.0**-45]]


def test_scatter_add_rounds_the_sum_before_adding() -> None:
    # 2^24 + 1 rounds to 2^24 as an f32 sum; without that rounding 2^24 + 1 + 1 would give 2^24 + 2
    operand = np.ones(1, np.float32)
    got = scatter_add(operand, np.array([0, 0]), np.array([2.0**24, 1], np.float32))
    assert got.tolist() == [2.0**24]


def test_scatter_add_takes_p_from_the_number_of_all_indices() -> None:
    # row 1 gets three updates only, but with 2^22 + 1 indices in all p is 39, and 2^-39 is half a unit
    indices = np.zeros(2**22 + 1, np.int32)
    updates = np.zeros(2**22 + 1, np.float32)
    indices[-3:] = 1
    for last, wanted in ((2.0**-39, 0.0), (2.0**-38, 2.0**-38)):
        updates[-3:] = [1, last, -1]
        assert scatter_add(np.zeros(2, np.float32), indices, updates).tolist() == [0.0, wanted]


def test_scatter_add_keeps_untouched_bits() -> None:
    operand = from_bits([0xFFC12345, 0x80000000, 0x80000000], "f32")
    got = scatter_add(operand, np.array([2]), np.array([-0.0], np.float32))
    assert bits_of(got) == [0xFFC12345, 0x80000000, 0]  # an empty sum of zeros is +0, and -0 + +0 = +0


def test_scatter_add_keeps_nan_to_its_own_element() -> None:
    got = scatter_add(np.zeros((1, 2), np.float32), np.array([0]), np.array([[np.nan, 1]], np.float32))
    assert bits_of(got) == [[0x7FC00000, 0x3F800000]]


def test_scatter_add_wraps_integers() -> None:
    got = scatter_add(np.array([250, 1], np.uint8), np.array([0, 0, 1]), np.array([5, 3, 255], np.uint8))
    assert got.tolist() == [2, 0]
    assert got.dtype == np.uint8


def test_scatter_add_takes_no_updates_and_empty_rows() -> None:
    operand = np.ones((2, 3), np.float32)
    assert scatter_add(operand, np.zeros(0, np.int64), np.zeros((0, 3), np.float32)).tolist() == operand.tolist()
    assert scatter_add(np.ones((2, 0), np.float32), np.zeros(1, np.int64), np.zeros((1, 0), np.float32)).shape == (2, 0)


@pytest.mark.parametrize("index", [-1, 3, 2**40, -(2**63)])
def test_scatter_add_names_an_index_outside(index: int) -> None:
    with pytest.raises(ValueError, match=f"index {index} "):
        scatter_add(np.zeros(3, np.float32), np.array([0, index]), np.zeros(2, np.float32))


def test_scatter_add_refuses_operands_that_do_not_fit() -> None:
    zeros = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="updates have shape"):
        scatter_add(zeros, np.array([0, 1]), np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="axis"):
        scatter_add(np.zeros((), np.float32), np.array([0]), np.zeros(1, np.float32))
    with pytest.raises(TypeError):
        scatter_add(zeros, np.array([0.0]), np.zeros((1, 2), np.float32))
    with pytest.raises(TypeError):
        scatter_add(zeros, np.array([0]), np.zeros((1, 2), numpy_dtype("bf16")))
    with pytest.raises(TypeError):
        scatter_add(np.zeros(3), np.array([0]), np.zeros(1))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 9), st.integers(1, 3), st.sampled_from(KINDS), st.integers(0, 99))
def test_scatter_add_is_the_definition_for_any_shape(n: int, count: int, width: int, kind: str, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, n, count)
    check_scatter(sample(kind, (n, width), "f32", seed), indices, sample(kind, (count, width), "f32", seed + 1), "f32")
