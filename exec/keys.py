"""The keys of a job's random numbers: one per step, and one for the initial state, as a pure function of the seed.

key_t = Threefry2x32-20(counter = (t mod 2^32, floor(t / 2^32)), key = (seed mod 2^32, floor(seed / 2^32))); that of the
initial state has the counter (2^32 - 1, 2^32 - 1), which no step has (Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", SC 2011). What a graph draws with a key is stated in draws.py.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.exec.errors import JobError
from samebits.kernels.random import threefry2x32

INITIAL: Final = (1 << 64) - 1  # in the place of t, for the initial state
_MASK: Final = 0xFFFFFFFF


def step_key(seed: int, t: int) -> NDArray[np.uint32]:
    """Return the key (2,) of step t, or of the initial state for t = INITIAL."""
    return threefry2x32(_words(t), _words(seed))


def check_seed(seed: Any) -> int:
    """Return a seed; raises JobError if it isn't an integer in 0 .. 2^64-1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise JobError(f"seed {seed!r} is not an integer in 0 .. 2^64 - 1")
    return seed


def _words(value: int) -> NDArray[np.uint32]:
    return np.array([value & _MASK, value >> 32], np.uint32)
