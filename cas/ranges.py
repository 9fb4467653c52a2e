"""Ranges of a blob, verified against its address alone: from this store, or from someone who is not trusted.

The values of a blob's rows in BLAKE3's tree (subtree.py) give its address, and a row gives its own value. So with 32
bytes for each MiB of the blob, each row can be checked on its own: `RangeChecker` takes the values once and then any
row. Source: BLAKE3 specification, section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from samebits.cas.digest import Buffer, Digest
from samebits.cas.errors import DamagedObjectError, DigestMismatchError
from samebits.cas.records import ROW_SIZE_BYTES, ObjectRecord, row_count, row_key
from samebits.cas.row_values import known_value
from samebits.cas.store import Store
from samebits.cas.subtree import root_address, subtree_value


@dataclass(frozen=True, slots=True)
class RangeChecker:
    """Checks single rows of a blob against its address; made with the values of all rows, which it checks first."""

    digest: Digest
    size_bytes: int
    values: tuple[bytes, ...]  # 32 bytes each; empty for a blob of one row, whose hash is the address

    def __post_init__(self) -> None:
        rows = row_count(self.size_bytes)
        if len(self.values) != (rows if rows > 1 else 0):
            raise DamagedObjectError(self.digest, f"{self.size_bytes} bytes are {rows} rows, not {len(self.values)}")
        if self.values and root_address(self.values) != self.digest:
            raise DigestMismatchError(self.digest, root_address(self.values))

    def check(self, index: int, row: Buffer) -> None:
        """Check the bytes of a row: 1 MiB, or what is left for the last; raises DamagedObjectError."""
        if not 0 <= index < max(1, row_count(self.size_bytes)):
            raise ValueError(f"the blob has {row_count(self.size_bytes)} rows, there is no row {index}")
        wanted = min(ROW_SIZE_BYTES, self.size_bytes - index * ROW_SIZE_BYTES)
        if len(row) != wanted:
            raise DamagedObjectError(self.digest, f"row {index} has {len(row)} bytes, not {wanted}")
        found = subtree_value(row, index) if self.values else row_key(row)
        if found != (self.values[index] if self.values else self.digest.raw):
            raise DamagedObjectError(self.digest, f"row {index} does not have its hash")


def subtree_values(store: Store, digest: Digest) -> tuple[bytes, ...]:
    """Return the values of a stored blob's rows: what `RangeChecker` wants. Raises ObjectKindError for a node."""
    return _values(store, digest, store.reader.record(digest, "blob"))


def read_range(store: Store, digest: Digest, start: int, stop: int) -> Iterator[bytes]:
    """Yield bytes [start, stop) of a blob in pieces, verified; only rows that have some of them are read.

    Raises ValueError for a range that is not within the blob, DamagedObjectError, ObjectKindError for a node.
    """
    record = store.reader.record(digest, "blob")
    if not 0 <= start <= stop <= record.size_bytes:
        raise ValueError(f"bytes {start} to {stop} are not a range of a blob of {record.size_bytes}")
    if start == stop:
        return
    if record.inline is not None:
        RangeChecker(digest, record.size_bytes, ()).check(0, record.inline)
        yield record.inline[start:stop]
        return
    checker = RangeChecker(digest, record.size_bytes, _values(store, digest, record))
    for index in range(start // ROW_SIZE_BYTES, row_count(stop)):
        row = store.reader.visit_row(digest, record, index, bytes)
        checker.check(index, row)
        first = index * ROW_SIZE_BYTES
        yield row[max(0, start - first) : stop - first]


def _values(store: Store, digest: Digest, record: ObjectRecord) -> tuple[bytes, ...]:
    if len(record.row_keys) < 2:
        return ()
    found: Sequence[bytes | None] = [
        known_value(store.environment, key, index) for index, key in enumerate(record.row_keys)
    ]
    return tuple(
        store.reader.visit_row(digest, record, index, lambda row, index=index: subtree_value(row, index))  # type: ignore[misc]
        if value is None
        else value
        for index, value in enumerate(found)
    )
