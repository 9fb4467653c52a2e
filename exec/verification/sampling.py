"""How many segments to draw, which ones a seed draws, and what a draw can miss. Exact, and pure functions.

A draw can be computed again by anyone. With integers unsigned and big endian unless said otherwise, the seed is::

    BLAKE3 in derive-key mode, context "samebits 2026-11-22 draw of segments v1", extended output, over
        32 bytes  address of the run entry
        32 bytes  address of the run's last segment entry that may be drawn
         8 bytes  N, how many segments the run has up to there
         8 bytes  K, how many of them are drawn
         1 byte   length of the nonce (0 or 32), and the nonce
         1 byte   length of the beacon (0 to 64), and the beacon
         4 bytes  length of the checkpoint, and the checkpoint: the signed note of the log, with the log's own signature
                  line and no other. A verifier could compute the tree's root beforehand, but not that signature; other
                  lines are left out since anybody may add them. Without a nonce the length is 0: a prover who knows the
                  beacon would append to the log until a checkpoint draws what they like

Numbers below m are read from the output 8 bytes at a time, little endian; one that is not below the greatest multiple
of m up to 2^64 is passed over, else it is taken modulo m. Segments are numbered from 0 in a list; for i = 0 .. K-1 the
one at i changes places with the one at i + (number below N - i). The first K are drawn.

A nonce is announced by its hash: BLAKE3 in derive-key mode, context "samebits 2026-11-22 nonce of a draw v1", over the
address of the run entry and the 32 bytes of the nonce.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, comb
from typing import Final

from blake3 import blake3

from samebits.cas import Digest
from samebits.exec.errors import RunError

SEED_CONTEXT: Final = "samebits 2026-11-22 draw of segments v1"
NONCE_CONTEXT: Final = "samebits 2026-11-22 nonce of a draw v1"
_WORD_SIZE_BYTES: Final = 8
_BLOCK_SIZE_BYTES: Final = 1 << 13


def miss_probability(total: int, altered: int, size: int) -> Fraction:
    """Return the probability that `size` of `total` segments, drawn without replacement, hit none of `altered` ones.

    Hypergeometric: C(total - altered, size) / C(total, size). Raises ValueError for numbers outside.
    """
    if not 0 <= altered <= total or not 0 <= size <= total:
        raise ValueError(f"want 0 .. {total} altered and drawn segments, not {altered} and {size}")
    return Fraction(*_miss_ratio(total, altered, size))


def altered_segments(total: int, fraud: Fraction) -> int:
    """Return how many of `total` segments a fraud of this fraction alters: at least one, rounded up."""
    return max(1, ceil(fraud * total))


def smallest_sample(total: int, altered: int, confidence: Fraction) -> int:
    """Return the least size of a sample that hits an altered segment with at least this probability."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, not {confidence}")
    missed, low, high = 1 - confidence, 1, total  # a sample of all of them misses nothing
    while low < high:
        middle = (low + high) // 2
        numerator, denominator = _miss_ratio(total, altered, middle)
        if numerator * missed.denominator <= missed.numerator * denominator:
            high = middle
        else:
            low = middle + 1
    return low


def _miss_ratio(total: int, altered: int, size: int) -> tuple[int, int]:
    """Return the probability as a ratio; of the two forms that are equal, the one of smaller numbers."""
    fewer, more = sorted((altered, size))
    return comb(total - more, fewer), comb(total, fewer)


def hash_nonce(run: Digest, nonce: bytes) -> bytes:
    """Return what announces a nonce of 32 bytes for a run."""
    return blake3(run.raw + nonce, derive_key_context=NONCE_CONTEXT).digest()


def draw_segments(
    run: Digest, head: Digest, total: int, size: int, *, nonce: bytes, beacon: bytes, checkpoint: str
) -> tuple[int, ...]:
    """Return the numbers of the drawn segments, ascending; `checkpoint` is the note, signed by the log alone."""
    if not 1 <= size <= total:
        raise RunError(f"a sample of {size} of {total} segments: want 1 to {total}")
    text = checkpoint.encode() if nonce else b""
    material = (
        run.raw
        + head.raw
        + total.to_bytes(8, "big")
        + size.to_bytes(8, "big")
        + len(nonce).to_bytes(1, "big")
        + nonce
        + len(beacon).to_bytes(1, "big")
        + beacon
        + len(text).to_bytes(4, "big")
        + text
    )
    stream = _Stream(material)
    moved: dict[int, int] = {}  # places of the list that hold another number than their own
    drawn = []
    for place in range(size):
        other = place + stream.below(total - place)
        drawn.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return tuple(sorted(drawn))


class _Stream:
    """Numbers from the extended output of a hash."""

    def __init__(self, material: bytes) -> None:
        self._hasher = blake3(material, derive_key_context=SEED_CONTEXT)
        self._block = b""
        self._read_bytes = 0

    def below(self, bound: int) -> int:
        """Return a number from 0 to bound - 1, each as likely as any other."""
        limit = (1 << 64) // bound * bound
        while (word := self._word()) >= limit:
            pass
        return word % bound

    def _word(self) -> int:
        place = self._read_bytes % _BLOCK_SIZE_BYTES
        if place == 0:
            self._block = self._hasher.digest(length=_BLOCK_SIZE_BYTES, seek=self._read_bytes)
        self._read_bytes += _WORD_SIZE_BYTES
        return int.from_bytes(self._block[place : place + _WORD_SIZE_BYTES], "little")
