"""What puts have gathered and not yet written: rows and records, committed together in one transaction.

A record is written in the same transaction as the last of its rows or after it, and only if every row is there. So
a crash leaves rows that nothing refers to at worst, never a half object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from samebits.cas.digest import Buffer, Digest
from samebits.cas.environment import OBJECTS, ROWS, Environment, Transaction
from samebits.cas.errors import DamagedObjectError, DigestMismatchError
from samebits.cas.records import (
    INLINE_SIZE_BYTES,
    ROW_SIZE_BYTES,
    ObjectKind,
    ObjectRecord,
    address_hasher,
    encode_record,
    row_key,
)

FLUSH_SIZE_BYTES: Final = 64 << 20  # the most that one transaction writes
_RECORD_COST_BYTES: Final = 512  # what a pending record weighs besides its own bytes


@dataclass(slots=True)
class PendingWrites:
    """Rows and records on their way into the store."""

    environment: Environment
    rows: dict[bytes, bytes] = field(default_factory=dict)
    records: dict[Digest, ObjectRecord] = field(default_factory=dict)
    size_bytes: int = 0  # what is pending
    new_bytes: int = 0  # content that commits have added so far

    def add_row(self, key: bytes, row: Buffer) -> None:
        """Take a row unless the store has it; writes out what is pending when that is a transaction's worth."""
        if key in self.rows:
            return
        with self.environment.reading() as transaction:
            if transaction.get(ROWS, key) is not None:
                return
        if self.size_bytes + len(row) > FLUSH_SIZE_BYTES:
            self.flush()
        self.rows[key] = bytes(row)
        self.size_bytes += len(row)

    def add_record(self, digest: Digest, record: ObjectRecord) -> None:
        """Take the record of an object whose rows were all added before."""
        size = _RECORD_COST_BYTES + len(record.inline or b"") + 64 * len(record.row_keys)
        if self.size_bytes + size > FLUSH_SIZE_BYTES:
            self.flush()
        self.records[digest] = record
        self.size_bytes += size

    def flush(self) -> None:
        """Write what is pending in one transaction; after an error nothing is pending and nothing of it is visible."""
        rows, records = self.rows, self.records
        self.rows, self.records, self.size_bytes = {}, {}, 0
        if not rows and not records:
            return
        new_bytes = 0
        with self.environment.writing() as transaction:
            for key, row in rows.items():
                if transaction.put_new(ROWS, key, row):
                    new_bytes += len(row)
            for digest, record in records.items():
                new_bytes += _write_record(transaction, digest, record)
        self.new_bytes += new_bytes


class ObjectWriter:
    """Takes the bytes of one object, in rows, and ends with its record and address."""

    def __init__(self, writes: PendingWrites, kind: ObjectKind) -> None:
        self._writes = writes
        self._kind: ObjectKind = kind
        self._hasher = address_hasher(kind)
        self._size_bytes = 0
        self._inline: bytes | None = b""
        self._row_keys: list[bytes] = []

    def add(self, row: Buffer) -> None:
        """Take the next row: 1 MiB, or less for the last."""
        if self._size_bytes % ROW_SIZE_BYTES or not 0 < len(row) <= ROW_SIZE_BYTES:
            raise AssertionError("rows are 1 MiB, only the last is shorter")
        self._hasher.update(row)
        self._size_bytes += len(row)
        if self._size_bytes <= INLINE_SIZE_BYTES:
            self._inline = bytes(row)
            return
        self._inline = None
        key = row_key(row)
        self._row_keys.append(key)
        self._writes.add_row(key, row)

    def finish(self, expected: Digest | None) -> Digest:
        """Add the record; raises DigestMismatchError, and adds none, if the address is not the expected one."""
        digest = Digest(self._hasher.digest())
        if expected is not None and digest != expected:
            raise DigestMismatchError(expected, digest)
        record = ObjectRecord(self._kind, self._size_bytes, self._inline, tuple(self._row_keys))
        self._writes.add_record(digest, record)
        return digest


def _write_record(transaction: Transaction, digest: Digest, record: ObjectRecord) -> int:
    """Write a record if there is none, and return the number of content bytes that lie in it."""
    for key in record.row_keys:
        if transaction.get(ROWS, key) is None:
            raise DamagedObjectError(digest, f"row {key.hex()} vanished while the object was put; put it again")
    written = transaction.put_new(OBJECTS, digest.raw, encode_record(record))
    return len(record.inline or b"") if written else 0
