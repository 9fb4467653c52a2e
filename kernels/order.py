"""Element order as integers: keys that sort like the values, so that no comparison of floats decides an extreme."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samebits.kernels.rounding import to_bits

Array = npt.NDArray[Any]


def order_keys(x: Array) -> Array:
    """Map floats to signed integers of their width that order as -inf ... -0 < +0 ... inf; NaN lies outside these."""
    return _flip(np.asarray(to_bits(x)).view(f"<i{x.dtype.itemsize}"))


def from_order_keys(keys: Array, dtype: np.dtype[Any]) -> Array:
    """Return the floats of `order_keys`, bit for bit."""
    return _flip(keys).view(dtype)


def _flip(bits: Array) -> Array:
    """Reverse the order of the negative half; its own inverse."""
    top = np.right_shift(bits, bits.dtype.type(8 * bits.dtype.itemsize - 1))
    return np.asarray(bits ^ (top & bits.dtype.type(np.iinfo(bits.dtype).max)))
