"""BLAKE3 subtree values of rows: what a row of 1 MiB gives to its blob's address, and the address from all of them.

A blob's address is plain BLAKE3 of its bytes: a binary tree over chunks of 1024 bytes, its left subtrees complete. A
row is 1024 chunks, so it is one subtree, and the row's value (the subtree's chaining value) depends on nothing but the
row's bytes and its place. The address follows from the values alone, 32 bytes for each row; so whoever has the values
can check any one row against the address.
Source: BLAKE3 specification, sections 2.1 (tree), 2.4 (chunks), 2.5 (parents) and 2.6 (root).

Example: the values of two rows of zeros are ``1dbfb2b6096acd049506446ac2ce674b53939dc26c42c99ae923670ac315ded5`` and
``5231b4841ffd78fc477099e0cd5f7151a86bd0847ab57056dd04b4fdc2c7eac0``; they give the blob's address
``8ac83f8ce09d064b023ab3c15880b02f2686cd1817fd25915b8153316ee059f8``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from samebits.cas.digest import DIGEST_SIZE_BYTES, Buffer, Digest

_subtree_value: Callable[[Buffer, int], bytes]
_root_value: Callable[[Buffer], bytes]
try:
    from samebits.cas._subtree import root_value as _root_value
    from samebits.cas._subtree import subtree_value as _subtree_value

    COMPILED = True
except ImportError:  # installed without a C compiler, or for another processor: the same values, slower
    from samebits.cas.blake3_numpy import root_value as _root_value
    from samebits.cas.blake3_numpy import subtree_value as _subtree_value

    COMPILED = False

SUBTREE_SIZE_BYTES: Final = 1 << 20
INDEX_END: Final = 1 << 44  # an input of BLAKE3 has at most 2^64 bytes


def subtree_value(row: Buffer, index: int) -> bytes:
    """Return the value of row `index` of a blob: 32 bytes, the chaining value of its subtree, never marked as a root.

    ValueError for a row that has not 1 to 2^20 bytes, and for an index that no blob has.
    """
    size_bytes = memoryview(row).nbytes
    if not 1 <= size_bytes <= SUBTREE_SIZE_BYTES:
        raise ValueError(f"a row has 1 to {SUBTREE_SIZE_BYTES} bytes, not {size_bytes}")
    if not 0 <= index < INDEX_END:
        raise ValueError(f"a row's index is 0 to 2^44 - 1, not {index}")
    return _subtree_value(row, index)


def root_address(values: Sequence[bytes]) -> Digest:
    """Return the address of a blob from the values of its rows, in order.

    ValueError for fewer than two: the address of a blob of one row is its hash (`hash_blob`), no value leads to it.
    """
    if len(values) < 2:
        raise ValueError(f"an address comes from the values of two or more rows, not {len(values)}; hash a single row")
    for index, value in enumerate(values):
        if len(value) != DIGEST_SIZE_BYTES:
            raise ValueError(f"value {index} has {len(value)} bytes, not {DIGEST_SIZE_BYTES}")
    return Digest(_root_value(b"".join(values)))
