"""The schedule of a fork: some or all rates constant, the others as they were."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from samebits.cas import Digest, Store
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import canonicalize, graph_node
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.errors import JobError, RunError
from samebits.exec.graph import Graph, GraphNode
from samebits.exec.job import RATE, STEP
from samebits.exec.machine import load_graph, load_library
from samebits.exec.planner import plan_graph


def change_rates(store: Store, schedule: Digest | None, rates: Mapping[str, float]) -> Digest:
    """Store a schedule whose rates of these names are constant ("" stands for all of them) and return its address.

    Raises JobError for a rate that the job does not have.
    """
    if schedule is None:
        raise JobError("the job takes no rate, so none can be set")
    typed = load_graph(store, schedule, "schedule")
    names = {name.removeprefix(RATE): tensor for name, tensor in typed.outputs.items()}
    for name, value in rates.items():
        if name and name not in names:
            raise JobError(f"the job has no rate {name!r}; it has {', '.join(sorted(names))}")
        if not math.isfinite(value):
            raise JobError(f"the rate {value} is not a finite number")
    nodes, outputs = list(typed.graph.nodes), dict(typed.graph.outputs)
    for name, tensor in names.items():
        if (rate := rates.get(name, rates.get(""))) is not None:
            outputs[RATE + name] = len(typed.graph.inputs) + sum(node.results for node in nodes)
            nodes.append(_constant(rate, tensor.dtype))
    graph = Graph(typed.graph.inputs, tuple(nodes), tuple(outputs.items()))
    return store.put_node(graph_node(canonicalize(graph, load_library(store, typed.graph))))


def _constant(value: float, dtype: str) -> GraphNode:
    build = GraphBuilder()
    build.output("value", build.scalar(value, dtype))
    return build.build().nodes[0]


def check_schedule(store: Store, schedule: Digest | None, last_step: int) -> None:
    """Raise JobError for a schedule that ends before a step: one that is a table."""
    if schedule is None:
        return
    graph = load_graph(store, schedule, "schedule").graph
    execute = NumpyDevice().compile(plan_graph(graph, load_library(store, graph)))
    try:
        execute({STEP: np.asarray(last_step, np.int64)})
    except RunError as error:
        raise JobError(
            f"the job's schedule has no rate for step {last_step} ({error}); --rate VALUE sets a constant one"
        ) from error
