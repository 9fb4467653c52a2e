"""Run programs of kernels on the first OpenCL device, for tests of the code generators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import dtype_name, numpy_dtype
from samebits.kernels.codegen.host import HOST_STEPS
from samebits.kernels.codegen.library import program_text
from samebits.kernels.codegen.program import HostCall, Layout, ProgramBuilder
from samebits.kernels.codegen.view import View, stored
from samebits.kernels.types import TensorType
from tests.exec.kernel_devices import open_opencl

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
# lowers an operation onto views of its operands (buffers 0, 1, ...) and of its result
Lowering = Callable[[ProgramBuilder, Sequence[View], View], None]


class Runner:
    """A built program with its buffers, which are poisoned at first; `run` executes its steps once."""

    def __init__(self, builder: ProgramBuilder) -> None:
        self._backend = open_opencl(builder.layout).backend
        self._sizes = list(builder.sizes)
        self._buffers = [self._backend.allocate(size) for size in self._sizes]
        self._steps = list(builder.steps)
        names = [kernel.name for kernel in builder.kernels]
        objects = self._backend.compile(program_text(builder.kernels), names) if names else []
        self._kernels = dict(zip(names, objects, strict=True))
        for number, data in builder.contents.items():
            self.write(number, np.frombuffer(data, np.uint8))

    def write(self, buffer: int, data: Array) -> None:
        """Copy an array's bytes into a buffer, from its start on."""
        if data.size:
            self._backend.upload(self._buffers[buffer], np.ascontiguousarray(data))

    def read(self, buffer: int) -> Bytes:
        """Return the bytes of a buffer."""
        data = np.empty(self._sizes[buffer], np.uint8)
        self._backend.download(self._buffers[buffer], data)
        return data

    def run(self) -> None:
        """Execute all steps and wait for the last."""
        for step in self._steps:
            buffers = [self._buffers[number] for number in step.buffers]
            if isinstance(step, HostCall):
                with self._backend.on_host(buffers, [self._sizes[number] for number in step.buffers]) as arrays:
                    HOST_STEPS[step.name](arrays, step.parameters)
            else:
                self._backend.launch(self._kernels[step.kernel], buffers, step.items, step.group)
        self._backend.synchronize()


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
    return data[: tensor.size_bytes].view(numpy_dtype(tensor.dtype)).reshape(tensor.shape)
