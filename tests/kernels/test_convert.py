"""Casts between every two element types."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import DTYPES, FLOATS, INTEGERS, numpy_dtype
from samebits.cas.errors import NodeError
from samebits.kernels.convert import convert, float_to_int, int_to_float
from tests.kernels import oracle_exact as oracle
from tests.kernels.float_samples import bits_of, corner_bits, from_bits


def saturate(bits: int, source: str, dtype: Any) -> int:
    """Return the integer that a float becomes."""
    info = np.iinfo(dtype)
    if oracle.is_nan(bits, source):
        return 0
    if oracle.is_inf(bits, source):
        return int(info.min if oracle.sign_of(bits, source) else info.max)
    r = oracle.value(bits, source)
    whole = abs(r).numerator // abs(r).denominator * (-1 if r < 0 else 1)
    return min(max(whole, int(info.min)), int(info.max))


def border_bits(source: str) -> list[int]:
    """Return bits at the ends of every integer type, half a step around them, and the format's corners."""
    found = corner_bits(source)
    for power in (7, 8, 15, 16, 31, 32, 63, 64):
        for near in (-1, 0, 1):
            for half in (-1, 0, 1):
                for sign in (-1, 1):
                    found.append(oracle.rn((Fraction(2**power + near) + Fraction(half, 2)) * sign, source))
    return found


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", INTEGERS)
def test_float_to_int_truncates_and_saturates(source: str, target: str) -> None:
    bits = border_bits(source)
    got = convert(from_bits(bits, source), target)
    assert got.dtype == numpy_dtype(target)
    assert got.tolist() == [saturate(b, source, numpy_dtype(target)) for b in bits]
    assert [int(convert(from_bits(b, source), target)) for b in bits[:40]] == got.tolist()[:40]


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("target", FLOATS)
def test_int_to_float_rounds_once(source: str, target: str) -> None:
    info = np.iinfo(numpy_dtype(source))
    near = {s * (2**k + d) for k in range(65) for d in (-1, 0, 1) for s in (-1, 1)} | {
        2**60 + 2**36 + 1,
        2**62 + 2**38 + 1,
    }
    near |= {2**60 + 2**52 + 1, 2**15 + 2**4 + 1, 2**61 + 2**53 + 1}
    values = sorted(v for v in near if info.min <= v <= info.max)
    got = bits_of(convert(np.array(values, numpy_dtype(source)), target))
    assert got == [oracle.rn(Fraction(v), target) for v in values]


@settings(max_examples=300, deadline=None)
@given(value=st.integers(-(2**63), 2**63 - 1), target=st.sampled_from(FLOATS))
def test_int_to_float_equals_exact_rounding(value: int, target: str) -> None:
    assert bits_of(convert(np.array(value), target)) == oracle.rn(Fraction(value), target)
    unsigned = value % 2**64
    assert bits_of(convert(np.array(unsigned, np.uint64), target)) == oracle.rn(Fraction(unsigned), target)


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", FLOATS)
def test_float_to_float_rounds_once_with_canonical_nan(source: str, target: str) -> None:
    bits = border_bits(source)
    got = bits_of(convert(from_bits(bits, source), target))
    assert got == [oracle.convert(b, source, target) for b in bits]


def test_convert_avoids_the_double_rounding_of_ml_dtypes() -> None:
    x = np.array([1 + 2.0**-8 + 2.0**-40])
    assert bits_of(x.astype(ml_dtypes.bfloat16)) == [0x3F80]  # why astype is not used
    assert bits_of(convert(x, "bf16")) == [0x3F81]


@pytest.mark.parametrize("source", DTYPES)
def test_convert_to_and_from_bool(source: str) -> None:
    ones = convert(np.array([False, True]), source)
    assert ones.dtype == numpy_dtype(source)
    assert [float(v) for v in ones] == [0.0, 1.0]
    assert convert(ones, "bool").tolist() == [False, True]
    if source in FLOATS:
        bits = corner_bits(source)
        wanted = [oracle.magnitude(b, source) != 0 for b in bits]
        assert convert(from_bits(bits, source), "bool").tolist() == wanted


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("target", INTEGERS)
def test_int_to_int_wraps(source: str, target: str) -> None:
    info = np.iinfo(numpy_dtype(source))
    wide = np.iinfo(numpy_dtype(target))
    values = sorted({info.min, info.max, 0, 1, info.max // 2, info.max // 3})
    got = convert(np.array(values, numpy_dtype(source)), target).tolist()
    span = int(wide.max) - int(wide.min) + 1
    assert got == [(int(v) - int(wide.min)) % span + int(wide.min) for v in values]


def test_convert_refuses_unknown_types() -> None:
    with pytest.raises(NodeError, match="f8"):
        convert(np.zeros(1), "f8")
    with pytest.raises(TypeError):
        convert(np.zeros(1, np.complex64), "f32")
    with pytest.raises(TypeError):
        float_to_int(np.zeros(1), "f32")
    with pytest.raises(TypeError):
        int_to_float(np.zeros(1), "f32")
