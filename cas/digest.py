"""The address of an object: 32 bytes of BLAKE3, as a type of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from samebits.cas.errors import DigestFormatError

DIGEST_SIZE_BYTES: Final = 32
NODE_CONTEXT: Final = "samebits 2026-11-21 node v1"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_NODE_HASHER: Final = blake3(derive_key_context=NODE_CONTEXT)  # copied, so that the context is hashed once

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The BLAKE3 address of a blob or a node. Its one text form is 64 lower-case hex characters.

    Example: ``af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262`` (the empty blob).
    """

    raw: bytes  # exactly 32 bytes

    def __post_init__(self) -> None:
        if not isinstance(self.raw, bytes) or len(self.raw) != DIGEST_SIZE_BYTES:
            raise ValueError(f"a digest is {DIGEST_SIZE_BYTES} bytes")

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"Digest({self.raw.hex()})"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read the text form; anything else raises DigestFormatError."""
        if not _HEX.match(text):
            raise DigestFormatError(text)
        return cls(bytes.fromhex(text))


def hash_blob(data: Buffer) -> Digest:
    """Return the address of raw bytes: plain BLAKE3, what `b3sum` prints."""
    return Digest(blake3(data).digest())


def hash_node(encoded: Buffer) -> Digest:
    """Return the address of an encoded node: BLAKE3 in derive-key mode, so it is never a blob's address."""
    hasher = _NODE_HASHER.copy()
    hasher.update(encoded)
    return Digest(hasher.digest())
