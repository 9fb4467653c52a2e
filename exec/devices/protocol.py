"""The device protocols: what runs plans, and what a machine with kernels must offer to do so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from samebits.exec.devices.kernel_source import KernelSource
from samebits.exec.devices.recomputation import Recomputation
from samebits.exec.planner import Plan
from samebits.kernels.codegen.program import Layout

Array = NDArray[Any]
Buffer = Any  # what a device holds a tensor in; only that device looks inside


class Executable(Protocol):
    """A compiled plan."""

    @property
    def kernels(self) -> Sequence[KernelSource]:
        """Return the kernel sources that it runs."""

    def __call__(self, inputs: Mapping[str, Buffer]) -> dict[str, Buffer]:
        """Map inputs by name to outputs by name; raises RunError."""


class Device(Protocol):
    """What runs plans. Buffers are immutable once they are written."""

    name: str
    recomputation: Recomputation | None  # chooses launches to compute twice, of plans compiled from now on; None: none

    def upload(self, array: Array) -> Buffer:
        """Copy an array to the device."""

    def download(self, buffer: Buffer) -> Array:
        """Copy a tensor back."""

    def compile(self, plan: Plan) -> Executable:
        """Prepare a plan."""


class Backend(Protocol):
    """A machine that runs kernels, in the order in which they are launched. Raises DeviceError."""

    name: str
    language: str  # "opencl" | "cuda"
    layout: Layout
    int8_engine: str | None  # the library whose int8 products work on buffers in place, where the host shares them
    tensor_cores: bool  # it has CUDA's int8 matrix units
    options: tuple[str, ...]  # of the compiler

    def describe(self) -> str:
        """Return the device and its driver, in one line."""

    def free_bytes(self) -> int:
        """Return how much memory buffers may take, roughly."""

    def allocate(self, size_bytes: int) -> Any:
        """Return a new buffer."""

    def upload(self, buffer: Any, data: Array) -> None:
        """Copy a contiguous array to the front of a buffer."""

    def download(self, buffer: Any, data: Array) -> None:
        """Copy the front of a buffer to a contiguous array, when all work before is done."""

    def compile(self, source: str, names: Sequence[str]) -> Sequence[Any]:
        """Return a kernel object for each name; the same name twice gives two objects."""

    def launch(self, kernel: Any, buffers: Sequence[Any], items: int, group: int) -> None:
        """Run a kernel on buffers with so many work-items; items is a multiple of group."""

    def synchronize(self) -> None:
        """Wait until all work is done."""

    def on_host(self, buffers: Sequence[Any], sizes: Sequence[int]) -> Any:
        """Return a context manager that gives buffers as flat uint8 arrays, in place, when all work before is done."""
