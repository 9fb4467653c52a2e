"""One transaction of LMDB, over named tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any


@dataclass(slots=True)
class Transaction:
    """Reads and writes of one LMDB transaction. A memoryview it gives out is valid only until the transaction ends."""

    handle: Any  # lmdb.Transaction
    tables: dict[str, Any]

    def get(self, table: str, key: bytes) -> memoryview | None:
        """Return the value of a key, or None."""
        value: memoryview | None = self.handle.get(key, db=self.tables[table])
        return value

    def has(self, table: str, key: bytes) -> bool:
        """Return whether a key is there."""
        return self.handle.get(key, db=self.tables[table]) is not None

    def put_new(self, table: str, key: bytes, value: bytes | bytearray | memoryview) -> bool:
        """Write a value unless the key is there; return whether it was written."""
        return bool(self.handle.put(key, value, overwrite=False, db=self.tables[table]))

    def put(self, table: str, key: bytes, value: bytes | bytearray | memoryview) -> None:
        """Write a value in place of any other."""
        self.handle.put(key, value, db=self.tables[table])

    def delete(self, table: str, key: bytes) -> bool:
        """Delete a key; return whether it was there."""
        return bool(self.handle.delete(key, db=self.tables[table]))

    def scan(self, table: str, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` (key, value) in key order, from the first key behind `after`."""
        return list(islice(self.walk(table, None if after is None else after + b"\0"), limit))

    def walk(self, table: str, first: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) in key order, from the first key that is not before `first`."""
        for key, value in self._cursor(table, first, values=True):
            yield bytes(key), bytes(value)

    def keys(self, table: str, first: bytes | None = None) -> Iterator[bytes]:
        """Yield keys in order, from the first one that is not before `first`."""
        return map(bytes, self._cursor(table, first, values=False))

    def entries(self, table: str) -> int:
        """Return how many keys a table has."""
        return int(self.handle.stat(self.tables[table])["entries"])

    def clear(self, table: str) -> None:
        """Delete every key of a table."""
        self.handle.drop(self.tables[table], delete=False)

    def _cursor(self, table: str, first: bytes | None, *, values: bool) -> Iterator[Any]:
        with self.handle.cursor(db=self.tables[table]) as cursor:
            if cursor.first() if first is None else cursor.set_range(first):
                yield from cursor.iternext(keys=True, values=values)
