"""A job on a device: load it from a store, then initial state, steps and evaluation. Runner and replay share it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebits.cas import CasError, Digest, Store, get_tensor, get_tree
from samebits.exec.canonical import parse_graph, read_graph
from samebits.exec.devices.protocol import Buffer, Device, Executable
from samebits.exec.errors import JobError
from samebits.exec.graph import CALL, Graph, TypedGraph, check_graph
from samebits.exec.job import BATCH, DATA, METRICS, STATE, JobSpec
from samebits.exec.planner import plan_graph
from samebits.kernels.reference import type_of
from samebits.kernels.types import TensorType
from samebits.kernels.version import check_arithmetic

Array = NDArray[Any]
State = dict[str, Buffer]


class JobMachine:
    """Executes a job's graphs. State and data stay on the device; metrics come back."""

    def __init__(self, job: Digest, store: Store, device: Device) -> None:
        """Load and check everything the job names; raises JobError saying what is missing or does not fit."""
        self.spec = load_spec(job, store)
        check_arithmetic(self.spec.arithmetic)
        self._device = device
        self._store = store
        self._data = load_tensors(store, self.spec.data, "data")
        self._rows = _count_rows(self._data)
        self.spec.stream.check_rows(self._rows)
        step = load_graph(store, self.spec.step)
        state = load_tensors(store, self.spec.state, "initial state")
        _check_step(step, state, self._data, self.spec.stream.batch_size)
        self._initial = state
        self._step = device.compile(plan_graph(step.graph, _library(store, step.graph)))
        self._evaluate: Executable | None = None
        self._held_out: dict[str, Buffer] = {}
        if self.spec.evaluation is not None:
            self._prepare_evaluation(state)

    def initial_state(self) -> State:
        """Return the job's initial state on the device."""
        return {name: self._device.upload(tensor) for name, tensor in self._initial.items()}

    def load_state(self, tree: Digest) -> State:
        """Return a stored state on the device."""
        state = load_tensors(self._store, tree, "state")
        if {name: type_of(tensor) for name, tensor in state.items()} != self.state_types():
            raise JobError(f"state {tree} does not have the tensors of the job's state")
        return {name: self._device.upload(tensor) for name, tensor in state.items()}

    def state_types(self) -> dict[str, TensorType]:
        """Return the types of the state's tensors by name."""
        return {name: type_of(tensor) for name, tensor in self._initial.items()}

    def download(self, state: Mapping[str, Buffer]) -> dict[str, Array]:
        """Return a state as arrays."""
        return {name: self._device.download(buffer) for name, buffer in state.items()}

    def step(self, t: int, state: State) -> tuple[State, dict[str, Array]]:
        """Run step t; returns the new state and the metrics, to which the last step adds those of the evaluation."""
        rows = self.spec.stream.batch(t, self._rows)
        inputs = {STATE + name: buffer for name, buffer in state.items()}
        inputs |= {BATCH + name: self._device.upload(array[rows]) for name, array in self._data.items()}
        outputs = self._step(inputs)
        new = {name.removeprefix(STATE): value for name, value in outputs.items() if name.startswith(STATE)}
        metrics = self._metrics(outputs, "")
        if t == self.spec.steps - 1:
            metrics |= self.evaluate(new)
        return new, metrics

    def evaluate(self, state: State) -> dict[str, Array]:
        """Return the metrics of the job's evaluation, named `evaluation/NAME`; none where the job has no evaluation."""
        if self._evaluate is None:
            return {}
        inputs = {STATE + name: buffer for name, buffer in state.items()} | self._held_out
        return self._metrics(self._evaluate(inputs), "evaluation/")

    def _metrics(self, outputs: Mapping[str, Buffer], prefix: str) -> dict[str, Array]:
        found = {name: value for name, value in outputs.items() if name.startswith(METRICS)}
        return {prefix + name.removeprefix(METRICS): self._device.download(value) for name, value in found.items()}

    def _prepare_evaluation(self, state: Mapping[str, Array]) -> None:
        if self.spec.evaluation is None:
            raise AssertionError("called for a job with an evaluation")
        typed = load_graph(self._store, self.spec.evaluation.graph)
        data = load_tensors(self._store, self.spec.evaluation.data, "evaluation data")
        given = {STATE + name: type_of(tensor) for name, tensor in state.items()}
        given |= {DATA + name: type_of(tensor) for name, tensor in data.items()}
        _check_inputs("evaluation", typed.graph, given)
        _check_metrics("evaluation", typed)
        self._evaluate = self._device.compile(plan_graph(typed.graph, _library(self._store, typed.graph)))
        self._held_out = {DATA + name: self._device.upload(array) for name, array in data.items()}


def load_spec(job: Digest, store: Store) -> JobSpec:
    """Return the job stored under an address; raises JobError."""
    try:
        return JobSpec.from_node(store.get_node(job))
    except CasError as error:
        raise JobError(f"job {job}: {error}") from error


def load_graph(store: Store, address: Digest) -> TypedGraph:
    """Return a stored graph, checked with every graph it calls; raises JobError or GraphError."""
    try:
        node = store.get_node(address)
    except CasError as error:
        raise JobError(f"graph {address}: {error}") from error
    library = _library(store, parse_graph(node))
    return check_graph(read_graph(node, library), library)


def load_tensors(store: Store, tree: Digest, what: str) -> dict[str, Array]:
    """Return the tensors of a stored tree by name; raises JobError naming the tensor that is missing or damaged."""
    name = ""
    try:
        tensors = {}
        for name, address in get_tree(store, tree).items():
            tensors[name] = get_tensor(store, address)
        return tensors
    except CasError as error:
        raise JobError(f"{what}{' ' + name if name else ''}: {error}") from error


def _library(store: Store, graph: Graph) -> dict[Digest, Graph]:
    """Return every graph that `graph` calls, directly or not. Addresses are hashes, so calls can't go in a circle."""
    library: dict[Digest, Graph] = {}
    pending = [graph]
    while pending:
        for node in pending.pop().nodes:
            if node.op == CALL and node.callee is not None and node.callee not in library:
                library[node.callee] = parse_graph(store.get_node(node.callee))
                pending.append(library[node.callee])
    return library


def _count_rows(data: Mapping[str, Array]) -> int:
    rows = {array.shape[0] if array.ndim else 0 for array in data.values()}
    if len(rows) != 1:
        raise JobError(f"the job's data have different numbers of rows: {sorted(rows)}")
    return rows.pop()


def _check_step(typed: TypedGraph, state: Mapping[str, Array], data: Mapping[str, Array], batch_size: int) -> None:
    types = {STATE + name: type_of(tensor) for name, tensor in state.items()}
    given = dict(types)
    for name, array in data.items():
        row = type_of(array)
        given[BATCH + name] = TensorType(row.dtype, (batch_size, *row.shape[1:]))
    _check_inputs("step", typed.graph, given)
    produced = {name: tensor for name, tensor in typed.outputs.items() if name.startswith(STATE)}
    if produced != types:
        raise JobError("the step graph does not give back the state tensors that it takes")
    _check_metrics("step", typed)


def _check_inputs(what: str, graph: Graph, given: Mapping[str, TensorType]) -> None:
    for name, wanted in graph.inputs:
        if name not in given:
            raise JobError(f"the {what} graph has the input {name!r}, which the job does not give")
        if given[name] != wanted:
            raise JobError(f"the {what} graph wants {name} as {wanted}, the job has {given[name]}")


def _check_metrics(what: str, typed: TypedGraph) -> None:
    for name, tensor in typed.outputs.items():
        if not name.startswith((STATE, METRICS)):
            raise JobError(f"the {what} graph has the output {name!r}; want {STATE}NAME or {METRICS}NAME")
        if name.startswith(METRICS) and tensor.shape != ():
            raise JobError(f"{name} of the {what} graph is {tensor}, not a scalar")


def as_scalars(metrics: Mapping[str, Array]) -> dict[str, float]:
    """Return metrics (0-d arrays) as Python numbers."""
    return {name: float(np.asarray(value)) for name, value in metrics.items()}
