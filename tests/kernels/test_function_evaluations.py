"""The two evaluations behind each function keep their error bounds; their constants are what they claim to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions import erfcx_table, exponential, inverse_trigonometric, quadrant, series
from samebits.kernels.functions.definitions import FUNCTIONS
from samebits.kernels.functions.doubledouble import DoubleDouble
from samebits.kernels.functions.evaluation import EPSILON
from tests.kernels import oracle_exact as exact
from tests.kernels.oracle_functions import oracle

mp = mpmath.mp.clone()
mp.prec = 500

REAL: dict[str, Callable[[Any], Any]] = {
    **{
        name: getattr(mp, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "tanh", "erf")
    },
    **{name: getattr(mp, name) for name in ("erfc", "sinh", "cosh", "asin", "acos", "atan")},
    "exp2": lambda x: mp.power(2, x),
    "log2": lambda x: mp.log(x) / mp.ln(2),
    "rsqrt": lambda x: 1 / mp.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "logistic": lambda x: 1 / (1 + mp.exp(-x)),
}
WITH_PAIRS = sorted(name for name, function in FUNCTIONS.items() if function.accurate is not None)
MODERATE = st.floats(2.0**-200, 2.0**200) | st.floats(-(2.0**200), -(2.0**-200))


def arguments(name: str, count: int) -> Any:
    """Return arguments of every size on which a function's evaluations are called."""
    function = FUNCTIONS[name]
    rng = np.random.default_rng(len(name))
    parts = [
        rng.uniform(-2, 2, count),
        rng.uniform(-110, 110, count),
        1 + rng.uniform(-1e-3, 1e-3, count),
        np.exp(rng.uniform(-60, 60, count)),
        2.0 ** rng.uniform(-149, 127, count),
    ]
    x = np.concatenate(parts).astype(np.float32).astype(np.float64)
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        x = np.abs(x) if function.odd or function.even else x
        x = x[~function.special(x)[0]] if function.special else x
    return np.clip(x, function.low, function.high)


def log2_errors(name: str, x: Any, hi: Any, lo: Any) -> list[float]:
    """Return log2 of the relative errors of hi + lo."""
    errors = []
    for value, h, low in zip(
        x.tolist(), np.broadcast_to(hi, x.shape).tolist(), np.broadcast_to(lo, x.shape).tolist(), strict=True
    ):
        want = REAL[name](mp.mpf(value))
        error = abs((mp.mpf(h) + mp.mpf(low) - want) / want) if want else mp.mpf(h) + mp.mpf(low)
        errors.append(float(mp.log(error, 2)) if error else -1000.0)
    return errors


@pytest.mark.parametrize("name", WITH_PAIRS)
def test_fast_keeps_well_within_epsilon(name: str) -> None:
    function = FUNCTIONS[name]
    x = arguments(name, 4000)
    assert function.accurate is not None
    with np.errstate(all="ignore"):
        pair, v = function.accurate(x), function.fast(x)
        error = np.abs(((v - pair.hi) - pair.lo) / np.where(pair.hi == 0, 1.0, pair.hi))
    assert error.max() < EPSILON / 16


@pytest.mark.parametrize("name", WITH_PAIRS)
def test_accurate_is_good_to_100_bits(name: str) -> None:
    function = FUNCTIONS[name]
    x = arguments(name, 12)
    assert function.accurate is not None
    with np.errstate(all="ignore"):
        pair = function.accurate(x)
    assert max(log2_errors(name, x, pair.hi, pair.lo)) < -100
    assert (pair.hi + pair.lo == pair.hi).all()


@pytest.mark.parametrize("name", ["sin", "tan", "tanh", "sinh", "asin", "atan", "expm1", "log1p"])
def test_accurate_keeps_a_tiny_correction(name: str) -> None:
    function = FUNCTIONS[name]
    x = 2.0 ** np.array([-149.0, -100.0, -60.0])
    assert function.accurate is not None
    pair = function.accurate(x)
    assert (pair.hi == x).all()
    with mp.workprec(1200):
        wanted = [REAL[name](mp.mpf(v)) - v for v in x.tolist()]
        assert all(abs(lo / want - 1) < 2.0**-40 for lo, want in zip(pair.lo.tolist(), wanted, strict=True))


def nearest_pair(c: Any) -> tuple[float, float]:
    """Return RN(c) and RN(c - hi)."""
    hi = float(c)
    return hi, float(c - mp.mpf(hi))


def assert_pairs(table: Sequence[DoubleDouble], values: Sequence[Any]) -> None:
    """Compare a table with the constants it stands for."""
    assert [(c.hi, c.lo) for c in table] == [nearest_pair(v) for v in values]


def test_series_tables_hold_their_constants() -> None:
    assert_pairs(series.INVERSE_FACTORIALS, [1 / mp.factorial(n) for n in range(31)])
    assert_pairs(series.ODD_RECIPROCALS, [mp.mpf(1) / (2 * n + 1) for n in range(23)])
    assert_pairs(series.ATAN_EIGHTHS, [mp.atan(mp.mpf(n) / 8) for n in range(9)])
    root = 2 / mp.sqrt(mp.pi)
    assert_pairs(series.ERF_SERIES, [root * (-1) ** n / (mp.factorial(n) * (2 * n + 1)) for n in range(31)])


def test_single_constants_are_right() -> None:
    assert_pairs([exponential.LN2, exponential.LOG2_E], [mp.ln(2), 1 / mp.ln(2)])
    assert_pairs([inverse_trigonometric.PI_2, inverse_trigonometric.PI], [mp.pi / 2, mp.pi])
    parts = (exponential.LN2_A, exponential.LN2_B)
    assert all(
        Fraction(part) * 2 ** (40 * (i + 1)) == int(Fraction(part) * 2 ** (40 * (i + 1)))
        for i, part in enumerate(parts)
    )
    assert float(mp.ln(2) - sum(map(mp.mpf, parts))) == exponential.LN2_C


def test_two_over_pi_is_right() -> None:
    with mp.workprec(2000):
        bits = int(mp.floor(2 / mp.pi * mp.mpf(2) ** (32 * len(quadrant.TWO_OVER_PI) - 26)))
    assert sum(word << 32 * i for i, word in enumerate(reversed(quadrant.TWO_OVER_PI))) == bits


@pytest.mark.parametrize(("table", "bound"), [(erfcx_table.ERFCX_SHORT, -63), (erfcx_table.ERFCX_LONG, -106)])
def test_erfcx_table_meets_its_bound(table: Sequence[DoubleDouble], bound: int) -> None:
    coefficients = [mp.mpf(c.hi) + mp.mpf(c.lo) for c in reversed(table)]
    for n in range(301):
        u = mp.mpf(9) / 17 * (mp.mpf(n) / 150 - 1)
        x = mp.mpf(3.25) * (1 + u) / (1 - u)
        want = mp.exp(x * x) * mp.erfc(x)
        assert abs(mp.polyval(coefficients, u) / want - 1) < mp.mpf(2) ** bound


def test_reduce_finds_quadrant_and_remainder_of_any_angle() -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([2.0 ** rng.uniform(-2, 128, 200), rng.uniform(0, 50, 100), [16367173.0 * 2.0**72]])
    x = x.astype(np.float32).astype(np.float64)
    q, r = quadrant.reduce(x)
    q_f64, r_f64 = quadrant.reduce_f64(x)
    assert (q == q_f64).all()
    for value, n, hi, lo, single in zip(
        x.tolist(), q.tolist(), r.hi.tolist(), r.lo.tolist(), r_f64.tolist(), strict=True
    ):
        turns = mp.mpf(value) / (mp.pi / 2)
        whole = int(mp.nint(turns))
        assert n == whole % 4
        want = (turns - whole) * mp.pi / 2
        assert abs((mp.mpf(hi) + mp.mpf(lo)) / want - 1) < mp.mpf(2) ** -100
        assert abs(mp.mpf(single) / want - 1) < mp.mpf(2) ** -51


def total(pair: DoubleDouble) -> Fraction:
    """Return a pair's exact value."""
    return Fraction(np.asarray(pair.hi).item()) + Fraction(np.asarray(pair.lo).item())


def pair_of(hi: float, lo: float) -> DoubleDouble:
    """Return a normalized pair of arrays; lo is scaled below half an ulp of hi."""
    return dd.fast_two_sum(np.array([hi]), np.array([hi * lo * 2.0**-54]))


def pairs() -> st.SearchStrategy[DoubleDouble]:
    """Return pairs of moderate size, many with a far smaller or no lower part."""
    return st.builds(pair_of, MODERATE, st.floats(-1, 1) | st.just(0.0) | st.just(2.0**-100))


def assert_close(got: DoubleDouble, want: Fraction, ulps: float) -> None:
    """Bound the error in units of 2^-106 of the value."""
    assert float(got.hi[0]) + float(got.lo[0]) == float(got.hi[0])
    assert abs(total(got) - want) <= abs(want) * Fraction(ulps) / 2**106


@settings(max_examples=150, deadline=None)
@given(MODERATE, MODERATE)
def test_two_sum_and_two_prod_are_exact(a: float, b: float) -> None:
    assert total(dd.two_sum(a, b)) == Fraction(a) + Fraction(b)
    assert total(dd.two_prod(a, b)) == Fraction(a) * Fraction(b)
    assert a * b == dd.two_prod(a, b).hi


@settings(max_examples=150, deadline=None)
@given(pairs(), pairs())
def test_pair_arithmetic_keeps_its_bounds(a: DoubleDouble, b: DoubleDouble) -> None:
    assert_close(dd.add(a, b), total(a) + total(b), 3)
    assert_close(dd.sub(a, b), total(a) - total(b), 3)
    assert_close(dd.mul(a, b), total(a) * total(b), 5)
    assert_close(dd.div(a, b), total(a) / total(b), 10)
    assume(total(a) > 0)
    root = dd.sqrt(a)
    assert abs(total(root) ** 2 - total(a)) <= total(a) * Fraction(8, 2**106)


def test_sqrt_of_zero_is_zero() -> None:
    with np.errstate(all="ignore"):
        root = dd.sqrt(dd.exactly(np.zeros(2)))
    assert root.hi.tolist() == [0.0, 0.0]
    assert root.lo.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("text", ["", "0x1p0", "0x1p0 0x0p0 0x0p0", "one two"])
def test_read_table_refuses_other_lines(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        dd.read_table(text or "\n\nx")


def test_oracle_agrees_with_exact_rounding_of_mpmath() -> None:
    rng = np.random.default_rng(1)
    for name in REAL:
        x = arguments(name, 8)[:40] if FUNCTIONS[name].accurate else np.exp(rng.uniform(-80, 80, 20)).astype(np.float32)
        for value, dtype in zip(x.tolist(), ["f32", "bf16", "f16"] * 14, strict=False):
            sign, mantissa, exponent, _ = REAL[name](mp.mpf(value))._mpf_
            real = Fraction(int(mantissa)) * Fraction(2) ** exponent * (-1 if sign else 1)
            assert oracle(name, value, dtype) == exact.rn(real, dtype, sign), (name, value, dtype)
