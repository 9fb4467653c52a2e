"""Jobs as a stranger could send them: well-formed, and made to take memory or time."""

from __future__ import annotations

from tests.exec.small_job import BATCH_SIZE

from samebits.cas import Digest, references
from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.graph import Graph
from samebits.exec.job import Job
from samebits.kernels.types import TensorType


def only_reached(job: Job) -> Job:
    """Return a job with the objects that it names and no others, as a job file holds it."""
    nodes = job.all_nodes()
    reached: set[Digest] = set()
    pending = [job.address]
    while pending:
        address = pending.pop()
        if address not in reached:
            reached.add(address)
            pending.extend(references(nodes[address]) if address in nodes else ())
    return Job(
        job.spec,
        {address: node for address, node in job.nodes.items() if address in reached},
        {address: blob for address, blob in job.blobs.items() if address in reached},
    )


def wide_chain(elements: int) -> Graph:
    """A step that makes `elements` out of nothing, and keeps two tensors of them at once."""
    build, w = _begin()
    wide = build.op("broadcast_in_dim", w, shape=(elements,), broadcast_dimensions=())
    return _end(build, w, build.op("reduce_sum", build.op("exp", wide), axes=(0,)))


def sorting_step(elements: int) -> Graph:
    """A step that sorts `elements` numbers that it makes."""
    build, w = _begin()
    wide = build.op("iota", dtype="f32", shape=(elements,), dimension=0)
    order = build.op("sort", build.op("sin", wide), axis=0, descending=False)
    return _end(build, w, build.op("reduce_sum", order, axes=(0,)))


def _begin() -> tuple[GraphBuilder, ValueRef]:
    build = GraphBuilder()
    for name in "xy":
        build.input(f"batch/{name}", TensorType("f32", (BATCH_SIZE,)))
    return build, build.input("state/w", TensorType("f32", ()))


def _end(build: GraphBuilder, w: ValueRef, loss: ValueRef) -> Graph:
    build.output("state/w", w)
    build.output("metrics/loss", loss)
    return build.build()
