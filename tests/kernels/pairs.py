"""Check pow and atan2 of a device on pairs of arguments against MPFR: random, special, exact and hard ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.kernels.functions import BINARY
from tests.kernels.float_samples import corner_bits, from_bits, sample
from tests.kernels.oracle_functions import oracle2

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
_CONVERGENTS: Final = 40  # of a continued fraction, at most


def draw_pairs(name: str, count: int, rng: np.random.Generator) -> tuple[F32, F32]:
    """Return about `count` pairs of f32 arguments, and all pairs of special values besides."""
    special = from_bits(np.array(corner_bits("f32"), np.uint64), "f32")
    drawn = [tuple(np.meshgrid(special, special))]
    kinds = ("ordinary", "any", "wide", "subnormal", "huge")
    drawn += [
        (sample(kind, (count // 10,), "f32", int(rng.integers(1 << 30))), sample("ordinary", (count // 10,), "f32", i))
        for i, kind in enumerate(kinds)
    ]
    drawn.append((_any_bits(rng, count // 10), _any_bits(rng, count // 10)))
    if name == "pow":
        drawn += [_hard_powers(rng, count // 5), _near_one(rng, count // 10), _almost_midpoints(rng, count // 5)]
    else:
        drawn.append(_hard_quotients(rng, count // 5))
    x, y = (np.concatenate([np.ravel(pair[i]) for pair in drawn]).astype(np.float32) for i in range(2))
    return x, y


def check_pairs(name: str, evaluate: Callable[[F32, F32], Array], x: F32, y: F32) -> list[tuple[int, int, int, int]]:
    """Return (bits of x, bits of y, expected, actual) of every pair whose result is not the correctly rounded one."""
    if name not in BINARY:
        raise ValueError(f"{name} is no function of two arguments")
    actual = evaluate(x, y).view(np.uint32).tolist()
    with np.errstate(invalid="ignore"):  # signalling NaN
        arguments = zip(x.astype(np.float64).tolist(), y.astype(np.float64).tolist(), strict=True)
    expected = (oracle2(name, a, b, "f32") for a, b in arguments)
    bits = (values.view(np.uint32).tolist() for values in (x, y))
    return [case for case in zip(*bits, expected, actual, strict=True) if case[2] != case[3]]


def _any_bits(rng: np.random.Generator, count: int) -> F32:
    return rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)


def _hard_powers(rng: np.random.Generator, count: int) -> tuple[F32, F32]:
    """Short numbers to small whole, half and quarter powers: exact results, midpoints, and neighbours of both."""
    base = rng.integers(1, 1 << 13, count).astype(np.float64) * np.exp2(rng.integers(-20, 8, count))
    roots = rng.integers(0, 3, count)
    x = (base ** (1 << roots)).astype(np.float32)
    power = rng.integers(-4, 9, count) / (1 << roots)
    x = np.nextafter(x, np.float32(np.inf), where=rng.random(count) < 0.2, out=x.copy())
    return np.where(rng.random(count) < 0.1, -x, x).astype(np.float32), power.astype(np.float32)


def _near_one(rng: np.random.Generator, count: int) -> tuple[F32, F32]:
    """Bases close to 1 and results close to 1, where the logarithm has few bits of its own."""
    x = 1 + rng.integers(-(1 << 10), 1 << 10, count) * 2.0 ** -rng.integers(11, 24, count)
    return x.astype(np.float32), np.exp2(rng.uniform(-30, 12, count)).astype(np.float32)


def _almost_midpoints(rng: np.random.Generator, count: int) -> tuple[F32, F32]:
    """Powers a few half steps from 1: rounding the exponent to f32 moves the result by 2^-48 and less of a midpoint."""
    x = np.exp2(rng.uniform(-149, 128, count)).astype(np.float32).astype(np.float64)
    half_steps = 2 * rng.integers(-8, 8, count) + 1
    wanted = half_steps * np.where(half_steps < 0, 2.0**-25, 2.0**-24)
    return x.astype(np.float32), (np.log1p(wanted) / np.log(np.where(x == 1, 3, x))).astype(np.float32)


def _hard_quotients(rng: np.random.Generator, count: int) -> tuple[F32, F32]:
    """Fractions of 24-bit numbers that come closest to the tangent of a midpoint, from its continued fraction."""
    found: list[tuple[int, int]] = []
    while len(found) < count:
        angle = (2 * int(rng.integers(1 << 23, 1 << 24)) + 1) * 2.0**-25
        found += [pair for pair in _convergents(float(np.tan(angle))) if max(pair).bit_length() == 24]
    y, x = np.array(found[:count], np.float64).T
    sign = rng.choice([-1.0, 1.0], (2, count))
    swap = rng.random(count) < 0.5
    return (sign[0] * np.where(swap, x, y)).astype(np.float32), (sign[1] * np.where(swap, y, x)).astype(np.float32)


def _convergents(value: float) -> list[tuple[int, int]]:
    top, bottom, before_top, before_bottom = 1, 0, 0, 1
    result = []
    for _ in range(_CONVERGENTS):
        whole = int(value)
        top, before_top = whole * top + before_top, top
        bottom, before_bottom = whole * bottom + before_bottom, bottom
        if max(top, bottom) >= 1 << 24:
            break
        if top and bottom:
            scale = (1 << 24) // (max(top, bottom) + 1) or 1
            result.append((top * scale, bottom * scale))
        if value == whole:
            break
        value = 1 / (value - whole)
    return result
