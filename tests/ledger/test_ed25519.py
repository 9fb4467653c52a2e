"""The strict rule for signatures: C2SP/CCTV's vectors, a slow independent verifier, and keys that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.cctv_ed25519 import SMALL_ORDER, Vector, as_published, make_vectors
from tests.ledger.edwards25519 import IDENTITY, L, P, decode_point, encode_point, is_valid, multiply

from samebits.cas.encoding import Value
from samebits.cas.node import Node, decode_node, encode_node
from samebits.ledger.ed25519 import REFUSED_POINTS, point_problem, verify
from samebits.ledger.entry import Entry, check_entry_signature, decode_entry, encode_entry
from samebits.ledger.errors import EntryError, NoteFormatError, SignatureError
from samebits.ledger.keys import ED25519, SigningKey, VerifierKey, encode_base64
from samebits.ledger.log import Log

SAMPLES = Path(__file__).parents[1] / "vectors" / "ed25519" / "cctv_samples.json"
PUBLISHED_LENGTH = 351_077  # characters of the published file
KEY = SigningKey("a.example", bytes(32))


@pytest.fixture(scope="module")
def vectors() -> list[Vector]:
    return make_vectors()


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    try:
        verify(public, signature, data)
    except SignatureError:
        return False
    return True


def openssl_verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def test_the_vectors_are_the_published_ones(vectors: list[Vector]) -> None:
    assert len(as_published(vectors)) == PUBLISHED_LENGTH
    for sample in json.loads(SAMPLES.read_text()):
        made = asdict(vectors[sample["number"]])
        assert {**made, "flags": list(made["flags"])} == sample


def test_verify_accepts_of_the_vectors_those_with_large_order_and_no_residue(vectors: list[Vector]) -> None:
    allowed = {"low_order_component_A", "low_order_component_R"}
    wrong = [v.number for v in vectors if _verdict(v, verifies) != (set(v.flags) <= allowed)]
    assert wrong == []
    assert sum(set(v.flags) <= allowed for v in vectors) == 43


def test_verify_refuses_vectors_that_openssl_takes(vectors: list[Vector]) -> None:
    """The same vectors show that OpenSSL alone is not strict; they are its known behaviour."""
    refused = {"non_canonical_R", "low_order_residue"}
    assert all(_verdict(v, openssl_verifies) == (not refused & set(v.flags)) for v in vectors)
    assert sum(_verdict(v, openssl_verifies) and not _verdict(v, verifies) for v in vectors) > 100


def test_verify_agrees_with_the_definition_of_the_rule(vectors: list[Vector]) -> None:
    for vector in vectors[::9]:
        assert _verdict(vector, verifies) == _verdict(vector, is_valid), vector


def _verdict(vector: Vector, check: Callable[[bytes, bytes, bytes], bool]) -> bool:
    return check(bytes.fromhex(vector.key), bytes.fromhex(vector.sig), vector.msg.encode())


def test_refused_points_are_all_encodings_of_small_order_and_all_with_y_beyond_p() -> None:
    published = {bytes.fromhex(encoding) for encodings in SMALL_ORDER for encoding in encodings}
    assert len(published) == 14
    assert published < REFUSED_POINTS
    beyond = {(y | sign << 255).to_bytes(32, "little") for y in range(P, 2**255) for sign in (0, 1)}
    assert published | beyond == REFUSED_POINTS
    for encoding in REFUSED_POINTS - beyond:
        point = decode_point(encoding)
        assert point is not None
        assert multiply(8, point) == IDENTITY


def test_refused_points_beyond_p_of_large_order_are_points_too() -> None:
    """The blocklists that go round miss these: y = p + 3 and others decode to points of large order."""
    decoded = {e: decode_point(e) for e in REFUSED_POINTS}
    large = {e: p for e, p in decoded.items() if p is not None and multiply(8, p) != IDENTITY}
    assert len(large) > 10
    assert all(encode_point(point) != encoding for encoding, point in large.items())


@pytest.mark.parametrize("added", [L, 2 * L, 2**255])
def test_verify_refuses_s_beyond_the_order(added: int) -> None:
    signature = KEY.sign(b"data")
    s = int.from_bytes(signature[32:], "little") + added
    assert not verifies(KEY.public, signature[:32] + s.to_bytes(32, "little"), b"data")


def test_verify_says_why_it_refuses() -> None:
    signature = KEY.sign(b"data")
    identity, s = encode_point(IDENTITY), int.from_bytes(signature[32:], "little") + L
    with pytest.raises(SignatureError, match="small order: anyone can sign"):
        verify(identity, signature, b"data")
    with pytest.raises(SignatureError, match="canonical"):
        verify((P + 3).to_bytes(32, "little"), signature, b"data")
    with pytest.raises(SignatureError, match="its R"):
        verify(KEY.public, identity + signature[32:], b"data")
    with pytest.raises(SignatureError, match="its S"):
        verify(KEY.public, signature[:32] + s.to_bytes(32, "little"), b"data")


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=40), st.integers(0, 511), st.booleans())
def test_verify_and_the_definition_agree_on_signatures_with_a_bit_changed(
    seed: bytes, data: bytes, place: int, changed: bool
) -> None:
    key = SigningKey("a", seed)
    signature = int.from_bytes(key.sign(data), "little") ^ (1 << place if changed else 0)
    encoded = signature.to_bytes(64, "little")
    assert verifies(key.public, encoded, data) == is_valid(key.public, encoded, data) == (not changed)


def test_nobody_appends_in_the_name_of_a_key_that_anyone_can_sign_for(log: Log, make_run: Callable[..., Entry]) -> None:
    """R = A = the identity and S = 0 verify for every message where small orders are not refused."""
    identity = encode_point(IDENTITY)
    universal = identity + bytes(32)
    assert openssl_verifies(identity, universal, b"any message")
    forged = replace(make_run(log.origin), author=identity, signature=universal)
    with pytest.raises(SignatureError, match="does not verify"):
        check_entry_signature(forged)
    with pytest.raises(EntryError, match="author: it has small order"):
        log.append([forged])
    assert log.size == 0


@pytest.mark.parametrize("public", sorted(REFUSED_POINTS), ids=lambda public: public.hex()[:4] + public.hex()[-2:])
def test_a_refused_point_is_no_verifier_key_and_no_author(public: bytes, make_run: Callable[..., Entry]) -> None:
    assert point_problem(public)
    with pytest.raises(NoteFormatError, match=r"small order|canonical"):
        VerifierKey("a.example", public)
    key_id = "00000000"
    with pytest.raises(NoteFormatError, match=r"small order|canonical"):
        VerifierKey.parse(f"a.example+{key_id}+{encode_base64(ED25519 + public)}")
    fields: dict[str, Value] = decode_node(encode_entry(make_run("log.example"))).body
    with pytest.raises(EntryError, match=r"author: it (has small order|is not in its canonical)"):
        decode_entry(encode_node(Node("entry", {**fields, "author": public})))
