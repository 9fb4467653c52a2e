"""Reading objects: the record, then inline bytes or row after row, all verified against the address."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from typing import Final, TypeVar

import numpy as np
from blake3 import blake3

from samebits.cas.digest import DIGEST_SIZE_BYTES, NODE_CONTEXT, Buffer, Digest
from samebits.cas.environment import OBJECTS, ROWS, Environment
from samebits.cas.errors import (
    DamagedObjectError,
    DigestMismatchError,
    ObjectKindError,
    ObjectNotFoundError,
    StoreError,
)
from samebits.cas.parallel import run_ahead
from samebits.cas.records import (
    ROW_SIZE_BYTES,
    ObjectInfo,
    ObjectKind,
    ObjectRecord,
    address_hasher,
    decode_record,
    row_key,
)
from samebits.cas.row_buffers import give_buffer, take_buffer
from samebits.cas.row_values import known_value
from samebits.cas.subtree import COMPILED, root_address, subtree_value
from samebits.cas.writes import PendingWrites

SCAN_OBJECTS: Final = 1000  # how many records one read transaction of `list_objects` sees
WINDOW_ROWS: Final = 8  # how many rows are copied and checked ahead of the one that is taken


R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ObjectReader:
    """Reads objects of an environment, and those that the calling thread's batch has not written yet."""

    environment: Environment
    pending: Callable[[], PendingWrites | None]

    def has(self, digest: Digest) -> bool:
        """Return whether there is an object of this address."""
        pending = self.pending()
        if pending is not None and digest in pending.records:
            return True
        return self.environment.has(OBJECTS, digest.raw)

    def has_row(self, key: bytes) -> bool:
        """Return whether there is a row of this key."""
        pending = self.pending()
        return (pending is not None and key in pending.rows) or self.environment.has(ROWS, key)

    def row(self, key: bytes) -> bytes | None:
        """Return a row as it lies there, not verified, or None."""
        pending = self.pending()
        row = None if pending is None else pending.row(key)
        return self.environment.get(ROWS, key) if row is None else bytes(row)

    def record(self, digest: Digest, wanted: ObjectKind | None = None) -> ObjectRecord:
        """Return an object's record; raises ObjectNotFoundError, DamagedObjectError, ObjectKindError."""
        pending = self.pending()
        record = None if pending is None else pending.records.get(digest)
        if record is None:
            encoded = self.environment.get(OBJECTS, digest.raw)
            if encoded is None:
                raise ObjectNotFoundError(digest)
            record = decode_record(digest, encoded)
        if wanted is not None and record.kind != wanted:
            raise ObjectKindError(digest, record.kind, f"a {wanted}")
        return record

    def read_rows(self, digest: Digest) -> Iterator[bytes]:
        """Yield an object's rows; each is checked against its own hash, the last with the whole address."""
        record = self.record(digest)
        if record.inline is not None:
            check_address(digest, address_hasher(record.kind).update(record.inline).digest())
            if record.inline:
                yield record.inline
            return
        pending = self.pending()
        whole = _Whole(record)
        tasks = (partial(self._checked_row, digest, record, index, pending) for index in range(len(record.row_keys)))
        for row, value in run_ahead(tasks, WINDOW_ROWS):
            whole.add(row, value)
            if whole.is_complete:
                check_address(digest, whole.address())
            yield row

    def write_to(self, digest: Digest, descriptor: int, offset: int) -> int:
        """Write an object's bytes to a file at an offset, each row verified before; returns their size.

        That they are the right rows in the right order is known at the end: raises DigestMismatchError there.
        """
        record = self.record(digest)
        if not _by_values(record):
            for row in self.read_rows(digest):
                offset += _write(descriptor, row, offset)
            return record.size_bytes
        pending = self.pending()

        def write(index: int) -> bytes:
            known = known_value(self.environment, record.row_keys[index], index)
            row = take_buffer()[: record.row_size_bytes(index)]
            self._visit_row(digest, record, index, pending, lambda stored: copy_bytes(stored, row))
            value = _check_row(digest, record, index, row, known)
            _write(descriptor, row, offset + index * ROW_SIZE_BYTES)
            give_buffer(row)
            return value

        tasks = (partial(write, index) for index in range(len(record.row_keys)))
        check_address(digest, root_address(list(run_ahead(tasks, WINDOW_ROWS))).raw)
        return record.size_bytes

    def read_into(self, digest: Digest, record: ObjectRecord, out: memoryview) -> None:
        """Copy an object's bytes into `out`, bytes of exactly its size, and verify them there."""
        if record.inline is not None:
            out[:] = record.inline
        pending = self.pending()

        def copy(index: int) -> None:
            start = index * ROW_SIZE_BYTES
            view = out[start : start + record.row_size_bytes(index)]
            self._visit_row(digest, record, index, pending, lambda row: copy_bytes(row, view))

        for _ in run_ahead((partial(copy, index) for index in range(len(record.row_keys))), WINDOW_ROWS):
            pass
        threads = blake3.AUTO if len(record.row_keys) > 1 else 1
        hasher = blake3(max_threads=threads) if record.kind == "blob" else _node_hasher(threads)
        check_address(digest, hasher.update(out).digest())

    def read_bytes(self, digest: Digest, record: ObjectRecord) -> bytes:
        """Return an object's bytes, verified."""
        if record.inline is not None:
            check_address(digest, address_hasher(record.kind).update(record.inline).digest())
            return record.inline
        data = bytearray(record.size_bytes)
        self.read_into(digest, record, memoryview(data))
        return bytes(data)

    def visit_row(self, digest: Digest, record: ObjectRecord, index: int, visit: Callable[[memoryview], R]) -> R:
        """Return what `visit` makes of a row's bytes in place, not verified; they are gone when it returns.

        Raises DamagedObjectError for a row that is missing or has another size.
        """
        return self._visit_row(digest, record, index, self.pending(), visit)

    def _checked_row(
        self, digest: Digest, record: ObjectRecord, index: int, pending: PendingWrites | None
    ) -> tuple[bytes, bytes | None]:
        """Return a row that is as it was put, and its value in the tree if the address is computed from values."""
        row = self._visit_row(digest, record, index, pending, bytes)
        if _by_values(record):
            known = known_value(self.environment, record.row_keys[index], index)
            return row, _check_row(digest, record, index, row, known)
        if row_key(row) != record.row_keys[index]:
            raise _damaged_row(digest, record, index)
        return row, None

    def _visit_row(
        self,
        digest: Digest,
        record: ObjectRecord,
        index: int,
        pending: PendingWrites | None,
        visit: Callable[[memoryview], R],
    ) -> R:
        key = record.row_keys[index]
        gathered = None if pending is None else pending.row(key)  # the batch's own thread may write it meanwhile
        if gathered is not None:
            return visit(memoryview(gathered))
        with self.environment.reading() as transaction:
            row = transaction.get(ROWS, key)
            if row is None:
                if not transaction.has(OBJECTS, digest.raw) and not (pending and digest in pending.records):
                    raise ObjectNotFoundError(digest)  # collected while it was read
                raise DamagedObjectError(digest, f"row {key.hex()} is missing")
            if len(row) != record.row_size_bytes(index):
                wanted = record.row_size_bytes(index)
                raise DamagedObjectError(digest, f"row {key.hex()} has {len(row)} bytes, not {wanted}")
            return visit(row)


def _check_row(digest: Digest, record: ObjectRecord, index: int, row: Buffer, known: bytes | None) -> bytes:
    """Return a row's value in the tree; raises DamagedObjectError if it is not as it was put.

    `known` is the value that the store knows; it is not looked up here, where a transaction may be open.
    """
    value = subtree_value(row, index)
    if value != known and row_key(row) != record.row_keys[index]:
        raise _damaged_row(digest, record, index)
    return value


def _damaged_row(digest: Digest, record: ObjectRecord, index: int) -> DamagedObjectError:
    return DamagedObjectError(digest, f"row {index} does not have its hash {record.row_keys[index].hex()}")


def _write(descriptor: int, data: Buffer, offset: int) -> int:
    """Write bytes to a file at an offset; returns how many."""
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)
    return done


class _Whole:
    """Computes an object's address from its rows: from their values if that is faster, or by hashing them in turn."""

    def __init__(self, record: ObjectRecord) -> None:
        self._keys = record.row_keys
        self._values: list[bytes] = []
        self._hasher = None if _by_values(record) or _is_one_row(record) else address_hasher(record.kind)
        self._rows = 0

    def add(self, row: bytes, value: bytes | None) -> None:
        """Take the next row."""
        self._rows += 1
        if self._hasher is not None:
            self._hasher.update(row)
        elif value is not None:
            self._values.append(value)

    @property
    def is_complete(self) -> bool:
        """Whether every row was added."""
        return self._rows == len(self._keys)

    def address(self) -> bytes:
        """Return the address of what was added."""
        if self._hasher is not None:
            return self._hasher.digest()
        return root_address(self._values).raw if self._values else self._keys[0]


def _is_one_row(record: ObjectRecord) -> bool:
    """Return whether an object is a blob of one row, whose key is the address."""
    return record.kind == "blob" and len(record.row_keys) == 1


def _by_values(record: ObjectRecord) -> bool:
    return COMPILED and record.kind == "blob" and len(record.row_keys) > 1


def copy_bytes(source: memoryview, out: memoryview) -> None:
    """Copy bytes, letting other threads run meanwhile."""
    np.copyto(np.frombuffer(out, np.uint8), np.frombuffer(source, np.uint8))


def list_objects(environment: Environment) -> Iterator[ObjectInfo]:
    """Yield every object in the order of addresses; raises DamagedObjectError at a record that does not decode."""
    for digest, encoded in list_records(environment):
        record = decode_record(digest, encoded)
        yield ObjectInfo(digest, record.kind, record.size_bytes)


def list_records(environment: Environment) -> Iterator[tuple[Digest, bytes]]:
    """Yield every object's record as it lies there, in the order of addresses, with one short transaction per 1000."""
    last: bytes | None = None
    while True:
        with environment.reading() as transaction:
            found = transaction.scan(OBJECTS, last, SCAN_OBJECTS)
        for key, value in found:
            yield object_key(environment, key), value
        if len(found) < SCAN_OBJECTS:
            return
        last = found[-1][0]


def object_key(environment: Environment, key: bytes) -> Digest:
    """Return the address that a key of the index is; raises StoreError for one that is none."""
    if len(key) != DIGEST_SIZE_BYTES:
        raise StoreError(environment.path, f"is damaged: its index has the key {key.hex()}")
    return Digest(key)


def find_objects(environment: Environment, first_bytes: bytes, limit: int) -> list[Digest]:
    """Return up to `limit` addresses that begin with some bytes."""
    with environment.reading() as transaction:
        keys = takewhile(lambda key: key.startswith(first_bytes), transaction.keys(OBJECTS, first_bytes))
        return [object_key(environment, key) for key in islice(keys, limit)]


def check_address(expected: Digest, actual: bytes) -> None:
    """Raise DigestMismatchError unless a hash is the expected address."""
    if actual != expected.raw:
        raise DigestMismatchError(expected, Digest(actual))


def _node_hasher(threads: int) -> blake3:
    return blake3(derive_key_context=NODE_CONTEXT, max_threads=threads)
