"""What a put has to know of each row: its key, its value in BLAKE3's tree, and whether the store has it already.

The key is the hash of the row alone, wherever it lies. The value belongs to a position: it is what the row contributes
to the address of an object whose n-th row it is (subtree.py). The store keeps values in ``subtrees``: key (32 bytes)
and index (u64be) -> value (32 bytes) and the first 8 bytes of BLAKE3 of all of that. So a row that was seen before at
its position is hashed once, and a damaged entry is noticed and not used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Final

from blake3 import blake3

from samebits.cas.digest import Buffer
from samebits.cas.environment import ROWS, SUBTREES, Environment
from samebits.cas.parallel import run_ahead
from samebits.cas.records import ROW_SIZE_BYTES, row_key
from samebits.cas.subtree import subtree_value

_VALUE_SIZE_BYTES: Final = 32
_CHECK_SIZE_BYTES: Final = 8
WINDOW_ROWS: Final = 32  # how many rows are read and hashed ahead of the one that is taken


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A row with its key and its value (None for the only row of an object)."""

    data: Buffer | None  # None if the store has the row
    size_bytes: int
    key: bytes  # 32 bytes
    value: bytes | None  # 32 bytes
    new_entry: tuple[bytes, bytes] | None  # what `subtrees` lacks


def subtree_entry(key: bytes, index: int, value: bytes) -> tuple[bytes, bytes]:
    """Return key and value of an entry of `subtrees`."""
    place = key + index.to_bytes(8, "big")
    return place, value + blake3(place + value).digest(_CHECK_SIZE_BYTES)


def known_value(environment: Environment, key: bytes, index: int) -> bytes | None:
    """Return a row's value at a position if the store knows it."""
    place = key + index.to_bytes(8, "big")
    entry = environment.get(SUBTREES, place)
    if entry is None or entry != subtree_entry(key, index, entry[:_VALUE_SIZE_BYTES])[1]:
        return None
    return entry[:_VALUE_SIZE_BYTES]


def measure_row(environment: Environment, data: Buffer, index: int, *, alone: bool) -> MeasuredRow:
    """Measure one row."""
    key = row_key(data)
    kept = None if environment.has(ROWS, key) else data
    if alone:
        return MeasuredRow(kept, len(data), key, None, None)
    value = known_value(environment, key, index)
    if value is not None:
        return MeasuredRow(kept, len(data), key, value, None)
    value = subtree_value(data, index)
    return MeasuredRow(kept, len(data), key, value, subtree_entry(key, index, value))


def measure_rows(environment: Environment, rows: Iterable[Buffer]) -> Iterator[MeasuredRow]:
    """Measure the rows of one object, several at once."""
    source = iter(rows)
    first = list(islice(source, 2))
    if len(first) < 2:
        return (measure_row(environment, row, 0, alone=True) for row in first)
    numbered = enumerate(chain(first, source))
    return run_ahead((partial(measure_row, environment, row, i, alone=False) for i, row in numbered), WINDOW_ROWS)


def measure_section(environment: Environment, descriptor: int, start: int, stop: int) -> Iterator[MeasuredRow]:
    """Read bytes [start, stop) of a file and measure them, several rows at once; raises EOFError if it is shorter."""
    alone = stop - start <= ROW_SIZE_BYTES

    def measure(offset: int) -> MeasuredRow:
        row = _read(descriptor, offset, min(ROW_SIZE_BYTES, stop - offset))
        found = measure_row(environment, row, (offset - start) // ROW_SIZE_BYTES, alone=alone)
        return found if found.data is None else replace(found, data=bytes(row))

    offsets = range(start, stop, ROW_SIZE_BYTES)
    return map(measure, offsets) if alone else run_ahead((partial(measure, o) for o in offsets), WINDOW_ROWS)


class _Buffer(threading.local):
    """A thread's memory to read a row into: memory that is new each time costs as much as hashing it."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(ROW_SIZE_BYTES))


_buffer = _Buffer()


def _read(descriptor: int, offset: int, size_bytes: int) -> memoryview:
    """Return bytes of a file, valid until this thread reads again."""
    row, done = _buffer.view[:size_bytes], 0
    while done < size_bytes:
        count = os.preadv(descriptor, [row[done:]], offset + done)
        if count == 0:
            raise EOFError
        done += count
    return row
