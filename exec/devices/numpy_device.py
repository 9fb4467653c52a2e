"""The `numpy` device: the reference implementation, always there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from samebits.exec.devices.kernel_source import KernelSource
from samebits.exec.devices.protocol import Array, Executable
from samebits.exec.devices.recomputation import Recomputation
from samebits.exec.devices.twice import check_same
from samebits.exec.errors import RunError, one_line
from samebits.exec.planner import Launch, Plan
from samebits.kernels.codegen.program import NodeOp
from samebits.kernels.errors import KernelError
from samebits.kernels.reference import evaluate


def _launch(launch: Launch, operands: list[Array | None]) -> Array:
    try:
        return np.asarray(evaluate(launch.op, operands, launch.attributes))  # type: ignore[arg-type]
    except KernelError as error:
        raise RunError(f"node {launch.node}: {error}") from error
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        reason = one_line(error) or "out of memory"
        raise RunError(f"node {launch.node}: {launch.op}: {reason}") from error


class NumpyDevice:
    """The reference: every launch is one call of `samebits.kernels.reference`."""

    name = "numpy"
    recomputation: Recomputation | None = None

    def upload(self, array: Array) -> Array:
        """Return the array itself; nothing here writes into it."""
        return array

    def download(self, buffer: Array) -> Array:
        """Return the array itself."""
        return buffer

    def compile(self, plan: Plan) -> Executable:
        """Return the plan itself, to be evaluated launch by launch."""
        return _NumpyExecutable(plan, self.name, self.recomputation)


class _NumpyExecutable:
    """Evaluates launches in order and frees each value after its last use. NumPy runs no kernel source."""

    kernels: Sequence[KernelSource] = ()

    def __init__(self, plan: Plan, name: str, recomputation: Recomputation | None) -> None:
        self._plan = plan
        self._name, self._recomputation = name, recomputation

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        plan = self._plan
        values: list[Array | None] = [None] * len(plan.types)
        for position, (name, _) in enumerate(plan.inputs):
            values[position] = inputs[name]
        for launch in plan.launches:
            operands = [values[operand] for operand in launch.operands]
            result = _launch(launch, operands)
            if self._recomputation is not None and self._recomputation.chooses():
                where = str(NodeOp(launch.node, launch.op))
                check_same(self._name, launch.op, where, result, _launch(launch, operands))
            values[launch.results[0]] = result
            for value in launch.release:
                values[value] = None
        return {name: values[value] for name, value in plan.outputs}  # type: ignore[misc]
