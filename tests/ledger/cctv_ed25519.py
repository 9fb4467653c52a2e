"""The 914 vectors of C2SP/CCTV's ed25519/ed25519vectors.json, made again from how they are defined.

The private scalar and the r of every vector are fixed; A and R are a point of small order (in each of its encodings)
with or without that part of large order. Of the messages "ed25519vectors", "ed25519vectors 1", ... each vector has the
first that gives k mod 8 = 0, 1, ...; kept are the first with a residue of small order and the first without. See
tests/vectors/ed25519/README.md for how the result is known to be the published file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import count, product

from tests.ledger.edwards25519 import (
    BASE,
    IDENTITY,
    L,
    Point,
    add,
    challenge,
    decode_point,
    encode_point,
    multiply,
)

# encodings of each point of small order, the canonical one first
SMALL_ORDER = (
    ("00" * 32, "ed" + "ff" * 30 + "7f"),
    ("00" * 31 + "80", "ed" + "ff" * 31),
    ("01" + "00" * 31, "01" + "00" * 30 + "80", "ee" + "ff" * 30 + "7f", "ee" + "ff" * 31),
    ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",),
    ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",),
    ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",),
    ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",),
    ("ec" + "ff" * 30 + "7f", "ec" + "ff" * 31),
)
PRIVATE = (int.from_bytes(b"\x42" * 32, "little") & ~7 & (2**254 - 1)) | 2**254
NONCE = int.from_bytes(b"\x13\x37" * 32, "little") % L
FLAGS = (
    "low_order_R",
    "low_order_A",
    "low_order_component_R",
    "low_order_component_A",
    "low_order_residue",
    "non_canonical_A",
    "non_canonical_R",
    "reencoded_k",
)


@dataclass(frozen=True)
class Vector:
    number: int
    key: str
    sig: str
    msg: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Half:
    """A or R: its encoding, the point of small order in it, and the scalar of the rest (0: there is none)."""

    encoded: bytes
    small: Point
    scalar: int
    is_canonical: bool = True

    def canonical(self) -> bytes:
        point = decode_point(self.encoded)
        assert point is not None
        return encode_point(point)


def make_vectors() -> list[Vector]:
    vectors: list[Vector] = []
    for encodings_a, encodings_r in product(SMALL_ORDER, SMALL_ORDER):
        pure_a, mixed_a, *other_a = _halves(encodings_a, PRIVATE)
        pure_r, mixed_r, *other_r = _halves(encodings_r, NONCE)
        pairs = [(a, r, False) for a in (pure_a, mixed_a) for r in (pure_r, mixed_r)]
        for a in other_a:
            pairs += [(a, pure_r, False), (a, mixed_r, False), (a, mixed_r, True)]
        for r in other_r:
            pairs += [(pure_a, r, False), (mixed_a, r, False), (mixed_a, r, True)]
        pairs += [(a, r, False) for a in other_a for r in other_r]
        for a, r, reencoded in pairs:
            vectors += _vectors_of(len(vectors), a, r, reencoded)
    return vectors


def as_published(vectors: list[Vector]) -> str:
    """Return the text of the published file: Go's JSON, indented by tabs; no flags are null."""
    listed = [{**asdict(vector), "flags": vector.flags or None} for vector in vectors]
    return json.dumps(listed, indent="\t") + "\n"


def _halves(encodings: tuple[str, ...], scalar: int) -> list[Half]:
    canonical, *others = (bytes.fromhex(encoding) for encoding in encodings)
    small = decode_point(canonical)
    assert small is not None
    assert BASE is not None
    mixed = encode_point(add(multiply(scalar, BASE), small))
    return [Half(canonical, small, 0), Half(mixed, small, scalar), *(Half(one, small, 0, False) for one in others)]


def _vectors_of(first: int, a: Half, r: Half, reencoded: bool) -> list[Vector]:
    """Return the vectors of one pair, numbered from `first`: with and without a residue, where both exist."""
    found: dict[bool, Vector] = {}
    encodings = (r.canonical(), a.canonical()) if reencoded else (r.encoded, a.encoded)
    for residue_class in range(8):
        for number in count():
            message = f"ed25519vectors {number}" if number else "ed25519vectors"
            k = challenge(*encodings, message.encode())
            if k % 8 == residue_class:
                break
        has_residue = _has_residue(a, r, k)
        if has_residue not in found:
            signature = r.encoded + ((r.scalar + k * a.scalar) % L).to_bytes(32, "little")
            as_given = challenge(r.encoded, a.encoded, message.encode())
            values = (
                r.scalar == 0,
                a.scalar == 0,
                r.small != IDENTITY,
                a.small != IDENTITY,
                _has_residue(a, r, as_given),
                not a.is_canonical,
                not r.is_canonical,
                reencoded,
            )
            flags = tuple(flag for flag, value in zip(FLAGS, values, strict=True) if value)
            found[has_residue] = Vector(first + len(found), a.encoded.hex(), signature.hex(), message, flags)
    return list(found.values())


def _has_residue(a: Half, r: Half, k: int) -> bool:
    return add(r.small, multiply(k % 8, a.small)) != IDENTITY
