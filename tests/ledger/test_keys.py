"""Keys: RFC 8032's vectors, the text forms of signed notes, and malformed texts refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.ledger.ed25519 import verify
from samebits.ledger.errors import NoteFormatError, SignatureError
from samebits.ledger.keys import SigningKey, VerifierKey, encode_base64, is_key_name

# RFC 8032 section 7.1, tests 1 and 2: seed, public key, message, signature.
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
        "55141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb"
        "00d291612bb0c00",
    ),
]
# The key of Go's sumdb/note documentation.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
KEY = SigningKey("a.example", bytes(32))


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC8032)
def test_sign_gives_the_vectors_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    key = SigningKey("a", bytes.fromhex(seed))
    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify(key.public, bytes.fromhex(signature), bytes.fromhex(message))


def test_parse_reads_the_known_keys_of_go() -> None:
    key = SigningKey.parse(GO_SKEY)
    assert key.format() == GO_SKEY
    assert key.vkey == GO_VKEY
    assert VerifierKey.parse(GO_VKEY) == key.verifier


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=20).filter(is_key_name), st.binary(min_size=32, max_size=32))
def test_parse_reads_back_what_was_formatted(name: str, seed: bytes) -> None:
    key = SigningKey(name, seed)
    assert SigningKey.parse(key.format()) == key
    assert VerifierKey.parse(key.vkey) == key.verifier


def test_verify_refuses_any_change() -> None:
    signature = KEY.sign(b"data")
    for place in range(64):
        changed = bytearray(signature)
        changed[place] ^= 1
        with pytest.raises(SignatureError):
            verify(KEY.public, bytes(changed), b"data")
    for public, bad, data in [
        (KEY.public, signature, b"Data"),
        (bytes(32), signature, b"data"),
        (KEY.public[:31], signature, b"data"),
        (KEY.public, signature[:63], b"data"),
        (KEY.public, signature + b"x", b"data"),
        (b"\xff" * 32, signature, b"data"),
    ]:
        with pytest.raises(SignatureError):
            verify(public, bad, data)


def bad_texts(text: str) -> list[str]:
    name, key_id, encoded = text.split("+", 2)
    return [
        "",
        name,
        f"{name}+{key_id}",
        f"{name} x+{key_id}+{encoded}",
        f"+{key_id}+{encoded}",
        f"{name}+{key_id.upper()}+{encoded}" if key_id.upper() != key_id else "",
        f"{name}+{key_id[:7]}+{encoded}",
        f"{name}+00000000+{encoded}",
        f"x{name}+{key_id}+{encoded}",
        f"{name}+{key_id}+",
        f"{name}+{key_id}+{encoded[:-4]}",
        f"{name}+{key_id}+{encoded}=",
        f"{name}+{key_id}+{encoded}\n",
        f"{name}+{key_id}+{encoded[:20]} {encoded[20:]}",
        f"{name}+{key_id}+B{encoded[1:]}",
        f"{name}+{key_id}+{encoded[:-1]}\u00e9",
        f"{name}+{key_id}+{encode_base64(bytes([4]) + bytes(32))}",
        f"{name}+{key_id}+{encode_base64(bytes([1]) + bytes(33))}",
    ]


@pytest.mark.parametrize("text", bad_texts(KEY.vkey))
def test_verifier_key_parse_refuses_malformed_text(text: str) -> None:
    with pytest.raises(NoteFormatError):
        VerifierKey.parse(text)


@pytest.mark.parametrize("text", bad_texts(KEY.format().removeprefix("PRIVATE+KEY+")))
def test_signing_key_parse_refuses_malformed_text(text: str) -> None:
    with pytest.raises(NoteFormatError):
        SigningKey.parse(f"PRIVATE+KEY+{text}")
    with pytest.raises(NoteFormatError):
        SigningKey.parse(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_parse_raises_nothing_but_its_own_error(text: str) -> None:
    for parse in (VerifierKey.parse, SigningKey.parse):
        with pytest.raises(NoteFormatError):
            parse(text)
        with pytest.raises(NoteFormatError):
            parse(f"PRIVATE+KEY+a+01234567+{text}")


def test_signing_key_shows_no_seed() -> None:
    key = SigningKey("a.example", b"\x5a" * 32)
    assert "Z" not in repr(key)
    assert "5a" not in repr(key)


def test_keys_refuse_values_without_a_text_form() -> None:
    for name in ("", "a b", "a+b", "a\u2003b", "a\n", "\ud800"):
        with pytest.raises(ValueError, match="cannot name a key"):
            SigningKey(name, bytes(32))
        with pytest.raises(ValueError, match="cannot name a key"):
            VerifierKey(name, bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey("a", bytes(31))
