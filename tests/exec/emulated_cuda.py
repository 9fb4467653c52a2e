"""A backend that runs CUDA sources on the CPU, for tests: what nvcc would compile, compiled by the C++ compiler."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samebits.exec.devices.cuda import CUDA_OPTIONS
from samebits.exec.errors import DeviceError
from samebits.kernels.codegen.program import Layout

HEADER = Path(__file__).parent / "emulated_cuda.h"
FLAGS = ("-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", "-w")


class EmulatedCuda:
    """Compiles CUDA C++ as C++ with a header that stands in for CUDA's built-ins."""

    name = "emulated-cuda"
    language = "cuda"
    options: tuple[str, ...] = CUDA_OPTIONS
    layout: Layout = "gpu"
    int8_engine: str | None = None
    tensor_cores = True

    def __init__(self) -> None:
        self._compiler = shutil.which("g++") or pytest.skip("no g++ to compile CUDA sources as C++")
        self._folder = tempfile.TemporaryDirectory()
        self._count = 0

    def describe(self) -> str:
        """Return what this is."""
        return "CUDA sources on the CPU"

    def free_bytes(self) -> int:
        """Return plenty."""
        return 1 << 34

    def allocate(self, size_bytes: int) -> Any:
        """Return memory filled with ones: nothing may rely on its contents."""
        return np.full(size_bytes, 0xFF, np.uint8)

    def upload(self, buffer: Any, data: Any) -> None:
        """Copy in."""
        buffer[: data.nbytes] = data.reshape(-1).view(np.uint8)

    def download(self, buffer: Any, data: Any) -> None:
        """Copy out."""
        data.reshape(-1).view(np.uint8)[:] = buffer[: data.nbytes]

    def compile(self, source: str, names: Sequence[str]) -> Sequence[Any]:
        """Build a shared library; a kernel is a function of it."""
        self._count += 1
        stem = Path(self._folder.name) / f"program{self._count}"
        wrappers = "".join(
            f'extern "C" void run_{name}(void **b, long n, int g, int t) {{ launch({name}, b, n, g, t); }}\n'
            for name in dict.fromkeys(names)
        )
        stem.with_suffix(".cpp").write_text(HEADER.read_text() + source + wrappers)
        command = [self._compiler, *FLAGS, "-o", f"{stem}.so", f"{stem}.cpp"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DeviceError(f"device emulated-cuda: compile: {done.stderr[:2000]}")
        library = ctypes.CDLL(f"{stem}.so")
        return [(getattr(library, f"run_{name}"), has_barrier(source, name)) for name in names]

    def launch(self, kernel: Any, buffers: Sequence[Any], items: int, group: int) -> None:
        """Run every block."""
        function, threads = kernel
        pointers = (ctypes.c_void_p * len(buffers))(*(buffer.ctypes.data for buffer in buffers))
        function(pointers, ctypes.c_long(items), ctypes.c_int(group), ctypes.c_int(threads))

    def synchronize(self) -> None:
        """Return: nothing runs on its own."""

    def on_host(self, buffers: Sequence[Any], sizes: Sequence[int]) -> Any:
        """Refuse: there are no steps of the host."""
        raise AssertionError("no steps of the host")


def has_barrier(source: str, name: str) -> int:
    """Say whether a kernel of the source waits for its group."""
    start = re.search(rf"KERNEL void {name}\(", source)
    if start is None:
        raise AssertionError(f"no kernel {name}")
    text = source[start.end() :]
    return int("BARRIER()" in text.split("KERNEL void", 1)[0])
