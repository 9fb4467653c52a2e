"""A job on a device: load it from a store, then initial state, steps and evaluation. Runner and replay share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from samebits.cas import CasError, Digest, Node, Store, get_tensor, read_tree, tensor_info
from samebits.exec.canonical import GRAPH_KIND, parse_graph, read_graph
from samebits.exec.devices.kernel_source import KernelSource
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.protocol import Buffer, Device, Executable
from samebits.exec.errors import DeviceError, GraphError, JobError, RunError
from samebits.exec.graph import CALL, MAX_CALL_DEPTH, MAX_NODES, Graph, TypedGraph, check_graph
from samebits.exec.job import BATCH, DATA, KEY, METRICS, RATE, STATE, STEP, JobSpec, check_tensor_count, under
from samebits.exec.keys import INITIAL, step_key
from samebits.exec.planner import check_memory, describe_free, free_memory_bytes, plan_graph
from samebits.exec.stream import ORDER_SIZE_BYTES, count_rows
from samebits.kernels.reference import type_of
from samebits.kernels.types import TensorType
from samebits.kernels.version import check_arithmetic

KEY_TYPE: Final = TensorType("u32", (2,))

Array = NDArray[Any]
State = dict[str, Buffer]
Progress = Callable[[int, int, Mapping[str, float]], None]  # steps done, steps in all, metrics of the last step


class NodeSource(Protocol):
    """Where nodes are read from: a store, or what came with a file."""

    def get_node(self, digest: Digest) -> Node:
        """Return a node; raises CasError."""


class JobMachine:
    """Executes a job's graphs. State and data stay on the device; metrics come back."""

    def __init__(self, job: Digest, store: Store, device: Device) -> None:
        """Load and check everything the job names; raises JobError saying what is missing or does not fit.

        Raises RunError, before anything is computed, for a job that needs more memory than is free.
        """
        self._free_bytes = free_memory_bytes()
        self.spec = load_spec(job, store)
        check_arithmetic(self.spec.arithmetic)
        self._device = device
        self._store = store
        self._at = "initial state"  # what errors of the device are said to be at
        self._data = load_tensors(store, self.spec.data, "data", self._free_bytes)
        self._rows = count_rows({name: array.shape for name, array in self._data.items()})
        if self._rows and not any(array.nbytes for array in self._data.values()):
            raise JobError("the rows of the job's data have no elements")
        self.spec.stream.check_rows(self._rows)
        step = load_graph(store, self.spec.step, "step graph")
        free_bytes = self._free_bytes - _size_bytes(self._data)
        self._stored = load_tensors(store, self.spec.state, "initial state", free_bytes)
        self._state_types = {name: type_of(tensor) for name, tensor in self._stored.items()}
        self._init = self._prepare_init()
        self._schedule = self._prepare_schedule()
        self._inputs = {name for name, _ in step.graph.inputs}
        _check_step(step, self._given())
        self._step = self._compile("step", step.graph)
        self._evaluate: Executable | None = None
        self._held_out: dict[str, Buffer] = {}
        if self.spec.evaluation is not None:
            self._prepare_evaluation()

    def initial_state(self) -> State:
        """Return the job's initial state on the device."""
        with self._naming_place():
            state = {name: self._device.upload(tensor) for name, tensor in self._stored.items()}
            if self._init is not None:
                made = self._execute("init", self._init, {KEY: self._device.upload(step_key(self.spec.seed, INITIAL))})
                state |= under(STATE, made)
        return state

    def load_state(self, tree: Digest) -> State:
        """Return a stored state on the device."""
        state = load_tensors(self._store, tree, "state")
        if {name: type_of(tensor) for name, tensor in state.items()} != self.state_types():
            raise JobError(f"state {tree} does not have the tensors of the job's state")
        return {name: self._device.upload(tensor) for name, tensor in state.items()}

    def state_types(self) -> dict[str, TensorType]:
        """Return the types of the state's tensors by name."""
        return dict(self._state_types)

    def download(self, state: Mapping[str, Buffer]) -> dict[str, Array]:
        """Return a state as arrays."""
        with self._naming_place():
            return {name: self._device.download(buffer) for name, buffer in state.items()}

    def kernels(self) -> list[KernelSource]:
        """Return the kernel sources that initial state, steps and evaluation run."""
        executables = (self._init, self._step, self._evaluate)
        return [kernel for executable in executables if executable is not None for kernel in executable.kernels]

    def step(self, t: int, state: State) -> tuple[State, dict[str, Array]]:
        """Run step t; returns the new state and the metrics, to which the last step adds those of the evaluation."""
        self._at = f"step {t}"
        with self._naming_place():
            outputs = self._execute("step", self._step, self.step_inputs(t, state))
            new = under(STATE, outputs)
            metrics = self._metrics(outputs, "")
            if t == self.spec.steps - 1:
                metrics |= self.evaluate(new)
            return new, metrics

    def step_inputs(self, t: int, state: State) -> dict[str, Buffer]:
        """Return what the step graph is given at step t, by name."""
        inputs = {STATE + name: buffer for name, buffer in state.items()} | self._batch(t)
        if KEY in self._inputs:
            inputs[KEY] = self._device.upload(step_key(self.spec.seed, t))
        return inputs | {name: self._device.upload(value) for name, value in self._rates(t).items()}

    def evaluation_inputs(self) -> dict[str, Buffer]:
        """Return the data that the evaluation graph is given, by name; none where the job has no evaluation."""
        return dict(self._held_out)

    @property
    def device(self) -> Device:
        """The device that computes."""
        return self._device

    def evaluate(self, state: State) -> dict[str, Array]:
        """Return the metrics of the job's evaluation, named `evaluation/NAME`; none where the job has no evaluation."""
        if self._evaluate is None:
            return {}
        inputs = {STATE + name: buffer for name, buffer in state.items()} | self._held_out
        return self._metrics(self._execute("evaluation", self._evaluate, inputs), "evaluation/")

    def _batch(self, t: int) -> dict[str, Buffer]:
        try:
            rows = self.spec.stream.batch(t, self._rows)
            return {BATCH + name: self._device.upload(array[rows]) for name, array in self._data.items()}
        except MemoryError as error:
            raise RunError("the batch: out of memory") from error

    def _rates(self, t: int) -> dict[str, Array]:
        return {} if self._schedule is None else self._schedule({STEP: np.asarray(t, np.int64)})

    def _prepare_init(self) -> Executable | None:
        """Compile the init graph; its outputs join the types of the state."""
        if self.spec.init is None:
            return None
        typed = load_graph(self._store, self.spec.init, "init graph")
        _check_inputs("init", typed.graph, {KEY: KEY_TYPE})
        for name, tensor in typed.outputs.items():
            if not name.startswith(STATE) or name.removeprefix(STATE) in self._state_types:
                raise JobError(f"the init graph gives {name!r}; want {STATE}NAME that is not in the job's state tree")
            self._state_types[name.removeprefix(STATE)] = tensor
        return self._compile("init", typed.graph)

    def _prepare_schedule(self) -> Executable | None:
        """Compile the schedule, for the host: it is a few scalars."""
        self._rate_types: Mapping[str, TensorType] = {}
        if self.spec.schedule is None:
            return None
        typed = load_graph(self._store, self.spec.schedule, "schedule")
        _check_inputs("schedule", typed.graph, {STEP: TensorType("i64", ())})
        for name, tensor in typed.outputs.items():
            if not name.startswith(RATE) or tensor.shape != ():
                raise JobError(f"the schedule gives {name!r} as {tensor}; want scalars {RATE}NAME")
        self._rate_types = typed.outputs
        return NumpyDevice().compile(plan_graph(typed.graph, load_library(self._store, typed.graph)))

    def _given(self) -> dict[str, TensorType]:
        """Return the types of what a step graph may take."""
        given = {STATE + name: tensor for name, tensor in self._state_types.items()}
        for name, array in self._data.items():
            row = type_of(array)
            given[BATCH + name] = TensorType(row.dtype, (self.spec.stream.batch_size, *row.shape[1:]))
        return given | {KEY: KEY_TYPE, **self._rate_types}

    def _compile(self, what: str, graph: Graph) -> Executable:
        plan = plan_graph(graph, load_library(self._store, graph))
        held = _size_bytes(self._data) + _size_bytes(self._stored) + self._rows * ORDER_SIZE_BYTES
        check_memory(what, plan, held, self._free_bytes)
        return self._device.compile(plan)

    def _execute(self, what: str, graph: Executable, inputs: Mapping[str, Buffer]) -> dict[str, Buffer]:
        try:
            return graph(inputs)
        except (DeviceError, RunError) as error:
            error.args = (f"{error} (in the {what} graph)",)
            raise

    @contextmanager
    def _naming_place(self) -> Iterator[None]:
        """Begin the message of an error with the step at which the machine stands."""
        try:
            yield
        except (DeviceError, RunError) as error:
            error.args = (f"{self._at}: {error}",)
            raise

    def _metrics(self, outputs: Mapping[str, Buffer], prefix: str) -> dict[str, Array]:
        return {prefix + name: self._device.download(value) for name, value in under(METRICS, outputs).items()}

    def _prepare_evaluation(self) -> None:
        if self.spec.evaluation is None:
            raise AssertionError("called for a job with an evaluation")
        typed = load_graph(self._store, self.spec.evaluation.graph, "evaluation graph")
        free_bytes = self._free_bytes - _size_bytes(self._data) - _size_bytes(self._stored)
        data = load_tensors(self._store, self.spec.evaluation.data, "evaluation data", free_bytes)
        given = {STATE + name: tensor for name, tensor in self._state_types.items()}
        given |= {DATA + name: type_of(tensor) for name, tensor in data.items()}
        _check_inputs("evaluation", typed.graph, given)
        _check_metrics("evaluation", typed)
        self._evaluate = self._compile("evaluation", typed.graph)
        self._held_out = {DATA + name: self._device.upload(array) for name, array in data.items()}


def load_spec(job: Digest, store: NodeSource) -> JobSpec:
    """Return the job stored under an address; raises JobError."""
    try:
        return JobSpec.from_node(store.get_node(job))
    except CasError as error:
        raise JobError(f"job {job}: {error}") from error


def load_graph(store: NodeSource, address: Digest, what: str) -> TypedGraph:
    """Return a stored graph, checked with every graph it calls; raises JobError or GraphError."""
    node = _get_node(store, address, what)
    if node.kind != GRAPH_KIND:
        raise JobError(f"{what} {address} is a {node.kind}, not a graph")
    library = load_library(store, parse_graph(node))
    return check_graph(read_graph(node, library), library)


def load_tensors(store: Store, tree: Digest, what: str, free_bytes: int | None = None) -> dict[str, Array]:
    """Return the tensors of a stored tree by name; raises JobError naming the tensor that is missing or damaged.

    A tree may name one tensor under many names: RunError if all of them together have more than `free_bytes`.
    """
    free_bytes = free_memory_bytes() if free_bytes is None else free_bytes
    tensors: dict[str, Array] = {}
    size_bytes = 0
    for name, address in load_tree(store, tree, what).items():
        try:
            size_bytes += tensor_info(store.get_node(address)).size_bytes
            if size_bytes > free_bytes:
                raise RunError(f"{what} {tree} is too large: {describe_free(free_bytes)}")
            tensors[name] = get_tensor(store, address)
        except CasError as error:
            raise JobError(f"{what} {name}: {error}") from error
        except MemoryError as error:
            raise RunError(f"{what} {name}: out of memory") from error
    return tensors


def load_tree(store: NodeSource, tree: Digest, what: str) -> dict[str, Digest]:
    """Return the entries of a stored tree by name; raises JobError."""
    node = _get_node(store, tree, what)
    if node.kind != "tree":
        raise JobError(f"{what} {tree} is a {node.kind}, not a tree")
    check_tensor_count(node, f"{what} {tree}")
    try:
        return read_tree(node)
    except CasError as error:
        raise JobError(f"{what} {tree}: {error}") from error


def _get_node(store: NodeSource, address: Digest, what: str) -> Node:
    try:
        return store.get_node(address)
    except CasError as error:
        raise JobError(f"{what} {address}: {error}") from error


def load_library(store: NodeSource, graph: Graph) -> dict[Digest, Graph]:
    """Return every graph that `graph` calls, directly or not. Addresses are hashes, so calls can't go in a circle."""
    library: dict[Digest, Graph] = {}
    nodes, level = len(graph.nodes), [graph]
    for _ in range(MAX_CALL_DEPTH + 1):
        called = [node.callee for caller in level for node in caller.nodes if node.op == CALL]
        level = []
        for callee in called:
            if callee is not None and callee not in library:
                library[callee] = parse_graph(_get_node(store, callee, "called graph"))
                level.append(library[callee])
                nodes += len(library[callee].nodes) + 1
            if nodes > MAX_NODES:
                raise GraphError(f"a graph that has more than {MAX_NODES} nodes with the graphs that it calls")
        if not level:
            return library
    raise GraphError(f"calls are nested more than {MAX_CALL_DEPTH} deep")


def _size_bytes(tensors: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in tensors.values())


def _check_step(typed: TypedGraph, given: Mapping[str, TensorType]) -> None:
    _check_inputs("step", typed.graph, given)
    types = {name: tensor for name, tensor in given.items() if name.startswith(STATE)}
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
