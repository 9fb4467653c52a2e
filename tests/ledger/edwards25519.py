"""The group of Ed25519 in plain Python integers, slow and plain, to compare `samebits.ledger.ed25519` with.

Affine points (x, y) of -x^2 + y^2 = 1 + d x^2 y^2 over the field of p = 2^255 - 19. Source: RFC 8032, section 5.1.
"""

from __future__ import annotations

from hashlib import sha512

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def decode_point(encoded: bytes) -> Point | None:
    """Read any encoding, canonical or not: y is taken mod p, and x = 0 may have a sign. None if no point has this y."""
    number = int.from_bytes(encoded, "little")
    y, sign = number % 2**255 % P, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_1 % P
    if x * x % P != square:
        return None
    return (-x % P if x % 2 != sign else x, y)


def encode_point(point: Point) -> bytes:
    x, y = point
    return (y | (x % 2) << 255).to_bytes(32, "little")


def add(a: Point, b: Point) -> Point:
    product = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P)
    return x % P, y % P


def multiply(scalar: int, point: Point) -> Point:
    result = IDENTITY
    while scalar:
        if scalar % 2:
            result = add(result, point)
        point = add(point, point)
        scalar //= 2
    return result


BASE = decode_point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
assert BASE is not None


def challenge(r: bytes, a: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + a + message).digest(), "little") % L


def is_valid(public: bytes, signature: bytes, message: bytes) -> bool:
    """Apply the strict rule by its definition, without a table: orders are computed, the equation has no cofactor."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    points = []
    for encoded in (public, r):
        point = decode_point(encoded)
        if point is None or encode_point(point) != encoded or multiply(8, point) == IDENTITY:
            return False
        points.append(point)
    assert BASE is not None
    return s < L and multiply(s, BASE) == add(points[1], multiply(challenge(r, public, message), points[0]))
