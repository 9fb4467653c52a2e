"""Ed25519 signatures by one strict rule, so that every verifier says the same of every signature.

A signature R || S by the key A over M is valid if and only if

- A and R are the canonical encodings of points (y < p; no sign for x = 0), and neither has small order;
- S < L, the order of the base point;
- [S]B = R + [k]A with k = SHA-512(R || A || M) mod L: the equation without the cofactor.

RFC 8032 (section 5.1.7) leaves open which equation is used and says nothing of small orders; programs differ
(C2SP/CCTV, ed25519). This is the rule of ed25519-dalek's `verify_strict`, and it refuses other encodings of A too.
OpenSSL checks the equation, which also makes R canonical; the rest is checked here, whatever the version of OpenSSL.
A point of large order with a part of small order is not refused: no table can tell it.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from samebits.ledger.errors import SignatureError

PUBLIC_SIZE_BYTES: Final = 32
SEED_SIZE_BYTES: Final = 32
SIGNATURE_SIZE_BYTES: Final = 64

_P: Final = 2**255 - 19  # of the field
_L: Final = 2**252 + 27742317777372353535851937790883648493  # order of the base point
# y of the points of order 8, whose doubles have y = 0: +- a root of d*y^4 + 2*y^2 - 1
_Y_ORDER_8: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
_SMALL_ORDER_Y: Final = (0, 1, _P - 1, _Y_ORDER_8, _P - _Y_ORDER_8)
# every encoding that is refused: y of small order, or not below p, with either sign of x
REFUSED_POINTS: Final = frozenset(
    (y | sign << 255).to_bytes(32, "little") for y in (*_SMALL_ORDER_Y, *range(_P, 2**255)) for sign in (0, 1)
)


def verify(public: bytes, signature: bytes, data: bytes) -> None:
    """Check an Ed25519 signature over `data` by the strict rule; raises SignatureError."""
    if len(public) != PUBLIC_SIZE_BYTES or len(signature) != SIGNATURE_SIZE_BYTES:
        raise SignatureError(f"a key of {len(public)} bytes with a signature of {len(signature)} is not Ed25519")
    if public in REFUSED_POINTS or signature[:32] in REFUSED_POINTS or int.from_bytes(signature[32:], "little") >= _L:
        raise SignatureError(_refusal(public, signature))
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        raise SignatureError(f"the signature does not verify with key {public.hex()}") from None


def point_problem(public: bytes) -> str:
    """Say why these 32 bytes can be nobody's public key: small order, or not canonical; empty if they may be one."""
    if public not in REFUSED_POINTS:
        return ""
    y = int.from_bytes(public, "little") % 2**255
    return "it has small order: anyone can sign for it" if y < _P else "it is not in its canonical encoding"


def _refusal(public: bytes, signature: bytes) -> str:
    if public in REFUSED_POINTS:
        return f"the key {public.hex()} is refused: {point_problem(public)}"
    if signature[:32] in REFUSED_POINTS:
        return "the signature is refused: its R has small order or is not in its canonical encoding"
    return "the signature is refused: its S is not below the group's order"
