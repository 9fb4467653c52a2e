"""Errors of the content-addressed store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samebits.cas.digest import Digest


class CasError(Exception):
    """Root of every error that `samebits.cas` raises for bad data or a bad store."""


class DigestFormatError(CasError):
    """A text that should be an address is not 64 lower-case hexadecimal characters."""

    def __init__(self, text: str) -> None:
        self.text = text
        shown = text if len(text) <= 80 else text[:77] + "..."
        super().__init__(f"not an address: {shown!r} (want 64 lower-case hexadecimal characters)")


class EncodingError(CasError):
    """Bytes that are not canonical msgpack, or a value that has no canonical encoding."""


class NodeError(CasError):
    """A node whose bytes decode but whose fields are not those of its kind."""


class DigestMismatchError(CasError):
    """Bytes do not have the address under which they were found or sent."""

    def __init__(self, expected: Digest, actual: Digest) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"object {expected} is damaged: its bytes have the address {actual}")


class ObjectNotFoundError(CasError):
    """The store has no object of this address."""

    def __init__(self, digest: Digest, where: str = "") -> None:
        self.digest = digest
        super().__init__(f"object {digest} is not in the store" + (f" {where}" if where else ""))
