"""Write the conformance vectors: `python -m tests.kernels.make_vectors`.

Every expected result comes from the oracles of this folder (exact rational arithmetic, MPFR, plain Python loops),
which share no code with the package. Changing the file changes the arithmetic version, and with it job addresses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from itertools import product
from math import isqrt
from typing import Any

import numpy as np

from samebits.cas.dtype import numpy_dtype
from samebits.cas.encoding import Value, encode
from samebits.kernels.conformance import VECTORS_FILE
from samebits.kernels.optable import FUNCTIONS, FUNCTIONS_OF_TWO
from tests.kernels import oracle_exact as exact
from tests.kernels.float_samples import corner_bits, sample
from tests.kernels.oracle_functions import oracle, oracle2
from tests.kernels.vectors_convolution import convolution_vectors
from tests.kernels.vectors_movement import logic_vectors, movement_vectors, whole_number_vectors

FLOATS = ("f32", "bf16", "f16")
SIZES = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "u8": 8, "u16": 16, "u32": 32, "u64": 64}
Bits = Any  # nested lists of integers: the bits of an array

vectors: list[Value] = []


def array(bits: Bits, dtype: str, shape: Sequence[int] | None = None) -> Value:
    """Return an array of the file from the bits of its elements."""
    width = numpy_dtype(dtype).itemsize
    flat = np.asarray(bits, dtype=object).reshape(-1)
    given = np.shape(bits) if shape is None else tuple(shape)
    data = b"".join((int(value) % (1 << 8 * width)).to_bytes(width, "little") for value in flat)
    return [dtype, list(given), data]


def add(op: str, operands: list[Value], result: Value, **attributes: Value) -> None:
    """Append a vector."""
    vectors.append([op, attributes, operands, result])


def bits_of(x: Any) -> Bits:
    """Return the bits of a NumPy array as nested lists."""
    return np.ascontiguousarray(x).view(np.dtype(f"u{x.dtype.itemsize}")).reshape(x.shape).tolist()


def float_bits(name: str, seed: int, count: int) -> list[int]:
    """Return corner cases and random bits over the whole range of a float type."""
    return [*corner_bits(name), *bits_of(sample("any", (count,), name, seed))]


def add_float_arithmetic() -> None:
    """+ - * / on pairs of corner cases and random values; negation and comparison by bits."""
    for name in (*FLOATS, "f64"):
        pairs = list(product(corner_bits(name)[::2], repeat=2)) if name == "f32" else []
        kinds = ("ordinary", "wide", "any", "subnormal")
        pairs += [tuple(p) for k in kinds for p in bits_of(sample(k, (60, 2), name, 7 * len(k)))]
        x, y = [p[0] for p in pairs], [p[1] for p in pairs]
        operands = [array(x, name), array(y, name)]
        top = 1 << (exact.FORMATS[name][3] - 1)
        functions: dict[str, Callable[[int, int], int]] = {
            "add": partial(exact.add, name=name),
            "sub": partial(subtract, name=name),
            "mul": partial(exact.mul, name=name),
            "div": partial(exact.div, name=name),
            "max": partial(extreme, name=name, sign=1),
            "min": partial(extreme, name=name, sign=-1),
        }
        for op, function in functions.items():
            add(op, operands, array([function(a, b) for a, b in pairs], name))
        add("neg", [array(x, name)], array([a ^ top for a in x], name))
        add("abs", [array(x, name)], array([a & ~top for a in x], name))
        add_comparisons(name, x, y, operands)
    for name in FLOATS:
        triples = [tuple(t) for k in ("ordinary", "wide", "any") for t in bits_of(sample(k, (50, 3), name, len(k)))]
        columns = [[t[i] for t in triples] for i in range(3)]
        result = [exact.fma(x, y, z, name) for x, y, z in triples]
        add("fma", [array(column, name) for column in columns], array(result, name))


def subtract(a: int, b: int, name: str) -> int:
    """RN(a - b)."""
    top = 1 << (exact.FORMATS[name][3] - 1)
    return exact.add(a, b if exact.is_nan(b, name) else b ^ top, name)


def extreme(a: int, b: int, name: str, sign: int) -> int:
    """IEEE 754-2019 maximum (sign 1) and minimum (sign -1)."""
    if exact.is_nan(a, name) or exact.is_nan(b, name):
        return exact.NAN[name]
    return max(a, b, key=lambda v: sign * order(v, name))


def order(bits: int, name: str) -> int:
    """Return an integer that orders -inf .. -0, +0 .. inf."""
    return -exact.magnitude(bits, name) - 1 if exact.sign_of(bits, name) else exact.magnitude(bits, name)


def add_comparisons(name: str, x: list[int], y: list[int], operands: list[Value]) -> None:
    """eq .. ge: -0 equals +0, NaN equals nothing."""

    def key(bits: int) -> int:
        return 0 if exact.magnitude(bits, name) == 0 else order(bits, name)

    rules: dict[str, Callable[[int, int], bool]] = {
        "eq": lambda a, b: a == b,
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
    }
    for op, compare in rules.items():
        known = [not (exact.is_nan(a, name) or exact.is_nan(b, name)) for a, b in zip(x, y, strict=True)]
        result = [k and compare(key(a), key(b)) for k, a, b in zip(known, x, y, strict=True)]
        add(op, operands, array([int(v) for v in result], "bool"))
        if op == "eq":
            add("ne", operands, array([int(not v) for v in result], "bool"))


def add_functions() -> None:
    """Every function on corner cases, a geometric sweep, and random bits; fewer for the half types."""
    for op in (*FUNCTIONS, "sqrt"):
        for name, count in (("f32", 160), ("bf16", 40), ("f16", 40)):
            x = float_bits(name, len(op), count)
            x += bits_of(sample("ordinary", (count // 2,), name, 3))
            result = [oracle(op, value_of(b, name), name) for b in x]
            add(op, [array(x, name)], array(result, name))
    for op, (name, count) in product(FUNCTIONS_OF_TWO, (("f32", 300), ("bf16", 60), ("f16", 60))):
        pairs = list(product(corner_bits(name)[::3], repeat=2))
        pairs += [tuple(pair) for kind in ("ordinary", "any") for pair in bits_of(sample(kind, (count, 2), name, 21))]
        result = [oracle2(op, value_of(x, name), value_of(y, name), name) for x, y in pairs]
        operands = [array([pair[i] for pair in pairs], name) for i in (0, 1)]
        add(op, operands, array(result, name))
    x64 = float_bits("f64", 5, 60)
    add("sqrt", [array(x64, "f64")], array([oracle_sqrt_f64(b) for b in x64], "f64"))


def oracle_sqrt_f64(bits: int) -> int:
    """RN_f64(sqrt(x)) by integer square root."""
    if exact.magnitude(bits, "f64") == 0:
        return bits
    if exact.is_nan(bits, "f64") or exact.sign_of(bits, "f64"):
        return exact.NAN["f64"]
    if exact.is_inf(bits, "f64"):
        return bits
    x = exact.value(bits, "f64")
    scale = 1 << 1200
    scaled = x * scale * scale
    root = isqrt(scaled.numerator // scaled.denominator)
    sticky = Fraction(0) if Fraction(root) ** 2 == scaled else Fraction(1, 2)
    return exact.rn((Fraction(root) + sticky) / scale, "f64")


def value_of(bits: int, name: str) -> float:
    """Return a float's value as a Python float (exact for f32, bf16 and f16)."""
    wide = exact.convert(bits, name, "f64")
    return float(struct.unpack("<d", struct.pack("<Q", wide))[0])


def add_integers() -> None:
    """Wrapping arithmetic, division and shifts of every integer type."""
    for name, width in SIZES.items():
        signed = name.startswith("i")
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        corners = [low, low + 1, -7, -2, -1, 0, 1, 2, 7, width - 1, width, width + 1, high - 1, high]
        values = [v for v in corners if low <= v <= high]
        pairs = list(product(values, repeat=2))
        operands = [array([p[i] for p in pairs], name) for i in (0, 1)]
        for op, function in integer_rules(low, width, signed).items():
            add(op, operands, array([function(a, b) for a, b in pairs], name))


def integer_rules(low: int, width: int, signed: bool) -> dict[str, Callable[[int, int], int]]:
    """Return the integer operations of the contract on Python integers; results are taken modulo 2^width."""

    def quotient(a: int, b: int) -> int:
        return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)

    def unsigned(v: int) -> int:
        return v % (1 << width)

    def amount(b: int) -> int:
        return min(unsigned(b), width)

    return {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": quotient,
        "rem": lambda a, b: a if b == 0 else a - b * quotient(a, b),
        "max": max,
        "min": min,
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
        "shift_left": lambda a, b: 0 if amount(b) >= width else unsigned(a) << amount(b),
        "shift_right_logical": lambda a, b: unsigned(a) >> amount(b),
        "shift_right_arithmetic": lambda a, b: a >> amount(b) if signed else arithmetic_right(a, amount(b), width),
    }


def arithmetic_right(a: int, by: int, width: int) -> int:
    """Shift the bits of an unsigned value right, filling with its top bit."""
    return (a - (1 << width) if a >> (width - 1) else a) >> by


def add_conversions() -> None:
    """Between floats, floats and integers, and bool."""
    for source, target in product((*FLOATS, "f64"), repeat=2):
        x = [*float_bits(source, 11, 80)]
        if source == "f64":  # rounds once: 1 + 2^-8 + 2^-40, 1 + 2^-24 + 2^-52
            x += [0x3FF0100000001000, 0x3FF0000010000001, 0x36A0000000000001, 0x3690000000000000]
        result = [exact.convert(b, source, target) for b in x]
        add("convert_element_type", [array(x, source)], array(result, target), new_dtype=target)
    for source, (target, width) in product((*FLOATS, "f64"), SIZES.items()):
        x = float_bits(source, 13, 60) + [exact.rn(exact.two_to(e), source) for e in (7, 8, 15, 31, 32, 63, 64)]
        x += [exact.rn(-exact.two_to(e) - 1, source) for e in (7, 15, 31, 63)]
        result = [to_integer(b, source, target, width) for b in x]
        add("convert_element_type", [array(x, source)], array(result, target), new_dtype=target)
    for (source, width), target in product(SIZES.items(), (*FLOATS, "f64")):
        signed = source.startswith("i")
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        values = [0, 1, low, high, high - 1, (1 << 60) + (1 << 36) + 1, (1 << 24) + 1, (1 << 53) + 1, 257, 65519, 65520]
        kept = [v for v in values if low <= v <= high]
        result = [exact.rn(Fraction(v), target) for v in kept]
        add("convert_element_type", [array(kept, source)], array(result, target), new_dtype=target)
    for source in (*FLOATS, "f64"):
        x = corner_bits(source)
        result = [int(exact.magnitude(b, source) != 0) for b in x]
        add("convert_element_type", [array(x, source)], array(result, "bool"), new_dtype="bool")


def to_integer(bits: int, source: str, target: str, width: int) -> int:
    """Toward zero, saturating, NaN to 0."""
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if target.startswith("i") else (0, (1 << width) - 1)
    if exact.is_nan(bits, source):
        return 0
    if exact.is_inf(bits, source):
        return low if exact.sign_of(bits, source) else high
    return max(low, min(high, int(exact.value(bits, source))))


def add_sums() -> None:
    """reduce_sum, cumsum and scatter_add on every kind of row."""
    kinds = ("ordinary", "subnormal", "huge", "wide", "any", "cancelling")
    for name, kind in product(FLOATS, kinds):
        for width in (1, 2, 33):
            x = sample(kind, (5, width), name, width)
            rows = bits_of(x)
            add("reduce_sum", [array(rows, name)], array([exact.reduce_sum(row, name) for row in rows], name), axes=[1])
        rows = bits_of(sample(kind, (4, 9), name, 1))
        add("cumsum", [array(rows, name)], array([exact.cumsum(row, name) for row in rows], name), axis=1)
        operand, updates = bits_of(sample(kind, (4, 3), name, 2)), bits_of(sample(kind, (7, 3), name, 3))
        indices = [2, 0, 2, 2, 0, 3, 2]
        result = exact.scatter_add(operand, indices, updates, name)
        add("scatter_add", [array(operand, name), array(indices, "i64"), array(updates, name)], array(result, name))
    add("reduce_sum", [array([], "f32", (3, 0))], array([0, 0, 0], "f32"), axes=[1])
    halves = bits_of(np.array([[1.0, 2.0**-24, 2.0**-24, 2.0**-48]], np.float32))
    add("reduce_sum", [array(halves, "f32")], array([exact.reduce_sum(halves[0], "f32")], "f32"), axes=[1])
    add("reduce_sum", [array([127, 127, 3], "i8")], array(127 + 127 + 3, "i8", ()), axes=[0])


def add_extremes() -> None:
    """reduce_max, reduce_min, argmax, argmin, argsort, with NaN and both zeros."""
    name = "f32"
    rows = [bits_of(sample("any", (12,), name, seed)) for seed in range(4)]
    rows += [bits_of(sample("ordinary", (12,), name, 9)), [0x80000000, 0] * 6, [0, 0x80000000] * 6]
    for op, sign in (("reduce_max", 1), ("reduce_min", -1)):
        result = []
        for row in rows:
            best = row[0]
            for bits in row[1:]:
                best = extreme(best, bits, name, sign)
            result.append(exact.NAN[name] if exact.is_nan(best, name) else best)
        add(op, [array(rows, name)], array(result, name), axes=[1])
    for op, sign in (("argmax", 1), ("argmin", -1)):
        add(op, [array(rows, name)], array([first_extreme(row, name, sign) for row in rows], "i64"), axis=1)
    for descending in (False, True):
        places: list[list[int]] = []
        for row in rows:
            keys = [sort_key(bits, name, descending) for bits in row]
            places.append(sorted(range(len(row)), key=keys.__getitem__))
        add("argsort", [array(rows, name)], array(places, "i64"), axis=1, descending=descending)
        moved = [[row[i] for i in order] for row, order in zip(rows, places, strict=True)]
        add("sort", [array(rows, name)], array(moved, name), axis=1, descending=descending)


def sort_key(bits: int, name: str, descending: bool) -> tuple[bool, int]:
    """Return what argsort orders by: NaN last, or first if descending."""
    nan = exact.is_nan(bits, name)
    return nan != descending, 0 if nan else (-order(bits, name) if descending else order(bits, name))


def first_extreme(row: list[int], name: str, sign: int) -> int:
    """Return the first index of the extreme; NaN is the extreme, -0 equals +0."""
    for i, bits in enumerate(row):
        if exact.is_nan(bits, name):
            return i
    keys = [0 if exact.magnitude(b, name) == 0 else sign * order(b, name) for b in row]
    return keys.index(max(keys))


def add_dots() -> None:
    """dot_general in both precisions and all grids, on every kind of value."""
    kinds = ("ordinary", "subnormal", "huge", "wide", "any", "cancelling")
    for name, precision, grid in product(FLOATS, ("highest", "high"), ("both", "columns", "rows")):
        for kind in kinds if name == "f32" else ("ordinary", "any"):
            a, b = bits_of(sample(kind, (3, 17), name, 4)), bits_of(sample(kind, (17, 4), name, 5))
            add_dot(a, b, name, precision, grid)
    ordinary = bits_of(sample("ordinary", (2, 520), "f32", 6)), bits_of(sample("ordinary", (520, 2), "f32", 7))
    for grid in ("both", "columns", "rows"):
        add_dot(*ordinary, "f32", "highest", grid)
    largest = [[0x3F7DFFFF] * 513] * 2, [[0x3F7DFFFF] * 2] * 513
    add_dot(*largest, "f32", "highest", "both")


def add_dot(a: Bits, b: Bits, name: str, precision: str, grid: str) -> None:
    """Append one matrix product."""
    result = exact.dot(a, b, name, precision, grid, name)
    attributes: dict[str, Value] = {"dimension_numbers": [[[1], [0]], [[], []]], "precision": precision, "grid": grid}
    add("dot_general", [array(a, name), array(b, name)], array(result, name), **attributes)


def add_convolutions() -> None:
    """conv_general_dilated with every attribute, on every kind of value."""
    for operands, (name, result), attributes in convolution_vectors():
        given = [array(x, dtype, x.shape) for dtype, x in operands]
        add("conv_general_dilated", given, array(result, name, result.shape), **attributes)


def add_random() -> None:
    """Random123's known answers."""
    digits = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]
    ones = [0xFFFFFFFF] * 6
    answers = {
        "philox4x32": [
            ([0] * 6, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
            (ones, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
            (digits, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
        ],
        "threefry2x32": [
            ([0] * 6, [0x6B200159, 0x99BA4EFE]),
            (ones, [0x1CB996FC, 0xBB002BE7]),
            (digits, [0xC4923A9C, 0x483DF7A0]),
        ],
    }
    for op, cases in answers.items():
        width = 4 if op == "philox4x32" else 2
        for words, result in cases:
            add(op, [array(words[:width], "u32"), array(words[width : width + 2], "u32")], array(result, "u32"))


def add_movement() -> None:
    """Data movement, logic, whole-number rounding and sources."""
    for op, operands, (dtype, result), attributes in (*movement_vectors(), *logic_vectors(), *whole_number_vectors()):
        given = [array(bits, name, shape) for name, (bits, shape) in operands]
        add(op, given, array(result[0], dtype, result[1]), **attributes)


def main() -> None:
    """Compute all vectors and write the file."""
    add_float_arithmetic()
    add_functions()
    add_integers()
    add_conversions()
    add_sums()
    add_extremes()
    add_dots()
    add_convolutions()
    add_random()
    add_movement()
    VECTORS_FILE.parent.mkdir(exist_ok=True)
    VECTORS_FILE.write_bytes(encode(vectors))


if __name__ == "__main__":
    main()
