"""Sorted rows of bytes, in memory and possibly over others that lie elsewhere: what an index of a log is made of."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from typing import Final, Protocol

_SCANS_WITHOUT_ORDER: Final = 4  # the order of all keys costs about as much


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
        self._sorted: list[bytes] = []  # the keys, once they are asked for often; empty: to be made
        self._scans = 0

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
        self._sorted.clear()

    def scan(self, prefix: bytes, first: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) in key order."""
        own = [(key, self._own[key]) for key in self._keys(prefix, max(prefix, first))]
        if self._base is None:
            yield from own
            return
        last = None
        for row in merge(own, self._base.scan(prefix, first), key=itemgetter(0)):  # of equal keys, ours comes first
            if row[0] != last:
                last = row[0]
                yield row

    def _keys(self, prefix: bytes, first: bytes) -> list[bytes]:
        """Return the keys in memory that start with `prefix`, from `first` on."""
        self._scans += 1
        if self._scans <= _SCANS_WITHOUT_ORDER:
            return sorted(key for key in self._own if key.startswith(prefix) and key >= first)
        if not self._sorted:
            self._sorted = sorted(self._own)
        start = stop = bisect_left(self._sorted, first)
        while stop < len(self._sorted) and self._sorted[stop].startswith(prefix):
            stop += 1
        return self._sorted[start:stop]
