"""Element-wise arithmetic: + - * / fma, maximum, minimum, sign operations, rounding to whole numbers, comparisons.

Float results are rounded once to the operands' type, and a NaN result is the canonical one; integers wrap. Operands of
one call have one element type (TypeError) and broadcast as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import FLOATS, dtype_name, numpy_dtype
from samebits.kernels import integers
from samebits.kernels.convert import widen_f64
from samebits.kernels.rounding import canonical_nan, is_nan, nan_of, round_odd_sum, round_to, to_bits, widen

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
_FLOATS: Final = frozenset(FLOATS)


def add(x: Array, y: Array) -> Array:
    """RN(x + y)."""
    return _binary("add", np.add, x, y)


def sub(x: Array, y: Array) -> Array:
    """RN(x - y)."""
    return _binary("sub", np.subtract, x, y)


def mul(x: Array, y: Array) -> Array:
    """RN(x * y)."""
    return _binary("mul", np.multiply, x, y)


def div(x: Array, y: Array) -> Array:
    """RN(x / y); integers truncate (see integers.py)."""
    return _binary("div", np.divide, x, y)


def _binary(op: str, function: Callable[[Array, Array], Array], x: Array, y: Array) -> Array:
    x, y = np.asarray(x), np.asarray(y)
    name = _one_type(op, x, y)
    if name == "bool":
        raise TypeError(f"{op} is not defined for bool")
    if name not in _FLOATS:
        return integers.div(x, y) if op == "div" else np.asarray(function(x, y))
    with np.errstate(all="ignore"):
        if name in ("f32", "f64"):
            return canonical_nan(np.asarray(function(x, y)))
        # f16, bf16 have t = 11, 8 bits. The f64 detour rounds twice, but never differently: that takes an f64 value
        # which is a midpoint M of the target (t + 1 bits, fewer where subnormal) while the exact r is not M.
        # Products, and sums of f16, are exact in f64. A sum of bf16 that is not exact has a term below 2^-37 of the
        # other, so r and its f64 value round to the larger term, which is no midpoint. A quotient that is not M has
        # |x/y - M| = |x - M y| / |y| >= 2^-(2t+1) |x/y|, and 2t + 1 <= 23 is well within f64's 53 bits.
        return round_to(np.asarray(function(widen_f64(x), widen_f64(y))), name)


def fma(x: Array, y: Array, z: Array) -> Array:
    """RN(x * y + z), one rounding. f32, bf16, f16."""
    x, y, z = np.asarray(x), np.asarray(y), np.asarray(z)
    name = _one_type("fma", x, y, z)
    if name not in ("f32", "bf16", "f16"):
        raise TypeError(f"fma is not defined for {name}")
    with np.errstate(all="ignore"):
        product = np.multiply(widen_f64(x), widen_f64(y))  # 48 bits, exponents far from f64's ends: exact
        hi, lo = two_sum(product, widen_f64(z))
    return round_to(round_odd_sum(hi, lo), name)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return (RN(a + b), the exact error) of f64 arrays, barring overflow. Source: Knuth, TAOCP 2, 4.2.2, theorem B."""
    hi = np.asarray(np.add(a, b))
    part = np.subtract(hi, a)
    lo = np.add(np.subtract(a, np.subtract(hi, part)), np.subtract(b, part))
    return hi, np.asarray(lo)


def sqrt_f64(x: Array) -> Array:
    """RN(sqrt(x)) of f64, the hardware's; -0 gives -0, x < 0 NaN."""
    if x.dtype != np.float64:
        raise TypeError(f"sqrt_f64 takes f64, not {x.dtype}")
    with np.errstate(all="ignore"):
        return canonical_nan(np.asarray(np.sqrt(x)))


def maximum(x: Array, y: Array) -> Array:
    """IEEE 754-2019 maximum: NaN propagates, -0 < +0. bool: or."""
    # equal floats differ at most in the sign of zero: AND keeps a minus only where both have it
    return _extreme("maximum", np.greater, np.bitwise_and, x, y)


def minimum(x: Array, y: Array) -> Array:
    """IEEE 754-2019 minimum: NaN propagates, -0 < +0. bool: and."""
    return _extreme("minimum", np.less, np.bitwise_or, x, y)


def _extreme(
    op: str, wins: Callable[[Array, Array], Array], join: Callable[[Array, Array], Array], x: Array, y: Array
) -> Array:
    x, y = np.asarray(x), np.asarray(y)
    name = _one_type(op, x, y)
    if name not in _FLOATS:
        return np.asarray(np.where(wins(x, y), x, y))
    with np.errstate(all="ignore"):
        a, b = _comparable(x), _comparable(y)
        x_wins, equal, nan = wins(a, b), a == b, is_nan(a) | is_nan(b)
    x_bits, y_bits = to_bits(x), to_bits(y)
    bits = np.where(equal, join(x_bits, y_bits), np.where(x_wins, x_bits, y_bits))
    return np.asarray(np.where(nan, to_bits(nan_of(name)), bits)).view(x.dtype)


def clamp(low: Array, x: Array, high: Array) -> Array:
    """minimum(maximum(x, low), high), in the operand order of JAX."""
    return minimum(maximum(x, low), high)


def neg(x: Array) -> Array:
    """Flip the sign bit, of NaN too; integers wrap."""
    x = np.asarray(x)
    if _signed_type("neg", x) not in _FLOATS:
        return np.asarray(np.subtract(x.dtype.type(0), x))
    return np.asarray(to_bits(x) ^ _sign_bit(x)).view(x.dtype)


def abs_(x: Array) -> Array:
    """Clear the sign bit, of NaN too; integers wrap (abs(MIN) = MIN)."""
    x = np.asarray(x)
    if _signed_type("abs", x) not in _FLOATS:
        return np.asarray(np.where(x < 0, np.subtract(x.dtype.type(0), x), x))
    return np.asarray(to_bits(x) & ~_sign_bit(x)).view(x.dtype)


def copysign(x: Array, y: Array) -> Array:
    """Return x with the sign bit of y. Floats."""
    x, y = np.asarray(x), np.asarray(y)
    name = _one_type("copysign", x, y)
    _check_float("copysign", name)
    sign = _sign_bit(x)
    return np.asarray((to_bits(x) & ~sign) | (to_bits(y) & sign)).view(x.dtype)


def sign(x: Array) -> Array:
    """Return -1, 0 or 1 in the operand's type; -0 stays -0, NaN is canonical."""
    x = np.asarray(x)
    name = _signed_type("sign", x)
    if name not in _FLOATS:
        return np.asarray(np.sign(x))
    bits = to_bits(x)
    magnitude = bits & ~_sign_bit(x)
    one = to_bits(np.ones((), x.dtype)) | (bits & _sign_bit(x))
    return canonical_nan(np.asarray(np.where((magnitude == 0) | is_nan(x), bits, one)).view(x.dtype))


def floor(x: Array) -> Array:
    """Round down to a whole number. Floats; the sign of zero follows IEEE 754, NaN is canonical."""
    return _to_whole("floor", np.floor, x)


def ceil(x: Array) -> Array:
    """Round up to a whole number, as `floor`."""
    return _to_whole("ceil", np.ceil, x)


def round_(x: Array) -> Array:
    """Round to the nearest whole number, ties to even, as `floor`."""
    return _to_whole("round", np.rint, x)


def trunc(x: Array) -> Array:
    """Round toward zero to a whole number, as `floor`."""
    return _to_whole("trunc", np.trunc, x)


def _to_whole(op: str, function: Callable[[Array], Array], x: Array) -> Array:
    x = np.asarray(x)
    name = dtype_name(x.dtype)
    _check_float(op, name)
    with np.errstate(all="ignore"):
        if name in ("f32", "f64"):
            return canonical_nan(np.asarray(function(x)))
        return round_to(np.asarray(function(widen_f64(x))), name)  # exact


def eq(x: Array, y: Array) -> Bools:
    """x == y; false for NaN, -0 equals +0."""
    return _compare("eq", np.equal, x, y)


def ne(x: Array, y: Array) -> Bools:
    """x != y; true for NaN."""
    return _compare("ne", np.not_equal, x, y)


def lt(x: Array, y: Array) -> Bools:
    """x < y; false for NaN."""
    return _compare("lt", np.less, x, y)


def le(x: Array, y: Array) -> Bools:
    """x <= y; false for NaN."""
    return _compare("le", np.less_equal, x, y)


def gt(x: Array, y: Array) -> Bools:
    """x > y; false for NaN."""
    return _compare("gt", np.greater, x, y)


def ge(x: Array, y: Array) -> Bools:
    """x >= y; false for NaN."""
    return _compare("ge", np.greater_equal, x, y)


def _compare(op: str, function: Callable[[Array, Array], Array], x: Array, y: Array) -> Bools:
    x, y = np.asarray(x), np.asarray(y)
    _one_type(op, x, y)
    with np.errstate(all="ignore"):
        return np.asarray(function(_comparable(x), _comparable(y)))


def _comparable(x: Array) -> Array:
    """Return `x` in a type that NumPy itself compares."""
    return widen(x) if x.dtype == numpy_dtype("bf16") else x


def _one_type(op: str, *operands: Array) -> str:
    names = [dtype_name(operand.dtype) for operand in operands]
    if len(set(names)) != 1:
        raise TypeError(f"{op} takes operands of one type, not {', '.join(names)}")
    return names[0]


def _signed_type(op: str, x: Array) -> str:
    name = dtype_name(x.dtype)
    if name == "bool":
        raise TypeError(f"{op} is not defined for bool")
    return name


def _check_float(op: str, name: str) -> None:
    if name not in _FLOATS:
        raise TypeError(f"{op} is not defined for {name}")


def _sign_bit(x: Array) -> Any:
    bits = to_bits(x)
    return bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
