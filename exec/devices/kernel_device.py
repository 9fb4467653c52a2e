"""A device that runs kernels, on any backend: plans become programs, buffers stay where they are between runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from samebits.cas.dtype import numpy_dtype
from samebits.exec.devices.kernel_source import KernelSource
from samebits.exec.devices.protocol import Array, Backend, Executable
from samebits.exec.devices.recomputation import Recomputation
from samebits.exec.devices.twice import compute_twice
from samebits.exec.errors import DeviceError, RunError
from samebits.exec.planner import Plan, size_text
from samebits.kernels.codegen.host import HOST_STEPS
from samebits.kernels.codegen.lowering import ERROR_BYTES, Lowered, lower
from samebits.kernels.codegen.program import HostCall, Layout, Step
from samebits.kernels.codegen.schedule import Operation
from samebits.kernels.errors import KernelError
from samebits.kernels.reference import type_of
from samebits.kernels.types import TensorType

_KEPT_BYTES: Final = 256 << 20
_ALIGNMENT: Final = 256  # sizes of buffers are multiples of it, so that freed ones fit again


class Pool:
    """Buffers of a backend. One that nobody holds any more is used again: work on it runs in order.

    It keeps no more free bytes than are in use, or 256 MiB.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._free: dict[int, list[Any]] = {}
        self._free_bytes = self._used_bytes = 0

    def take(self, size_bytes: int) -> Block:
        """Return a buffer of at least this size."""
        rounded = -(-max(size_bytes, 1) // _ALIGNMENT) * _ALIGNMENT
        free = self._free.get(rounded)
        if free:
            self._free_bytes -= rounded
            buffer = free.pop()
        else:
            buffer = self._allocate(rounded)
        self._used_bytes += rounded
        return Block(buffer, rounded, self)

    def give_back(self, buffer: Any, size_bytes: int) -> None:
        """Keep a buffer for the next that needs its size, unless enough is kept."""
        self._used_bytes -= size_bytes
        if self._free_bytes + size_bytes <= max(self._used_bytes, _KEPT_BYTES):
            self._free.setdefault(size_bytes, []).append(buffer)
            self._free_bytes += size_bytes

    def _allocate(self, size_bytes: int) -> Any:
        try:
            return self._backend.allocate(size_bytes)
        except DeviceError:
            self._free.clear()  # gives the memory back
            self._free_bytes = 0
            return self._backend.allocate(size_bytes)


class Block:
    """One buffer, given back to its pool when it is no longer referred to."""

    __slots__ = ("_pool", "_size_bytes", "buffer")

    def __init__(self, buffer: Any, size_bytes: int, pool: Pool) -> None:
        self.buffer = buffer
        self._size_bytes = size_bytes
        self._pool = pool

    def __del__(self) -> None:
        self._pool.give_back(self.buffer, self._size_bytes)


@dataclass(frozen=True, slots=True)
class DeviceTensor:
    """A tensor in a buffer."""

    type: TensorType
    block: Block


class KernelDevice:
    """Runs plans as kernels. Threads may share it: one of them works at a time."""

    def __init__(self, backend: Backend) -> None:
        self._lock = threading.RLock()
        self.name = backend.name
        self.backend = backend
        self.recomputation: Recomputation | None = None
        self._pool = Pool(backend)

    def upload(self, array: Array) -> DeviceTensor:
        """Copy an array to a buffer."""
        with self._lock:
            tensor = DeviceTensor(type_of(array), self._pool.take(array.nbytes))
            if array.nbytes:
                self.backend.upload(tensor.block.buffer, np.ascontiguousarray(array))
            return tensor

    def download(self, buffer: DeviceTensor) -> Array:
        """Copy a tensor back."""
        array = np.empty(buffer.type.shape, numpy_dtype(buffer.type.dtype))
        if array.nbytes:
            with self._lock:
                self.backend.download(buffer.block.buffer, array)
        return array

    def compile(self, plan: Plan) -> Executable:
        """Lower a plan to a program and compile it; raises RunError or DeviceError."""
        backend = self.backend
        try:
            lowered = lower_plan(plan, backend.layout, backend.int8_engine, tensor_cores=backend.tensor_cores)
        except KernelError as error:
            raise RunError(f"device {self.name}: {error}") from error
        self._check_memory(plan, lowered)
        return _KernelExecutable(self, self._pool, self._lock, plan, lowered)

    def _check_memory(self, plan: Plan, lowered: Lowered) -> None:
        needed, free = sum(lowered.program.sizes[len(plan.inputs) :]), self.backend.free_bytes()
        if needed > free:
            raise RunError(
                f"a graph needs buffers of {size_text(needed)}, device {self.name} has {size_text(free)} free"
            )


def lower_plan(plan: Plan, layout: Layout, int8_engine: str | None = None, *, tensor_cores: bool = False) -> Lowered:
    """Return the program of a plan; raises KernelError."""
    operations = [Operation(x.op, x.operands, x.results[0], x.attributes, x.node) for x in plan.launches]
    outputs = [value for _, value in plan.outputs]
    inputs = len(plan.inputs)
    return lower(
        plan.types, inputs, operations, outputs, layout=layout, int8_engine=int8_engine, tensor_cores=tensor_cores
    )


class _KernelExecutable:
    """A compiled program: its temporaries are allocated once, its outputs for each run."""

    def __init__(self, device: KernelDevice, pool: Pool, lock: threading.RLock, plan: Plan, lowered: Lowered) -> None:
        program, backend = lowered.program, device.backend
        self._lock = lock
        self._name, self._recomputation = device.name, device.recomputation
        self._backend, self._pool, self._plan, self._lowered = backend, pool, plan, lowered
        self._steps = program.steps
        names = [step.kernel for step in self._steps if not isinstance(step, HostCall)]
        source = KernelSource(backend.language, backend.options, program.source)
        self.kernels: Sequence[KernelSource] = (source,) if names else ()
        objects = iter(backend.compile(source.text, names) if names else ())
        self._objects = [None if isinstance(step, HostCall) else next(objects) for step in self._steps]
        per_run = {*range(len(plan.inputs)), *lowered.outputs}
        self._fixed = {
            number: pool.take(size) for number, size in enumerate(program.sizes) if size and number not in per_run
        }
        for number, data in program.contents.items():
            backend.upload(self._fixed[number].buffer, np.frombuffer(data, np.uint8))

    def __call__(self, inputs: Mapping[str, DeviceTensor]) -> dict[str, DeviceTensor]:
        with self._lock:
            return self._run(inputs)

    def _run(self, inputs: Mapping[str, DeviceTensor]) -> dict[str, DeviceTensor]:
        buffers: dict[int, Any] = {number: block.buffer for number, block in self._fixed.items()}
        for number, (name, wanted) in enumerate(self._plan.inputs):
            if inputs[name].type != wanted:
                raise RunError(f"input {name} is {inputs[name].type}, want {wanted}")
            buffers[number] = inputs[name].block.buffer
        sizes = self._lowered.program.sizes
        made = {number: self._pool.take(sizes[number]) for number in self._lowered.outputs}
        buffers |= {number: block.buffer for number, block in made.items()}
        errors = self._lowered.errors
        if errors is not None:
            self._backend.upload(buffers[errors], np.zeros(ERROR_BYTES, np.uint8))
        for step, kernel in zip(self._steps, self._objects, strict=True):
            if self._recomputation is not None and self._recomputation.chooses():
                launch = partial(self._launch, step, kernel, buffers)
                compute_twice(self._name, step, launch, self._backend, buffers, sizes, errors)
            else:
                self._launch(step, kernel, buffers)
        if errors is not None:
            self._check(buffers[errors])
        types = self._plan.types
        outputs = zip(self._plan.outputs, self._lowered.outputs, strict=True)
        return {name: DeviceTensor(types[value], made[number]) for (name, value), number in outputs}

    def _launch(self, step: Step, kernel: Any, buffers: Mapping[int, Any]) -> None:
        given = [buffers[number] for number in step.buffers]
        if isinstance(step, HostCall):
            sizes = self._lowered.program.sizes
            with self._backend.on_host(given, [sizes[number] for number in step.buffers]) as arrays:
                self._on_host(step, arrays)
        else:
            self._backend.launch(kernel, given, step.items, step.group)

    def _on_host(self, step: HostCall, arrays: Sequence[Array]) -> None:
        try:
            HOST_STEPS[step.name](arrays, step.parameters)
        except KernelError as error:
            raise RunError(f"node {step.operations[0].node}: {error}") from error

    def _check(self, buffer: Any) -> None:
        words = np.empty(ERROR_BYTES // 4, np.uint32)
        self._backend.download(buffer, words)
        if words[0]:
            failure = self._lowered.failures[int(words[0]) - 1]
            index = int(words[1:3].view(np.int64)[0])
            raise RunError(f"node {failure.node}: {failure.message(index)}")
