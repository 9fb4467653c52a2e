"""Small programs captured for tests: jobs, run step by step on a device, and graphs of functions of tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from samebits.cas import Store
from samebits.exec.canonical import parse_graph
from samebits.exec.capture.lowering import lower
from samebits.exec.capture.rules import RULES
from samebits.exec.capture.tensors import to_numpy
from samebits.exec.capture.trace import functional, new_key, trace
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.protocol import Device
from samebits.exec.graph import Graph, GraphNode
from samebits.exec.job import KEY, Job
from samebits.exec.keys import step_key
from samebits.exec.machine import JobMachine
from samebits.exec.planner import plan_graph
from samebits.exec.running.runner import put_job
from samebits.exec.training import training_job

Arrays = dict[str, Any]
Loss = Callable[[Any, Any, Any], Any]
ROWS, WIDTH, CLASSES, BATCH_SIZE = 48, 6, 4, 12


def rows(seed: int = 0) -> dict[str, Any]:
    """Return data: x (48, 6) f32, y (48,) i64 in 0..3."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, WIDTH, generator=generator)
    return {"x": x, "y": torch.randint(0, CLASSES, (ROWS,), generator=generator)}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """Return seeded normal numbers, others for another shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


def perceptron(*between: nn.Module, width: int = 16) -> Any:
    """Return a seeded model 6-16-4 with tanh, and `between` before its last layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, width), nn.Tanh(), *between, nn.Linear(width, CLASSES))


def capture(step: Callable[..., Any], model: Any, optimizer: Any, **given: Any) -> Job:
    """Return the job of a step; `given` replaces the usual arguments: the rows above, 3 steps of 12 of them."""
    usual: dict[str, Any] = {"data": rows(), "batch_size": BATCH_SIZE, "steps": 3}
    return training_job(step, model=model, optimizer=optimizer, **(usual | given))


def plain_loss(model: Any, x: Any, y: Any) -> Any:
    """Return the cross-entropy of a model's scores."""
    return nn.functional.cross_entropy(model(x), y)


def ordinary_step(model: Any, optimizer: Any, loss: Loss = plain_loss) -> Callable[..., Any]:
    """Return a step that descends a loss."""

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        found = loss(model, x, y)
        found.backward()
        optimizer.step()
        return {"loss": found}

    return step


def job_of(loss: Loss = plain_loss, model: Any = None, **given: Any) -> Job:
    """Return the job of an ordinary step with SGD."""
    model = perceptron() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return capture(ordinary_step(model, optimizer, loss), model, optimizer, **given)


def open_job(job: Job, device: Device | None = None) -> JobMachine:
    """Return a job, loaded on a device."""
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        return JobMachine(put_job(job, store), store, device or NumpyDevice())


def run_job(job: Job, steps: int | None = None, device: Device | None = None) -> tuple[Arrays, list[Arrays]]:
    """Return the state after some steps (all of them), and the metrics of each."""
    machine = open_job(job, device)
    state, metrics = machine.initial_state(), []
    for t in range(job.spec.steps if steps is None else steps):
        state, found = machine.step(t, state)
        metrics.append(found)
    return machine.download(state), metrics


def check_same_bits(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Assert that arrays by name are the same, bit by bit."""
    assert sorted(found) == sorted(wanted)
    for name, right in wanted.items():
        one, other = np.asarray(found[name]), np.asarray(right)
        assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        assert one.tobytes() == other.tobytes(), name


def nodes_of(job: Job) -> list[GraphNode]:
    """Return the nodes of all graphs of a job."""
    return [node for stored in job.nodes.values() if stored.kind == "graph" for node in parse_graph(stored).nodes]


def graph_of(function: Callable[..., Any], inputs: Mapping[str, Any], model: Any = None) -> Graph:
    """Return the graph of a function of named tensors that gives tensors by name."""
    assert RULES
    given = {**inputs, KEY: new_key()}

    def body(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: x.clone() for name, x in function(**{n: tensors[n] for n in inputs}).items()}

    return lower(functional(trace(body, given, model=model)), "highest")


def run_graph(graph: Graph, inputs: Mapping[str, Any], device: Device | None = None, t: int = 0) -> Arrays:
    """Return what a graph gives for torch tensors or arrays by name, with the key of step t of seed 0."""
    device = device or NumpyDevice()
    arrays = {n: to_numpy(x) if isinstance(x, torch.Tensor) else x for n, x in inputs.items()}
    arrays = {name: array for name, array in (arrays | {KEY: step_key(0, t)}).items() if name in dict(graph.inputs)}
    outputs = device.compile(plan_graph(graph))({name: device.upload(array) for name, array in arrays.items()})
    return {name: np.asarray(device.download(value)) for name, value in outputs.items()}


def out(function: Callable[..., Any], device: Device | None = None, **inputs: Any) -> Any:
    """Return what the graph of a function gives as `out`."""
    return run_graph(graph_of(function, inputs), inputs, device)["out"]
