"""Environment variables that change how kernels are compiled. With one of them set no device is opened."""

from __future__ import annotations

import os
from typing import Final

from samebits.exec.errors import DeviceError

_VARIABLES: Final = {
    "opencl": ("PYOPENCL_BUILD_OPTIONS", "POCL_EXTRA_BUILD_FLAGS"),
    "cuda": ("NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS", "PYCUDA_DEFAULT_NVCC_FLAGS"),
}


def check_environment(language: str) -> None:
    """Raise DeviceError naming a variable that would add options to the compiler: nothing outside may change a bit."""
    for name in _VARIABLES[language]:
        if os.environ.get(name):
            raise DeviceError(f"device {language}: the variable {name} changes how kernels are compiled; unset it")
