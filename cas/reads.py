"""Reading objects: the record, then inline bytes or row after row, all verified against the address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from samebits.cas.digest import DIGEST_SIZE_BYTES, Digest
from samebits.cas.environment import OBJECTS, ROWS, Environment, Transaction
from samebits.cas.errors import (
    DamagedObjectError,
    DigestMismatchError,
    ObjectKindError,
    ObjectNotFoundError,
    StoreError,
)
from samebits.cas.records import (
    ROW_SIZE_BYTES,
    ObjectInfo,
    ObjectKind,
    ObjectRecord,
    address_hasher,
    decode_record,
    row_key,
)
from samebits.cas.writes import PendingWrites

SCAN_OBJECTS: Final = 1000  # how many records one read transaction of `list_objects` sees


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
        with self.environment.reading() as transaction:
            return transaction.get(OBJECTS, digest.raw) is not None

    def record(self, digest: Digest, wanted: ObjectKind | None = None) -> ObjectRecord:
        """Return an object's record; raises ObjectNotFoundError, DamagedObjectError, ObjectKindError."""
        record = self._pending_record(digest)
        if record is None:
            with self.environment.reading() as transaction:
                data = transaction.get(OBJECTS, digest.raw)
                encoded = None if data is None else bytes(data)
            if encoded is None:
                raise ObjectNotFoundError(digest)
            record = decode_record(digest, encoded)
        if wanted is not None and record.kind != wanted:
            raise ObjectKindError(digest, record.kind, f"a {wanted}")
        return record

    def read_rows(self, digest: Digest) -> Iterator[bytes]:
        """Yield an object's rows; each is checked against its own hash, the last with the whole address."""
        record = self.record(digest)
        hasher = address_hasher(record.kind)
        if record.inline is not None:
            hasher.update(record.inline)
            check_address(digest, hasher.digest())
            if record.inline:
                yield record.inline
            return
        for index, key in enumerate(record.row_keys):
            row = bytearray(record.row_size_bytes(index))
            self._copy_row(digest, key, memoryview(row))
            if row_key(row) != key:
                raise DamagedObjectError(digest, f"row {index} does not have its hash {key.hex()}")
            hasher.update(row)
            if index == len(record.row_keys) - 1:
                check_address(digest, hasher.digest())
            yield bytes(row)

    def read_into(self, digest: Digest, record: ObjectRecord, out: memoryview) -> None:
        """Copy an object's bytes into `out`, bytes of exactly its size, and verify them there."""
        if record.inline is not None:
            out[:] = record.inline
        for index, key in enumerate(record.row_keys):
            start = index * ROW_SIZE_BYTES
            self._copy_row(digest, key, out[start : start + record.row_size_bytes(index)])
        hasher = address_hasher(record.kind)
        hasher.update(out)
        check_address(digest, hasher.digest())

    def read_bytes(self, digest: Digest, record: ObjectRecord) -> bytes:
        """Return an object's bytes, verified."""
        if record.inline is not None:
            check_address(digest, address_hasher(record.kind).update(record.inline).digest())
            return record.inline
        data = bytearray(record.size_bytes)
        self.read_into(digest, record, memoryview(data))
        return bytes(data)

    def _pending_record(self, digest: Digest) -> ObjectRecord | None:
        pending = self.pending()
        return None if pending is None else pending.records.get(digest)

    def _copy_row(self, digest: Digest, key: bytes, out: memoryview) -> None:
        pending = self.pending()
        if pending is not None and key in pending.rows:
            out[:] = pending.rows[key]
            return
        with self.environment.reading() as transaction:
            row = transaction.get(ROWS, key)
            if row is None:
                raise DamagedObjectError(digest, f"row {key.hex()} is missing")
            if len(row) != len(out):
                raise DamagedObjectError(digest, f"row {key.hex()} has {len(row)} bytes, not {len(out)}")
            out[:] = row


def list_objects(environment: Environment) -> Iterator[ObjectInfo]:
    """Yield every object in the order of addresses, with one short transaction per 1000."""
    last: bytes | None = None
    while True:
        with environment.reading() as transaction:
            found = transaction.scan(OBJECTS, last, SCAN_OBJECTS)
        for key, value in found:
            if len(key) != DIGEST_SIZE_BYTES:
                raise StoreError(environment.path, f"is damaged: its index has the key {key.hex()}")
            digest = Digest(key)
            record = decode_record(digest, value)
            yield ObjectInfo(digest, record.kind, record.size_bytes)
        if len(found) < SCAN_OBJECTS:
            return
        last = found[-1][0]


def delete_damaged(transaction: Transaction, digest: Digest) -> None:
    """Delete an object's record, and those of its rows that do not have their hash."""
    data = transaction.get(OBJECTS, digest.raw)
    try:
        keys = () if data is None else decode_record(digest, bytes(data)).row_keys
    except DamagedObjectError:
        keys = ()
    for key in keys:
        row = transaction.get(ROWS, key)
        if row is not None and row_key(row) != key:
            transaction.delete(ROWS, key)
    transaction.delete(OBJECTS, digest.raw)


def check_address(expected: Digest, actual: bytes) -> None:
    """Raise DigestMismatchError unless a hash is the expected address."""
    if actual != expected.raw:
        raise DigestMismatchError(expected, Digest(actual))
