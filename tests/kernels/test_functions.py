"""Correctly rounded functions against MPFR: special values, landmarks, hard cases, random bits, all halves."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.kernels import functions
from samebits.kernels.errors import UnknownOpError
from samebits.kernels.functions import BINARY, UNARY, evaluate, evaluate2
from samebits.kernels.optable import FUNCTIONS
from samebits.kernels.rounding import to_bits, widen
from tests.kernels.float_samples import from_bits
from tests.kernels.oracle_functions import NAN, oracle, oracle2

DTYPES = ("f32", "bf16", "f16")
ALL_HALVES = ("exp", "log", "sin", "tanh", "erf", "logistic")
HARD_CASES = Path(__file__).parent / "hard_cases.json"
INF = float("inf")

# Overflow and underflow, saturation, ends of domains, where evaluations change over.
BORDERS = (
    *(88.7228, -87.3365, -103.2789, -103.9721, 127.0, 128.0, -126.0, -149.0, -150.0, 11.0899, -17.3287, -16.6355),
    *(89.416, 9.0109, 8.3178, 17.3287, 16.6355, 3.8325, 3.9192, 10.0549, 9.194, -3.8325, 88.0297, -88.7228, 104.0),
    *(0.5, 0.75, 1.0, 2.0, 0.34657, 0.70710678, 1.41421356, 0.5493, 0.0625, 0.1875, 0.25, 0.2928932, 0.4142135),
    *(10.5, 40.0, 200.0, 0.3678794, 65504.0, 65520.0, 2.7182818, 1e-38, 3.4e38, 5e-20, 1e19, 1.8e19),
)
# Close to multiples of pi/2; the third is the f32 that comes closest of all.
NEAR_MULTIPLES = (1.5707964, 3.1415927, 16367173.0 * 2.0**72, 4.712389, 6.2831855, 10.995574, 102.10176, 8388608.0)


def f32(values: Iterable[float]) -> Any:
    """Return values as f32."""
    with np.errstate(all="ignore"):
        return np.array(list(values), np.float64).astype(np.float32)


def neighbours(x: Any, reach: int = 2) -> Any:
    """Return f32 values with those up to `reach` ulps beside them, both signs."""
    bits = x.view(np.int32).astype(np.int64) & 0x7FFFFFFF
    near = np.unique(np.clip(np.concatenate([bits + d for d in range(-reach, reach + 1)]), 0, 0x7F800000))
    return np.concatenate([near, near | 0x80000000]).astype(np.uint32).view(np.float32)


def random_f32(count: int, seed: int) -> Any:
    """Return f32 values of random bits, without NaN."""
    x = np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)
    return x[~np.isnan(x)]


def check(name: str, x: Any, dtype: str = "f32") -> None:
    """Compare all bits with the oracle and name the first input that differs."""
    got = to_bits(evaluate(name, x, dtype)).tolist()
    for value, bits in zip(x.tolist(), got, strict=True):
        expected = oracle(name, value, dtype)
        assert bits == expected, f"{name}({value.hex()}) in {dtype}: {bits:#x}, want {expected:#x}"


def check2(name: str, x: Any, y: Any, dtype: str = "f32") -> None:
    """Compare a function of two arguments with the oracle."""
    got = to_bits(evaluate2(name, x, y, dtype)).tolist()
    for a, b, bits in zip(x.tolist(), y.tolist(), got, strict=True):
        expected = oracle2(name, a, b, dtype)
        assert bits == expected, f"{name}({a.hex()}, {b.hex()}) in {dtype}: {bits:#x}, want {expected:#x}"


def test_unary_covers_the_op_table() -> None:
    assert set(UNARY) == {*FUNCTIONS, "sqrt"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_evaluate_follows_ieee_at_special_values(name: str, dtype: str) -> None:
    check(name, f32([0.0, -0.0, INF, -INF, float("nan"), 1.0, -1.0, 2.0, -2.0, 2.0**-149, -(2.0**-149), 3.4e38]), dtype)


@pytest.mark.parametrize(
    ("name", "x", "bits"),
    [
        *[("sqrt", -0.0, 0x80000000), ("rsqrt", -0.0, 0xFF800000), ("rsqrt", 0.0, 0x7F800000)],
        *[("reciprocal", -0.0, 0xFF800000), ("log", 0.0, 0xFF800000), ("log", -0.0, 0xFF800000)],
        *[("log", -1.0, 0x7FC00000), ("log1p", -1.0, 0xFF800000), ("log1p", -0.0, 0x80000000)],
        *[("logistic", -INF, 0), ("logistic", INF, 0x3F800000), ("logistic", -0.0, 0x3F000000)],
        *[("erf", INF, 0x3F800000), ("erfc", INF, 0), ("erfc", -INF, 0x40000000), ("erf", -0.0, 0x80000000)],
        *[("exp", -INF, 0), ("expm1", -INF, 0xBF800000), ("expm1", -0.0, 0x80000000), ("sin", INF, 0x7FC00000)],
        *[("cos", -INF, 0x7FC00000), ("tan", -0.0, 0x80000000), ("asin", 1.5, 0x7FC00000), ("acos", 1.0, 0)],
        *[("atan", -INF, 0xBFC90FDB), ("tanh", -INF, 0xBF800000), ("cosh", -INF, 0x7F800000)],
        *[
            ("exp2", -149.0, 1),
            ("exp2", -150.0, 0),
            ("log2", 2.0**-149, 0xC3150000),
            ("reciprocal", 2.0**127, 0x400000),
        ],
    ],
)
def test_evaluate_gives_the_standards_value(name: str, x: float, bits: int) -> None:
    assert int(to_bits(evaluate(name, f32([x]), "f32"))[0]) == bits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_evaluate_gives_the_canonical_nan(name: str, dtype: str) -> None:
    x = from_bits([0x7F800001, 0x7FC12345, 0xFFC00000, 0xFFFFFFFF, 0xFF800001], "f32")
    assert to_bits(evaluate(name, x, dtype)).tolist() == [NAN[dtype]] * 5


@pytest.mark.parametrize("name", UNARY)
def test_evaluate_is_right_beside_powers_of_two(name: str) -> None:
    check(name, neighbours(f32(2.0**e for e in range(-149, 128)), 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_evaluate_is_right_beside_borders(name: str, dtype: str) -> None:
    check(name, neighbours(f32([*BORDERS, *NEAR_MULTIPLES])), dtype)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_evaluate_is_right_beside_multiples_of_half_pi(name: str) -> None:
    multiples = np.arange(1, 400, dtype=np.float64) * np.pi / 2
    check(name, neighbours(multiples.astype(np.float32), 1))
    check(name, neighbours((multiples * 2.0 ** (np.arange(399) % 100)).astype(np.float32), 0))


@pytest.mark.parametrize("name", ["logistic", "exp", "expm1", "cosh", "cos", "exp2", "log1p"])
def test_evaluate_settles_values_close_to_midpoints(name: str) -> None:
    # logistic(k 2^-23) = midpoint - x^3/48: 2^-77 of the value away for k = 1
    check(name, f32(s * k * 2.0**e for e in range(-26, -9) for k in (1, 3, 5, 7, 9) for s in (1, -1)))


@pytest.mark.parametrize("name", ["sin", "tan", "tanh", "sinh", "asin", "atan", "expm1", "log1p"])
def test_evaluate_rounds_tiny_midpoints_of_halves_to_the_right_side(name: str) -> None:
    # x is half way between two bf16 values (and f16 values); f(x) = x (1 -+ tiny), tiny down to 2^-290, decides
    x = f32(s * (1 + k * 2.0**-8) * 2.0**e for e in (-140, -120, -60, -30, -20) for k in (1, 3, 127) for s in (1, -1))
    check(name, x, "bf16")
    check(name, f32(s * k * 2.0**-25 for k in (1, 3, 5, 1023) for s in (1, -1)), "f16")


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "erf", "logistic", "sin"])
def test_evaluate_rounds_once_to_bf16(name: str) -> None:
    # results in f32 that look like midpoints of bf16, though the real values are not
    x = np.random.default_rng(3).uniform(0.001, 3, 1 << 20).astype(np.float32)
    looks_tied = (to_bits(evaluate(name, x, "f32")) & np.uint32(0xFFFF)) == 0x8000
    assert looks_tied.sum() >= 5
    check(name, x[looks_tied], "bf16")


@pytest.mark.parametrize("name", UNARY)
def test_evaluate_is_right_on_random_bits(name: str) -> None:
    check(name, random_f32(15000, UNARY.index(name)))
    check(name, np.random.default_rng(UNARY.index(name)).normal(0, 3, 5000).astype(np.float32))


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("name", UNARY)
def test_evaluate_is_right_in_halves_of_any_f32(name: str, dtype: str) -> None:
    check(name, random_f32(2000, 100 + UNARY.index(name)), dtype)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("name", ALL_HALVES)
def test_evaluate_is_right_on_every_half(name: str, dtype: str) -> None:
    x = widen(from_bits(np.arange(1 << 16), dtype))
    check(name, x[~np.isnan(x)], dtype)


@pytest.mark.parametrize("name", sorted(json.loads(HARD_CASES.read_text())))
def test_evaluate_is_right_on_the_hardest_arguments(name: str) -> None:
    # The arguments whose values lie closest to a midpoint of f32, with the results: hexadecimal bits.
    cases = [[int(word, 16) for word in case.split()] for case in json.loads(HARD_CASES.read_text())[name]]
    x = from_bits([case[0] for case in cases], "f32")
    assert [oracle(name, value, "f32") for value in x.tolist()] == [case[1] for case in cases]
    check(name, x)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(UNARY), st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))
def test_evaluate_agrees_with_mpfr(name: str, bits: int, dtype: str) -> None:
    check(name, from_bits([bits], "f32"), dtype)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3), (16383,), (16384,), (16385,), (32769,)])
def test_evaluate_keeps_the_shape(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    result = evaluate("exp", np.asarray(x), "f32")
    assert result.shape == shape
    single = [int(to_bits(evaluate("exp", np.asarray(v), "f32"))) for v in x.ravel()[-3:]]
    assert to_bits(result).ravel()[-3:].tolist() == single


def test_evaluate_takes_strided_views_and_leaves_them_alone() -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    before = x.copy()
    got = evaluate("log1p", x[::2, ::-1].T, "f32")
    assert (to_bits(got) == to_bits(evaluate("log1p", x, "f32"))[::2, ::-1].T).all()
    assert (x == before).all()


def test_evaluate_refuses_unknown_names_and_types() -> None:
    with pytest.raises(UnknownOpError):
        evaluate("gamma", f32([1.0]), "f32")
    with pytest.raises(UnknownOpError):
        evaluate2("exp", f32([1.0]), f32([1.0]), "f32")
    for dtype in ("f64", "i32", "float32"):
        with pytest.raises(TypeError, match="exp takes f32"):
            evaluate("exp", f32([1.0]), dtype)
    with pytest.raises(TypeError, match="float64"):
        evaluate("exp", np.ones(1), "f32")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_evaluate2_follows_ieee_at_special_values(name: str, dtype: str) -> None:
    some = [0.0, -0.0, INF, -INF, float("nan"), 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1.5, 2.0**24, 2.0**24 - 1]
    some += [-(2.0**24) + 1, 2.0**-149, -(2.0**-149), 3.4e38, -3.4e38, 1 + 2.0**-23, 1 - 2.0**-24, -0.75, 9.0, 33.0]
    x, y = np.meshgrid(f32(some), f32(some))
    check2(name, x.ravel(), y.ravel(), dtype)


@pytest.mark.parametrize("name", BINARY)
def test_evaluate2_is_right_on_random_arguments(name: str) -> None:
    rng = np.random.default_rng(5)
    check2(name, random_f32(6000, 1)[:5000], random_f32(6000, 2)[:5000])
    x, y = np.exp(rng.uniform(-3, 3, 10000)).astype(np.float32), rng.uniform(-30, 30, 10000).astype(np.float32)
    check2(name, x, y)
    for dtype in ("bf16", "f16"):
        check2(name, x[:3000], y[:3000], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_settles_exact_powers_and_midpoints(dtype: str) -> None:
    rng = np.random.default_rng(6)
    power = rng.integers(1, 16, 6000)
    root = rng.choice([1, 2, 4, 8], 6000)
    base = np.floor(rng.uniform(2, 2.0**25.5, 6000) ** (1 / power))
    x = base**root * 2.0 ** (root * rng.integers(-8, 3, 6000))
    fits = (x == f32(x)) & (x < 2.0**100)
    check2("pow", x[fits].astype(np.float32), (power / root)[fits].astype(np.float32), dtype)
    ones = np.ones(2000, np.float32)
    check2("pow", rng.integers(1, 1 << 24, 2000).astype(np.float32), ones, dtype)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BINARY), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))
def test_evaluate2_agrees_with_mpfr(name: str, x: int, y: int, dtype: str) -> None:
    check2(name, from_bits([x], "f32"), from_bits([y], "f32"), dtype)


def test_evaluate2_broadcasts() -> None:
    x, y = f32([1.0, 2.0, 3.0]), f32([0.5, 2.0])
    got = evaluate2("pow", x[:, None], y, "f32")
    assert got.shape == (3, 2)
    assert to_bits(got)[2, 1] == to_bits(f32([9.0]))[0]


def test_functions_use_exact_numpy_operations_only() -> None:
    # What IEEE 754 or integer arithmetic defines to the last bit, and movement.
    allowed = {
        *("abs", "copysign", "isfinite", "isinf", "isnan", "maximum", "minimum", "rint", "signbit", "sqrt", "where"),
        *("arange", "array", "ascontiguousarray", "asarray", "broadcast_arrays", "concatenate", "empty", "errstate"),
        *("flatnonzero", "full_like", "ones_like", "take"),
        *("bool_", "float32", "float64", "inf", "int64", "intp", "nan", "ndarray", "typing", "uint64"),
    }
    folder = Path(str(functions.__file__)).parent
    for path in folder.glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
                assert node.attr in allowed, f"{path.name} uses np.{node.attr}"
            if isinstance(node, ast.Import):
                assert all(alias.name != "math" for alias in node.names), path.name
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
                parts = [part.operand if isinstance(part, ast.UnaryOp) else part for part in (node.left, node.right)]
                assert all(isinstance(part, ast.Constant) for part in parts), f"{path.name} raises to a power"
