"""Addresses, checked against BLAKE3's own vectors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from samebits.cas.digest import NODE_CONTEXT, Digest, hash_blob, hash_node
from samebits.cas.errors import DigestFormatError
from samebits.cas.store import Store

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors/blake3/test_vectors.json").read_text())


def official_input(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def test_hash_blob_gives_the_official_vectors() -> None:
    assert len(VECTORS["cases"]) == 35
    for case in VECTORS["cases"]:
        assert str(hash_blob(official_input(case["input_len"]))) == case["hash"][:64]


def test_blake3_derives_keys_as_the_official_vectors() -> None:
    for case in VECTORS["cases"]:
        hasher = blake3(official_input(case["input_len"]), derive_key_context=VECTORS["context_string"])
        assert hasher.hexdigest() == case["derive_key"][:64]


def test_put_stream_gives_the_official_vectors(store: Store) -> None:
    with store.batch():
        for case in VECTORS["cases"]:
            assert str(store.put_stream(io.BytesIO(official_input(case["input_len"])))) == case["hash"][:64]


def test_hash_node_is_never_the_hash_of_a_blob() -> None:
    assert NODE_CONTEXT == "samebits 2026-11-21 node v1"
    assert hash_node(b"x") != hash_blob(b"x")
    assert str(hash_node(b"")) == blake3(b"", derive_key_context="samebits 2026-11-21 node v1").hexdigest()


@given(st.binary(min_size=32, max_size=32))
def test_parse_reads_what_str_writes(raw: bytes) -> None:
    assert Digest.parse(str(Digest(raw))) == Digest(raw)


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "A" * 64, "0" * 63 + "g", "0" * 64 + "\n", " " + "0" * 63, "é" * 64]
)
def test_parse_refuses_other_text(text: str) -> None:
    with pytest.raises(DigestFormatError, match="not an address"):
        Digest.parse(text)


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 33, "x" * 32, bytearray(32)])
def test_digest_refuses_other_bytes(raw: Any) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Digest(raw)
