"""Steps that the host does between kernels, on memory that it shares with the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# name -> step(buffers as flat writable bytes, parameters)
HostStep = Callable[[Sequence[npt.NDArray[np.uint8]], tuple[Any, ...]], None]

# None at present: where BLAS was measured against the kernels of dot_cpu.py, the kernels won
HOST_STEPS: Final[dict[str, HostStep]] = {}
