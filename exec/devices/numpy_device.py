"""The `numpy` device: the reference implementation, always there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from samebits.cas import Digest
from samebits.exec.devices.protocol import Array, Executable
from samebits.exec.errors import RunError
from samebits.exec.planner import Launch, Plan
from samebits.kernels.errors import KernelError
from samebits.kernels.reference import evaluate


def _launch(launch: Launch, operands: list[Array | None]) -> Array:
    try:
        return np.asarray(evaluate(launch.op, operands, launch.attributes))  # type: ignore[arg-type]
    except KernelError as error:
        raise RunError(f"node {launch.node}: {error}") from error
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split()) or "out of memory"
        raise RunError(f"node {launch.node}: {launch.op}: {reason}") from error


class NumpyDevice:
    """The reference: every launch is one call of `samebits.kernels.reference`."""

    name = "numpy"

    def upload(self, array: Array) -> Array:
        """Return the array itself; nothing here writes into it."""
        return array

    def download(self, buffer: Array) -> Array:
        """Return the array itself."""
        return buffer

    def compile(self, plan: Plan) -> Executable:
        """Return a function that evaluates the launches in order and frees each value after its last use."""

        def execute(inputs: Mapping[str, Array]) -> dict[str, Array]:
            values: list[Array | None] = [None] * plan.values
            for position, (name, _) in enumerate(plan.inputs):
                values[position] = inputs[name]
            for launch in plan.launches:
                values[launch.results[0]] = _launch(launch, [values[operand] for operand in launch.operands])
                for value in launch.release:
                    values[value] = None
            return {name: values[value] for name, value in plan.outputs}  # type: ignore[misc]

        return execute

    def kernels(self) -> Sequence[Digest]:
        """Return nothing: NumPy runs no kernel source."""
        return ()
