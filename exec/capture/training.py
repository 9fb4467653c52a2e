"""Make a job of a captured training step, its initial state and its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from samebits.cas import Digest, Node, node_address, tensor_node, tree_node
from samebits.cas.dtype import dtype_name
from samebits.exec.canonical import graph_node
from samebits.exec.capture.step import capture_evaluation, capture_step
from samebits.exec.capture.subject import Subject
from samebits.exec.capture.tensors import to_numpy, to_torch
from samebits.exec.errors import CaptureError, JobError
from samebits.exec.graph import Graph, check_graph
from samebits.exec.job import BATCH, DATA, MAX_STEPS, STATE, Evaluation, Job, JobSpec
from samebits.exec.stream import Stream
from samebits.kernels.version import ARITHMETIC

CHECKED_STEPS: Final = 3  # that are run in eager PyTorch too

Array = NDArray[Any]


def make_training_job(
    step: Callable[..., Any],
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Mapping[str, Any],
    batch_size: int,
    steps: int,
    seed: int,
    precision: str,
    evaluate: Callable[..., Any] | None,
    evaluation_data: Mapping[str, Any] | None,
    tolerance: float | None,
) -> Job:
    """Return the job; `samebits.exec.training.training_job` states the arguments and errors."""
    _check_arguments(model, optimizer, steps, precision, tolerance)
    collection = _Collection()
    arrays = _arrays("data", data)
    rows = next(iter(arrays.values())).shape[0]
    stream = Stream(batch_size, seed)
    stream.check_rows(rows)
    subject = Subject.of(model, optimizer)
    batches = [
        {BATCH + name: to_torch(array[stream.batch(t, rows)]) for name, array in arrays.items()}
        for t in range(min(steps, CHECKED_STEPS))
    ]
    graph = capture_step(subject, step, batches, precision, tolerance)
    _check_state(graph)
    evaluation = None
    if evaluate is not None:
        held_out = _arrays("evaluation_data", evaluation_data)
        inputs = {DATA + name: to_torch(array) for name, array in held_out.items()}
        evaluated = capture_evaluation(Subject.of(model, None), evaluate, inputs, precision, tolerance)
        evaluation = Evaluation(collection.add(graph_node(evaluated)), collection.add_tree(held_out))
    elif evaluation_data is not None:
        raise JobError("evaluation_data is given without evaluate")
    spec = JobSpec(
        step=collection.add(graph_node(graph)),
        state=collection.add_tree({name: to_numpy(tensor) for name, tensor in subject.state.items()}),
        data=collection.add_tree(arrays),
        stream=stream,
        steps=steps,
        arithmetic=ARITHMETIC,
        evaluation=evaluation,
    )
    return Job(spec, collection.nodes, collection.blobs)


class _Collection:
    """The objects of a job while it is made."""

    def __init__(self) -> None:
        self.nodes: dict[Digest, Node] = {}
        self.blobs: dict[Digest, bytes] = {}

    def add(self, node: Node) -> Digest:
        address = node_address(node)
        self.nodes[address] = node
        return address

    def add_tree(self, arrays: Mapping[str, Array]) -> Digest:
        entries = {}
        for name, array in arrays.items():
            node, data = tensor_node(array)
            entries[name] = self.add(node)
            blob = node.body["blob"]
            if not isinstance(blob, Digest):
                raise AssertionError("a tensor node names its blob")
            self.blobs[blob] = bytes(data)
        return self.add(tree_node(entries))


def _check_arguments(model: Any, optimizer: Any, steps: Any, precision: Any, tolerance: Any) -> None:
    if not isinstance(model, torch.nn.Module):
        raise JobError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise JobError(f"optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps < MAX_STEPS:
        raise JobError(f"steps {steps!r} is not an integer in 1 .. 2^53 - 1")
    if precision not in ("highest", "high"):
        raise JobError(f'precision {precision!r} is neither "highest" nor "high"')
    if tolerance is not None and not (isinstance(tolerance, float | int) and tolerance > 0):
        raise JobError(f"tolerance {tolerance!r} is not a positive number")


def _arrays(what: str, given: Any) -> dict[str, Array]:
    """Return tensors as NumPy arrays by name; raises JobError if they aren't rows of one number."""
    if not isinstance(given, Mapping) or not given:
        raise JobError(f"{what} is not a dictionary of tensors" if given else f"{what} is empty")
    arrays: dict[str, Array] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise JobError(f"{what} name {name!r} can't be an argument of the step")
        array = to_numpy(value) if isinstance(value, torch.Tensor) else np.asarray(value)
        try:
            dtype_name(array.dtype)
        except TypeError as error:
            raise JobError(f"{what} {name!r}: {error}") from error
        if array.ndim == 0:
            raise JobError(f"{what} {name!r} is a scalar; want rows along the first axis")
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    rows = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise JobError(f"{what} differ in their numbers of rows: {rows}")
    return arrays


def _check_state(graph: Graph) -> None:
    """Raise CaptureError if a step leaves a state tensor with another type than it found."""
    inputs, outputs = dict(graph.inputs), check_graph(graph).outputs
    for name, tensor in inputs.items():
        if name.startswith(STATE) and outputs[name] != tensor:
            raise CaptureError(f"{name} is {tensor} before the step and {outputs[name]} after it")
