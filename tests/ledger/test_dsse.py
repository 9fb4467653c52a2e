"""Envelopes: DSSE's published vector, securesystemslib as a second reader and writer, malformed envelopes refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from samebits.ledger.dsse import (
    Envelope,
    encode_pae,
    envelope_key_id,
    parse_envelope,
    sign_envelope,
    verify_envelope,
)
from samebits.ledger.errors import EnvelopeError, SignatureError
from samebits.ledger.keys import SigningKey

KEY = SigningKey("a.example", bytes(range(32)))
OTHER = SigningKey("b.example", bytes(32))
KIND = "http://example.com/HelloWorld"


def test_pae_is_that_of_the_published_vector() -> None:
    """dsse/protocol.md, "Test Vectors"."""
    assert encode_pae(KIND, b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_pae_counts_bytes_not_characters() -> None:
    assert encode_pae("ä", "ö".encode()) == b"DSSEv1 2 \xc3\xa4 2 \xc3\xb6"


def test_parse_reads_the_published_envelope() -> None:
    """Its signature is ECDSA, which is set aside like any that does not verify."""
    text = (
        '{"payload": "aGVsbG8gd29ybGQ=",\n "payloadType": "http://example.com/HelloWorld",\n "signatures": [{"sig":'
        ' "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}'
    )
    envelope = parse_envelope(text.encode())
    assert (envelope.payload_type, envelope.payload) == (KIND, b"hello world")
    assert len(envelope.signatures[0].signature) == 64
    with pytest.raises(SignatureError):
        verify_envelope(envelope, [KEY.verifier])


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.binary(max_size=100))
def test_parse_reads_back_what_is_signed(kind: str, payload: bytes) -> None:
    envelope = sign_envelope(kind, payload, KEY)
    assert parse_envelope(envelope.format().encode()) == envelope
    assert verify_envelope(envelope, [OTHER.verifier, KEY.verifier]) == KEY.verifier


def test_verify_refuses_any_changed_bit_of_type_and_payload() -> None:
    envelope = sign_envelope(KIND, b"hello world", KEY)
    kinds = ("x" + KIND[1:], KIND[:9] + "x" + KIND[10:], KIND + " ")
    changed = [Envelope(kind, b"hello world", envelope.signatures) for kind in kinds]
    for place in range(8 * len(envelope.payload)):
        number = int.from_bytes(envelope.payload, "big") ^ (1 << place)
        changed.append(Envelope(KIND, number.to_bytes(11, "big"), envelope.signatures))
    for one in changed:
        with pytest.raises(SignatureError, match="no valid signature by a"):
            verify_envelope(one, [KEY.verifier])


def test_verify_does_not_believe_key_ids() -> None:
    envelope = sign_envelope(KIND, b"x", KEY)
    value = json.loads(envelope.format())
    value["signatures"][0]["keyid"] = envelope_key_id(OTHER.public)
    assert verify_envelope(parse_envelope(json.dumps(value).encode()), [KEY.verifier]) == KEY.verifier
    with pytest.raises(SignatureError):
        verify_envelope(parse_envelope(json.dumps(value).encode()), [OTHER.verifier])


def test_parse_takes_url_safe_base64_and_unknown_fields() -> None:
    payload = bytes(range(248, 256)) * 4
    value = json.loads(sign_envelope(KIND, payload, KEY).format())
    value["payload"] = base64.urlsafe_b64encode(payload).decode()
    value["more"] = [1]
    assert parse_envelope(json.dumps(value).encode()).payload == payload


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != name}


GOOD = json.loads(sign_envelope(KIND, b"\xfb\xff\xfe", KEY).format())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\xff",
        "[" * 100_000,
        '{"payload": "", "payload": "", "payloadType": "a", "signatures": [{"sig": "AA=="}]}',
        "9" * 5000,
        json.dumps({**GOOD, "more": float("nan")}),
        json.dumps({**GOOD, "more": float("inf")}),
        json.dumps(GOOD)[:-1] + ', "more": ' + "[" * 64 + "]" * 64 + "}",
        json.dumps(without(GOOD, "payload")),
        json.dumps(without(GOOD, "payloadType")),
        json.dumps(without(GOOD, "signatures")),
        json.dumps({**GOOD, "payload": 1}),
        json.dumps({**GOOD, "payload": "+/-_"}),
        json.dumps({**GOOD, "payload": "AB=="}),
        json.dumps({**GOOD, "payload": "AA"}),
        json.dumps({**GOOD, "payload": "A A="}),
        json.dumps({**GOOD, "payload": "ä"}),
        json.dumps({**GOOD, "payloadType": None}),
        json.dumps({**GOOD, "payloadType": "\ud800"}),
        json.dumps({**GOOD, "signatures": []}),
        json.dumps({**GOOD, "signatures": GOOD["signatures"] * 101}),
        json.dumps({**GOOD, "signatures": ["sig"]}),
        json.dumps({**GOOD, "signatures": [{"keyid": 1, "sig": "AA=="}]}),
        json.dumps({**GOOD, "signatures": [{"keyid": ""}]}),
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse_envelope(text.encode("latin-1") if text == "\xff" else text.encode("utf-8", "surrogatepass"))
    assert len(str(caught.value)) < 400


def test_securesystemslib_reads_ours_and_we_read_its() -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    public = signer.SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(KEY.public))
    assert public.keyid == envelope_key_id(KEY.public)
    ours = dsse.Envelope.from_dict(json.loads(sign_envelope(KIND, b"hello", KEY).format()))
    assert ours.verify([public], 1) == {public.keyid: public}
    theirs = dsse.Envelope(b"hello", KIND, {})
    theirs.sign(signer.CryptoSigner(Ed25519PrivateKey.from_private_bytes(KEY.seed), public))
    assert theirs == ours
    assert verify_envelope(parse_envelope(json.dumps(theirs.to_dict()).encode()), [KEY.verifier]) == KEY.verifier
