"""Memory for rows, used again and again: new memory costs as much as hashing a row.

Each begins with a page: the kernel copies from and to memory that is not aligned to 32 bytes four times slower (0.43 ms
instead of 0.09 ms for a row of 1 MiB from the page cache, where it was measured).
"""

from __future__ import annotations

import mmap
from collections import deque
from typing import Final

import numpy as np

from samebits.cas.digest import Buffer
from samebits.cas.records import ROW_SIZE_BYTES

_MAX_BUFFERS: Final = 80  # of 1 MiB


class RowBuffer(mmap.mmap):
    """1 MiB of memory that nobody else knows of."""


_buffers: deque[RowBuffer] = deque()


def take_buffer() -> memoryview:
    """Return memory for a row."""
    try:
        return memoryview(_buffers.pop())
    except IndexError:
        return memoryview(RowBuffer(-1, ROW_SIZE_BYTES))


def give_buffer(row: Buffer) -> None:
    """Let the memory of a row be used again if `take_buffer` gave it; nobody may look at it any more."""
    buffer = row.obj if isinstance(row, memoryview) else None
    if isinstance(buffer, RowBuffer) and len(_buffers) < _MAX_BUFFERS:
        _buffers.append(buffer)


def kept_data(row: Buffer) -> Buffer:
    """Return a row's bytes in memory that nobody else changes."""
    is_ours = isinstance(row, bytes | bytearray) or isinstance(row.obj, RowBuffer)
    return row if is_ours else bytes(row)


def equal_bytes(first: Buffer, second: Buffer) -> bool:
    """Return whether two buffers are equal; other threads run meanwhile."""
    if len(first) != len(second):
        return False
    words = len(first) // 8
    one, other = (np.frombuffer(buffer, np.uint64, words) for buffer in (first, second))
    return bool(np.array_equal(one, other)) and first[8 * words :] == second[8 * words :]
