"""The grid exponent e(m): where the contract puts the fixed point of a group of values whose largest magnitude is m."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

# As f64 bits 127/128 * 2^e has the fraction 0x7E0000 << 29; from there on adding the rest carries into the exponent.
_CARRY: Final = 0x20000 << 29
_BIAS: Final = 1022  # of e: a carry-free 1.f * 2^k has the biased exponent k + 1023 and e = k + 1
_SUBNORMAL_SHIFT: Final = 64  # 2^64 lifts every f64 subnormal into the normal range, exactly


def grid_exponent(m: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return e(m), the least integer e with m < (127/128) * 2^e; 0 where m = 0.

    m: f32 or f64 of any shape, finite, not negative (ValueError), subnormals included. Every |x| <= m gives
    |RN_int(x * 2^(p-e))| <= 127 * 2^(p-7). Example: e(1.0) = 1, e(127/128) = 1, e(0.99) = 0.
    """
    m = np.asarray(m)
    if m.dtype not in (np.float32, np.float64):
        raise TypeError(f"grid_exponent takes f32 or f64, not {m.dtype}")
    wide = m.astype(np.float64)
    if not (np.isfinite(wide) & (wide >= 0)).all():
        raise ValueError("grid_exponent takes finite magnitudes only")
    tiny = wide < np.finfo(np.float64).smallest_normal
    lifted = np.where(tiny, wide, 0.0) * 2.0**_SUBNORMAL_SHIFT
    bits = np.where(tiny, lifted, wide).view(np.int64)
    exponent = ((bits + _CARRY) >> 52) - _BIAS - _SUBNORMAL_SHIFT * tiny
    return np.asarray(np.where(wide == 0, 0, exponent))


def clog2(n: int) -> int:
    """Return ceil(log2 n) for n >= 1."""
    return (n - 1).bit_length()
