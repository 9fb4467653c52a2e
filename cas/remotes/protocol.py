"""What a transfer needs of a remote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from samebits.cas.digest import Buffer, Digest
from samebits.cas.errors import RemoteError, WireError
from samebits.cas.wire import WireRecord, check_wire, decode_wire


class Remote(Protocol):
    """A place that holds objects. Usable from several threads at once; every method raises RemoteError.

    Records that it gives are checked against the address; rows are not, whoever takes them does that.
    """

    @property
    def name(self) -> str:
        """What errors call the remote."""

    def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those of `digests` that the remote has no object of, in their order."""

    def missing_rows(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return those of `keys` that the remote has no row of, in their order."""

    def read_records(self, digests: Sequence[Digest]) -> list[WireRecord]:
        """Return the records of objects, in their order, each checked; raises ObjectNotFoundError."""

    def read_row(self, key: bytes, size_bytes: int) -> bytes:
        """Return what the remote gives as the row of this key, but never more than `size_bytes` + 1 bytes."""

    def write_row(self, key: bytes, data: bytes) -> None:
        """Keep a row under its key, the BLAKE3 of its bytes."""

    def write_record(self, digest: Digest, record: WireRecord) -> None:
        """Make an object visible, whose rows, and the objects that it refers to, are there already."""

    def pins(self) -> Mapping[str, Digest]:
        """Return every pin, in the order of names."""

    def write_pin(self, name: str, digest: Digest) -> None:
        """Give an object a name, in place of what had it; raises ValueError for a name that can't be one."""

    def close(self) -> None:
        """Let go of connections; requests of other threads that still run end with an error."""


def read_record(remote: Remote, digest: Digest) -> WireRecord:
    """Return the record of one object, checked; raises ObjectNotFoundError, RemoteError."""
    return remote.read_records([digest])[0]


def parse_record(remote: str, digest: Digest, data: Buffer) -> WireRecord:
    """Return the record that the remote of this name gave of an object; raises RemoteError if it is wrong."""
    try:
        record = decode_wire(data)
        check_wire(digest, record)
    except WireError as error:
        raise RemoteError(remote, f"its record of object {digest} is wrong: {error}") from error
    return record
