"""Element-wise arithmetic bit for bit against exact rationals, on every pair of corner values and on random bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import INTEGERS, numpy_dtype
from samebits.kernels import arithmetic
from tests.kernels import oracle_exact as oracle
from tests.kernels.float_samples import bits_of, corner_bits, from_bits, sample

FLOATS = ("f16", "bf16", "f32", "f64")
ORACLES: dict[str, Callable[[int, int, str], int]] = {
    "add": oracle.add,
    "sub": lambda x, y, name: oracle.add(x, y ^ (1 << (oracle.FORMATS[name][3] - 1)), name),
    "mul": oracle.mul,
    "div": oracle.div,
}


def pairs(name: str) -> tuple[list[int], list[int]]:
    """Return every pair of corner bits and some random pairs."""
    corners = list(itertools.product(corner_bits(name), repeat=2))
    x, y = [a for a, _ in corners], [b for _, b in corners]
    for seed, kind in enumerate(("ordinary", "wide", "subnormal", "cancelling")):
        x += bits_of(sample(kind, (150,), name, seed))
        y += bits_of(sample(kind, (150,), name, seed + 10))
    return x, y


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("op", ORACLES)
def test_float_arithmetic_rounds_once(name: str, op: str) -> None:
    x, y = pairs(name)
    got = bits_of(getattr(arithmetic, op)(from_bits(x, name), from_bits(y, name)))
    wanted = [ORACLES[op](a, b, name) for a, b in zip(x, y, strict=True)]
    assert got == wanted


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FLOATS), st.sampled_from(sorted(ORACLES)), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_float_arithmetic_equals_exact_rounding(name: str, op: str, x: int, y: int) -> None:
    width = oracle.FORMATS[name][3]
    x, y = x >> (64 - width), y >> (64 - width)
    got = bits_of(getattr(arithmetic, op)(from_bits(x, name), from_bits(y, name)))
    assert got == ORACLES[op](x, y, name)


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_div_of_narrow_types_survives_the_f64_detour(name: str) -> None:
    # every pair of significands, with exponents that make the quotient normal and subnormal
    t = oracle.FORMATS[name][0]
    steps = 1 << (t - 1)
    numerators = range(0, steps, 1 if name == "bf16" else 41)
    one = oracle.rn(Fraction(1), name)
    x = [one + n for n in numerators for _ in range(0, steps, 3)]
    y = [d for _ in numerators for d in range(0, steps, 3)]
    big = oracle.rn(Fraction(2) ** (13 if name == "f16" else 126), name)
    for scale in (one, big):
        got = bits_of(arithmetic.div(from_bits(x, name), from_bits([scale + d for d in y], name)))
        small = list(zip(x, y, got, strict=True))[:: max(1, len(x) // 4000)]
        assert [g for *_, g in small] == [oracle.div(a, scale + d, name) for a, d, _ in small]


@pytest.mark.parametrize("name", ["f16", "bf16", "f32"])
def test_fma_rounds_once(name: str) -> None:
    corners = corner_bits(name)[::2]
    triples = list(itertools.product(corners, repeat=3))
    for seed, kind in enumerate(("ordinary", "wide", "subnormal")):
        columns = [bits_of(sample(kind, (200,), name, seed + i)) for i in (0, 10, 20)]
        triples += list(zip(*columns, strict=True))
    x, y, z = ([triple[i] for triple in triples] for i in range(3))
    got = bits_of(arithmetic.fma(from_bits(x, name), from_bits(y, name), from_bits(z, name)))
    assert got == [oracle.fma(a, b, c, name) for a, b, c in triples]


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(-60, 60), st.integers(0, 2**24 - 1))
def test_fma_equals_exact_rounding_near_cancellation(x: int, y: int, shift: int, low: int) -> None:
    z = 0
    if oracle.is_finite(x, "f32") and oracle.is_finite(y, "f32"):
        exact = oracle.value(x, "f32") * oracle.value(y, "f32")
        z = oracle.rn(-exact * (1 + Fraction(low, 2**24)) * oracle.two_to(shift), "f32")
    got = bits_of(arithmetic.fma(*(from_bits(bits, "f32") for bits in (x, y, z))))
    assert got == oracle.fma(x, y, z, "f32")


def test_fma_is_not_the_plain_f64_detour() -> None:
    # x * y is exactly halfway between two f32; z decides, far below f64's last place
    x, z = np.array(1 + 2.0**-12, np.float32), np.array(2.0**-100, np.float32)
    assert np.float32(float(x) * float(x) + float(z)) == np.float32(1 + 2.0**-11)
    assert float(arithmetic.fma(x, x, z)) == 1 + 2.0**-11 + 2.0**-23


@pytest.mark.parametrize("name", FLOATS)
def test_maximum_and_minimum_follow_ieee_2019(name: str) -> None:
    x, y = pairs(name)

    def wanted(a: int, b: int, *, is_max: bool) -> int:
        if oracle.is_nan(a, name) or oracle.is_nan(b, name):
            return oracle.NAN[name]
        key = {bits: -oracle.magnitude(bits, name) - 1 if oracle.sign_of(bits, name) else bits for bits in (a, b)}
        return (max if is_max else min)((a, b), key=lambda bits: key[bits])

    for function, is_max in ((arithmetic.maximum, True), (arithmetic.minimum, False)):
        got = bits_of(function(from_bits(x, name), from_bits(y, name)))
        assert got == [wanted(a, b, is_max=is_max) for a, b in zip(x, y, strict=True)]


@pytest.mark.parametrize("name", FLOATS)
def test_sign_operations_move_bits(name: str) -> None:
    bits = corner_bits(name)
    top = 1 << (oracle.FORMATS[name][3] - 1)
    x = from_bits(bits, name)
    assert bits_of(arithmetic.neg(x)) == [b ^ top for b in bits]
    assert bits_of(arithmetic.abs_(x)) == [b & ~top for b in bits]
    for y in (bits[0], bits[-1]):
        got = bits_of(arithmetic.copysign(x, from_bits(y, name)))
        assert got == [(b & ~top) | (y & top) for b in bits]
    one = oracle.rn(Fraction(1), name)
    wanted = [oracle.NAN[name] if oracle.is_nan(b, name) else (b & top) | (one if b & ~top else 0) for b in bits]
    assert bits_of(arithmetic.sign(x)) == wanted


@pytest.mark.parametrize("name", FLOATS)
def test_whole_numbers_are_rounded_as_ieee_says(name: str) -> None:
    bits = [b for b in corner_bits(name) if oracle.is_finite(b, name)]
    bits += [oracle.rn(Fraction(n, 4), name) for n in range(-14, 15)] + bits_of(sample("wide", (100,), name, 1))
    bits += bits_of(sample("ordinary", (100,), name, 2))

    def down(r: Fraction) -> int:
        return r.numerator // r.denominator

    rules: dict[Callable[[Any], Any], Callable[[Fraction], int]] = {
        arithmetic.floor: down,
        arithmetic.ceil: lambda r: -down(-r),
        arithmetic.round_: oracle.rn_int,
        arithmetic.trunc: lambda r: down(r) if r >= 0 else -down(-r),
    }
    for function, rule in rules.items():
        wanted = [oracle.rn(Fraction(rule(oracle.value(b, name))), name, oracle.sign_of(b, name)) for b in bits]
        assert bits_of(function(from_bits(bits, name))) == wanted
        special = [oracle.INF[name], oracle.INF[name] + 1]
        assert bits_of(function(from_bits(special, name))) == [oracle.INF[name], oracle.NAN[name]]


@pytest.mark.parametrize("name", FLOATS)
def test_comparisons_follow_ieee(name: str) -> None:
    x, y = pairs(name)

    def value(bits: int) -> Fraction:
        if oracle.is_inf(bits, name):
            return Fraction(2) ** 3000 * (-1 if oracle.sign_of(bits, name) else 1)
        return oracle.value(bits, name)

    rules: dict[str, Callable[[Any, Any], bool]] = {
        "eq": lambda a, b: bool(a == b),
        "lt": lambda a, b: bool(a < b),
        "le": lambda a, b: bool(a <= b),
        "gt": lambda a, b: bool(a > b),
        "ge": lambda a, b: bool(a >= b),
    }
    ordered = [not (oracle.is_nan(a, name) or oracle.is_nan(b, name)) for a, b in zip(x, y, strict=True)]
    left, right = from_bits(x, name), from_bits(y, name)
    for op, rule in rules.items():
        wanted = [ok and rule(value(a), value(b)) for a, b, ok in zip(x, y, ordered, strict=True)]
        assert getattr(arithmetic, op)(left, right).tolist() == wanted, op
    assert arithmetic.ne(left, right).tolist() == [not equal for equal in arithmetic.eq(left, right).tolist()]


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_arithmetic_wraps(name: str) -> None:
    dtype = numpy_dtype(name)
    info = np.iinfo(dtype)
    values = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 7, info.max // 2]
    x = np.array([a for a in values for _ in values], dtype)
    y = np.array([b for _ in values for b in values], dtype)

    def wrap(value: int) -> int:
        return int((value - info.min) % 2 ** (8 * dtype.itemsize) + info.min)

    both = list(zip(x.tolist(), y.tolist(), strict=True))
    assert arithmetic.add(x, y).tolist() == [wrap(a + b) for a, b in both]
    assert arithmetic.sub(x, y).tolist() == [wrap(a - b) for a, b in both]
    assert arithmetic.mul(x, y).tolist() == [wrap(a * b) for a, b in both]
    assert arithmetic.maximum(x, y).tolist() == [max(pair) for pair in both]
    assert arithmetic.minimum(x, y).tolist() == [min(pair) for pair in both]
    assert arithmetic.neg(x).tolist() == [wrap(-a) for a, _ in both]
    assert arithmetic.abs_(x).tolist() == [wrap(abs(a)) for a, _ in both]
    assert arithmetic.sign(x).tolist() == [(a > 0) - (a < 0) for a, _ in both]
    assert arithmetic.lt(x, y).tolist() == [a < b for a, b in both]
    for function in (arithmetic.add, arithmetic.sub, arithmetic.mul, arithmetic.div):
        assert function(np.asarray(info.min, dtype), np.asarray(info.max, dtype)).dtype == dtype


def test_clamp_takes_bounds_around_the_operand() -> None:
    low, high = np.array(-1, np.float32), np.array(1, np.float32)
    x = np.array([-5, -1, 0.5, 7, np.nan], np.float32)
    assert bits_of(arithmetic.clamp(low, x, high)) == [0xBF800000, 0xBF800000, 0x3F000000, 0x3F800000, 0x7FC00000]
    zero, nine = np.array(0, np.int8), np.array(9, np.int8)
    assert arithmetic.clamp(zero, np.array([-3, 3, 100], np.int8), nine).tolist() == [0, 3, 9]


def test_sqrt_f64_is_rounded_and_canonical() -> None:
    x = from_bits([0x4000000000000000, 0x8000000000000000, 0xBFF0000000000000, 0x7FF0000000000000], "f64")
    assert bits_of(arithmetic.sqrt_f64(x)) == [0x3FF6A09E667F3BCD, 1 << 63, oracle.NAN["f64"], 0x7FF0000000000000]
    with pytest.raises(TypeError):
        arithmetic.sqrt_f64(np.zeros(1, np.float32))


def test_arithmetic_broadcasts_and_keeps_empty_shapes() -> None:
    got = arithmetic.add(np.zeros((2, 1), numpy_dtype("bf16")), np.ones((1, 3), numpy_dtype("bf16")))
    assert got.shape == (2, 3)
    assert arithmetic.mul(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert arithmetic.maximum(np.zeros((0,), np.float16), np.zeros((0,), np.float16)).shape == (0,)


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "maximum", "minimum", "eq", "lt", "copysign"])
def test_arithmetic_refuses_mixed_types(op: str) -> None:
    with pytest.raises(TypeError, match="one type"):
        getattr(arithmetic, op)(np.zeros(1, np.float32), np.zeros(1))


def test_arithmetic_refuses_types_without_the_operation() -> None:
    true, number = np.ones(1, np.bool_), np.ones(1, np.int32)
    for function in (arithmetic.add, arithmetic.sub, arithmetic.mul, arithmetic.div):
        with pytest.raises(TypeError, match="bool"):
            function(true, true)
    for unary in (arithmetic.neg, arithmetic.abs_, arithmetic.sign):
        with pytest.raises(TypeError, match="bool"):
            unary(true)
    for whole in (arithmetic.floor, arithmetic.ceil, arithmetic.round_, arithmetic.trunc):
        with pytest.raises(TypeError, match="i32"):
            whole(number)
    with pytest.raises(TypeError, match="fma"):
        arithmetic.fma(np.zeros(1), np.zeros(1), np.zeros(1))
