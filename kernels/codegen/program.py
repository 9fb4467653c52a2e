"""Programs: what a device runs for one graph. Kernels, calls of them in order, and the buffers they work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

# How work is divided. cpu: a work-item runs a loop over some thousand elements, in vector instructions; gpu: a
# work-item takes one element, neighbours take neighbours. Neither changes a bit.
Layout = Literal["cpu", "gpu"]

Parameters: TypeAlias = Sequence[tuple[int, str]]  # buffers, each with the text of the parameter that it is

GROUP_SIZE: Final = 128  # work-items of a group on a gpu
CHUNK: Final = 8192  # elements of a work-item on a cpu


@dataclass(frozen=True, slots=True)
class Kernel:
    """One entry point: its text, and the library files of `kernels/source` that it needs besides prelude.h."""

    name: str
    text: str
    library: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelCall:
    """Run a kernel on buffers, in the order of its parameters, with `items` work-items in groups of `group`."""

    kernel: str
    buffers: tuple[int, ...]
    items: int
    group: int = 1  # gpu layout: items is rounded up to whole groups, kernels check their range
    node: str = ""  # where the operation stands in the graph


@dataclass(frozen=True, slots=True)
class HostCall:
    """Work that the host does between kernels, on buffers that it shares with the device (cpu devices only)."""

    name: str  # a key of kernels.codegen.host.HOST_STEPS
    buffers: tuple[int, ...]
    parameters: tuple[Any, ...]
    node: str = ""


Step: TypeAlias = "KernelCall | HostCall"


@dataclass(frozen=True, slots=True)
class Program:
    """Kernels and steps. Buffers are numbered: inputs first; `sizes` holds their bytes, `contents` those preset."""

    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    sizes: tuple[int, ...]
    contents: dict[int, bytes]
    source: str = ""


@dataclass(slots=True)
class ProgramBuilder:
    """Collects kernels and steps; equal kernel texts are one kernel."""

    layout: Layout
    int8_engine: str | None = None  # the library of the host that may multiply digits in the buffers
    tensor_cores: bool = False  # CUDA's int8 matrix units, sm_80 and later
    steps: list[Step] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)
    node: str = ""  # of the operation that is being lowered
    _kernels: dict[tuple[str, tuple[str, ...]], Kernel] = field(default_factory=dict)  # by text and library

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Return the kernels so far."""
        return tuple(self._kernels.values())

    def buffer(self, size_bytes: int) -> int:
        """Return the number of a new buffer."""
        self.sizes.append(max(size_bytes, 1))
        return len(self.sizes) - 1

    def preset(self, data: bytes) -> int:
        """Return the number of a new buffer that holds these bytes from the start and is never written."""
        number = self.buffer(len(data))
        self.contents[number] = data
        return number

    def call(
        self, label: str, text: str, buffers: Sequence[int], items: int, *, library: Sequence[str] = (), group: int = 0
    ) -> None:
        """Append a call of the kernel with this text, in which NAME stands for its name.

        label: a C identifier that says what it does. `group`: work-items of a group; 0: the layout's own.
        """
        key = (text, tuple(library))
        kernel = self._kernels.get(key)
        if kernel is None:
            name = f"{label}_{len(self._kernels)}"
            kernel = self._kernels[key] = Kernel(name, text.replace("NAME", name), tuple(library))
        size = group or (1 if self.layout == "cpu" else GROUP_SIZE)
        if items:
            self.steps.append(KernelCall(kernel.name, tuple(buffers), -(-items // size) * size, size, self.node))

    def call_body(
        self,
        label: str,
        parameters: Parameters,
        body: str,
        items: int,
        *,
        library: Sequence[str] = (),
        before: str = "",
    ) -> None:
        """Append a call of the kernel with these parameters and statements. `before`: functions that it uses."""
        declared = ", ".join(text for _, text in parameters)
        text = f"{before}KERNEL void NAME({declared}) {{\n{body}}}\n"
        self.call(label, text, [buffer for buffer, _ in parameters], items, library=library)

    def host(self, name: str, buffers: Sequence[int], parameters: Sequence[Any]) -> None:
        """Append a step of the host."""
        self.steps.append(HostCall(name, tuple(buffers), tuple(parameters), self.node))
