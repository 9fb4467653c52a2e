"""A small job made without PyTorch: a line fitted to points by gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np

from samebits.cas import Digest, Node, node_address, tensor_node, tree_node
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import graph_address, graph_node
from samebits.exec.graph import Graph
from samebits.exec.job import Evaluation, Job, JobSpec
from samebits.exec.stream import Stream
from samebits.kernels.types import TensorType
from samebits.kernels.version import ARITHMETIC

ROWS, BATCH_SIZE = 40, 8


def step_graph(rate: float, metric: str = "loss") -> Graph:
    """w <- w - rate * d/dw mean (w x - y)^2 / 2; metrics: that mean."""
    build = GraphBuilder()
    x, y = (build.input(f"batch/{name}", TensorType("f32", (BATCH_SIZE,))) for name in "xy")
    w = build.input("state/w", TensorType("f32", ()))
    wide = build.op("broadcast_in_dim", w, shape=(BATCH_SIZE,), broadcast_dimensions=())
    error = build.op("sub", build.op("mul", wide, x), y)
    count = build.scalar(BATCH_SIZE, "f32")
    slope = build.op("div", build.op("reduce_sum", build.op("mul", error, x), axes=(0,)), count)
    loss = build.op("div", build.op("reduce_sum", build.op("mul", error, error), axes=(0,)), count)
    build.output("state/w", build.op("sub", w, build.op("mul", slope, build.scalar(rate, "f32"))))
    build.output(f"metrics/{metric}", loss)
    return build.build()


def evaluation_graph() -> Graph:
    """How far w is from 3."""
    build = GraphBuilder()
    w, target = (build.input(name, TensorType("f32", ())) for name in ("state/w", "data/target"))
    build.output("metrics/distance", build.op("abs", build.op("sub", w, target)))
    return build.build()


def make_job(*, rate: float = 0.1, steps: int = 25, metric: str = "loss", changes: dict[str, Any] | None = None) -> Job:
    """Return the job; `changes` replaces fields of its spec."""
    nodes: dict[Digest, Node] = {}
    blobs: dict[Digest, bytes] = {}

    def add(node: Node) -> Digest:
        nodes[node_address(node)] = node
        return node_address(node)

    def add_tree(arrays: dict[str, Any]) -> Digest:
        entries = {}
        for name, array in arrays.items():
            node, data = tensor_node(np.asarray(array, np.float32))
            entries[name] = add(node)
            blob = node.body["blob"]
            assert isinstance(blob, Digest)
            blobs[blob] = bytes(data)
        return add(tree_node(entries))

    x = np.linspace(-1, 2, ROWS, dtype=np.float32)
    fields: dict[str, Any] = {
        "step": add(graph_node(step_graph(rate, metric))),
        "state": add_tree({"w": 0.5}),
        "data": add_tree({"x": x, "y": 3 * x}),
        "stream": Stream(BATCH_SIZE, seed=2),
        "steps": steps,
        "arithmetic": ARITHMETIC,
        "evaluation": Evaluation(add(graph_node(evaluation_graph())), add_tree({"target": 3.0})),
    }
    return Job(JobSpec(**{**fields, **(changes or {})}), nodes, blobs)


def changed(job: Job, fields: dict[str, Any], nodes: list[Node]) -> Job:
    """Return a job with other fields and more nodes."""
    changes = {name: getattr(job.spec, name) for name in JobSpec.__slots__} | fields
    return Job(JobSpec(**changes), {**job.nodes, **{node_address(node): node for node in nodes}}, job.blobs)


def with_step(graph: Graph) -> Job:
    """Return the small job with another step graph."""
    return changed(make_job(), {"step": graph_address(graph)}, [graph_node(graph)])
