"""Errors of the content-addressed store."""

from __future__ import annotations

import copyreg
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from samebits.cas.digest import Digest


# What the system says where there is no room (EIO: LMDB says so of a write that was cut short).
FULL_CODES: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class PicklableError(Exception):
    """An error that goes from one process to another as it is: its class, text and attributes, and not what made it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes the same error again, without a call of its class."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class CasError(PicklableError):
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


class DamagedObjectError(CasError):
    """A stored object is not what its address promises: a byte, a row or its record is wrong or missing."""

    def __init__(self, digest: Digest, reason: str) -> None:
        self.digest = digest
        self.reason = reason
        super().__init__(f"object {digest} is damaged: {reason}")


class DigestMismatchError(DamagedObjectError):
    """Bytes do not have the address under which they were found or sent."""

    def __init__(self, expected: Digest, actual: Digest) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(expected, f"its bytes have the address {actual}")


class ObjectNotFoundError(CasError):
    """The store, or a remote, has no object of this address."""

    def __init__(self, digest: Digest, where: str = "the store") -> None:
        self.digest = digest
        super().__init__(f"object {digest} is not in {where}")


class ObjectKindError(CasError):
    """An object is there, but it is of another kind than the one asked for."""

    def __init__(self, digest: Digest, actual: str, wanted: str) -> None:
        self.digest = digest
        self.actual = actual
        self.wanted = wanted
        super().__init__(f"object {digest} is a {actual}, not {wanted}")


class PathError(CasError):
    """A text names nothing in the store, or more than one object."""

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason
        shown = text if len(text) <= 200 else text[:197] + "..."
        super().__init__(f"{shown!r}: {reason}")


class StoreError(CasError):
    """A store can't be opened or used."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"store {path}: {reason}")


class StoreBusyError(StoreError):
    """Somebody else uses the store in a way that excludes what was asked for."""


class StoreFullError(StoreError):
    """The disk or the store's map is full; nothing of the transaction that failed is visible."""


def file_system_error(path: Path, error: OSError) -> StoreError:
    """Return what the file system says of one of the files of the store `path` as one of ours."""
    reason = error.strerror or str(error)
    if error.errno in FULL_CODES:
        return StoreFullError(path, f"can't be written ({reason})")
    name = f"{Path(os.fsdecode(error.filename)).name}: " if error.filename is not None else ""
    return StoreError(path, f"{name}{reason}")


class FileError(CasError):
    """A file can't be read or written."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class FileFormatError(FileError):
    """A file's bytes are not those of its format."""


class WireError(CasError):
    """What a remote says of an object is malformed, or does not fit the object's address."""


class RemoteError(CasError):
    """A remote can't be reached, refuses, or gives what it should not; `remote` is its name."""

    def __init__(self, remote: str, reason: str) -> None:
        self.remote = remote
        self.reason = reason
        super().__init__(f"remote {remote}: {reason}")


class BadRowError(RemoteError):
    """A row of a remote is not the one of this object at this index."""

    def __init__(self, remote: str, digest: Digest, index: int, reason: str = "does not have its hash") -> None:
        self.digest = digest
        self.index = index
        super().__init__(remote, f"row {index} of object {digest} {reason}")
