"""A job: everything that decides the bits of a run, and nothing else.

state, metrics = step(state, batch_t) for t = 0 .. steps-1. The step graph has the inputs `state/NAME` and
`batch/NAME` and the outputs `state/NAME` and `metrics/NAME`; the data have the same names as the batch. An evaluation
is a graph with the inputs `state/NAME` and `data/NAME` and the outputs `metrics/NAME`, run once on the final state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from samebits.cas import Digest, Node, encode_node, node_address
from samebits.cas.encoding import Value
from samebits.exec.errors import JobError
from samebits.exec.stream import Stream

JOB_KIND: Final = "job"
STATE: Final = "state/"
BATCH: Final = "batch/"
DATA: Final = "data/"
METRICS: Final = "metrics/"
MAX_STEPS: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A graph that is run on the final state and on data of its own."""

    graph: Digest
    data: Digest  # tree of tensors


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The hashed content of a job. Example: ``samebits job show FILE --json``."""

    step: Digest  # graph
    state: Digest  # tree of tensors: the initial state
    data: Digest  # tree of tensors with equal numbers of rows
    stream: Stream
    steps: int
    arithmetic: str  # version of the arithmetic contract
    evaluation: Evaluation | None = None

    def to_node(self) -> Node:
        """Return the job as a node of the store."""
        evaluation: Value = None
        if self.evaluation is not None:
            evaluation = {"graph": self.evaluation.graph, "data": self.evaluation.data}
        return Node(
            JOB_KIND,
            {
                "step": self.step,
                "state": self.state,
                "data": self.data,
                "stream": self.stream.to_body(),
                "steps": self.steps,
                "arithmetic": self.arithmetic,
                "evaluation": evaluation,
            },
        )

    @classmethod
    def from_node(cls, node: Node) -> JobSpec:
        """Read a job node; raises JobError naming what is wrong."""
        if node.kind != JOB_KIND:
            raise JobError(f"not a job but a {node.kind}")
        evaluation: Evaluation | None
        match node.body:
            case {
                "step": Digest() as step,
                "state": Digest() as state,
                "data": Digest() as data,
                "stream": stream,
                "steps": int() as steps,
                "arithmetic": str() as arithmetic,
                "evaluation": found,
            } if len(node.body) == 7 and not isinstance(steps, bool):
                if not arithmetic.isprintable():
                    raise JobError(f"the arithmetic version {arithmetic[:80]!r} is unprintable")
                if not 1 <= steps < MAX_STEPS:
                    raise JobError(f"a job of {steps} steps is not supported (1 .. 2^53)")
            case _:
                raise JobError("a job has the fields step, state, data, stream, steps, arithmetic and evaluation")
        match found:
            case None:
                evaluation = None
            case {"graph": Digest() as graph, "data": Digest() as evaluation_data, **rest} if not rest:
                evaluation = Evaluation(graph, evaluation_data)
            case _:
                raise JobError("an evaluation has the fields graph and data")
        return cls(step, state, data, Stream.from_body(stream), steps, arithmetic, evaluation)


@dataclass(frozen=True, slots=True)
class Job:
    """A job together with the objects it names, as far as they are at hand. Only `spec` decides the address."""

    spec: JobSpec
    nodes: Mapping[Digest, Node] = field(default_factory=dict, repr=False)
    blobs: Mapping[Digest, bytes] = field(default_factory=dict, repr=False)

    @property
    def address(self) -> Digest:
        """Return the address of the job node."""
        return node_address(self.spec.to_node())

    def all_nodes(self) -> dict[Digest, Node]:
        """Return the nodes at hand, the job's own among them."""
        return {**self.nodes, self.address: self.spec.to_node()}

    def definition_size_bytes(self) -> int:
        """Return the size of the job and its graphs, in bytes: what describes the computation, without its data."""
        described = [node for node in self.all_nodes().values() if node.kind in (JOB_KIND, "graph")]
        return sum(len(encode_node(node)) for node in described)
