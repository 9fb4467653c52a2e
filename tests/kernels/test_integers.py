"""Integer division, remainder and shifts against Python's integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samebits.cas.dtype import INTEGERS, numpy_dtype
from samebits.kernels.integers import div, rem, shift_left, shift_right_arithmetic, shift_right_logical


def every_pair(name: str) -> tuple[Any, Any]:
    """Return all pairs of values for 8 bits, pairs of border values for wider types."""
    dtype = numpy_dtype(name)
    info = np.iinfo(dtype)
    if dtype.itemsize == 1:
        chosen = list(range(info.min, info.max + 1))
    else:
        near = {v + d for v in (info.min, 0, info.max, info.max // 3) for d in range(-70, 71)}
        chosen = sorted(v for v in near if info.min <= v <= info.max)[::3]
        chosen += [info.min, info.max, 0, 1, -1 if info.min < 0 else 2]
    values = np.array(chosen, dtype)
    return np.repeat(values, len(values)), np.tile(values, len(values))


def wrap(value: int, dtype: Any) -> int:
    """Return value modulo the type's width."""
    info = np.iinfo(dtype)
    return int((value - info.min) % 2 ** (8 * dtype.itemsize) + info.min)


@pytest.mark.parametrize("name", INTEGERS)
def test_div_and_rem_follow_the_rules(name: str) -> None:
    x, y = every_pair(name)
    quotients, remainders = div(x, y).tolist(), rem(x, y).tolist()
    for a, b, quotient, remainder in zip(x.tolist(), y.tolist(), quotients, remainders, strict=True):
        if b == 0:
            wanted = (wrap(-1, x.dtype), a)
        else:
            whole = abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)
            wanted = (wrap(whole, x.dtype), a - whole * b)
        assert (quotient, remainder) == wanted, (a, b)
    assert div(x, y).dtype == rem(x, y).dtype == x.dtype


@pytest.mark.parametrize("name", INTEGERS)
def test_shifts_follow_the_rules(name: str) -> None:
    x, by = every_pair(name)
    width = 8 * x.dtype.itemsize
    left, logical = shift_left(x, by).tolist(), shift_right_logical(x, by).tolist()
    arithmetic = shift_right_arithmetic(x, by).tolist()
    for a, amount, *got in zip(x.tolist(), by.tolist(), left, logical, arithmetic, strict=True):
        outside = not 0 <= amount < width
        unsigned = a % 2**width
        signed = unsigned - 2**width if unsigned >= 2 ** (width - 1) else unsigned
        wanted = [
            0 if outside else wrap(a << amount, x.dtype),
            0 if outside else wrap(unsigned >> amount, x.dtype),
            wrap((-1 if signed < 0 else 0) if outside else signed >> amount, x.dtype),
        ]
        assert got == wanted, (a, amount)


@pytest.mark.parametrize("function", [div, rem, shift_left, shift_right_logical, shift_right_arithmetic])
def test_integer_functions_take_scalars_and_broadcast(function: Any) -> None:
    for name in INTEGERS:
        dtype = numpy_dtype(name)
        info = np.iinfo(dtype)
        for a in (info.min, info.max):
            x, y = np.asarray(a, dtype), np.asarray(info.min, dtype)
            scalar = function(x, y)
            assert scalar.shape == ()
            assert scalar.dtype == dtype
            assert function(np.full((2, 1), a, dtype), np.full(3, info.min, dtype)).tolist() == [[int(scalar)] * 3] * 2
    assert function(np.zeros((0, 2), np.int8), np.zeros((0, 2), np.int8)).shape == (0, 2)


@pytest.mark.parametrize("function", [div, rem, shift_left, shift_right_logical, shift_right_arithmetic])
def test_integer_functions_refuse_other_types(function: Any) -> None:
    for left, right in ((np.float32, np.float32), (np.bool_, np.bool_), (np.int8, np.int16)):
        with pytest.raises(TypeError, match="integers of one type"):
            function(np.zeros(1, left), np.zeros(1, right))
