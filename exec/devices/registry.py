"""Devices by name. One that is opened must conform to the vectors: one wrong bit and it is refused.

Names: ``numpy``; ``opencl`` (the first OpenCL device, a GPU before a CPU) or ``opencl:1`` (the second); ``cuda`` or
``cuda:1``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from samebits.exec.conformance import check_device
from samebits.exec.devices.cuda import CudaBackend
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.opencl import OpenclBackend, list_opencl_devices
from samebits.exec.devices.passed import has_passed, remember_passed
from samebits.exec.devices.protocol import Backend, Device
from samebits.exec.devices.recomputation import Recomputation
from samebits.exec.errors import DeviceError
from samebits.exec.limits import memory_limit_bytes, uncounted

# A compiler that runs out of memory ends the process or never returns: it is not begun with less.
COMPILER_BYTES: Final = 256_000_000
DEVICES: Final = ("numpy", "opencl", "cuda")


def list_devices() -> list[str]:
    """Return the names of all devices that this machine may have: each OpenCL device by number."""
    try:
        count = len(list_opencl_devices())
    except DeviceError:
        count = 0  # `opencl` itself says why
    return ["numpy", *(["opencl"] if count < 2 else [f"opencl:{n}" for n in range(count)]), "cuda"]


def describe_device(device: Device) -> str:
    """Return what a device is, with its driver."""
    backend = _backend_of(device)
    return f"NumPy {np.__version__} on the CPU" if backend is None else backend.describe()


def check_device_name(name: str) -> None:
    """Raise DeviceError for a name that no device has, on this machine or another."""
    kind, colon, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind not in DEVICES or (colon and (kind == "numpy" or not number.isascii() or not number.isdigit())):
        known = ", ".join(DEVICES)
        raise DeviceError(
            f"unknown device {name!r} (known: {known}; opencl:N and cuda:N take the device of that number)"
        )


def make_device(name: str) -> Device:
    """Make a device by name, unchecked; raises DeviceError if it is unknown, missing or can't keep the contract."""
    check_device_name(name)
    kind, _, number = name.partition(":")
    if kind == "numpy":
        return NumpyDevice()
    from samebits.exec.devices.kernel_device import KernelDevice  # with it come the generators of kernels: 0.2 s

    return KernelDevice(_open_backend(kind, int(number or 0)))


def _open_backend(kind: str, number: int) -> Backend:
    if kind == "cuda":
        return CudaBackend(number)
    devices = list_opencl_devices()
    if number >= len(devices):
        raise DeviceError(
            f"device opencl: there is no number {number}; OpenCL devices here: {len(devices)}, counted from 0"
        )
    return OpenclBackend(devices[number])


def open_device(name: str, *, check: bool = True, recomputation: Recomputation | None = None) -> Device:
    """Open a device by name; raises DeviceError if it is unknown, missing or fails the conformance vectors.

    That a device with its driver passed is remembered for this version of the kernels. `recomputation` chooses launches
    that are computed twice, of what is compiled on the device from then on.
    """
    with uncounted():
        device = make_device(name)
        backend, limit = _backend_of(device), memory_limit_bytes()
        if backend is not None and limit is not None and limit < COMPILER_BYTES:
            least = f"{COMPILER_BYTES // 1_000_000} MB"
            raise DeviceError(f"device {name}: compiling takes up to {least}, give the job at least that or use numpy")
        if check and (backend is None or not has_passed(backend)):
            check_and_remember(device)
    device.recomputation = recomputation
    return device


def check_and_remember(device: Device) -> int:
    """Run every vector on a device and remember that it passed; returns their number, or raises DeviceError."""
    vectors = check_device(device)
    backend = _backend_of(device)
    if backend is not None:
        remember_passed(backend)
    return vectors


def _backend_of(device: Device) -> Backend | None:
    """Return what a device runs its kernels on; None for one that has no kernels."""
    if isinstance(device, NumpyDevice):
        return None
    from samebits.exec.devices.kernel_device import KernelDevice  # not for the device that does without it

    return device.backend if isinstance(device, KernelDevice) else None
