"""Reduce f32 angles by multiples of pi/2, exactly enough for any of them: 160 bits of 2/pi around the binary point.

x = m 2^(E-23) with a whole m of 24 bits. Bits of 2/pi that contribute multiples of 4 to x 2/pi are skipped, the next
160 are multiplied by m in words of 32 bits. What is left out is below 2^-134 of a quadrant, and no f32 comes closer
than 2^-32 to a multiple of pi/2.
Source: M. Payne, R. Hanek, "Radian reduction for trigonometric functions", ACM SIGNUM Newsletter 18 (1983).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.kernels.functions import doubledouble as dd
from samebits.kernels.functions.doubledouble import F64, DoubleDouble
from samebits.kernels.functions.inverse_trigonometric import PI_2

Ints = npt.NDArray[np.int64]

# floor(2/pi 2^358) in words of 32 bits, most significant first: 26 zero bits, then the fraction of 2/pi
TWO_OVER_PI: Final = (
    *(0x00000028, 0xBE60DB93, 0x91054A7F, 0x09D5F47D, 0x4D377036, 0xD8A5664F),
    *(0x10E4107F, 0x9458EAF7, 0xAEF1586D, 0xC91B8E90, 0x9374B801, 0x924BBA82),
)
_WORD_PAIRS: Final = np.array([high << 32 | low for high, low in pairwise(TWO_OVER_PI)], np.uint64)
_WORDS: Final = 5
_U: Final = np.uint64
_LOW_WORD: Final = np.uint64(0xFFFFFFFF)
_FIRST_QUADRANT: Final = 0.75  # below it x is its own remainder


def _product_words(x: F64) -> list[npt.NDArray[np.uint64]]:
    """Return x 2/pi mod 4 as five words, most significant first; the binary point is after two bits. x >= 1/2."""
    bits = x.view(np.uint64)
    exponent = (bits >> _U(52)) - _U(1023 - 1)  # E + 1
    m = ((bits >> _U(29)) & _U(0x7FFFFF)) | _U(0x800000)
    at = (exponent >> _U(5)).astype(np.int64)
    shift = exponent & _U(31)
    words: list[Any] = []
    carry: Any = _U(0)
    for j in reversed(range(_WORDS)):
        aligned = (np.take(_WORD_PAIRS, at + j) << shift) >> _U(32)
        product = m * aligned + carry
        words.append(product & _LOW_WORD)
        carry = product >> _U(32)
    return words[::-1]


def _quadrant_and_fraction(x: F64) -> tuple[Ints, Ints, list[F64]]:
    """Return q and f in -1/2 .. 1/2 with x 2/pi = q + f mod 4. f: an integer times 2^-62, and three words below it."""
    words = _product_words(np.maximum(x, 0.5))
    top = words[0].astype(np.int64) + (1 << 29)
    q = (top >> 30) & 3
    fraction = ((top & ((1 << 30) - 1)) - (1 << 29) << 32) + words[1].astype(np.int64)
    return q, fraction, [word.astype(np.float64) for word in words[2:]]


def reduce_f64(x: F64) -> tuple[Ints, F64]:
    """Return q and r with x = q pi/2 + r mod 2 pi, |r| <= pi/4 (1 + 2^-50), r good to 2^-51. x >= 0, f32 values."""
    q, fraction, below = _quadrant_and_fraction(x)
    r = (fraction.astype(np.float64) * 2.0**-62 + below[0] * 2.0**-94) * PI_2.hi
    small = x < _FIRST_QUADRANT
    return np.where(small, 0, q), np.where(small, x, r)


def reduce(x: F64) -> tuple[Ints, DoubleDouble]:
    """Return q and r as `reduce_f64`, r as a pair; below 3/4 r is x itself."""
    q, fraction, below = _quadrant_and_fraction(x)
    hi = fraction.astype(np.float64)
    f = dd.fast_two_sum(hi * 2.0**-62, (fraction - hi.astype(np.int64)).astype(np.float64) * 2.0**-62)
    for word, unit in zip(below, (2.0**-94, 2.0**-126, 2.0**-158), strict=True):
        f = dd.add(f, dd.exactly(word * unit))
    small = x < _FIRST_QUADRANT
    return np.where(small, 0, q), dd.select(small, dd.exactly(x), dd.mul(f, PI_2))
