"""The CUDA backend: the kernels of the OpenCL backend, compiled by nvcc through pycuda."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from samebits.exec.devices.compiler_environment import check_environment
from samebits.exec.devices.protocol import Array
from samebits.exec.errors import DeviceError, one_line
from samebits.kernels.codegen.program import Layout

INSTALL: Final = "install the extra samebits[cuda] (it needs nvcc, a C++ compiler and Python's headers)"
# no contraction, subnormals kept, quotients and roots rounded to nearest
CUDA_OPTIONS: Final = ("--fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true", "-std=c++17", "-O3")


class CudaBackend:
    """One CUDA device and its primary context. Work runs in order on the default stream."""

    name = "cuda"
    language = "cuda"
    options: tuple[str, ...] = CUDA_OPTIONS
    layout: Layout = "gpu"
    int8_engine: str | None = None

    def __init__(self, number: int = 0) -> None:
        """Open a device by number; raises DeviceError that says what is missing."""
        try:
            import pycuda.compiler
            import pycuda.driver
        except ImportError as error:
            raise DeviceError(
                f"device cuda: pycuda is not installed or finds no driver ({error}); {INSTALL}"
            ) from error
        self._driver: Any = pycuda.driver
        self._compiler: Any = pycuda.compiler
        check_environment("cuda")
        with self._errors("open"):
            self._driver.init()
            if number >= self._driver.Device.count():
                raise DeviceError(f"device cuda: there is no CUDA device {number}")
            self._device = self._driver.Device(number)
            self._context = self._device.retain_primary_context()
            self.tensor_cores = self._device.compute_capability() >= (8, 0)
            self._nvcc = str(self._compiler.get_nvcc_version("nvcc")).split("release ")[-1].split(",")[0]

    def describe(self) -> str:
        """Return device, compute capability, driver and compiler."""
        major, minor = self._device.compute_capability()
        driver = self._driver.get_driver_version()
        version = f"CUDA driver {driver // 1000}.{driver % 1000 // 10}, nvcc {self._nvcc}"
        return f"{self._device.name()}, sm_{major}{minor}, {version}"

    def free_bytes(self) -> int:
        """Return the device memory that is free."""
        with self._current("memory"):
            return int(self._driver.mem_get_info()[0])

    def allocate(self, size_bytes: int) -> Any:
        """Return a new buffer."""
        with self._current("allocate"):
            return self._driver.mem_alloc(size_bytes)

    def upload(self, buffer: Any, data: Array) -> None:
        """Copy a contiguous array to the front of a buffer."""
        with self._current("upload"):
            self._driver.memcpy_htod(buffer, data.reshape(-1).view("u1"))

    def download(self, buffer: Any, data: Array) -> None:
        """Copy the front of a buffer to a contiguous array."""
        with self._current("download"):
            self._driver.memcpy_dtoh(data.reshape(-1).view("u1"), buffer)

    def compile(self, source: str, names: Sequence[str]) -> Sequence[Any]:
        """Return a function for each name. pycuda keeps what nvcc made on disk by hash of source and options."""
        with self._current("compile"):
            module = self._compiler.SourceModule(source, options=list(self.options), no_extern_c=True)
            return [module.get_function(name) for name in names]

    def launch(self, kernel: Any, buffers: Sequence[Any], items: int, group: int) -> None:
        """Launch a kernel."""
        with self._current("launch"):
            kernel(*buffers, block=(group, 1, 1), grid=(items // group, 1))

    def synchronize(self) -> None:
        """Wait for the device."""
        with self._current("synchronize"):
            self._context.synchronize()

    def on_host(self, buffers: Sequence[Any], sizes: Sequence[int]) -> Any:
        """Refuse: the host does not share the device's memory, and no program asks for it."""
        raise AssertionError("a program for a device with its own memory has no steps of the host")

    @contextmanager
    def _current(self, what: str) -> Iterator[None]:
        """Make the device's context that of the calling thread for a while."""
        with self._errors(what):
            self._context.push()
            try:
                yield
            finally:
                self._context.pop()

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (self._driver.Error, self._driver.CompileError) as error:
            raise DeviceError(f"device cuda: {what}: {one_line(error)}") from error
        except OSError as error:  # nvcc is missing
            raise DeviceError(f"device cuda: {what}: {one_line(error)}; {INSTALL}") from error
