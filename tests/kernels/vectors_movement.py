"""Conformance vectors of data movement, selection, whole-number rounding and sources, by plain loops over indices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from samebits.cas.encoding import Value
from tests.kernels import oracle_exact as exact
from tests.kernels.float_samples import corner_bits

Index = tuple[int, ...]
Array = tuple[list[int], Sequence[int]]  # bits in C order, shape
Vector = tuple[str, list[tuple[str, Array]], tuple[str, Array], dict[str, Value]]

SHAPE = (3, 4, 5)
NAN_PAYLOADS = [0x7F800001, 0xFFC12345, 0x80000000, 0x00000001]


def at(array: Array, index: Index) -> int:
    """Return one element."""
    bits, shape = array
    position = 0
    for i, size in zip(index, shape, strict=True):
        position = position * size + i
    return bits[position]


def build(shape: Sequence[int], element: Callable[[Index], int]) -> Array:
    """Return the array whose elements a function gives."""
    return [element(index) for index in itertools.product(*(range(n) for n in shape))], shape


def source() -> Array:
    """Return f32 bits that all differ, some of them NaN with payloads, -0 and subnormal: movement keeps every bit."""
    count = math.prod(SHAPE)
    return [*NAN_PAYLOADS, *range(0x3F800000, 0x3F800000 + count - len(NAN_PAYLOADS))], SHAPE


def movement_vectors() -> Iterator[Vector]:
    """Yield a vector of every movement operation."""
    x = source()
    f32 = [("f32", x)]
    yield "transpose", f32, ("f32", build((5, 3, 4), lambda i: at(x, (i[1], i[2], i[0])))), {"permutation": [2, 0, 1]}
    yield "reshape", f32, ("f32", (x[0], (15, 4))), {"new_sizes": [15, 4]}
    yield "rev", f32, ("f32", build(SHAPE, lambda i: at(x, (i[0], 3 - i[1], i[2])))), {"axis": 1}
    sliced = build((1, 2, 3), lambda i: at(x, (1 + i[0], 1 + 2 * i[1], 2 * i[2])))
    bounds: dict[str, Value] = {"start_indices": [1, 1, 0], "limit_indices": [2, 4, 5], "strides": [1, 2, 2]}
    yield "slice", f32, ("f32", sliced), bounds
    wide = build((3, 2, 4, 5), lambda i: at(x, (i[0], i[2], i[3])))
    yield "broadcast_in_dim", f32, ("f32", wide), {"shape": [3, 2, 4, 5], "broadcast_dimensions": [0, 2, 3]}
    column = ([7, 0x80000000, 0x7F800001], (3, 1))
    spread = build((3, 4), lambda i: at(column, (i[0], 0)))
    yield "broadcast_in_dim", [("f32", column)], ("f32", spread), {"shape": [3, 4], "broadcast_dimensions": [0, 1]}

    def padded(i: Index) -> int:
        inside = 1 <= i[0] <= 3 and i[2] >= 2
        return at(x, (i[0] - 1, i[1], i[2] - 2)) if inside else 0x7FC00001

    operands = [("f32", x), ("f32", ([0x7FC00001], ()))]
    yield "pad", operands, ("f32", build((5, 4, 7), padded)), {"low": [1, 0, 2], "high": [1, 0, 0]}
    joined = build((3, 8, 5), lambda i: at(x, (i[0], i[1] % 4, i[2])))
    yield "concatenate", [("f32", x), ("f32", x)], ("f32", joined), {"dimension": 1}
    rows = ([2, 0, 2, 1], (2, 2))
    gathered = build((2, 2, 4, 5), lambda i: at(x, (at(rows, i[:2]), i[2], i[3])))
    yield "gather", [("f32", x), ("i64", rows)], ("f32", gathered), {}
    over = build((2, 4, 5), lambda i: 0x7FC00000 + 20 * i[0] + 5 * i[1] + i[2])
    replaced = build(SHAPE, lambda i: at(over, (0 if i[0] == 2 else 1, i[1], i[2])) if i[0] else at(x, i))
    yield "scatter", [("f32", x), ("i64", ([2, 1], (2,))), ("f32", over)], ("f32", replaced), {}
    yield "bitcast_convert_type", f32, ("u32", x), {"new_dtype": "u32"}
    which = build(SHAPE, lambda i: (i[0] + i[1] + i[2]) % 2)
    zeros = build(SHAPE, lambda i: 0x80000000)
    chosen = build(SHAPE, lambda i: at(x, i) if at(which, i) else 0x80000000)
    yield "select_n", [("bool", which), ("f32", zeros), ("f32", x)], ("f32", chosen), {}
    yield "iota", [], ("i32", build((2, 3), lambda i: i[1])), {"dtype": "i32", "shape": [2, 3], "dimension": 1}
    counted = build((300,), lambda i: exact.rn(Fraction(i[0]), "f32"))
    yield "iota", [], ("f32", counted), {"dtype": "f32", "shape": [300], "dimension": 0}
    stored: dict[str, Value] = {"dtype": "u16", "shape": [2], "value": b"\x01\x02\xff\xfe"}
    yield "constant", [], ("u16", ([0x0201, 0xFEFF], (2,))), stored


def logic_vectors() -> Iterator[Vector]:
    """Yield vectors of the logical operations on bool."""
    a, b = ([0, 0, 1, 1], (2, 2)), ([0, 1, 0, 1], (2, 2))
    table: dict[str, Callable[[int, int], int]] = {
        "and": lambda p, q: p & q,
        "or": lambda p, q: p | q,
        "xor": lambda p, q: p ^ q,
    }
    for op, rule in table.items():
        yield op, [("bool", a), ("bool", b)], ("bool", build((2, 2), lambda i, r=rule: r(at(a, i), at(b, i)))), {}  # type: ignore[misc]
    yield "not", [("bool", a)], ("bool", ([1, 1, 0, 0], (2, 2))), {}
    yield "not", [("u8", ([0, 1, 255], (3,)))], ("u8", ([255, 254, 0], (3,))), {}
    yield "reduce_and", [("bool", b)], ("bool", ([0, 0], (2,))), {"axes": [1]}
    yield "reduce_and", [("bool", b)], ("bool", ([0, 1], (2,))), {"axes": [0]}
    yield "reduce_or", [("bool", a)], ("bool", ([0, 1], (2,))), {"axes": [1]}
    yield "reduce_and", [("bool", ([], (2, 0)))], ("bool", ([1, 1], (2,))), {"axes": [1]}
    yield "reduce_or", [("bool", ([], (2, 0)))], ("bool", ([0, 0], (2,))), {"axes": [1]}


def whole_number_vectors() -> Iterator[Vector]:
    """Yield floor, ceil, round to even, sign, is_finite and clamp on corner cases and around halves."""
    for name in ("f32", "bf16", "f16", "f64"):
        x = corner_bits(name)
        x += [exact.rn(Fraction(n, 4), name) for n in range(-14, 15)]
        x += [exact.rn(exact.two_to(e) + Fraction(1, 2), name) for e in (6, 9, 21, 22, 23, 51)]
        rules: dict[str, Callable[[Fraction], int]] = {"floor": math.floor, "ceil": math.ceil, "round": exact.rn_int}
        for op, rule in rules.items():
            yield op, [(name, (x, (len(x),)))], (name, ([whole(b, name, rule) for b in x], (len(x),))), {}
        finite = [int(exact.is_finite(b, name)) for b in x]
        yield "is_finite", [(name, (x, (len(x),)))], ("bool", (finite, (len(x),))), {}
        signs = [sign(b, name) for b in x]
        yield "sign", [(name, (x, (len(x),)))], (name, (signs, (len(x),))), {}
    low, x, high = [1, 1, 1, 250], [0, 2, 9, 251], [5, 5, 5, 255]
    operands: list[Any] = [("u8", (values, (4,))) for values in (low, x, high)]
    yield "clamp", operands, ("u8", ([1, 2, 5, 251], (4,))), {}


def whole(bits: int, name: str, rule: Callable[[Fraction], int]) -> int:
    """Round to a whole number; zeros and results that become zero keep the sign, infinities stay."""
    if exact.is_nan(bits, name):
        return exact.NAN[name]
    if exact.is_inf(bits, name):
        return bits
    return exact.rn(Fraction(rule(exact.value(bits, name))), name, exact.sign_of(bits, name))


def sign(bits: int, name: str) -> int:
    """Return -1, the zero itself, or 1."""
    if exact.is_nan(bits, name):
        return exact.NAN[name]
    if exact.magnitude(bits, name) == 0:
        return bits
    return exact.rn(Fraction(-1 if exact.sign_of(bits, name) else 1), name)
