"""Programs: what a device runs for one graph. Kernels, calls of them in order, and the buffers they work on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
class NodeOp:
    """An operation of the graph and where it stands: "12", or "3/7" for node 7 of the graph that node 3 calls."""

    node: str
    op: str

    def __str__(self) -> str:
        return f"node {self.node} ({self.op})"


@dataclass(frozen=True, slots=True)
class KernelCall:
    """Run a kernel on buffers, in the order of its parameters, with `items` work-items in groups of `group`."""

    kernel: str
    buffers: tuple[int, ...]
    items: int
    group: int = 1  # gpu layout: items is rounded up to whole groups, kernels check their range
    operations: tuple[NodeOp, ...] = ()  # that it computes, or a part of
    writes: tuple[int, ...] = ()  # which of `buffers` it may write, by position
    unordered: tuple[int, ...] = ()  # which of those it fills with u32 words in an order that varies from run to run


@dataclass(frozen=True, slots=True)
class HostCall:
    """Work that the host does between kernels, on buffers that it shares with the device (cpu devices only)."""

    name: str  # a key of kernels.codegen.host.HOST_STEPS
    buffers: tuple[int, ...]
    parameters: tuple[Any, ...]
    operations: tuple[NodeOp, ...] = ()
    writes: tuple[int, ...] = ()
    unordered: tuple[int, ...] = ()


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
    operations: tuple[NodeOp, ...] = ()  # that are being lowered
    unordered: set[int] = field(default_factory=set)  # buffers of u32 words whose order no later step depends on
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
            writes = _written(text, len(buffers))
            unordered = tuple(position for position in writes if buffers[position] in self.unordered)
            items = -(-items // size) * size
            self.steps.append(KernelCall(kernel.name, tuple(buffers), items, size, self.operations, writes, unordered))

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

    def host(self, name: str, buffers: Sequence[int], parameters: Sequence[Any], writes: Iterable[int]) -> None:
        """Append a step of the host. writes: the positions of the buffers that it writes."""
        self.steps.append(HostCall(name, tuple(buffers), tuple(parameters), self.operations, tuple(writes)))


def _written(text: str, buffers: int) -> tuple[int, ...]:
    """Return which parameters of a kernel's text are not declared const, by position: the compiler holds it to that."""
    declared = re.search(r"KERNEL void NAME\(([^)]*)\)", text)
    parameters = declared[1].split(",") if declared else []
    if len(parameters) != buffers:
        raise AssertionError("a kernel has a parameter for each of its buffers")
    return tuple(i for i, parameter in enumerate(parameters) if not re.search(r"\bconst\b", parameter))
