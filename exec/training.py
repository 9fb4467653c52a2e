"""`training_job`: make a job of an ordinary PyTorch training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samebits.cas import Digest, Node, node_address, tensor_node, tree_node
from samebits.exec.canonical import graph_node
from samebits.exec.errors import CaptureError, JobError
from samebits.exec.graph import Graph, check_graph
from samebits.exec.job import BATCH, DATA, STATE, Evaluation, Job, JobSpec
from samebits.exec.stream import Stream
from samebits.kernels.version import ARITHMETIC

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]


def training_job(
    step: Callable[..., Mapping[str, torch.Tensor]],
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Mapping[str, Any],
    batch_size: int,
    steps: int,
    seed: int = 0,
    precision: str = "highest",
    evaluate: Callable[..., Mapping[str, torch.Tensor]] | None = None,
    evaluation_data: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> Job:
    """Trace `step` once and return the job that runs it `steps` times.

    `step(**batch)` is ordinary PyTorch: optimizer.zero_grad(); loss = ...; loss.backward(); optimizer.step();
    return {"loss": loss}. `data` maps the step's argument names to tensors or arrays with equal first sizes, the
    rows; each step gets `batch_size` of them, drawn as `samebits.exec.stream` states. `evaluate(**evaluation_data)`
    returns scalar metrics of the final model. `precision` ("highest" or "high") is that of every matrix product.
    The captured step is checked once against eager PyTorch: no state tensor's change may differ by more than
    `tolerance` of its size (default 1e-2; 1e-1 for "high" and half-precision models).

    Raises CaptureError, with the user's own line, for a step that can't be captured faithfully; JobError for
    arguments that do not fit.
    """
    if precision not in ("highest", "high"):
        raise JobError(f'precision {precision!r} is neither "highest" nor "high"')
    try:
        from samebits.exec.capture.step import capture_evaluation, capture_step
        from samebits.exec.capture.tensors import to_numpy, to_torch
        from samebits.exec.capture.trace import Subject
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise JobError("capturing a script needs PyTorch: install samebits[torch]") from error
    collection = _Collection()
    arrays = _arrays("data", data)
    stream = Stream(batch_size, seed)
    stream.check_rows(next(iter(arrays.values())).shape[0])
    subject = Subject.of(model, optimizer)
    batch = {BATCH + name: to_torch(array[:batch_size]) for name, array in arrays.items()}
    graph = capture_step(subject, step, batch, precision, tolerance)
    _check_state(graph)
    evaluation = None
    if evaluate is not None:
        held_out = _arrays("evaluation_data", evaluation_data or {})
        inputs = {DATA + name: to_torch(array) for name, array in held_out.items()}
        evaluated = capture_evaluation(Subject.of(model, None), evaluate, inputs, precision)
        evaluation = Evaluation(collection.add(graph_node(evaluated)), collection.add_tree(held_out))
    elif evaluation_data is not None:
        raise JobError("evaluation_data is given without evaluate")
    state = {name: to_numpy(tensor) for name, tensor in subject.state.items()}
    spec = JobSpec(
        step=collection.add(graph_node(graph)),
        state=collection.add_tree(state),
        data=collection.add_tree(arrays),
        stream=stream,
        steps=_check_steps(steps),
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


def _arrays(what: str, given: Mapping[str, Any]) -> dict[str, Array]:
    """Return the tensors as NumPy arrays by name; raises JobError if they aren't rows of one number."""
    from samebits.exec.capture.tensors import to_numpy

    arrays: dict[str, Array] = {}
    for name, value in given.items():
        if not name.isidentifier():
            raise JobError(f"{what} name {name!r} can't be an argument of the step")
        tensor = to_numpy(value) if hasattr(value, "detach") else np.asarray(value)
        if tensor.ndim == 0:
            raise JobError(f"{what} {name!r} is a scalar; want rows along the first axis")
        arrays[name] = tensor
    if not arrays:
        raise JobError(f"{what} is empty")
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


def _check_steps(steps: int) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise JobError(f"steps {steps!r} is not a positive integer")
    return steps
