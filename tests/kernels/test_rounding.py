"""Rounding once: against exact rationals, and on the values where rounding twice goes wrong."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.kernels.grid import clog2, grid_exponent
from samebits.kernels.rounding import (
    canonical_nan,
    infinity_of,
    nan_of,
    odd_float,
    power_of_two,
    round_odd_sum,
    round_scaled_int,
    round_to,
    to_bits,
    widen,
)
from tests.kernels import oracle_exact as oracle
from tests.kernels.float_samples import bits_of, corner_bits, from_bits

F64_BITS = st.integers(0, 2**64 - 1)
NAMES = ("f16", "bf16", "f32", "f64")


def near_border(name: str) -> list[int]:
    """Return f64 bits of values at, and one ulp beside, midpoints and borders of a narrower type."""
    found = []
    for bits in corner_bits(name):
        if oracle.is_finite(bits, name) and oracle.is_finite(bits + 1, name):
            middle = (oracle.value(bits, name) + oracle.value(bits + 1, name)) / 2
            centre = oracle.rn(middle, "f64", oracle.sign_of(bits, name))
            found += [centre, centre + 1, max(0, centre - 1)]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_round_to_equals_exact_rounding_at_borders(name: str) -> None:
    bits = [*corner_bits("f64"), *near_border("f16"), *near_border("bf16"), *near_border("f32")]
    got = bits_of(round_to(from_bits(bits, "f64"), name))
    assert got == [oracle.convert(b, "f64", name) for b in bits]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200, deadline=None)
@given(bits=st.lists(F64_BITS | st.integers(0x3680 << 48, 0x4800 << 48), min_size=1, max_size=8))
def test_round_to_equals_exact_rounding(name: str, bits: list[int]) -> None:
    assert bits_of(round_to(from_bits(bits, "f64"), name)) == [oracle.convert(b, "f64", name) for b in bits]


def test_round_to_takes_a_bf16_tie_that_f32_would_hide() -> None:
    # 1 + 2^-8 + 2^-40 is just above a midpoint of bf16; f64 -> f32 -> bf16 falls back onto the midpoint
    assert bits_of(round_to(np.array(1 + 2.0**-8 + 2.0**-40), "bf16")) == 0x3F81
    assert bits_of(round_to(np.array(1 + 2.0**-11 + 2.0**-40), "f16")) == 0x3C01


def test_round_to_keeps_shape_and_copies() -> None:
    x = np.zeros((2, 0, 3))
    assert round_to(x, "bf16").shape == (2, 0, 3)
    y = np.ones(3)
    assert not np.shares_memory(round_to(y, "f64"), y)


def test_round_to_refuses_other_types() -> None:
    with pytest.raises(TypeError, match="f64"):
        round_to(np.zeros(1, np.float32), "f32")
    with pytest.raises(TypeError, match="i32"):
        round_to(np.zeros(1), "i32")


def test_round_scaled_int_does_not_round_twice() -> None:
    s = np.array([2**60 + 2**36 + 1, 2**60 + 2**36, -(2**60 + 2**36 + 1)])
    assert bits_of(round_scaled_int(s, np.array(-60), "f32")) == [0x3F800001, 0x3F800000, 0xBF800001]


INTERESTING = [
    0,
    1,
    -1,
    2**53 - 1,
    2**53,
    2**53 + 1,
    -(2**53) - 1,
    2**63 - 1,
    -(2**63),
    -(2**63) + 1,
    2**62 + 2**38 + 1,
]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200, deadline=None)
@given(s=st.integers(-(2**63), 2**63 - 1) | st.sampled_from(INTERESTING), exponent=st.integers(-1000, 900))
def test_round_scaled_int_equals_exact_rounding(name: str, s: int, exponent: int) -> None:
    wanted = oracle.rn(Fraction(s) * oracle.two_to(exponent), name)
    assert bits_of(round_scaled_int(np.array(s), np.array(exponent), name)) == wanted


@pytest.mark.parametrize("name", ["f16", "bf16", "f32"])
@settings(max_examples=200, deadline=None)
@given(s=st.integers(-(2**63), 2**63 - 1), shift=st.integers(-200, 140))
def test_round_scaled_int_equals_exact_rounding_within_f32(name: str, s: int, shift: int) -> None:
    exponent = shift - s.bit_length()
    wanted = oracle.rn(Fraction(s) * oracle.two_to(exponent), name)
    assert bits_of(round_scaled_int(np.array([s]), np.array([exponent]), name)) == [wanted]


@pytest.mark.parametrize("exponent", [-(2**40), -5000, -1100, 1100, 2**40])
def test_round_scaled_int_takes_any_exponent(exponent: int) -> None:
    got = bits_of(round_scaled_int(np.array([2**63 - 1, -1, 0]), np.array(exponent), "f32"))
    assert got == ([0, 0x80000000, 0] if exponent < 0 else [0x7F800000, 0xFF800000, 0])


def test_round_scaled_int_refuses_bad_operands() -> None:
    with pytest.raises(TypeError):
        round_scaled_int(np.zeros(1), np.array(0), "f32")
    with pytest.raises(TypeError):
        round_scaled_int(np.zeros(1, np.int64), np.array(0.5), "f32")
    with pytest.raises(ValueError, match="-1022"):
        round_scaled_int(np.ones(1, np.int64), np.array(-1023), "f64")


@given(s=st.integers(-(2**63), 2**63 - 1))
def test_odd_float_encloses_the_integer(s: int) -> None:
    got = Fraction(float(odd_float(np.array(s))))
    assert abs(got - s) < 2**11
    assert got == s or (int(got) >> 11) % 2 == 1


def finite_f32() -> st.SearchStrategy[int]:
    """Return bits of finite f32 values."""
    return st.integers(0, 2**32 - 1).filter(lambda bits: oracle.is_finite(bits, "f32"))


@settings(max_examples=300, deadline=None)
@given(hi=st.integers(0x3000 << 48, 0x4800 << 48), part=st.integers(-(2**20), 2**20), low=st.integers(21, 80))
def test_round_odd_sum_is_exact_or_odd(hi: int, part: int, low: int) -> None:
    base = float(from_bits(hi, "f64"))
    total = oracle.value(hi, "f64") * (1 + Fraction(part) * oracle.two_to(-53 - low))
    lo = float(total - oracle.value(hi, "f64"))
    exact = Fraction(base) + Fraction(lo)
    got = bits_of(round_odd_sum(np.array(base), np.array(lo)))
    if oracle.value(got, "f64") != exact:
        assert got % 2 == 1
        above, below = oracle.value(got + 1, "f64"), oracle.value(got - 1, "f64")
        assert below < exact < above


def test_round_odd_sum_keeps_infinities_and_nan() -> None:
    hi = from_bits([0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000], "f64")
    assert bits_of(round_odd_sum(hi, np.full(3, np.nan))) == bits_of(hi)


@pytest.mark.parametrize("name", NAMES)
def test_canonical_nan_replaces_every_nan_and_nothing_else(name: str) -> None:
    bits = corner_bits(name)
    wanted = [oracle.NAN[name] if oracle.is_nan(b, name) else b for b in bits]
    assert bits_of(canonical_nan(from_bits(bits, name))) == wanted
    assert [bits_of(canonical_nan(from_bits(b, name))) for b in bits] == wanted


def test_canonical_nan_leaves_integers() -> None:
    x = np.arange(3, dtype=np.int8)
    assert canonical_nan(x) is x


@pytest.mark.parametrize("name", ["f16", "bf16", "f32"])
def test_widen_is_exact(name: str) -> None:
    bits = [b for b in corner_bits(name) if oracle.is_finite(b, name)]
    assert bits_of(widen(from_bits(bits, name))) == [oracle.convert(b, name, "f32") for b in bits]


def test_widen_of_all_bf16_and_f16_goes_back() -> None:
    for name in ("f16", "bf16"):
        every = from_bits(np.arange(2**16), name)
        with np.errstate(invalid="ignore"):  # signalling NaN
            wide = widen(every).astype(np.float64)
        back = round_to(wide, name)
        assert np.array_equal(to_bits(back), to_bits(canonical_nan(every)))


def test_widen_refuses_f64_and_integers() -> None:
    for dtype in (np.float64, np.int32, np.bool_):
        with pytest.raises(TypeError):
            widen(np.zeros(1, dtype))


def test_nan_of_and_infinity_of_give_canonical_bits() -> None:
    for name in NAMES:
        assert bits_of(nan_of(name)) == oracle.NAN[name]
        assert bits_of(infinity_of(name)) == oracle.INF[name]
    with pytest.raises(TypeError):
        nan_of("i32")


def test_power_of_two_is_exact() -> None:
    got = power_of_two(np.array([-1022, -1, 0, 1, 1023]))
    assert got.tolist() == [2.0**-1022, 0.5, 1.0, 2.0, 2.0**1023]


@pytest.mark.parametrize(("name", "lowest"), [("f32", 0), ("f64", 0)])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_grid_exponent_is_the_least(name: str, lowest: int, data: st.DataObject) -> None:
    bits = data.draw(st.integers(lowest + 1, oracle.INF[name] - 1))
    assert int(grid_exponent(from_bits(bits, name))) == oracle.grid_exponent(oracle.value(bits, name))


@pytest.mark.parametrize("name", ["f32", "f64"])
def test_grid_exponent_changes_at_127_128ths(name: str) -> None:
    fraction, inf = oracle.FORMATS[name][0] - 1, oracle.INF[name]
    bits = [b for b in corner_bits(name) if 0 < b < inf]
    for shift in range(0, fraction, 5):
        bits += [(127 << shift) - 1, 127 << shift, (127 << shift) + 1, 1 << shift, (1 << shift) - 1 or 1]
    one = oracle.rn(Fraction(127, 128), name)
    bits += [one - 1, one, one + 1]
    got = grid_exponent(from_bits(bits, name)).tolist()
    assert got == [oracle.grid_exponent(oracle.value(b, name)) for b in bits]


def test_grid_exponent_of_zero_is_zero() -> None:
    assert grid_exponent(np.zeros(2, np.float32)).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [np.inf, np.nan, -1.0])
def test_grid_exponent_refuses_what_is_no_magnitude(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        grid_exponent(np.array([1.0, bad]))
    with pytest.raises(TypeError):
        grid_exponent(np.zeros(1, np.int32))


def test_clog2_at_powers_of_two() -> None:
    assert [clog2(n) for n in (1, 2, 3, 4, 5, 8, 9, 2**18, 2**18 + 1)] == [0, 1, 2, 2, 3, 3, 4, 18, 19]
