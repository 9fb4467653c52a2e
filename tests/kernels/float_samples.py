"""Arrays of float bits that reach every corner: ordinary, subnormal, huge, tied, cancelling, NaN, infinite."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import numpy_dtype

Array = npt.NDArray[Any]
WIDTHS: Final = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}
FRACTION_BITS: Final = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}
KINDS: Final = ("ordinary", "subnormal", "huge", "wide", "any", "cancelling")


def from_bits(bits: Any, name: str) -> Array:
    """Return the array of a float type that has these bits."""
    return np.asarray(bits, np.dtype(f"<u{WIDTHS[name] // 8}")).view(numpy_dtype(name))


def bits_of(x: Any) -> Any:
    """Return the bits of an array as nested lists of Python integers."""
    x = np.asarray(x)
    return (
        np.ascontiguousarray(x).view(np.dtype(f"<u{x.dtype.itemsize}")).tolist()
        if x.ndim
        else int(x.view(np.dtype(f"<u{x.dtype.itemsize}")))
    )


def corner_bits(name: str) -> list[int]:
    """Return bits of zeros, least and greatest values, infinities, quiet and signalling NaN, each of both signs."""
    fraction, width = FRACTION_BITS[name], WIDTHS[name]
    inf = ((1 << (width - 1 - fraction)) - 1) << fraction
    one = ((1 << (width - 2 - fraction)) - 1) << fraction
    subnormal_border = [0, 1, 2, 3, (1 << fraction) - 1, 1 << fraction, (1 << fraction) + 1]
    ordinary = [one - 1, one, one + 1, one + (3 << (fraction - 2)), inf - 1]
    special = [inf, inf + 1, inf + (1 << (fraction - 1)), (1 << (width - 1)) - 1]
    positive = [*subnormal_border, *ordinary, *special]
    return [bits | sign for sign in (0, 1 << (width - 1)) for bits in positive]


def sample(kind: str, shape: tuple[int, ...], name: str, seed: int) -> Array:
    """Return random elements of one kind; `any` holds NaN and infinities."""
    rng = np.random.default_rng(seed)
    fraction, width = FRACTION_BITS[name], WIDTHS[name]
    top = (1 << (width - 1 - fraction)) - 1  # exponent field of infinity
    middle = top // 2
    low, high = {
        "ordinary": (middle - 2, middle + 2),
        "subnormal": (0, 2),
        "huge": (top - 3, top),
        "wide": (0, top),
        "any": (0, top + 1),
        "cancelling": (middle, middle + 1),
    }[kind]
    fields = rng.integers(low, high, shape, dtype=np.int64)
    fractions = rng.integers(0, 1 << fraction, shape, dtype=np.int64)
    signs = rng.integers(0, 2, shape, dtype=np.int64)
    bits = (fields.astype(np.uint64) << np.uint64(fraction)) | fractions.astype(np.uint64)
    if kind == "any":
        corners = np.asarray(corner_bits(name), np.uint64)
        pick = rng.integers(0, 4, shape) == 0
        bits = np.where(pick, corners[rng.integers(0, len(corners), shape)], bits)
    bits |= signs.astype(np.uint64) << np.uint64(width - 1)
    x = from_bits(bits.astype(np.dtype(f"<u{width // 8}")), name)
    if kind == "cancelling" and shape and shape[-1] > 1:
        half = shape[-1] // 2
        x[..., half : 2 * half] = -x[..., :half]
        x[..., 0] = x[..., 0] * x.dtype.type(0.5)
    return x
