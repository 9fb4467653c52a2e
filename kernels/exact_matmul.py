"""Exact matrix products of integers: engines on f64 BLAS wherever every partial sum is provably exact there.

An engine is interchangeable with any other: all return the one integer result. BLAS may add in any order, with any
number of threads and with or without FMA, because a whole number below 2^53 never rounds.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.kernels.scratch import SCRATCH

Array = npt.NDArray[Any]
F64Array = npt.NDArray[np.float64]

EXACT_BITS: Final = 53
_LIMB_BITS: Final = 16
_LIMB_K: Final = 1 << (EXACT_BITS - 2 * _LIMB_BITS)  # products of two limbs that a sum below 2^53 can hold
_THREADED: Final = 1 << 18  # multiply-adds up to which OpenBLAS computes in the calling thread
_UNTHREADED: Final = (
    1 << 21
)  # products up to this size are cut so: waking and awaiting threads costs more than it saves
_SMALL_PRODUCT: Final = 1 << 15  # multiply-adds below which NumPy's plain integer loop wins over splitting


def safe_depth(p: int) -> int:
    """Return a K for which every sum of K products of |q| <= 127 * 2^(p-7) stays below 2^53 (512 for p = 22)."""
    return 1 << (EXACT_BITS - 2 * p)


def matmul_bounded(qa: F64Array, qb: F64Array, p: int, norm_bound: float) -> Array:
    """Return qa @ qb exactly: f64 where every |S| <= 2^53, else int64.

    qa: (B, M, K), qb: (B, K, N): whole numbers in f64 with |q| <= 127 * 2^(p-7), and K * 2^(2p) <= 2^62.
    An f64 result lives in scratch memory until the next call.
    norm_bound: at least max ||row of qa||^2 * max ||column of qb||^2; inf where it is not known.
    """
    depth = qa.shape[2]
    part = SCRATCH.take("product", (qa.shape[0], qa.shape[1], qb.shape[2]))
    # Cauchy-Schwarz: any part of the sum is at most the product of the two norms.
    if depth <= safe_depth(p) or norm_bound <= 2.0 ** (2 * EXACT_BITS):
        return _multiply(qa, qb, part)
    total = np.zeros(part.shape, np.int64)
    for start, stop in plan_chunks(qa, qb, safe_depth(p)):
        _multiply(qa[:, :, start:stop], qb[:, start:stop, :], part)
        np.add(total, part.astype(np.int64), out=total)
    return total


def _multiply(qa: F64Array, qb: F64Array, out: F64Array) -> F64Array:
    """Multiply into `out`, a small product by ranges of rows."""
    rows, per_row = qa.shape[1], max(1, qb.shape[1] * qb.shape[2])
    step = rows if rows * per_row > _UNTHREADED else max(1, _THREADED // per_row)
    for start in range(0, rows, max(1, step)):
        np.matmul(qa[:, start : start + step], qb, out=out[:, start : start + step])
    return out


def plan_chunks(qa: F64Array, qb: F64Array, safe: int) -> list[tuple[int, int]]:
    """Split 0..K into ranges whose partial sums stay within 2^53: blocks of `safe`, merged while the norms allow."""
    depth = qa.shape[2]
    chunks: list[tuple[int, int]] = []
    start, norms_a, norms_b = 0, np.zeros(1), np.zeros(1)
    for block in range(0, depth, safe):
        stop = min(block + safe, depth)
        block_a = np.einsum("bmk,bmk->bm", qa[:, :, block:stop], qa[:, :, block:stop])
        block_b = np.einsum("bkn,bkn->bn", qb[:, block:stop], qb[:, block:stop])
        merged_a, merged_b = norms_a + block_a, norms_b + block_b
        # the factor covers the rounding of the two sums of squares, at most K + 1 steps of 2^-53 each
        bound = float(merged_a.max()) * float(merged_b.max()) * (1 + 2.0**-20)
        if block == start or bound <= 2.0 ** (2 * EXACT_BITS):
            norms_a, norms_b = merged_a, merged_b
            continue
        chunks.append((start, block))
        start, norms_a, norms_b = block, block_a, block_b
    return [*chunks, (start, depth)]


def matmul_wrapping(a: Array, b: Array) -> Array:
    """Return a @ b modulo 2^width, in the operands' integer type. a: (B, M, K), b: (B, K, N)."""
    dtype = a.dtype
    depth = a.shape[2]
    if a.shape[1] * depth * b.shape[2] <= _SMALL_PRODUCT:
        product: Array = np.matmul(a.astype(np.uint64), b.astype(np.uint64))
        return product.astype(dtype)
    limbs = max(1, 8 * dtype.itemsize // _LIMB_BITS)
    total = np.zeros((a.shape[0], a.shape[1], b.shape[2]), np.uint64)
    for start in range(0, depth, _LIMB_K):
        left = _limbs(a[:, :, start : start + _LIMB_K], limbs)
        right = _limbs(b[:, start : start + _LIMB_K, :], limbs)
        for i in range(limbs):
            for j in range(limbs - i):  # higher pairs only reach bits beyond the width
                product = np.matmul(left[i], right[j]).astype(np.uint64)
                np.add(total, np.left_shift(product, np.uint64(_LIMB_BITS * (i + j))), out=total)
    return total.astype(dtype)


def _limbs(x: Array, count: int) -> list[F64Array]:
    """Return x = sum of limb_i * 2^(16 i) modulo 2^(16 count), limbs 0..65535 as f64."""
    bits = x.astype(np.uint64)
    mask = np.uint64((1 << _LIMB_BITS) - 1)
    return [((bits >> np.uint64(_LIMB_BITS * i)) & mask).astype(np.float64) for i in range(count)]
