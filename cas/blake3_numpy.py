"""BLAKE3 subtree values in NumPy, many inputs at once: the reference that `_subtree.c` is checked against.

Arrays are (rows, n) uint32: column k belongs to input k, which is a chunk or the two children of a parent. The state is
four arrays a, b, c, d of four rows, so that one call works on the four columns (or diagonals) of every input.
Source: BLAKE3 specification, sections 2.1 to 2.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from samebits.cas.digest import DIGEST_SIZE_BYTES, Buffer

U32 = NDArray[np.uint32]

BLOCK_SIZE_BYTES: Final = 64
CHUNK_SIZE_BYTES: Final = 1024
ROW_CHUNKS: Final = 1024

CHUNK_START: Final = 1
CHUNK_END: Final = 2
PARENT: Final = 4
ROOT: Final = 8

_IV: Final[U32] = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32
).reshape(8, 1)
_BLOCKS: Final = CHUNK_SIZE_BYTES // BLOCK_SIZE_BYTES
_LANES: Final = 4096  # inputs that one call works on: with more the state falls out of the cache
_SHIFTS: Final = {by: (np.array(by, np.uint32), np.array(32 - by, np.uint32)) for by in (16, 12, 8, 7)}


def _message_orders() -> list[NDArray[np.intp]]:
    """List the message words of each round as it uses them: first and second of the columns, then of the diagonals."""
    words, orders = list(range(16)), []
    for _ in range(7):
        orders.append(np.array(words[0:8:2] + words[1:8:2] + words[8::2] + words[9::2], np.intp))
        words = [words[i] for i in (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)]
    return orders


_ORDERS: Final = _message_orders()


@dataclass(frozen=True, slots=True)
class _State:
    """The state of n inputs. Rows beyond the fourth make the diagonals slices: few rows are copied, none rolled."""

    a: U32  # (4, n)
    b: U32  # (5, n): columns are rows 0 to 3, diagonals 1 to 4
    c: U32  # (6, n): columns are rows 0 to 3, diagonals 2 to 5
    d: U32  # (5, n): columns are rows 1 to 4, diagonals 0 to 3
    words: U32  # (16, n), the message in the order of a round
    scratch: U32  # (4, n)

    @classmethod
    def empty(cls, n: int) -> _State:
        """Return a state of n inputs with no values yet."""
        return cls(*(np.empty((rows, n), np.uint32) for rows in (4, 5, 6, 5, 16, 4)))


def _rotate_right(x: U32, by: int, scratch: U32) -> None:
    right, left = _SHIFTS[by]
    np.right_shift(x, right, scratch)  # the output goes third: a keyword would cost a tenth of the call
    np.left_shift(x, left, x)
    np.bitwise_or(x, scratch, x)


def _quarter_rounds(a: U32, b: U32, c: U32, d: U32, first: U32, second: U32, scratch: U32) -> None:
    for words, turn_d, turn_b in ((first, 16, 12), (second, 8, 7)):
        np.add(a, words, a)
        np.add(a, b, a)
        np.bitwise_xor(d, a, d)
        _rotate_right(d, turn_d, scratch)
        np.add(c, d, c)
        np.bitwise_xor(b, c, b)
        _rotate_right(b, turn_b, scratch)


def _compress_lanes(chaining: U32, message: U32, inputs: U32) -> None:
    s = _State.empty(chaining.shape[1])
    s.a[:], s.b[:4], s.c[:4], s.d[1:] = chaining[:4], chaining[4:], _IV[:4], inputs
    w = s.words
    for order in _ORDERS:
        np.take(message, order, axis=0, out=w, mode="clip")  # mode "raise" would go through another array
        _quarter_rounds(s.a, s.b[:4], s.c[:4], s.d[1:], w[0:4], w[4:8], s.scratch)
        s.b[4], s.c[4:], s.d[0] = s.b[0], s.c[:2], s.d[4]
        _quarter_rounds(s.a, s.b[1:], s.c[2:], s.d[:4], w[8:12], w[12:16], s.scratch)
        s.b[0], s.c[:2], s.d[4] = s.b[4], s.c[4:], s.d[0]
    chaining[:4] = s.a ^ s.c[:4]
    chaining[4:] = s.b[:4] ^ s.d[1:]


def compress(chaining: U32, message: U32, inputs: U32) -> None:
    """Replace n chaining values (8, n) by those after one more block each.

    message: (16, n)   inputs: (4, n), the low and the high half of the counter, the block's length in bytes, its flags
    """
    for start in range(0, chaining.shape[1], _LANES):
        lanes = np.s_[:, start : start + _LANES]
        _compress_lanes(chaining[lanes], message[lanes], inputs[lanes])


def chunk_values(data: Buffer, counter: int, last_flags: int = 0) -> U32:
    """Return the chaining values (8, n) of the n chunks of data, which are chunks counter, counter + 1, ...

    `last_flags` go to the last block of each chunk: ROOT makes the only chunk of an input into its hash.
    """
    size = memoryview(data).nbytes
    n = max(1, -(-size // CHUNK_SIZE_BYTES))
    padded = np.frombuffer(data, np.uint8) if size else np.zeros(0, np.uint8)
    if size < n * CHUNK_SIZE_BYTES:
        padded = np.concatenate((padded, np.zeros(n * CHUNK_SIZE_BYTES - size, np.uint8)))
    message = padded.view("<u4").reshape(n, _BLOCKS, 16).transpose(1, 2, 0).astype(np.uint32, order="C")
    last_size = size - (n - 1) * CHUNK_SIZE_BYTES
    last_block = max(0, last_size - 1) // BLOCK_SIZE_BYTES

    counters = np.arange(n, dtype=np.uint64) + np.uint64(counter)
    inputs = np.empty((4, n), np.uint32)
    inputs[0], inputs[1] = counters & np.uint64(0xFFFFFFFF), counters >> np.uint64(32)
    values = np.repeat(_IV, n, axis=1)
    last_value = values[:, -1]
    end = CHUNK_END | last_flags
    for block in range(_BLOCKS if n > 1 else last_block + 1):
        inputs[2] = BLOCK_SIZE_BYTES
        inputs[3] = (CHUNK_START if block == 0 else 0) | (end if block == _BLOCKS - 1 else 0)
        if block == last_block:
            inputs[2, -1] = last_size - block * BLOCK_SIZE_BYTES
            inputs[3, -1] |= end
        compress(values, message[block], inputs)
        if block == last_block:
            last_value = values[:, -1].copy()  # the blocks of the other chunks go on
    values[:, -1] = last_value
    return values


def merge_values(values: U32, root_flag: int = 0) -> U32:
    """Return the value (8, 1) over n values (8, n): in pairs, an odd last one carried up, `root_flag` at the top."""
    while (n := values.shape[1]) > 1:
        pairs = n // 2
        message = np.concatenate((values[:, 0 : 2 * pairs : 2], values[:, 1 : 2 * pairs : 2]))
        flags = PARENT | (root_flag if n == 2 else 0)
        inputs = np.repeat(np.array([[0], [0], [BLOCK_SIZE_BYTES], [flags]], np.uint32), pairs, axis=1)
        parents = np.repeat(_IV, pairs, axis=1)
        compress(parents, message, inputs)
        values = np.concatenate((parents, values[:, 2 * pairs :]), axis=1)
    return values


def encode_value(value: U32) -> bytes:
    """Return the 32 bytes of a value (8, 1)."""
    return value.astype("<u4").tobytes()


def subtree_value(row: Buffer, index: int, /) -> bytes:
    """Return the chaining value of a row of 1 to 2^20 bytes at its place in the blob; see subtree.py."""
    return encode_value(merge_values(chunk_values(row, index * ROW_CHUNKS)))


def root_value(values: Buffer, /) -> bytes:
    """Return the hash of a blob from the values of its two or more rows, one behind the other."""
    words = np.frombuffer(values, "<u4").reshape(-1, DIGEST_SIZE_BYTES // 4).T.astype(np.uint32, order="C")
    return encode_value(merge_values(words, ROOT))
