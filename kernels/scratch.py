"""Working memory that a thread keeps between calls, because fresh pages cost more than the arithmetic on them."""

from __future__ import annotations

import math
import threading
from typing import Final

import numpy as np
import numpy.typing as npt

KEPT_ELEMENTS: Final = 1 << 22  # per slot (32 MiB); anything larger is allocated for one call


class Scratch(threading.local):
    """Named f64 arrays, one set for each thread. An array is valid until the same slot is taken again."""

    def __init__(self) -> None:
        self._slots: dict[str, npt.NDArray[np.float64]] = {}

    def take(self, slot: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return an uninitialised C-ordered array; contents of the slot's earlier arrays are lost."""
        size = math.prod(shape)
        if size > KEPT_ELEMENTS:
            return np.empty(shape, np.float64)
        kept = self._slots.get(slot)
        if kept is None or kept.size < size:
            kept = self._slots[slot] = np.empty(size, np.float64)
        return kept[:size].reshape(shape)


SCRATCH: Final = Scratch()
