"""What puts have gathered and not yet written: rows and records, committed together in one transaction.

A record is written in the same transaction as the last of its rows or after it, and only if every row is there. So
a crash leaves rows that nothing refers to at worst, never a half object. A row that is written before its object's
record is marked in ``unfinished`` (row -> u64be Unix time), so that garbage collection leaves it alone for a while and
an interrupted transfer can go on with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
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
)
from samebits.cas.errors import DamagedObjectError, DigestMismatchError, ObjectNotFoundError, StoreError
from samebits.cas.locks import Gate, Visit
from samebits.cas.records import (
    INLINE_SIZE_BYTES,
    ROW_SIZE_BYTES,
    ObjectRecord,
    encode_record,
    is_same_record,
    touch_record,
)
from samebits.cas.row_buffers import equal_bytes, give_buffer, kept_data
from samebits.cas.row_values import MeasuredRow, measure_row
from samebits.cas.subtree import root_address
from samebits.cas.transaction import Transaction

FLUSH_SIZE_BYTES: Final = 32 << 20  # the most that one transaction writes
_LOOK_ROWS: Final = 64  # how often a put that has nothing to write looks whether a collection waits
_RECORD_COST_BYTES: Final = 512  # what a pending record weighs besides its own bytes


@dataclass(slots=True)
class PendingWrites:
    """Rows and records on their way into the store, within one batch.

    When a commit has failed, or in the child of a fork, nothing more is taken: what had been put by then is not there.
    """

    environment: Environment
    gate: Gate
    visit: Visit
    process: int = field(default_factory=os.getpid)
    rows: dict[bytes, Buffer] = field(default_factory=dict)
    records: dict[Digest, ObjectRecord] = field(default_factory=dict)
    subtrees: dict[bytes, bytes] = field(default_factory=dict)  # entries of the database `subtrees`
    relied: set[Digest] = field(default_factory=set)  # objects that the store has, and that must stay
    incomplete: set[bytes] = field(default_factory=set)  # rows, not marked yet, of objects whose record is to come
    written: set[bytes] = field(default_factory=set)  # rows that this batch has put, since a sweep was let in
    is_read: bool = False  # whether somebody has looked at `rows`
    size_bytes: int = 0  # what is pending
    rows_seen: int = 0
    new_bytes: int = 0  # content that commits have added so far
    watcher: Callable[[int], object] | None = None  # told the size of each row that is taken, in bytes
    failure: BaseException | None = None  # of a commit: what was pending is lost, so the batch can't end well

    def add_row(self, row: MeasuredRow) -> None:
        """Take a row of an object that goes on; writes out what is pending when that is a transaction's worth."""
        is_new = row.data is not None and row.key not in self.rows
        self.rows_seen += 1
        if self.watcher is not None:
            self.watcher(row.size_bytes)
        if self.rows_seen % _LOOK_ROWS == 0 and self.gate.is_wanted():
            self.flush()  # there may be nothing to write for a long time
        self._make_room(row.size_bytes if is_new else 0)
        self.incomplete.add(row.key)
        if row.new_entry is not None:
            self.subtrees[row.new_entry[0]] = row.new_entry[1]
        if is_new and row.data is not None:
            self.rows[row.key] = kept_data(row.data)
            self.size_bytes += row.size_bytes

    def row(self, key: bytes) -> Buffer | None:
        """Return a row that is not in the database yet; its memory is not used again then. Usable from any thread."""
        self.is_read = True
        return self.rows.get(key)

    def rely_on_row(self, key: bytes) -> None:
        """Have a row kept that the store has, for an object that goes on."""
        self.incomplete.add(key)

    def rely_on_object(self, digest: Digest) -> None:
        """Have an object kept that the store has, with all that it refers to, as if it was put again."""
        if digest not in self.records and digest not in self.relied:
            self._make_room(_RECORD_COST_BYTES)
            self.relied.add(digest)
            self.size_bytes += _RECORD_COST_BYTES

    def add_record(self, digest: Digest, record: ObjectRecord) -> None:
        """Take the record of an object whose rows were all added before."""
        size = _RECORD_COST_BYTES + len(record.inline or b"") + 64 * len(record.row_keys)
        self._make_room(size)
        self.records[digest] = record
        self.incomplete.difference_update(record.row_keys)
        self.size_bytes += size

    def check_usable(self) -> None:
        """Raise what an earlier commit of this batch has raised, or StoreError in the child of a fork."""
        if self.failure is not None:
            raise self.failure
        if self.process != os.getpid():
            raise StoreError(self.environment.path, "a batch belongs to the process that began it, not to its forks")

    def flush(self) -> None:
        """Write what is pending in one transaction; after an error nothing of it is visible.

        The error is raised again by every flush that follows, whatever the batch's owner did about it.
        Then a garbage collection that waits is let in. What this batch relies on is safe from it: rows of objects
        that go on are marked, and records that were touched stay.
        """
        self.check_usable()
        wanted = self.gate.is_wanted()
        try:
            self._write(self.incomplete.copy() if wanted else self.incomplete.intersection(self.rows))
            if wanted:
                self.written.clear()
                self.gate.let_sweep_in(self.visit)
        except BaseException as error:
            self.failure = error
            self._forget()
            raise

    def _make_room(self, size_bytes: int) -> None:
        self.check_usable()
        if self.size_bytes + size_bytes > FLUSH_SIZE_BYTES:
            self.flush()

    def _write(self, marks: set[bytes]) -> None:
        if self.rows or self.records or self.subtrees or self.relied or marks:
            not_before_s = max(self.visit.since_s, self.environment.lease().began_s)
            self.written.update(self.rows)
            pending = _Pending(self.rows, self.records, self.subtrees, self.relied, marks, self.written, not_before_s)
            self.new_bytes += self.environment.write(partial(_write, pending))
        rows = self.rows
        self._forget()  # only now: until they are in the database other threads read rows from here
        self.incomplete -= marks
        if not self.is_read:
            for row in rows.values():
                give_buffer(row)

    def _forget(self) -> None:
        self.rows, self.records, self.subtrees, self.relied, self.size_bytes = {}, {}, {}, set(), 0


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


def write_small_blob(writes: PendingWrites, data: bytes) -> Digest:
    """Gather a blob that lies in its record; returns its address."""
    digest = hash_blob(data)
    writes.add_record(digest, ObjectRecord("blob", len(data), data, ()))
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


@dataclass(frozen=True, slots=True)
class _Pending:
    """What one transaction writes."""

    rows: dict[bytes, Buffer]
    records: dict[Digest, ObjectRecord]
    subtrees: dict[bytes, bytes]
    relied: set[Digest]
    marks: set[bytes]
    written: set[bytes]  # rows that are known to be there
    not_before_s: int  # Unix time; whatever the clock says, what is written counts as put then or later


def _write(pending: _Pending, transaction: Transaction) -> int:
    """Write everything; return the number of content bytes that were new."""
    new_bytes, now = 0, max(int(time.time()), pending.not_before_s)
    for key, row in pending.rows.items():
        if transaction.put_new(ROWS, key, row):
            new_bytes += len(row)
        elif not _is_row(transaction, key, row):
            transaction.put(ROWS, key, row)  # it was damaged
    for key, value in pending.subtrees.items():
        transaction.put(SUBTREES, key, value)
    for key in pending.marks:
        transaction.put(UNFINISHED, key, now.to_bytes(8, "big"))
    for digest, record in pending.records.items():
        new_bytes += _write_record(transaction, digest, record, pending.written, now)
    for digest in pending.relied:
        _touch(transaction, digest, now)
    if transaction.has(META, COLLECTING_KEY):
        for digest in (*pending.records, *pending.relied):
            transaction.put(TOUCHES, digest.raw, b"")
    return new_bytes


def _is_row(transaction: Transaction, key: bytes, row: Buffer) -> bool:
    stored = transaction.get(ROWS, key)
    return stored is not None and equal_bytes(stored, row)


def _write_record(
    transaction: Transaction, digest: Digest, record: ObjectRecord, written: set[bytes], now_s: int
) -> int:
    """Write a record, or that it was touched, and return the number of content bytes that lie in it."""
    encoded = encode_record(record, now_s)
    stored = transaction.get(OBJECTS, digest.raw)
    if stored is not None and is_same_record(stored, encoded):
        if stored != encoded:
            transaction.put(OBJECTS, digest.raw, encoded)
        return 0
    for key in record.row_keys:
        if key not in written and not transaction.has(ROWS, key):
            raise DamagedObjectError(digest, f"row {key.hex()} vanished while the object was put; put it again")
    transaction.put(OBJECTS, digest.raw, encoded)
    return len(record.inline or b"") if stored is None else 0


def _touch(transaction: Transaction, digest: Digest, now: int) -> None:
    """Note that an object was put now that is in the store; raises ObjectNotFoundError if it is there no more."""
    stored = transaction.get(OBJECTS, digest.raw)
    if stored is None:
        raise ObjectNotFoundError(digest)
    touched = touch_record(stored, now)
    if stored != touched:
        transaction.put(OBJECTS, digest.raw, touched)
