"""Conformance vectors of conv_general_dilated: few cases of many kinds; those of one case and type share kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from samebits.cas.encoding import Value
from tests.kernels.convolution_cases import BY_HAND, Case, case
from tests.kernels.float_samples import KINDS, sample
from tests.kernels.oracle_convolution import convolve

LARGEST = 0x3F7DFFFF  # quantises to 127 * 2^15
LONG = case((1, 43, 12), (2, 43, 12), None, ((1, 0),))  # K = 516: sums beyond 2^53

_FEW = ("ordinary", "any")
_CASES = (
    ("padded", "f32", KINDS),
    ("everything", "f32", KINDS),
    ("batch groups", "f32", _FEW),
    ("depthwise", "f32", _FEW),
    ("high", "f32", _FEW),
    ("one axis", "bf16", _FEW),
    ("three axes", "f16", _FEW),
    ("no terms", "f32", _FEW[:1]),
    ("nothing but padding", "f32", _FEW[:1]),
)


def convolution_vectors() -> Iterator[tuple[list[tuple[str, Any]], tuple[str, Any], dict[str, Value]]]:
    """Yield operands, result and attributes; an array is its element type with NumPy's array of bits."""
    for label, name, kinds in _CASES:
        for kind in kinds:
            yield _vector(BY_HAND[label], name, *(_bits(kind, shape, name) for shape in _shapes(BY_HAND[label])))
    for label in ("padded", "everything"):
        yield _vector(BY_HAND[label], "f32", *_with_special_values(BY_HAND[label]))
    lhs, rhs = (np.full(shape, LARGEST, np.uint32) for shape in _shapes(LONG))
    rhs[1, ::2] |= np.uint32(1 << 31)
    yield _vector(LONG, "f32", lhs, rhs)


def _shapes(which: Case) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return which.lhs, which.rhs


def _bits(kind: str, shape: tuple[int, ...], name: str) -> Any:
    x = sample(kind, shape, name, 31 + len(shape))
    return x.view(np.dtype(f"<u{x.dtype.itemsize}"))


def _with_special_values(which: Case) -> tuple[Any, Any]:
    """Return bits with a NaN in the first corner, which may be cropped, a zero sample, a zero filter, an infinity."""
    lhs, rhs = (_bits("ordinary", shape, "f32").copy() for shape in _shapes(which))
    if len(lhs) > 1:
        lhs[1] = 0x80000000
        lhs[0, 0].flat[0] = 0x7F800001
    rhs[0] = 0
    rhs[1].flat[-1] = 0xFF800000
    return lhs, rhs


def _vector(
    which: Case, name: str, lhs: Any, rhs: Any
) -> tuple[list[tuple[str, Any]], tuple[str, Any], dict[str, Value]]:
    bits, shape = convolve(lhs, rhs, name, which.how)
    return [(name, lhs), (name, rhs)], (name, np.array(bits, lhs.dtype).reshape(shape)), which.how.attributes()
