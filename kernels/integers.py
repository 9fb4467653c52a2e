"""Integer arithmetic that wraps and never traps: division, remainder and shifts for every input.

x/0 = -1 (all ones for unsigned types), x rem 0 = x, MIN/-1 = MIN, MIN rem -1 = 0. Division truncates toward zero.
A shift by the width or more gives 0; an arithmetic shift right then gives the sign fill.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def check_integer(op: str, *operands: Array) -> np.dtype[Any]:
    """Return the one integer type of all operands; raises TypeError for others, bool included, or for a mixture."""
    dtypes = {operand.dtype for operand in operands}
    if len(dtypes) != 1 or (dtype := dtypes.pop()).kind not in "iu":
        raise TypeError(f"{op} takes integers of one type, not {', '.join(str(o.dtype) for o in operands)}")
    return dtype


def div(x: Array, y: Array) -> Array:
    """Return the truncated quotient, by the rules above."""
    x, y = np.asarray(x), np.asarray(y)
    dtype = check_integer("div", x, y)
    quotient, _, unusual = _divide(x, y)
    # y = -1 is apart because MIN / -1 has no quotient; 0 - x wraps to MIN there.
    negated = np.subtract(dtype.type(0), x)
    all_ones = np.invert(dtype.type(0))
    special = np.where(y == 0, all_ones, negated)
    return np.asarray(np.where(unusual, special, quotient)).astype(dtype, copy=False)


def rem(x: Array, y: Array) -> Array:
    """Return x - trunc(x / y) * y, which has the sign of x, by the rules above."""
    x, y = np.asarray(x), np.asarray(y)
    dtype = check_integer("rem", x, y)
    _, remainder, unusual = _divide(x, y)
    special = np.where(y == 0, x, dtype.type(0))
    return np.asarray(np.where(unusual, special, remainder)).astype(dtype, copy=False)


def _divide(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return truncated quotient, remainder, and where they are void: y = 0, or y = -1 of a signed type."""
    unusual = y == 0
    if y.dtype.kind == "i":
        unusual = unusual | (y == -1)
    divisor = np.where(unusual, y.dtype.type(1), y)
    floor = np.floor_divide(x, divisor)
    with np.errstate(over="ignore"):  # 0-d arrays warn where arrays wrap silently
        remainder = np.subtract(x, np.multiply(floor, divisor))
        if y.dtype.kind == "i":  # a floor below the truncated quotient: remainder and x differ in sign
            down = (remainder != 0) & ((remainder < 0) != (x < 0))
            floor = np.add(floor, down.astype(y.dtype))
            remainder = np.where(down, np.subtract(remainder, divisor), remainder)
    return floor, remainder, unusual


def shift_left(x: Array, by: Array) -> Array:
    """Return x * 2^by, wrapped. `by` is read as unsigned, so a negative amount shifts everything out."""
    x, by, width = _shift_operands("shift_left", x, by)
    amount = np.minimum(by, width - 1).astype(x.dtype)
    return np.asarray(np.where(by < width, np.left_shift(x, amount), x.dtype.type(0)))


def shift_right_logical(x: Array, by: Array) -> Array:
    """Shift right, zeros come in. `by` is read as unsigned."""
    x, by, width = _shift_operands("shift_right_logical", x, by)
    bits = x.view(by.dtype)
    shifted = np.where(by < width, np.right_shift(bits, np.minimum(by, width - 1)), by.dtype.type(0))
    return np.asarray(shifted).view(x.dtype)


def shift_right_arithmetic(x: Array, by: Array) -> Array:
    """Shift right, copies of the top bit come in, for unsigned types as well. `by` is read as unsigned."""
    x, by, width = _shift_operands("shift_right_arithmetic", x, by)
    signed = np.dtype(f"<i{x.dtype.itemsize}")
    shifted = np.right_shift(x.view(signed), np.minimum(by, width - 1).astype(signed))
    return np.asarray(shifted).view(x.dtype)


def _shift_operands(op: str, x: Array, by: Array) -> tuple[Array, Array, Any]:
    """Return x, the amount as unsigned of the same width, and the width in bits in that type."""
    x, by = np.broadcast_arrays(np.asarray(x), np.asarray(by))
    dtype = check_integer(op, x, by)
    unsigned = np.dtype(f"<u{dtype.itemsize}")
    return x, by.astype(unsigned), unsigned.type(8 * dtype.itemsize)
