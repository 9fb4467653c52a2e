"""Sorted rows of bytes, in memory and possibly over others that lie elsewhere: what an index of a log is made of."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from typing import Protocol


class RowSource(Protocol):
    """Rows that can be read."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        ...

    def scan(self, prefix: bytes, first: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) in key order for the keys that start with `prefix` and are not before `first`."""
        ...


class Rows:
    """Rows in memory, which stand before those of `base`."""

    def __init__(self, base: RowSource | None = None, own: dict[bytes, bytes] | None = None) -> None:
        """Use `own` itself, not a copy: what is put goes there."""
        self._base = base
        self._own: dict[bytes, bytes] = {} if own is None else own

    @property
    def own(self) -> dict[bytes, bytes]:
        """The rows in memory."""
        return self._own

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        value = self._own.get(key)
        return self._base.get(key) if value is None and self._base is not None else value

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value in place of any other."""
        self._own[key] = value

    def scan(self, prefix: bytes, first: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) in key order; takes time in proportion to all rows in memory."""
        own = sorted(row for row in self._own.items() if row[0] >= first and row[0].startswith(prefix))
        if self._base is None:
            yield from own
            return
        last = None
        for row in merge(own, self._base.scan(prefix, first), key=itemgetter(0)):  # of equal keys, ours comes first
            if row[0] != last:
                last = row[0]
                yield row
