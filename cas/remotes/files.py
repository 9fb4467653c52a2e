"""A remote that is nothing but named files, over the few things that a file holder must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from samebits.cas.digest import Digest
from samebits.cas.errors import ObjectNotFoundError, RemoteError
from samebits.cas.remotes.layout import (
    MARKER,
    MARKER_PATH,
    MAX_PINS_SIZE_BYTES,
    PINS_FOLDER,
    PINS_PATH,
    format_address,
    format_pins,
    parse_address,
    parse_pin_name,
    parse_pins,
    pin_path,
    record_path,
    row_path,
)
from samebits.cas.remotes.protocol import parse_record
from samebits.cas.wire import MAX_WIRE_SIZE_BYTES, WireRecord, encode_wire

T = TypeVar("T")
R = TypeVar("R")


class Files(Protocol):
    """Named files, usable from several threads at once; every method raises RemoteError."""

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file, but never more than `limit_bytes` + 1 bytes of it; None if there is none."""

    def exists(self, path: str) -> bool:
        """Return whether there is a file of this name."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file whole, in place of any other."""

    def settle(self) -> None:
        """Return when all that was written would survive a loss of power."""

    def names(self, folder: str) -> Iterable[str] | None:
        """Return the names of what is in a folder; None where that can't be listed."""

    def close(self) -> None:
        """Let go of connections."""


class FileRemote:
    """A remote in the layout of files."""

    def __init__(self, name: str, files: Files, *, concurrency: int = 1) -> None:
        """`concurrency` is how many requests to make at once where one call takes many."""
        self._name = name
        self._files = files
        self._concurrency = concurrency

    @property
    def name(self) -> str:
        """What errors call the remote."""
        return self._name

    def check_marker(self, *, create: bool = False) -> None:
        """Raise RemoteError unless this is a remote; with `create` make it one where there is nothing."""
        marker = self._files.read(MARKER_PATH, len(MARKER))
        if marker is None and create:
            if next(iter(self._files.names("") or ()), None) is not None:
                raise RemoteError(self._name, "has other files and is not a samebits remote; choose an empty place")
            self._files.write(MARKER_PATH, MARKER)
            self._files.settle()
        elif marker is None:
            raise RemoteError(self._name, f"there is no samebits remote here (it has no {MARKER_PATH})")
        elif marker != MARKER:
            raise RemoteError(self._name, "is not a samebits remote, or one of a version that this one does not know")

    def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those of `digests` that the remote has no object of, in their order."""
        there = self._each(lambda digest: self._files.exists(record_path(digest)), digests)
        return [digest for digest, found in zip(digests, there, strict=True) if not found]

    def missing_rows(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return those of `keys` that the remote has no row of, in their order."""
        there = self._each(lambda key: self._files.exists(row_path(key)), keys)
        return [key for key, found in zip(keys, there, strict=True) if not found]

    def read_records(self, digests: Sequence[Digest]) -> list[WireRecord]:
        """Return the records of objects, in their order, each checked; raises ObjectNotFoundError."""
        return [self._read_record(digest) for digest in digests]

    def read_row(self, key: bytes, size_bytes: int) -> bytes:
        """Return the row of this key, but never more than `size_bytes` + 1 bytes."""
        data = self._files.read(row_path(key), size_bytes)
        if data is None:
            raise RemoteError(self._name, f"has no row {key.hex()}")
        return data

    def write_row(self, key: bytes, data: bytes) -> None:
        """Keep a row under its key."""
        self._files.write(row_path(key), data)

    def write_record(self, digest: Digest, record: WireRecord) -> None:
        """Make an object visible, whose rows and references are there already."""
        self._files.settle()
        self._files.write(record_path(digest), encode_wire(record))
        self._files.settle()

    def pins(self) -> dict[str, Digest]:
        """Return every pin, in the order of names."""
        files = self._files.names(PINS_FOLDER)
        if files is None:
            data = self._files.read(PINS_PATH, MAX_PINS_SIZE_BYTES)
            if data is not None and len(data) > MAX_PINS_SIZE_BYTES:
                raise RemoteError(self._name, f"its {PINS_PATH} has more than {MAX_PINS_SIZE_BYTES} bytes")
            return {} if data is None else parse_pins(self._name, data)
        names = sorted(name for file in files if (name := parse_pin_name(file)) is not None)
        found = zip(names, self._each(self._read_pin, names), strict=True)
        return {name: digest for name, digest in found if digest is not None}

    def write_pin(self, name: str, digest: Digest) -> None:
        """Give an object a name, in place of what had it; raises ValueError for a name that can't be one."""
        path = pin_path(name)
        if self.missing([digest]):
            raise ObjectNotFoundError(digest, f"remote {self._name}")
        self._files.settle()
        self._files.write(path, format_address(digest))
        self._files.write(PINS_PATH, format_pins(self.pins()))
        self._files.settle()

    def close(self) -> None:
        """Let go of connections."""
        self._files.close()

    def _read_record(self, digest: Digest) -> WireRecord:
        data = self._files.read(record_path(digest), MAX_WIRE_SIZE_BYTES)
        if data is None:
            raise ObjectNotFoundError(digest, f"remote {self._name}")
        if len(data) > MAX_WIRE_SIZE_BYTES:
            raise RemoteError(self._name, f"its record of object {digest} has more than {MAX_WIRE_SIZE_BYTES} bytes")
        return parse_record(self._name, digest, data)

    def _read_pin(self, name: str) -> Digest | None:
        data = self._files.read(pin_path(name), 65)
        return None if data is None else parse_address(self._name, name, data)

    def _each(self, function: Callable[[T], R], values: Iterable[T]) -> list[R]:
        if self._concurrency == 1:
            return [function(value) for value in values]
        with ThreadPoolExecutor(self._concurrency, "samebits-remote") as pool:
            return list(pool.map(function, values))
