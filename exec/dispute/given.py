"""What the inputs of a step have to be: batch, key and rates, as the job says; recomputed from what evidence brings."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.cas import Digest
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.dispute.objects import Objects
from samebits.exec.errors import JobError, RunError
from samebits.exec.job import BATCH, DATA, KEY, RATE, STEP, JobSpec
from samebits.exec.keys import INITIAL, step_key
from samebits.exec.machine import load_graph, load_library, load_tree
from samebits.exec.planner import check_memory, free_memory_bytes, plan_graph
from samebits.exec.stream import ORDER_SIZE_BYTES, count_rows
from samebits.exec.trace import EVALUATION, INPUT

Array = NDArray[Any]
_HELD_OUT: Final = EVALUATION + INPUT + DATA


class GivenInputs:
    """The inputs of steps that no step computes, by place in the trace. Every method raises CasError or ExecError."""

    def __init__(self, objects: Objects, spec: JobSpec) -> None:
        self._objects = objects
        self._spec = spec

    def value(self, place: str, step: int) -> Array:
        """Return an input of a step."""
        if place.startswith(_HELD_OUT):
            return self._objects.tensor(self.held_out(place))
        name = place.removeprefix(INPUT)
        if name.startswith(BATCH):
            return self._objects.tensor_rows(self._data(name.removeprefix(BATCH)), self.batch_rows(step))
        if name == KEY:
            return step_key(self._spec.seed, step)
        if name.startswith(RATE):
            return self._rates(step)[name]
        raise JobError(f"the step graph takes {name!r}, which the job does not give")

    def initial_key(self) -> Array:
        """Return the key of the initial state."""
        return step_key(self._spec.seed, INITIAL)

    def is_held_out(self, place: str) -> bool:
        """Say whether a place is that of a tensor of the evaluation's data."""
        return place.startswith(_HELD_OUT)

    def held_out(self, place: str) -> Digest:
        """Return the address of a tensor of the evaluation's data."""
        if self._spec.evaluation is None:
            raise JobError("the job has no evaluation")
        return _named(load_tree(self._objects, self._spec.evaluation.data, "evaluation data"), place[len(_HELD_OUT) :])

    def batch_tensors(self) -> list[Digest]:
        """Return the addresses of the data."""
        return list(self._tree().values())

    def _data(self, name: str) -> Digest:
        return _named(self._tree(), name)

    def _tree(self) -> dict[str, Digest]:
        return load_tree(self._objects, self._spec.data, "data")

    def batch_rows(self, step: int) -> NDArray[np.int64]:
        """Return the numbers of the rows of a batch."""
        rows = count_rows({name: self._objects.info(address).shape for name, address in self._tree().items()})
        self._spec.stream.check_rows(rows)
        needed = rows * ORDER_SIZE_BYTES
        if needed > free_memory_bytes():
            raise RunError(f"the order of {rows} rows needs {needed} bytes, more than are free")
        return self._spec.stream.batch(step, rows)

    def _rates(self, step: int) -> dict[str, Array]:
        if self._spec.schedule is None:
            raise JobError("the job has no schedule")
        typed = load_graph(self._objects, self._spec.schedule, "schedule")
        plan = plan_graph(typed.graph, load_library(self._objects, typed.graph))
        check_memory("schedule", plan, 0, free_memory_bytes())
        return dict(NumpyDevice().compile(plan)({STEP: np.asarray(step, np.int64)}))


def _named(tree: dict[str, Digest], name: str) -> Digest:
    if name not in tree:
        raise JobError(f"the job's data have no {name!r}")
    return tree[name]
