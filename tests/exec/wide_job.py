"""A job with a state of some size, made without PyTorch: each step adds 1 to all of it."""

from __future__ import annotations

import numpy as np
from tests.exec.small_job import make_job

from samebits.cas import Digest, Node, node_address, references, tensor_node, tree_node
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import graph_address, graph_node
from samebits.exec.job import Job
from samebits.kernels.types import TensorType


def wide_job(steps: int, elements: int = 1 << 16) -> Job:
    """Return a job with a state of 4 * elements bytes, which is another one after each step."""
    build = GraphBuilder()
    w = build.input("state/w", TensorType("f32", (elements,)))
    build.input("batch/x", TensorType("f32", (8,)))
    one = build.op("broadcast_in_dim", build.scalar(1, "f32"), shape=(elements,), broadcast_dimensions=())
    build.output("state/w", build.op("add", w, one))
    build.output("metrics/first", build.op("reduce_max", w, axes=(0,)))
    graph = build.build()
    job = make_job(steps=steps)
    node, data = tensor_node(np.arange(elements, dtype=np.float32))
    tree = tree_node({"w": node_address(node)})
    blob = node.body["blob"]
    assert isinstance(blob, Digest)
    nodes: dict[Digest, Node] = {**job.nodes, **{node_address(n): n for n in (node, tree, graph_node(graph))}}
    changes = {"step": graph_address(graph), "state": node_address(tree), "evaluation": None, "steps": steps}
    spec = make_job(changes=changes).spec
    blobs, pending, reached = {**job.blobs, blob: bytes(data)}, [spec.to_node()], set[Digest]()
    while pending:
        for address in references(pending.pop()):
            reached.add(address)
            pending += [nodes[address]] if address in nodes else []
    return Job(spec, {a: nodes[a] for a in nodes if a in reached}, {a: blobs[a] for a in blobs if a in reached})
