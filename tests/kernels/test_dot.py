"""dot_general bit for bit against exact rationals, and unchanged by order, layout, splitting and engine."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import numpy_dtype
from samebits.kernels import dot as dot_module
from samebits.kernels.dot import dot_general, dot_precision, scale_and_round
from samebits.kernels.dot_grid import Grid, find_exponents
from tests.kernels import oracle_exact as oracle
from tests.kernels.float_samples import KINDS, bits_of, from_bits, sample

GRIDS: tuple[Grid, ...] = ("both", "columns", "rows")
PRECISIONS: tuple[dot_module.Precision, ...] = ("highest", "high")


def check(a: Any, b: Any, name: str, target: str | None = None) -> None:
    """Compare every grid and precision with the oracle."""
    a_bits, b_bits = bits_of(a), bits_of(b)
    for grid, precision in itertools.product(GRIDS, PRECISIONS):
        got = dot_general(a, b, precision=precision, grid=grid, dtype_out=target)
        assert got.dtype == numpy_dtype(target or name)
        assert bits_of(got) == oracle.dot(a_bits, b_bits, name, precision, grid, target or name), (grid, precision)


@pytest.mark.parametrize("name", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (4, 17, 3)])
def test_dot_equals_the_definition(name: str, kind: str, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    check(sample(kind, (m, k), name, seed=1), sample(kind, (k, n), name, seed=2), name)


@pytest.mark.parametrize("target", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("kind", ["ordinary", "wide", "any"])
def test_dot_rounds_once_to_the_result_type(target: str, kind: str) -> None:
    check(sample(kind, (3, 9), "f32", seed=3), sample(kind, (9, 3), "f32", seed=4), "f32", target)


@pytest.mark.parametrize(("left", "right"), list(itertools.product(KINDS, KINDS)))
def test_dot_mixes_magnitudes(left: str, right: str) -> None:
    check(sample(left, (3, 6), "f32", seed=5), sample(right, (6, 4), "f32", seed=6), "f32")


@pytest.mark.parametrize("k", [511, 512, 513, 1025])
@pytest.mark.parametrize("kind", ["ordinary", "cancelling"])
def test_dot_at_chunk_borders(k: int, kind: str) -> None:
    check(sample(kind, (2, k), "f32", seed=k), sample(kind, (k, 2), "f32", seed=k + 1), "f32")


@pytest.mark.parametrize("k", [511, 512, 513, 1024, 1025, 4097])
@pytest.mark.parametrize("grid", GRIDS)
def test_dot_is_exact_where_every_digit_is_at_its_maximum(k: int, grid: Grid) -> None:
    # 127/128 minus one ulp quantises to 127 * 2^15 on both sides; one odd product makes S odd, beyond 2^53 from K = 513
    a = np.full((2, k), np.float32(127 / 128) - np.float32(2.0**-24))
    b = a.T.copy()
    a[:, -1], b[-1, :] = np.float32(2.0**-22), np.float32(2.0**-22)
    b[0, 1] = 0.5
    got = dot_general(a, b, grid=grid, dtype_out="f64")
    assert bits_of(got) == oracle.dot(bits_of(a), bits_of(b), "f32", "highest", grid, "f64")


def test_dot_cancels_exactly_beyond_f64() -> None:
    # two halves of 2^53-sized sums cancel and leave one odd unit, which a rounded partial sum would lose
    k = 4096
    a = np.full((1, k), np.float32(127 / 128) - np.float32(2.0**-24))
    b = a.T.copy()
    b[k // 2 :] = -b[k // 2 :]
    a[0, -1], b[-1, 0] = 2.0**-22, 2.0**-22
    a[0, 0] = 0
    got = dot_general(a, b, grid="columns", dtype_out="f64")
    assert bits_of(got) == oracle.dot(bits_of(a), bits_of(b), "f32", "highest", "columns", "f64")
    assert float(got[0, 0]) == 2.0**-44


def test_dot_lowers_p_beyond_2_to_the_18() -> None:
    k = 2**18 + 1
    a = sample("ordinary", (1, k), "f32", seed=8)
    b = sample("ordinary", (k, 1), "f32", seed=9)
    p = 21
    (ea,), (eb,) = ([oracle.grid_exponent(Fraction(float(np.abs(x).max())))] for x in (a, b))
    # f64 holds x * 2^(p-e) exactly and Python rounds it to the even integer
    qa, qb = ([round(float(v) * 2.0 ** (p - e)) for v in x.reshape(-1)] for x, e in ((a, ea), (b, eb)))
    total = sum(x * y for x, y in zip(qa, qb, strict=True))
    wanted = oracle.rn(Fraction(total) * oracle.two_to(ea + eb - 2 * p), "f64")
    assert bits_of(dot_general(a, b, grid="columns", dtype_out="f64")) == [[wanted]]
    assert bits_of(dot_general(b.T, a.T, grid="columns", dtype_out="f64")) == [[wanted]]


def test_dot_precision_follows_k() -> None:
    assert [dot_precision("highest", k) for k in (1, 2**18, 2**18 + 1, 2**20, 2**20 + 1)] == [22, 22, 21, 21, 20]
    assert [dot_precision("high", k) for k in (2**32, 2**32 + 1)] == [15, 14]


def test_dot_of_nothing_is_plus_zero() -> None:
    got = dot_general(np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32))
    assert bits_of(got) == [[0] * 3] * 2
    assert dot_general(np.zeros((0, 4), np.float32), np.zeros((4, 3), np.float32)).shape == (0, 3)
    assert dot_general(np.zeros((2, 0), np.int8), np.zeros((0, 1), np.int8)).tolist() == [[0], [0]]


@pytest.mark.parametrize("grid", GRIDS)
def test_dot_gives_plus_zero_for_zero_rows_and_columns(grid: Grid) -> None:
    a = sample("ordinary", (3, 4), "f32", seed=1)
    b = sample("ordinary", (4, 3), "f32", seed=2)
    a[1], b[:, 2], b[3] = -0.0, -0.0, -0.0
    got = bits_of(dot_general(a, b, grid=grid))
    assert got == oracle.dot(bits_of(a), bits_of(b), "f32", "highest", grid, "f32")
    assert got[1] == [0, 0, 0]
    assert [row[2] for row in got] == [0, 0, 0]


@pytest.mark.parametrize("bad", [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x7F800001])
@pytest.mark.parametrize("grid", GRIDS)
def test_dot_spreads_nan_over_row_and_column_only(bad: int, grid: Grid) -> None:
    a = sample("ordinary", (3, 4), "f32", seed=1)
    b = sample("ordinary", (4, 3), "f32", seed=2)
    b[:, 1] = 0
    clean_a, clean_b = a.copy(), b.copy()
    a[1, 2], b[3, 0] = from_bits(bad, "f32"), from_bits(bad, "f32")
    clean_a[1, 2], clean_b[3, 0] = 0, 0  # maxima are taken over finite values
    got = dot_general(a, b, grid=grid)
    wanted = dot_general(clean_a, clean_b, grid=grid)
    wanted[1], wanted[:, 0] = from_bits(0x7FC00000, "f32"), from_bits(0x7FC00000, "f32")
    assert bits_of(got) == bits_of(wanted) == oracle.dot(bits_of(a), bits_of(b), "f32", "highest", grid, "f32")


def test_dot_keeps_a_row_that_vanishes_when_scaled_in_f32() -> None:
    a = np.array([[2.0**-100, 0], [1, 1]], np.float32)
    b = np.array([[2.0**-55, 0], [1, 1]], np.float32)
    check(a, b, "f32")
    assert find_exponents(a[None], b[None], "both") is None


@pytest.mark.parametrize("exponent", [-149, -126, -62, -61, -60, -59, 58, 59, 60, 61, 127])
def test_dot_at_the_borders_of_the_narrow_form(exponent: int) -> None:
    a = sample("ordinary", (2, 5), "f32", seed=3)
    b = sample("ordinary", (5, 2), "f32", seed=4)
    with np.errstate(all="ignore"):
        check(np.ldexp(a, exponent).astype(np.float32), b, "f32")
        check(a, np.ldexp(b, exponent).astype(np.float32), "f32")
        check(np.ldexp(a, exponent).astype(np.float32), np.ldexp(b, -exponent).astype(np.float32), "f32")
        check(np.ldexp(a, exponent).astype(np.float32), np.ldexp(b, exponent).astype(np.float32), "f32")


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_dot_exponent_changes_at_127_128ths(step: int) -> None:
    # e decides whether 2^-22 beside the maximum is one unit or half of one, which goes to 0
    top = float(from_bits(oracle.rn(Fraction(127, 128), "f32") + step, "f32"))
    a = np.array([[top, 2.0**-22]], np.float32)
    b = np.array([[2.0**-22, top], [top, 0]], np.float32)
    check(a, b, "f32")
    check(b, a.T, "f32")


@pytest.mark.parametrize("target", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("exponent", [-5, -100])
def test_scale_and_round_has_no_negative_zero(target: str, exponent: int) -> None:
    scale = np.full((1, 1, 1), exponent)
    assert bits_of(scale_and_round(np.full((1, 1, 1), -0.0), scale, scale, target)) == [[[0]]]


def test_scale_and_round_does_not_round_twice_into_subnormals() -> None:
    # 1 + 2^-8 + 2^-30 on a grid of 2^-7: by way of 24 bits it would be a tie
    s = np.full((1, 1, 1), 2.0**40 + 2.0**32 + 2.0**10)
    half = np.full((1, 1, 1), -91)
    assert bits_of(scale_and_round(s, half, half, "f32")) == [[[129]]]
    assert bits_of(scale_and_round(s.astype(np.int64), half, half, "f32")) == [[[129]]]


@pytest.mark.parametrize("low", [-149, -125, -107, -106, -105, -104, -103, -102, -60])
@pytest.mark.parametrize("high", [-45, 0, 60, 80, 94, 95, 96, 97, 98])
def test_dot_scales_back_from_any_exponents(low: int, high: int) -> None:
    # 2^-147 * 2^58 as a pair of f32 factors lost the first one: the scales have to fit, not only their product
    a = np.ldexp(np.ones((2, 2)), low).astype(np.float32)
    b = np.ldexp(np.array([[1, 1], [0.5, 1]]), high).astype(np.float32)
    check(a, b, "f32")
    check(b, a, "f32")


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", ["ordinary", "wide", "cancelling", "any"])
def test_dot_does_not_depend_on_order_or_layout(grid: Grid, kind: str) -> None:
    a = sample(kind, (70, 1100), "f32", seed=1)
    b = sample(kind, (1100, 65), "f32", seed=2)
    wanted = bits_of(dot_general(a, b, grid=grid))
    order = np.random.default_rng(3).permutation(1100)
    assert bits_of(dot_general(a[:, order], b[order], grid=grid)) == wanted
    assert bits_of(dot_general(np.asfortranarray(a), np.asfortranarray(b), grid=grid)) == wanted
    assert bits_of(dot_general(a, np.asfortranarray(b), grid=grid)) == wanted
    spread = np.zeros((140, 2200), np.float32)
    spread[::2, ::2] = a
    assert bits_of(dot_general(spread[::2, ::2], b[::-1][::-1], grid=grid)) == wanted
    swapped = (((0,), (1,)), ((), ()))
    assert bits_of(dot_general(a.T.copy(), b.T.copy(), dimension_numbers=swapped, grid=grid)) == wanted
    if grid != "both":  # rows of a stand alone; so do columns of b where f_k does not look at them
        assert bits_of(dot_general(a[7:8], b, grid=grid))[0] == wanted[7]
    if grid == "columns":
        assert [row[0] for row in bits_of(dot_general(a, b[:, 5:6], grid=grid))] == [row[5] for row in wanted]
        assert bits_of(dot_general(b.T, a.T, grid=grid)) == [list(column) for column in zip(*wanted, strict=True)]


def test_dot_padding_with_zeros_changes_nothing() -> None:
    a, b = sample("ordinary", (3, 40), "f32", seed=1), sample("ordinary", (40, 5), "f32", seed=2)
    padded_a, padded_b = np.pad(a, ((0, 2), (0, 600))), np.pad(b, ((0, 600), (0, 3)))
    for grid in GRIDS:
        assert bits_of(dot_general(padded_a, padded_b, grid=grid)[:3, :5]) == bits_of(dot_general(a, b, grid=grid))


@pytest.mark.parametrize("grid", GRIDS)
def test_dot_batches_are_products_of_their_own(grid: Grid) -> None:
    a = sample("any", (2, 3, 4, 6), "f32", seed=1)
    b = sample("wide", (2, 3, 6, 5), "f32", seed=2)
    got = dot_general(a, b, grid=grid)
    assert got.shape == (2, 3, 4, 5)
    for i, j in itertools.product(range(2), range(3)):
        assert bits_of(got[i, j]) == oracle.dot(bits_of(a[i, j]), bits_of(b[i, j]), "f32", "highest", grid, "f32")


def test_dot_takes_jax_dimension_numbers() -> None:
    # contract axes 0 and 2 of a with 3 and 1 of b; batch axis 3 of a with 0 of b
    a = sample("ordinary", (3, 4, 5, 2), "f32", seed=1)
    b = sample("ordinary", (2, 5, 6, 3), "f32", seed=2)
    got = dot_general(a, b, dimension_numbers=(((0, 2), (3, 1)), ((3,), (0,))), grid="columns")
    assert got.shape == (2, 4, 6)
    for batch in range(2):
        left = a[..., batch].transpose(1, 0, 2).reshape(4, 15)
        right = b[batch].transpose(2, 0, 1).reshape(15, 6)
        wanted = oracle.dot(bits_of(left), bits_of(right), "f32", "highest", "columns", "f32")
        assert bits_of(got[batch]) == wanted


def test_dot_of_vectors_gives_a_scalar() -> None:
    x = np.array([1, 2, 3], np.float32)
    got = dot_general(x, x, dimension_numbers=(((0,), (0,)), ((), ())))
    assert got.shape == ()
    assert float(got) == 14.0
    outer = dot_general(x, x, dimension_numbers=(((), ()), ((), ())))
    assert outer.tolist() == [[1, 2, 3], [2, 4, 6], [3, 6, 9]]


@pytest.mark.parametrize("name", ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"])
@pytest.mark.parametrize("shape", [(2, 3, 2), (40, 50, 40)])
def test_dot_of_integers_wraps(name: str, shape: tuple[int, int, int]) -> None:
    dtype = numpy_dtype(name)
    m, k, n = shape
    info = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    a = rng.integers(info.min, info.max, (m, k), dtype=dtype, endpoint=True)
    b = rng.integers(info.min, info.max, (k, n), dtype=dtype, endpoint=True)
    a[0], b[:, 0] = info.min, info.max
    exact = a.astype(object) @ b.astype(object)
    wanted = [[(int(v) - info.min) % 2 ** (8 * dtype.itemsize) + info.min for v in row] for row in exact]
    got = dot_general(a, b)
    assert got.dtype == dtype
    assert got.tolist() == wanted


def test_dot_refuses_types_the_contract_does_not_have() -> None:
    for dtype in (np.bool_, np.float64):
        with pytest.raises(TypeError):
            dot_general(np.zeros((1, 1), dtype), np.zeros((1, 1), dtype))
    with pytest.raises(TypeError):
        dot_general(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float16))
    with pytest.raises(TypeError):
        dot_general(np.zeros((1, 1), np.int8), np.zeros((1, 1), np.int8), dtype_out="i32")
    with pytest.raises(TypeError):
        dot_general(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), dtype_out="i32")


@pytest.mark.parametrize(
    ("left", "right", "numbers"),
    [
        ((2, 3), (2, 3), None),
        ((3,), (3,), None),
        ((2, 3), (2, 3, 4), None),
        ((2, 2, 3), (3, 3, 2), None),
        ((2, 3), (3, 2), (((2,), (0,)), ((), ()))),
        ((2, 3), (3, 2), (((1, 1), (0, 0)), ((), ()))),
        ((2, 3), (3, 2), (((-1,), (0,)), ((), ()))),
        ((2, 3), (3, 2), (((1,), (0,)), ((0,), ()))),
        ((2, 3), (3, 2), (((1,), (0,)), ((0,), (1,)))),
        ((2, 3), (2, 4), (((1,), (0,)), ((), ()))),
    ],
)
def test_dot_refuses_shapes_that_do_not_fit(left: Any, right: Any, numbers: Any) -> None:
    a, b = np.zeros(left, np.float32), np.zeros(right, np.float32)
    if numbers == (((1,), (0,)), ((0,), (1,))):  # this one fits: a batch of two dot products
        assert dot_general(a, b, dimension_numbers=numbers).shape == (2,)
        return
    with pytest.raises(ValueError, match="shape"):
        dot_general(a, b, dimension_numbers=numbers)


def test_dot_refuses_unknown_precision_and_grid() -> None:
    x = np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match="precision"):
        dot_general(x, x, precision="default")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grid"):
        dot_general(x, x, grid="none")  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    name=st.sampled_from(["f32", "bf16", "f16"]),
    seed=st.integers(0, 1000),
)
def test_dot_is_the_definition_for_any_shape(
    shape: tuple[int, int, int], kinds: tuple[str, str], name: str, seed: int
) -> None:
    m, k, n = shape
    check(sample(kinds[0], (m, k), name, seed), sample(kinds[1], (k, n), name, seed + 1), name)


@pytest.mark.parametrize("shape", [(3, 40000), (40000, 3), (200, 300), (1, 1), (1, 40000)])
def test_dot_with_long_rows_equals_its_pieces(shape: tuple[int, int]) -> None:
    # rows longer than a tile, more rows than a tile: every output equals the product of its own row alone
    a = sample("ordinary", shape, "f32", seed=1)
    b = sample("ordinary", (shape[1], 2), "f32", seed=2)
    got = bits_of(dot_general(a, b))
    for i in {0, shape[0] // 2, shape[0] - 1}:
        assert bits_of(dot_general(a[i : i + 1], b)) == [got[i]]
