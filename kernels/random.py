"""Random bits as pure functions of a counter and a key: Philox4x32-10 and Threefry2x32-20.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, and the
Random123 library's philox.h and threefry.h, whose known answers both reproduce.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_PHILOX_M: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_PHILOX_W: Final = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
_PHILOX_ROUNDS: Final = 10
_THREEFRY_R: Final = (13, 15, 26, 6, 17, 29, 16, 24)
_THREEFRY_PARITY: Final = np.uint32(0x1BD11BDA)
_THREEFRY_ROUNDS: Final = 20


def philox4x32(counter: Words, key: Words) -> Words:
    """Philox4x32-10. counter: (..., 4) u32, key: (..., 2) u32, broadcast over the leading axes -> (..., 4) u32."""
    c0, c1, c2, c3, k0, k1 = _words("philox4x32", counter, 4, key)
    for _ in range(_PHILOX_ROUNDS):
        high0, low0 = _multiply(_PHILOX_M[0], c0)
        high1, low1 = _multiply(_PHILOX_M[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = np.add(k0, _PHILOX_W[0]), np.add(k1, _PHILOX_W[1])
    return np.stack([c0, c1, c2, c3], axis=-1)


def threefry2x32(counter: Words, key: Words) -> Words:
    """Threefry2x32-20. counter: (..., 2) u32, key: (..., 2) u32, broadcast over the leading axes -> (..., 2) u32."""
    x0, x1, k0, k1 = _words("threefry2x32", counter, 2, key)
    schedule = (k0, k1, k0 ^ k1 ^ _THREEFRY_PARITY)
    x0, x1 = np.add(x0, k0), np.add(x1, k1)
    for round_ in range(_THREEFRY_ROUNDS):
        rotation = _THREEFRY_R[round_ % 8]
        x0 = np.add(x0, x1)
        x1 = ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))) ^ x0
        if round_ % 4 == 3:
            injection = round_ // 4 + 1
            x0 = np.add(x0, schedule[injection % 3])
            x1 = np.add(np.add(x1, schedule[(injection + 1) % 3]), np.uint32(injection))
    return np.stack([x0, x1], axis=-1)


def _words(op: str, counter: Words, width: int, key: Words) -> list[Words]:
    """Return the words of counter and key, each of the common leading shape; raises TypeError or ValueError."""
    counter, key = np.asarray(counter), np.asarray(key)
    if counter.dtype != np.uint32 or key.dtype != np.uint32:
        raise TypeError(f"{op} takes uint32 words, not {counter.dtype} and {key.dtype}")
    if counter.shape[-1:] != (width,) or key.shape[-1:] != (2,):
        raise ValueError(f"{op} takes shapes (..., {width}) and (..., 2), not {counter.shape} and {key.shape}")
    lead = np.broadcast_shapes(counter.shape[:-1], key.shape[:-1])
    words = [counter[..., i] for i in range(width)] + [key[..., i] for i in range(2)]
    return [np.broadcast_to(word, lead) for word in words]


def _multiply(factor: Any, word: Words) -> tuple[Words, Words]:
    """Return the high and low halves of a 64-bit product."""
    product = np.multiply(word, factor, dtype=np.uint64)
    return np.right_shift(product, np.uint64(32)).astype(np.uint32), product.astype(np.uint32)
