"""Ed25519 keys in the text forms of signed notes: `SigningKey`, `VerifierKey`, and signature checks.

Example of a verifier key (vkey), name + key ID + base64 of 01 || public key:
``example.com/log+cc714670+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea``
Source: https://c2sp.org/signed-note (v1.0.0)
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from samebits.ledger.ed25519 import PUBLIC_SIZE_BYTES as PUBLIC_SIZE_BYTES
from samebits.ledger.ed25519 import SEED_SIZE_BYTES as SEED_SIZE_BYTES
from samebits.ledger.ed25519 import SIGNATURE_SIZE_BYTES as SIGNATURE_SIZE_BYTES
from samebits.ledger.ed25519 import point_problem
from samebits.ledger.ed25519 import verify as verify
from samebits.ledger.errors import NoteFormatError

ED25519: Final = b"\x01"  # the signature type of signed-note
_PRIVATE_PREFIX: Final = "PRIVATE+KEY+"
_KEY_ID = re.compile(r"[0-9a-f]{8}\Z")
COSIGNATURE: Final = b"\x04"  # the signature type of tlog-cosignature, Ed25519 too: see cosignature.py
_TYPE_NAMES: Final = {ED25519: "Ed25519", COSIGNATURE: "an Ed25519 cosignature"}


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a key and the name it goes by. Raises NoteFormatError for a key of small order."""

    name: str
    public: bytes  # 32 bytes

    def __post_init__(self) -> None:
        _check_half(self.name, self.public, PUBLIC_SIZE_BYTES)
        if problem := point_problem(self.public):
            raise NoteFormatError("verifier key", problem)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that, with the name, say which key made a signature."""
        return compute_key_id(self.name, ED25519, self.public)

    @property
    def vkey(self) -> str:
        """The text form of the public key."""
        return format_key(self.name, self.key_id, ED25519, self.public)

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """Read the text form; raises NoteFormatError for anything else, another key type included."""
        name, key_id, public = parse_key("verifier key", vkey, ED25519)
        key = cls(name, public)
        check_key_id("verifier key", key_id, key.key_id)
        return key

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a signature over `data`; raises SignatureError."""
        verify(self.public, signature, data)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the name it signs under. Its repr does not show the seed."""

    name: str
    seed: bytes = field(repr=False)  # 32 bytes
    _private: Ed25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_half(self.name, self.seed, SEED_SIZE_BYTES)
        object.__setattr__(self, "_private", Ed25519PrivateKey.from_private_bytes(self.seed))

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """Return a new key from the system's random bytes."""
        return cls(name, os.urandom(SEED_SIZE_BYTES))

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    @property
    def verifier(self) -> VerifierKey:
        """The public half, with the name."""
        return VerifierKey(self.name, self.public)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that, with the name, say which key made a signature."""
        return self.verifier.key_id

    @property
    def vkey(self) -> str:
        """The text form of the public half."""
        return self.verifier.vkey

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature over `data`."""
        return self._private.sign(data)

    def format(self) -> str:
        """Return the text form of the private key: PRIVATE+KEY+name+key ID+base64 of 01 || seed."""
        return format_private_key(self.name, self.key_id, ED25519, self.seed)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read the text form; raises NoteFormatError (which never shows the text)."""
        name, key_id, seed = parse_private_key(text, ED25519)
        key = cls(name, seed)
        check_key_id("private key", key_id, key.key_id)
        return key


def is_key_name(name: str) -> bool:
    """Say whether a key may go by this name: not empty, valid Unicode, no space and no plus, no control character."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and not any(char == "+" or char.isspace() or char < " " for char in name)


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes | None:
    """Return the bytes of standard base64 in its one canonical form, or None for anything else."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return data if encode_base64(data) == text else None


def compute_key_id(name: str, key_type: bytes, public: bytes) -> bytes:
    """Return the 4 bytes of a key ID: the first of SHA-256(name || 0A || type || public key)."""
    return sha256(name.encode() + b"\n" + key_type + public).digest()[:4]


def check_key_id(what: str, found: bytes, computed: bytes) -> None:
    """Check the key ID in the text of a key; raises NoteFormatError."""
    if found != computed:
        raise NoteFormatError(what, f"the key ID {found.hex()} is not that of this name and key")


def format_key(name: str, key_id: bytes, key_type: bytes, key: bytes) -> str:
    """Return ``name+hex8+base64(type || key)``."""
    return f"{name}+{key_id.hex()}+{encode_base64(key_type + key)}"


def format_private_key(name: str, key_id: bytes, key_type: bytes, seed: bytes) -> str:
    """Return the text of a private key: the prefix, then the form of `format_key` with the seed as the key."""
    return _PRIVATE_PREFIX + format_key(name, key_id, key_type, seed)


def parse_private_key(text: str, key_type: bytes) -> tuple[str, bytes, bytes]:
    """Return (name, key ID, 32 bytes of seed) of a private key's text; raises NoteFormatError, without the text."""
    if not text.startswith(_PRIVATE_PREFIX):
        raise NoteFormatError("private key", f"it does not start with {_PRIVATE_PREFIX}")
    return parse_key("private key", text[len(_PRIVATE_PREFIX) :], key_type)


def parse_key(what: str, text: str, key_type: bytes) -> tuple[str, bytes, bytes]:
    """Return (name, key ID, 32 bytes of key) of ``name+hex8+base64(type || key)``; the base64 may contain a plus.

    Raises NoteFormatError, for a key of another type too. The key ID is not checked.
    """
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise NoteFormatError(what, "want name+key ID+base64")
    name, key_id, encoded = parts
    if not is_key_name(name):
        raise NoteFormatError(what, "the name is empty or has a space or control character in it")
    if not _KEY_ID.match(key_id):
        raise NoteFormatError(what, "the key ID is not 8 lower-case hexadecimal characters")
    payload = decode_base64(encoded)
    if payload is None or not payload:
        raise NoteFormatError(what, "the key is not base64")
    if payload[:1] != key_type:
        wanted = f"{key_type[0]} is {_TYPE_NAMES[key_type]}"
        raise NoteFormatError(what, f"key type {payload[0]} is not supported ({wanted})")
    if len(payload) != 1 + PUBLIC_SIZE_BYTES:
        raise NoteFormatError(what, f"an Ed25519 key is 32 bytes, not {len(payload) - 1}")
    return name, bytes.fromhex(key_id), payload[1:]


def _check_half(name: str, key: bytes, size_bytes: int) -> None:
    if not is_key_name(name):
        raise ValueError(f"{name!r} cannot name a key: no space, no plus, not empty")
    if not isinstance(key, bytes) or len(key) != size_bytes:
        raise ValueError(f"an Ed25519 key is {size_bytes} bytes")
