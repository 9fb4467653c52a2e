"""An independent oracle: the definitions of the arithmetic contract in exact rational arithmetic and plain loops.

Elements are integers, the bits of a value; it shares no code with `samebits.kernels` and uses no float arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

# name -> (significand bits with the hidden one, least and greatest exponent of a normal value, width in bits)
FORMATS: Final = {"f16": (11, -14, 15, 16), "bf16": (8, -126, 127, 16), "f32": (24, -126, 127, 32),
                  "f64": (53, -1022, 1023, 64)}  # fmt: skip
NAN: Final = {"f16": 0x7E00, "bf16": 0x7FC0, "f32": 0x7FC00000, "f64": 0x7FF8000000000000}
INF: Final = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF0000000000000}


def sign_of(bits: int, name: str) -> int:
    """Return 0 or 1."""
    return bits >> (FORMATS[name][3] - 1)


def magnitude(bits: int, name: str) -> int:
    """Return the bits without the sign."""
    return bits & ((1 << (FORMATS[name][3] - 1)) - 1)


def is_nan(bits: int, name: str) -> bool:
    """Say whether the bits are any NaN."""
    return magnitude(bits, name) > INF[name]


def is_inf(bits: int, name: str) -> bool:
    """Say whether the bits are an infinity."""
    return magnitude(bits, name) == INF[name]


def is_finite(bits: int, name: str) -> bool:
    """Say whether the bits are a number other than an infinity."""
    return magnitude(bits, name) < INF[name]


def value(bits: int, name: str) -> Fraction:
    """Return the exact value of finite bits."""
    t, emin, _, _ = FORMATS[name]
    field, fraction = divmod(magnitude(bits, name), 1 << (t - 1))
    n = fraction if field == 0 else fraction + (1 << (t - 1))
    result = Fraction(n) * two_to(max(field, 1) - 1 + emin - (t - 1))
    return -result if sign_of(bits, name) else result


def two_to(e: int) -> Fraction:
    """Return 2^e."""
    return Fraction(1 << e) if e >= 0 else Fraction(1, 1 << -e)


def floor_log2(r: Fraction) -> int:
    """Return floor(log2 r) of r > 0."""
    e = r.numerator.bit_length() - r.denominator.bit_length()
    return e if two_to(e) <= r else e - 1


def rn_int(r: Fraction) -> int:
    """Round to the nearest integer, ties to even."""
    down = r.numerator // r.denominator
    rest = r - down
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and down % 2):
        return down + 1
    return down


def rn(r: Fraction, name: str, zero_sign: int = 0) -> int:
    """Return the bits of RN_T(r); an exact zero takes `zero_sign`, a result that underflows keeps its own."""
    t, emin, emax, width = FORMATS[name]
    if r == 0:
        return zero_sign << (width - 1)
    sign = int(r < 0) << (width - 1)
    size = abs(r)
    quantum = max(floor_log2(size), emin) - (t - 1)
    n = rn_int(size / two_to(quantum))
    if Fraction(n) * two_to(quantum) >= two_to(emax + 1):
        return sign | INF[name]
    return sign | (((quantum - (emin - (t - 1))) << (t - 1)) + n)


def convert(bits: int, source: str, target: str) -> int:
    """Cast a float to another float type."""
    if is_nan(bits, source):
        return NAN[target]
    sign = sign_of(bits, source)
    if is_inf(bits, source):
        return sign << (FORMATS[target][3] - 1) | INF[target]
    return rn(value(bits, source), target, sign)


def grid_exponent(m: Fraction) -> int:
    """Return the least integer e with m < (127/128) * 2^e."""
    e = floor_log2(m) - 1
    while not m < Fraction(127, 128) * two_to(e):
        e += 1
    return e


def clog2(n: int) -> int:
    """Return ceil(log2 n)."""
    e = 0
    while 2**e < n:
        e += 1
    return e


def special_sum(values: Sequence[int], name: str) -> int | None:
    """Return the bits of a sum that contains a NaN or an infinity, else None."""
    plus = any(is_inf(v, name) and not sign_of(v, name) for v in values)
    minus = any(is_inf(v, name) and sign_of(v, name) for v in values)
    if any(is_nan(v, name) for v in values) or (plus and minus):
        return NAN[name]
    if plus or minus:
        return INF[name] | (int(minus) << (FORMATS[name][3] - 1))
    return None


def sum_exponent(values: Sequence[int], name: str) -> int | None:
    """Return e of a group, None where its largest finite magnitude is 0."""
    m = max((abs(value(v, name)) for v in values if is_finite(v, name)), default=Fraction(0))
    return None if m == 0 else grid_exponent(m)


def grid_sum(values: Sequence[int], name: str, e: int | None, p: int, target: str) -> int:
    """Return RN_T(S * 2^(e-p)) of the finite values on a given grid, or what NaN and infinities make of it."""
    special = special_sum(values, name)
    if special is not None:
        return convert(special, name, target)
    if e is None:
        return 0
    total = sum(rn_int(value(v, name) * two_to(p - e)) for v in values)
    return rn(Fraction(total) * two_to(e - p), target)


def reduce_sum(values: Sequence[int], name: str, target: str | None = None) -> int:
    """Sum one group."""
    if not values:
        return 0
    p = min(40, 62 - clog2(len(values)))
    return grid_sum(values, name, sum_exponent(values, name), p, target or name)


def cumsum(row: Sequence[int], name: str) -> list[int]:
    """Sum every prefix of a row on the row's grid."""
    p = min(40, 62 - clog2(max(1, len(row))))
    e = sum_exponent(row, name)
    return [grid_sum(row[: i + 1], name, e, p, name) for i in range(len(row))]


def add(x: int, y: int, name: str) -> int:
    """RN(x + y)."""
    special = special_sum((x, y), name)
    if special is not None:
        return special
    negative = sign_of(x, name) & sign_of(y, name)
    return rn(value(x, name) + value(y, name), name, negative)


def mul(x: int, y: int, name: str) -> int:
    """RN(x * y)."""
    sign = sign_of(x, name) ^ sign_of(y, name)
    if is_nan(x, name) or is_nan(y, name):
        return NAN[name]
    if is_inf(x, name) or is_inf(y, name):
        zero = magnitude(x, name) == 0 or magnitude(y, name) == 0
        return NAN[name] if zero else sign << (FORMATS[name][3] - 1) | INF[name]
    return rn(value(x, name) * value(y, name), name, sign)


def div(x: int, y: int, name: str) -> int:
    """RN(x / y)."""
    sign = sign_of(x, name) ^ sign_of(y, name)
    top = sign << (FORMATS[name][3] - 1)
    if is_nan(x, name) or is_nan(y, name) or (is_inf(x, name) and is_inf(y, name)):
        return NAN[name]
    if is_inf(y, name):
        return top
    if is_inf(x, name):
        return top | INF[name]
    if magnitude(y, name) == 0:
        return NAN[name] if magnitude(x, name) == 0 else top | INF[name]
    return rn(value(x, name) / value(y, name), name, sign)


def fma(x: int, y: int, z: int, name: str) -> int:
    """RN(x * y + z)."""
    if is_nan(z, name) or not (is_finite(x, name) and is_finite(y, name)):
        product = mul(x, y, name)
        return NAN[name] if is_nan(z, name) else add(product, z, name)
    if is_inf(z, name):
        return z
    product_sign = sign_of(x, name) ^ sign_of(y, name)
    exact = value(x, name) * value(y, name)
    # an exact zero is -0 only where both terms are -0
    return rn(exact + value(z, name), name, product_sign & sign_of(z, name))


def scatter_add(
    operand: Sequence[Sequence[int]], indices: Sequence[int], updates: Sequence[Sequence[int]], name: str
) -> list[list[int]]:
    """Add update slices to rows: operand (N, R), indices (n,), updates (n, R)."""
    p = min(40, 62 - clog2(max(1, len(indices))))
    result = [list(row) for row in operand]
    for i, row in enumerate(operand):
        slices = [updates[j] for j, index in enumerate(indices) if index == i]
        if not slices:
            continue
        e = sum_exponent([v for piece in slices for v in piece], name)
        for r in range(len(row)):
            result[i][r] = add(row[r], grid_sum([piece[r] for piece in slices], name, e, p, name), name)
    return result


def dot(
    a: Sequence[Sequence[int]], b: Sequence[Sequence[int]], name: str, precision: str, grid: str, target: str
) -> list[list[int]]:
    """Multiply a (M, K) by b (K, N)."""
    rows, depth, columns = len(a), len(b), len(b[0])
    if depth == 0:
        return [[0] * columns for _ in range(rows)]
    p = min({"highest": 22, "high": 15}[precision], (62 - clog2(depth)) // 2)

    def exponent(values: Sequence[Fraction]) -> int:
        m = max((abs(v) for v in values), default=Fraction(0))
        return grid_exponent(m) if m else 0

    av = [[value(v, name) if is_finite(v, name) else Fraction(0) for v in row] for row in a]
    bv = [[value(v, name) if is_finite(v, name) else Fraction(0) for v in row] for row in b]
    f = [0 if grid == "columns" else exponent(bv[k]) for k in range(depth)]
    a1 = [[av[i][k] * two_to(f[k]) for k in range(depth)] for i in range(rows)]
    b1 = [[bv[k][j] * two_to(-f[k]) for k in range(depth)] for j in range(columns)]  # column by column
    ea = [exponent(row) for row in a1]
    eb = [0 if grid == "rows" else exponent(column) for column in b1]
    qa = [[rn_int(v * two_to(p - e)) for v in row] for row, e in zip(a1, ea, strict=True)]
    qb = [[rn_int(v * two_to(p - e)) for v in column] for column, e in zip(b1, eb, strict=True)]
    result = []
    for i in range(rows):
        a_bad = not all(is_finite(v, name) for v in a[i])
        line = []
        for j in range(columns):
            total = sum(x * y for x, y in zip(qa[i], qb[j], strict=True))
            assert abs(total) < 2**63
            b_bad = not all(is_finite(b[k][j], name) for k in range(depth))
            out = rn(Fraction(total) * two_to(ea[i] + eb[j] - 2 * p), target)
            line.append(NAN[target] if a_bad or b_bad else out)
        result.append(line)
    return result
