"""What a put has to know of each row: its key, its value in BLAKE3's tree, and whether the store has it already.

The key is the hash of the row alone, wherever it lies. The value belongs to a position: it is what the row contributes
to the address of an object whose n-th row it is (subtree.py). The store keeps values in ``subtrees``: key (32 bytes)
and index (u64be) -> value (32 bytes) and the first 8 bytes of BLAKE3 of all of that. So a row that was seen before at
its position is hashed once, and a damaged entry is noticed and not used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, takewhile
from typing import Final

from blake3 import blake3

from samebits.cas.digest import Buffer
from samebits.cas.environment import ROWS, SUBTREES, Environment
from samebits.cas.parallel import run_ahead
from samebits.cas.records import INLINE_SIZE_BYTES, ROW_SIZE_BYTES, row_key
from samebits.cas.row_buffers import equal_bytes, give_buffer, take_buffer
from samebits.cas.subtree import subtree_value
from samebits.cas.transaction import Transaction

_VALUE_SIZE_BYTES: Final = 32
_CHECK_SIZE_BYTES: Final = 8
_SMALL_SIZE_BYTES: Final = 64 << 10
_TASK_ROWS: Final = 4  # of a file, in one thread: threads that hand over every row wait for each other
WINDOW_ROWS: Final = 32  # how many rows are read and hashed ahead of the one that is taken


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A row with its key and its value (None for the only row of an object)."""

    data: Buffer | None  # None if the store has the row, undamaged, and it is not an object that goes into its record
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
    if alone and len(data) <= INLINE_SIZE_BYTES:
        return MeasuredRow(data, len(data), key, None, None)  # goes into the record, whatever rows there are
    kept = None if _has_row(environment, key, data) else data
    if alone:
        return MeasuredRow(kept, len(data), key, None, None)
    value = known_value(environment, key, index)
    if value is not None:
        return MeasuredRow(kept, len(data), key, value, None)
    value = subtree_value(data, index)
    return MeasuredRow(kept, len(data), key, value, subtree_entry(key, index, value))


def forget_row(transaction: Transaction, key: bytes) -> None:
    """Delete a row and its values; a value is never there without its row."""
    transaction.delete(ROWS, key)
    for place in list(takewhile(lambda place: place.startswith(key), transaction.keys(SUBTREES, key))):
        transaction.delete(SUBTREES, place)


def _has_row(environment: Environment, key: bytes, data: Buffer) -> bool:
    """Return whether the store has a row, undamaged: what is put is there, or mended. Costs a fifth of the hash."""
    with environment.reading() as transaction:
        row = transaction.get(ROWS, key)
        return row is not None and equal_bytes(row, data)


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

    def measure(first: int) -> list[MeasuredRow]:
        offsets = range(first, min(stop, first + _TASK_ROWS * ROW_SIZE_BYTES), ROW_SIZE_BYTES)
        return [_measure_at(environment, descriptor, start, stop, offset, alone=alone) for offset in offsets]

    tasks = (partial(measure, first) for first in range(start, stop, _TASK_ROWS * ROW_SIZE_BYTES))
    return chain.from_iterable(run_ahead(tasks, WINDOW_ROWS // _TASK_ROWS))


def _measure_at(
    environment: Environment, descriptor: int, start: int, stop: int, offset: int, *, alone: bool
) -> MeasuredRow:
    """Read and measure the row at an offset of a file, of the section [start, stop)."""
    size_bytes = min(ROW_SIZE_BYTES, stop - offset)
    row = (take_buffer() if size_bytes > _SMALL_SIZE_BYTES else memoryview(bytearray(size_bytes)))[:size_bytes]
    _read(descriptor, offset, row)
    found = measure_row(environment, row, (offset - start) // ROW_SIZE_BYTES, alone=alone)
    if found.data is None:
        give_buffer(row)
    return found


def _read(descriptor: int, offset: int, row: memoryview) -> None:
    """Fill `row` with bytes of a file."""
    done = 0
    while done < len(row):
        count = os.preadv(descriptor, [row[done:]], offset + done)
        if count == 0:
            raise EOFError
        done += count
