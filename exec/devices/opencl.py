"""The OpenCL backend: any OpenCL 1.2 device with f64, through pyopencl. PoCL makes a device of the CPU itself."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from samebits.exec.devices.compiler_environment import check_environment
from samebits.exec.devices.protocol import Array
from samebits.exec.errors import DeviceError, one_line
from samebits.exec.planner import free_memory_bytes, size_text
from samebits.kernels.codegen.host import int8_engine
from samebits.kernels.codegen.program import Layout

SMALL_UPLOAD_BYTES: Final = 1 << 16  # up to here a copy costs less than waiting for the queue
MANY_UPLOADS: Final = 256
INSTALL: Final = "install the extra samebits[opencl]"


def import_pyopencl() -> Any:
    """Return the module pyopencl; raises DeviceError that says how to get it."""
    try:
        import pyopencl
    except ImportError as error:
        raise DeviceError(f"device opencl: pyopencl is not installed; {INSTALL}") from error
    return pyopencl


_forked: list[bool] = []  # not empty in a child of a process that has used OpenCL: its threads are gone


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=lambda: _forked.append(True))


def list_opencl_devices() -> list[Any]:
    """Return every OpenCL device, CPUs last; raises DeviceError if there is none."""
    cl = import_pyopencl()
    devices = []
    try:
        for platform in cl.get_platforms():
            with contextlib.suppress(cl.Error):  # a platform without devices says so by an error
                devices += platform.get_devices()
    except cl.Error as error:
        raise DeviceError(f"device opencl: no OpenCL platform answers ({one_line(error)}); {INSTALL}") from error
    if not devices:
        raise DeviceError(f"device opencl: there is no OpenCL device; {INSTALL}")
    return sorted(devices, key=lambda device: bool(device.type & cl.device_type.CPU))


class OpenclBackend:
    """One OpenCL device with an in-order queue."""

    name = "opencl"
    language = "opencl"
    options: tuple[str, ...] = ()
    tensor_cores = False

    def __init__(self, device: Any = None, *, layout: Layout | None = None) -> None:
        """Open a device, by default the first: a GPU before a CPU. Raises DeviceError if it lacks f64."""
        self._cl = cl = import_pyopencl()
        check_environment("opencl")
        _watch_forks()
        device = list_opencl_devices()[0] if device is None else device
        self._device = device
        if not device.double_fp_config:
            raise DeviceError(f"device opencl: {device.name.strip()} has no f64")
        if not device.double_fp_config & cl.device_fp_config.DENORM:
            raise DeviceError(f"device opencl: {device.name.strip()} flushes f64 subnormals")
        if not device.single_fp_config & cl.device_fp_config.DENORM:
            raise DeviceError(f"device opencl: {device.name.strip()} flushes f32 subnormals")
        if "cl_khr_int64_base_atomics" not in device.extensions:
            raise DeviceError(f"device opencl: {device.name.strip()} has no 64-bit atomics")
        self._is_cpu = is_cpu = bool(device.type & cl.device_type.CPU)
        self.layout: Layout = layout or ("cpu" if is_cpu else "gpu")
        self.int8_engine = int8_engine() if is_cpu and self.layout == "cpu" else None
        with _errors("open"):
            self._context = cl.Context([device])
            self._queue = cl.CommandQueue(self._context, device)
        self._uploads: list[Any] = []  # events of copies that the queue may not have reached yet
        self._flags = cl.mem_flags.READ_WRITE | (cl.mem_flags.ALLOC_HOST_PTR if is_cpu else 0)
        self._map_flags = cl.map_flags.READ | cl.map_flags.WRITE

    def describe(self) -> str:
        """Return device, platform, driver, how work is divided, and the library that multiplies digits, if any."""
        device = self._device
        name, platform = (" ".join(text.split()) for text in (device.name, device.platform.name))
        engine = self.int8_engine
        products = f", int8 products by {engine} {version(engine)}" if engine else ""
        return f"{name}, {platform} {device.driver_version.strip()}, {self.layout} layout{products}"

    def free_bytes(self) -> int:
        """Return the memory of a GPU, or what the machine has free for a CPU."""
        return free_memory_bytes() if self._is_cpu else int(self._device.global_mem_size)

    def allocate(self, size_bytes: int) -> Any:
        """Return a new buffer, of the host's memory on a CPU."""
        with _errors(f"allocate {size_text(size_bytes)}"):
            return self._cl.Buffer(self._context, self._flags, size_bytes)

    def upload(self, buffer: Any, data: Array) -> None:
        """Copy a contiguous array to the front of a buffer."""
        with _errors("upload"):
            flat = data.reshape(-1).view(np.uint8)
            if flat.size > SMALL_UPLOAD_BYTES:
                self._cl.enqueue_copy(self._queue, buffer, flat, is_blocking=True)
                return
            if len(self._uploads) >= MANY_UPLOADS:
                self.synchronize()
            # a copy of its own, which nobody changes while the queue gets there; its event waits when it is dropped
            self._uploads.append(self._cl.enqueue_copy(self._queue, buffer, flat.copy(), is_blocking=False))

    def download(self, buffer: Any, data: Array) -> None:
        """Copy the front of a buffer to a contiguous array."""
        with _errors("download"):
            self._cl.enqueue_copy(self._queue, data.reshape(-1).view(np.uint8), buffer, is_blocking=True)
            self._uploads.clear()  # all done

    def compile(self, source: str, names: Sequence[str]) -> Sequence[Any]:
        """Return a kernel object for each name. PoCL keeps what it compiled on disk by hash of source and options."""
        with _errors("compile"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # PoCL's own cache is the faster one: asking PoCL for a binary compiles everything once more
            cache = False if self.layout == "cpu" else None
            program = self._cl.Program(self._context, source).build(list(self.options), cache_dir=cache)
            return [self._cl.Kernel(program, name) for name in names]

    def launch(self, kernel: Any, buffers: Sequence[Any], items: int, group: int) -> None:
        """Enqueue a kernel."""
        with _errors("launch"):
            kernel.set_args(*buffers)
            self._cl.enqueue_nd_range_kernel(self._queue, kernel, (items,), (group,))

    def synchronize(self) -> None:
        """Wait for the queue."""
        with _errors("synchronize"):
            self._queue.finish()
            self._uploads.clear()

    @contextmanager
    def on_host(self, buffers: Sequence[Any], sizes: Sequence[int]) -> Iterator[list[Array]]:
        """Map buffers: on a CPU they are the host's memory, nothing is copied."""
        mapped = []
        try:
            with _errors("map"):
                for buffer, size in zip(buffers, sizes, strict=True):
                    array, _ = self._cl.enqueue_map_buffer(
                        self._queue, buffer, self._map_flags, 0, (size,), np.uint8, is_blocking=True
                    )
                    mapped.append(array)
            yield mapped
        finally:
            with _errors("unmap"):
                for array in mapped:
                    array.base.release(self._queue)


@contextmanager
def _errors(what: str) -> Iterator[None]:
    cl = import_pyopencl()
    if _forked:
        raise DeviceError("device opencl: it was used before this process was forked; start processes by spawn instead")
    try:
        yield
    except cl.Error as error:
        raise DeviceError(f"device opencl: {what}: {one_line(error)}") from error
    except MemoryError as error:
        raise DeviceError(f"device opencl: {what}: out of memory") from error
