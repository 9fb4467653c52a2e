"""The device protocol: what a machine must offer to run plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from samebits.cas import Digest
from samebits.exec.planner import Plan

Array = NDArray[Any]
Buffer = Any  # what a device holds a tensor in; only that device looks inside
Executable = Callable[[Mapping[str, Buffer]], dict[str, Buffer]]


class Device(Protocol):
    """What runs plans. Buffers are immutable once they are written."""

    name: str

    def upload(self, array: Array) -> Buffer:
        """Copy an array to the device."""

    def download(self, buffer: Buffer) -> Array:
        """Copy a tensor back."""

    def compile(self, plan: Plan) -> Executable:
        """Prepare a plan; the result maps inputs by name to outputs by name."""

    def kernels(self) -> Sequence[Digest]:
        """Return the addresses of the kernel sources compiled so far."""
