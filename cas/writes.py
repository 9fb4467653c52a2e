"""What puts have gathered and not yet written: rows and records, committed together in one transaction.

A record is written in the same transaction as the last of its rows or after it, and only if every row is there. So
a crash leaves rows that nothing refers to at worst, never a half object. A row that is written before its object's
record is marked in ``unfinished`` (row -> u64be Unix time), so that garbage collection leaves it alone for a while and
an interrupted transfer can go on with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from samebits.cas.digest import Buffer, Digest, hash_blob
from samebits.cas.environment import (
    COLLECTING_KEY,
    META,
    OBJECTS,
    ROWS,
    SUBTREES,
    TOUCHES,
    UNFINISHED,
    Environment,
    Transaction,
)
from samebits.cas.errors import DamagedObjectError, DigestMismatchError
from samebits.cas.records import (
    INLINE_SIZE_BYTES,
    ROW_SIZE_BYTES,
    ObjectRecord,
    content_size_bytes,
    encode_record,
    is_touched_since,
)
from samebits.cas.row_values import MeasuredRow, measure_row
from samebits.cas.subtree import root_address

FLUSH_SIZE_BYTES: Final = 32 << 20  # the most that one transaction writes
_LOOK_ROWS: Final = 64  # how often a put that has nothing to write looks whether a collection waits
_RECORD_COST_BYTES: Final = 512  # what a pending record weighs besides its own bytes


@dataclass(slots=True)
class PendingWrites:
    """Rows and records on their way into the store, within one batch."""

    environment: Environment
    rows: dict[bytes, Buffer] = field(default_factory=dict)
    records: dict[Digest, ObjectRecord] = field(default_factory=dict)
    subtrees: dict[bytes, bytes] = field(default_factory=dict)  # entries of the database `subtrees`
    incomplete: set[bytes] = field(default_factory=set)  # rows of objects whose record is still to come
    size_bytes: int = 0  # what is pending
    rows_seen: int = 0
    new_bytes: int = 0  # content that commits have added so far
    failure: BaseException | None = None  # of a flush: what was pending is lost, so the batch can't end well any more

    def add_row(self, row: MeasuredRow) -> None:
        """Take a row of an object that goes on; writes out what is pending when that is a transaction's worth."""
        is_new = row.data is not None and row.key not in self.rows
        self.rows_seen += 1
        if is_new and self.size_bytes + row.size_bytes > FLUSH_SIZE_BYTES:
            self.flush()
        elif self.rows_seen % _LOOK_ROWS == 0 and self.environment.gate().is_wanted():
            self.flush()  # there may be nothing to write for a long time
        self.incomplete.add(row.key)
        if row.new_entry is not None:
            self.subtrees[row.new_entry[0]] = row.new_entry[1]
        if is_new and row.data is not None:
            self.rows[row.key] = row.data if isinstance(row.data, bytes | bytearray) else bytes(row.data)
            self.size_bytes += row.size_bytes

    def rely_on_row(self, key: bytes) -> None:
        """Have a row kept that the store has, for an object that goes on."""
        self.incomplete.add(key)

    def add_record(self, digest: Digest, record: ObjectRecord) -> None:
        """Take the record of an object whose rows were all added before."""
        size = _RECORD_COST_BYTES + len(record.inline or b"") + 64 * len(record.row_keys)
        if self.size_bytes + size > FLUSH_SIZE_BYTES:
            self.flush()
        self.records[digest] = record
        self.incomplete.difference_update(record.row_keys)
        self.size_bytes += size

    def flush(self) -> None:
        """Write what is pending in one transaction; after an error nothing is pending and nothing of it is visible.

        The error is raised again by every flush that follows, whatever the batch's owner did about it.
        Then a garbage collection that waits is let in. What this batch relies on is safe from it: rows of objects
        that go on are marked, and records that were touched stay.
        """
        if self.failure is not None:
            raise self.failure
        gate = self.environment.gate()
        wanted = gate.is_wanted()
        rows, records, subtrees = self.rows, self.records, self.subtrees
        self.rows, self.records, self.subtrees, self.size_bytes = {}, {}, {}, 0
        marks = self.incomplete if wanted else self.incomplete.intersection(rows)
        if rows or records or subtrees or marks:
            try:
                began = self.environment.lease().began_s
                self.new_bytes += self.environment.write(lambda t: _write(t, rows, records, subtrees, marks, began))
            except BaseException as error:
                self.failure = error
                raise
        if wanted:
            gate.leave()
            gate.enter()


def write_blob(writes: PendingWrites, rows: Iterable[MeasuredRow], expected: Digest | None) -> Digest:
    """Gather a blob; returns its address. Raises DigestMismatchError, without a record, if it is not `expected`."""
    keys: list[bytes] = []
    values: list[bytes] = []
    size_bytes, inline = 0, b""
    for row in rows:
        size_bytes += row.size_bytes
        keys.append(row.key)
        if row.value is not None:
            values.append(row.value)
        if size_bytes <= INLINE_SIZE_BYTES:
            inline = bytes(row.data or b"")
        else:
            writes.add_row(row)
    digest = Digest(keys[0]) if len(keys) == 1 else root_address(values) if keys else hash_blob(b"")
    if expected is not None and digest != expected:
        writes.incomplete.difference_update(keys)
        raise DigestMismatchError(expected, digest)
    if size_bytes <= INLINE_SIZE_BYTES:
        writes.add_record(digest, ObjectRecord("blob", size_bytes, inline, ()))
    else:
        writes.add_record(digest, ObjectRecord("blob", size_bytes, None, tuple(keys)))
    return digest


def write_node(writes: PendingWrites, digest: Digest, encoded: memoryview) -> None:
    """Gather a node of this address."""
    if len(encoded) <= INLINE_SIZE_BYTES:
        writes.add_record(digest, ObjectRecord("node", len(encoded), bytes(encoded), ()))
        return
    rows = [
        measure_row(writes.environment, bytes(encoded[start : start + ROW_SIZE_BYTES]), 0, alone=True)
        for start in range(0, len(encoded), ROW_SIZE_BYTES)
    ]
    for row in rows:
        writes.add_row(row)
    writes.add_record(digest, ObjectRecord("node", len(encoded), None, tuple(row.key for row in rows)))


def _write(
    transaction: Transaction,
    rows: dict[bytes, Buffer],
    records: dict[Digest, ObjectRecord],
    subtrees: dict[bytes, bytes],
    marks: set[bytes],
    began_s: int,
) -> int:
    """Write everything; return the number of content bytes that were new. `began_s` is when the lease began."""
    new_bytes, now = 0, max(int(time.time()), began_s)
    for key, row in rows.items():
        if transaction.put_new(ROWS, key, row):
            new_bytes += len(row)
    for key, value in subtrees.items():
        transaction.put(SUBTREES, key, value)
    for key in marks:
        transaction.put(UNFINISHED, key, now.to_bytes(8, "big"))
    collecting = transaction.get(META, COLLECTING_KEY) is not None
    for digest, record in records.items():
        new_bytes += _write_record(transaction, digest, encode_record(record, now), record.row_keys, began_s)
        if collecting:
            transaction.put(TOUCHES, digest.raw, b"")
    return new_bytes


def _write_record(
    transaction: Transaction, digest: Digest, encoded: bytes, row_keys: tuple[bytes, ...], began_s: int
) -> int:
    """Write a record, or that it was touched, and return the number of content bytes that lie in it."""
    for key in row_keys:
        if not transaction.has(ROWS, key):
            raise DamagedObjectError(digest, f"row {key.hex()} vanished while the object was put; put it again")
    if transaction.put_new(OBJECTS, digest.raw, encoded):
        return 0 if row_keys else content_size_bytes(encoded)
    stored = transaction.get(OBJECTS, digest.raw)
    if stored is None or not is_touched_since(stored, encoded, began_s):
        transaction.put(OBJECTS, digest.raw, encoded)
    return 0
