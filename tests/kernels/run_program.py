"""Run programs of kernels on the first OpenCL device, for tests of the code generators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from samebits.cas.dtype import dtype_name
from samebits.kernels.codegen.library import program_text
from samebits.kernels.codegen.program import HostCall, Layout, ProgramBuilder
from samebits.kernels.codegen.view import View, stored
from samebits.kernels.types import TensorType

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
# lowers an operation onto views of its operands (buffers 0, 1, ...) and of its result
Lowering = Callable[[ProgramBuilder, Sequence[View], View], None]


@cache
def open_queue() -> Any:
    """Return a command queue of the first OpenCL device; skips the test if there is none."""
    cl = pytest.importorskip("pyopencl")
    try:
        devices = [device for platform in cl.get_platforms() for device in platform.get_devices()]
    except cl.Error as error:
        pytest.skip(f"no OpenCL: {error}")
    if not devices:
        pytest.skip("no OpenCL device")
    return cl.CommandQueue(cl.Context(devices[:1]))


class Runner:
    """A built program with its buffers; `run` executes its steps once."""

    def __init__(self, builder: ProgramBuilder) -> None:
        import pyopencl as cl

        self._cl, self._queue = cl, open_queue()
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.ALLOC_HOST_PTR
        self._sizes = list(builder.sizes)
        self._buffers = [cl.Buffer(self._queue.context, flags, size) for size in self._sizes]
        for number, size in enumerate(self._sizes):  # nothing may rely on zeros
            self.write(number, np.full(size, 0xFF, np.uint8))
        self._steps = list(builder.steps)
        kernels = builder.kernels
        program: Any = cl.Program(self._queue.context, program_text(kernels)).build() if kernels else None
        self._kernels = {kernel.name: cl.Kernel(program, kernel.name) for kernel in kernels}
        for number, data in builder.contents.items():
            self.write(number, np.frombuffer(data, np.uint8))

    def write(self, buffer: int, data: Array) -> None:
        """Copy an array's bytes into a buffer, from its start on."""
        flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        if flat.size:
            self._cl.enqueue_copy(self._queue, self._buffers[buffer], flat)

    def read(self, buffer: int) -> Bytes:
        """Return the bytes of a buffer."""
        data = np.empty(self._sizes[buffer], np.uint8)
        self._cl.enqueue_copy(self._queue, data, self._buffers[buffer])
        return data

    def run(self) -> None:
        """Execute all steps and wait for the last."""
        for step in self._steps:
            buffers = [self._buffers[number] for number in step.buffers]
            if isinstance(step, HostCall):
                self._host(step, buffers)
            else:
                self._kernels[step.kernel](self._queue, (step.items,), (step.group,), *buffers)
        self._queue.finish()

    def _host(self, step: HostCall, buffers: Sequence[Any]) -> None:
        from samebits.kernels.codegen.host import HOST_STEPS

        self._queue.finish()
        flags = self._cl.map_flags.READ | self._cl.map_flags.WRITE
        enqueue_map: Any = self._cl.enqueue_map_buffer
        mapped = [enqueue_map(self._queue, buffer, flags, 0, (buffer.size,), np.uint8)[0] for buffer in buffers]
        HOST_STEPS[step.name](mapped, step.parameters)
        for each in mapped:
            each.base.release(self._queue)
        self._queue.finish()


@dataclass(frozen=True, slots=True)
class Case:
    """One operation to run: how to lower it, its operands as they are stored, its result's type."""

    lowering: Lowering
    operands: Sequence[Array]
    result: TensorType
    changed: Callable[[Sequence[View]], Sequence[View]] | None = None  # what to make of the stored operands' views


def run_cases(cases: Sequence[Case], layout: Layout = "cpu", *, int8_engine: str | None = None) -> list[Array]:
    """Lower operations into one program (a build costs more than they do), run it, return their results."""
    builder = ProgramBuilder(layout, int8_engine)
    inputs: list[tuple[int, Array]] = []
    outs: list[int] = []
    for case in cases:
        numbers = [builder.buffer(x.nbytes) for x in case.operands]
        inputs += zip(numbers, case.operands, strict=True)
        types = [TensorType(dtype_name(x.dtype), tuple(x.shape)) for x in case.operands]
        views: Sequence[View] = [stored(number, each) for number, each in zip(numbers, types, strict=True)]
        outs.append(builder.buffer(case.result.size_bytes))
        out = stored(outs[-1], case.result)
        case.lowering(builder, case.changed(views) if case.changed else views, out)
    runner = Runner(builder)
    for number, x in inputs:
        runner.write(number, x)
    for number, case in zip(outs, cases, strict=True):
        runner.write(number, np.full(case.result.size_bytes, 0xA5, np.uint8))
    runner.run()
    return [as_array(runner.read(number), case.result) for number, case in zip(outs, cases, strict=True)]


def run_lowering(
    lowering: Lowering,
    operands: Sequence[Array],
    result: TensorType,
    *,
    layout: Layout = "cpu",
    int8_engine: str | None = None,
    changed: Callable[[Sequence[View]], Sequence[View]] | None = None,
) -> Array:
    """Lower one operation, run it and return its result."""
    return run_cases([Case(lowering, operands, result, changed)], layout, int8_engine=int8_engine)[0]


def as_array(data: Bytes, tensor: TensorType) -> Array:
    """Return the tensor that a buffer holds."""
    from samebits.cas.dtype import numpy_dtype

    return data[: tensor.size_bytes].view(numpy_dtype(tensor.dtype)).reshape(tensor.shape)
