"""Devices with kernels for tests: PoCL in both layouts, or a reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from samebits.exec.devices.kernel_device import KernelDevice
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.opencl import OpenclBackend, list_opencl_devices
from samebits.exec.devices.protocol import Device
from samebits.exec.errors import DeviceError
from samebits.exec.graph import Graph
from samebits.exec.planner import plan_graph
from samebits.kernels.codegen.program import Layout

LAYOUTS: tuple[Layout, ...] = ("cpu", "gpu")


class PoisonedBackend(OpenclBackend):
    """New buffers are full of ones, a NaN in every float type: kernels that rely on zeros are found out."""

    def allocate(self, size_bytes: int) -> Any:
        """Return a new buffer, poisoned."""
        buffer = super().allocate(size_bytes)
        self.upload(buffer, np.full(size_bytes, 0xFF, np.uint8))
        return buffer


@cache
def open_opencl(layout: Layout) -> KernelDevice:
    """Return the first OpenCL device with work divided as on a cpu or a gpu; skips the test if there is none."""
    try:
        return KernelDevice(PoisonedBackend(list_opencl_devices()[0], layout=layout))
    except DeviceError as error:
        pytest.skip(str(error))


def run_on(device: Device, graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of a graph as arrays."""
    execute = device.compile(plan_graph(graph))
    outputs = execute({name: device.upload(array) for name, array in inputs.items()})
    return {name: device.download(value) for name, value in outputs.items()}


def check_same(graph: Graph, inputs: Mapping[str, Any], layout: Layout) -> None:
    """Assert that an OpenCL device gives every bit that the numpy device gives."""
    check_same_on(open_opencl(layout), graph, inputs)


def check_same_on(device: Device, graph: Graph, inputs: Mapping[str, Any]) -> None:
    """Assert that a device gives every bit that the numpy device gives."""
    expected = run_on(NumpyDevice(), graph, inputs)
    actual = run_on(device, graph, inputs)
    for name, right in expected.items():
        found = actual[name]
        assert (found.dtype, found.shape) == (right.dtype, right.shape), name
        unsigned = np.dtype(f"u{right.dtype.itemsize}")
        bits, wanted = (np.ascontiguousarray(x).reshape(-1).view(unsigned) for x in (found, right))
        wrong = np.flatnonzero(bits != wanted)
        assert not wrong.size, (
            f"{name}[{wrong[0]}] is {bits[wrong[0]]:#x}, want {wanted[wrong[0]]:#x} ({wrong.size} wrong)"
        )
