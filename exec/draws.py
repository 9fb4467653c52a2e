"""Random numbers in a graph: what a site draws with the key of its step.

A site is a place in the program that draws: its text names it (`capture/sites.py`). With (s0, s1) the first 8 bytes of
BLAKE3(text) as little-endian words, the site's key is Threefry2x32-20(counter = (s0, s1), key), and word 4 i + j of its
stream is word j of Philox4x32-10(counter = (i, 0, 0, 0), the site's key). Element n of a tensor (in C order):

    bits     word n                       uniform  floor(word n / 2^8) 2^-24 as f32, in [0, 1)
    normal   r cos(2 pi u2) for even n, r sin(2 pi u2) for odd n, with r = sqrt(-2 log(1 - u1)), u1 and u2 the uniform
             numbers of the words of the pair, every operation rounded to f32 (Box and Muller, Ann. Math. Stat., 1958)
    integer  (word 2n + 2^32 word 2n+1) mod span as i64; a span below 2^32 is met with a bias below 2^-32
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from blake3 import blake3

from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.errors import GraphError

MAX_BLOCKS: Final = 1 << 32


def uniform(build: GraphBuilder, key: ValueRef, site: str, shape: Sequence[int]) -> ValueRef:
    """Append f32 numbers in [0, 1), multiples of 2^-24; key: u32[2]."""
    return _cut(build, _uniform(build, _words(build, key, site, math.prod(shape))), shape)


def normal(build: GraphBuilder, key: ValueRef, site: str, shape: Sequence[int]) -> ValueRef:
    """Append f32 numbers of the standard normal distribution; key: u32[2]."""
    u = _uniform(build, _words(build, key, site, math.prod(shape)))
    pairs = build.op("reshape", u, new_sizes=(u.type.size // 2, 2))
    first, second = (_column(build, pairs, i) for i in (0, 1))
    like = first.type.shape

    def number(value: float) -> ValueRef:
        return build.op("broadcast_in_dim", build.scalar(value, "f32"), shape=like, broadcast_dimensions=())

    log = build.op("log", build.op("sub", number(1.0), first))
    radius = build.op("sqrt", build.op("mul", number(-2.0), log))
    angle = build.op("mul", number(2 * math.pi), second)
    both = [build.op("mul", radius, build.op(name, angle)) for name in ("cos", "sin")]
    return _cut(build, build.op("concatenate", *both, dimension=1), shape)


def integers(build: GraphBuilder, key: ValueRef, site: str, span: int, shape: Sequence[int]) -> ValueRef:
    """Append i64 numbers in [0, span), span in 1 .. 2^63-1; key: u32[2]."""
    words = _words(build, key, site, 2 * math.prod(shape))
    wide = build.op("convert_element_type", words, new_dtype="u64")
    pairs = build.op("reshape", wide, new_sizes=(wide.type.size // 2, 2))
    low, high = (_column(build, pairs, i) for i in (0, 1))

    def number(value: int) -> ValueRef:
        scalar = build.scalar(value, "u64")
        return build.op("broadcast_in_dim", scalar, shape=low.type.shape, broadcast_dimensions=())

    whole = build.op("or", low, build.op("shift_left", high, number(32)))
    rest = build.op("rem", whole, number(span))
    return _cut(build, build.op("convert_element_type", rest, new_dtype="i64"), shape)


def bits(build: GraphBuilder, key: ValueRef, site: str, shape: Sequence[int]) -> ValueRef:
    """Append u32 words; key: u32[2]."""
    return _cut(build, _words(build, key, site, math.prod(shape)), shape)


def site_words(site: str) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Return the two words (2,) that stand for a site."""
    return np.frombuffer(blake3(site.encode()).digest(length=8), "<u4").astype(np.uint32)


def _words(build: GraphBuilder, key: ValueRef, site: str, count: int) -> ValueRef:
    """Append the first words of a site's stream, `count` rounded up to a multiple of 4."""
    blocks = -(-count // 4)
    if blocks > MAX_BLOCKS:
        raise GraphError(f"the site {site!r} draws {count} numbers at once; at most 2^34 are supported")
    own = build.op("threefry2x32", build.constant(site_words(site)), key)
    index = build.op("iota", dtype="u32", shape=(blocks, 1), dimension=0)
    zero = build.op("broadcast_in_dim", build.scalar(0, "u32"), shape=(blocks, 3), broadcast_dimensions=())
    counter = build.op("concatenate", index, zero, dimension=1)
    return build.op("reshape", build.op("philox4x32", counter, own), new_sizes=(4 * blocks,))


def _uniform(build: GraphBuilder, words: ValueRef) -> ValueRef:
    shape = words.type.shape
    eight = build.op("broadcast_in_dim", build.scalar(8, "u32"), shape=shape, broadcast_dimensions=())
    unit = build.op("broadcast_in_dim", build.scalar(2.0**-24, "f32"), shape=shape, broadcast_dimensions=())
    top = build.op("convert_element_type", build.op("shift_right_logical", words, eight), new_dtype="f32")
    return build.op("mul", top, unit)


def _column(build: GraphBuilder, pairs: ValueRef, index: int) -> ValueRef:
    rows = pairs.type.shape[0]
    return build.op("slice", pairs, start_indices=(0, index), limit_indices=(rows, index + 1), strides=(1, 1))


def _cut(build: GraphBuilder, x: ValueRef, shape: Sequence[int]) -> ValueRef:
    """Reshape to one axis, take as many elements as `shape` has, and give them that shape."""
    size = math.prod(shape)
    flat = build.op("reshape", x, new_sizes=(x.type.size,))
    if size != x.type.size:
        flat = build.op("slice", flat, start_indices=(0,), limit_indices=(size,), strides=(1,))
    return build.op("reshape", flat, new_sizes=tuple(shape))
