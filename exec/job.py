"""A job: everything that decides the bits of a run, and nothing else.

state, metrics = step(state, batch_t, key_t, rates_t) for t = first_step .. steps-1. The step graph has the inputs
`state/NAME`, `batch/NAME`, and where it wants them `key` (u32[2], see keys.py) and `rate/NAME`, and the outputs
`state/NAME` and `metrics/NAME`; the data have the same names as the batch. Rates are the outputs of the schedule, a
graph with the input `step` (i64[], t). The initial state is the tree `state` together with the outputs `state/NAME` of
the graph `init`, whose input is `key`. An evaluation is a graph with the inputs `state/NAME` and `data/NAME` and the
outputs `metrics/NAME`, run once on the final state.

A job that goes on from a state of another run begins at `first_step`, with that state as its tree and no init graph.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from samebits.cas import Digest, Node, encode_node, node_address
from samebits.cas.encoding import Value
from samebits.exec.errors import JobError
from samebits.exec.keys import check_seed
from samebits.exec.stream import Stream

JOB_KIND: Final = "job"
STATE: Final = "state/"
BATCH: Final = "batch/"
DATA: Final = "data/"
METRICS: Final = "metrics/"
RATE: Final = "rate/"
KEY: Final = "key"
STEP: Final = "step"
MAX_STEPS: Final = 1 << 53
MAX_TENSORS: Final = 1 << 16  # of one tree of a job: state, data, evaluation data

T = TypeVar("T")


def under(prefix: str, values: Mapping[str, T]) -> dict[str, T]:
    """Return the values whose names start with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def check_tensor_count(tree: Node, what: str) -> None:
    """Raise JobError for a tree of a job that names too many tensors, before they are looked at."""
    entries = tree.body.get("entries")
    if isinstance(entries, dict) and len(entries) > MAX_TENSORS:
        raise JobError(f"{what} names {len(entries)} tensors; the most is {MAX_TENSORS}")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A graph that is run on the final state and on data of its own."""

    graph: Digest
    data: Digest  # tree of tensors


@dataclass(frozen=True, slots=True)
class Check:
    """What the job says of its capture: compared with eager PyTorch within a tolerance, or not at all.

    Written as nil for the usual tolerance of the precision, ``["f64", 8 bytes]`` for another that the user chose, and
    ``"none"`` for a capture of a model without values (on the meta device), which nothing could be compared with.
    """

    done: bool = True
    tolerance: float | None = None  # None: the usual one

    def to_value(self) -> Value:
        """Return the field of a job node."""
        if not self.done:
            return "none"
        return None if self.tolerance is None else ["f64", struct.pack("<d", self.tolerance)]

    @classmethod
    def from_value(cls, value: Value) -> Check:
        """Read the field of a job node; raises JobError."""
        match value:
            case None:
                return CHECKED
            case "none":
                return cls(done=False)
            case ["f64", bytes() as raw] if len(raw) == 8 and 0 < struct.unpack("<d", raw)[0] < math.inf:
                return cls(tolerance=struct.unpack("<d", raw)[0])
            case _:
                raise JobError('check is nil, "none" or ["f64", 8 bytes of a positive number]')

    def __str__(self) -> str:
        """Say it for people."""
        if not self.done:
            return "not compared with eager PyTorch"
        return "" if self.tolerance is None else f"compared with eager PyTorch within {self.tolerance:g} only"


CHECKED: Final = Check()


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The hashed content of a job. Example: ``samebits job show FILE --json``."""

    step: Digest  # graph
    state: Digest  # tree of tensors: the initial state, or what the init graph leaves of it
    data: Digest  # tree of tensors with equal numbers of rows
    stream: Stream
    steps: int  # the end: the last step is steps - 1
    arithmetic: str  # version of the arithmetic contract
    evaluation: Evaluation | None = None
    seed: int = 0  # 0 .. 2^64-1, of the keys
    init: Digest | None = None  # graph
    schedule: Digest | None = None  # graph
    check: Check = CHECKED  # how the capture was compared with the program that it came from
    first_step: int = 0  # < steps; not written if 0

    @property
    def graphs(self) -> tuple[Digest, ...]:
        """Return the addresses of the job's own graphs."""
        evaluation = None if self.evaluation is None else self.evaluation.graph
        return tuple(graph for graph in (self.step, self.init, self.schedule, evaluation) if graph is not None)

    def to_node(self) -> Node:
        """Return the job as a node of the store."""
        evaluation: Value = None
        if self.evaluation is not None:
            evaluation = {"graph": self.evaluation.graph, "data": self.evaluation.data}
        body: dict[str, Value] = {
            "step": self.step,
            "state": self.state,
            "data": self.data,
            "stream": self.stream.to_body(),
            "steps": self.steps,
            "arithmetic": self.arithmetic,
            "evaluation": evaluation,
            "seed": self.seed,
            "init": self.init,
            "schedule": self.schedule,
            "check": self.check.to_value(),
        }
        return Node(JOB_KIND, body if self.first_step == 0 else {**body, "first_step": self.first_step})

    @classmethod
    def from_node(cls, node: Node) -> JobSpec:
        """Read a job node; raises JobError naming what is wrong."""
        if node.kind != JOB_KIND:
            raise JobError(f"not a job but a {node.kind}")
        match node.body:
            case {
                "step": Digest() as step,
                "state": Digest() as state,
                "data": Digest() as data,
                "stream": stream,
                "steps": int() as steps,
                "arithmetic": str() as arithmetic,
                "evaluation": evaluation,
                "seed": seed,
                "init": (None | Digest()) as init,
                "schedule": (None | Digest()) as schedule,
                "check": check,
                **rest,
            } if rest.keys() <= {"first_step"} and not isinstance(steps, bool):
                if not arithmetic.isprintable():
                    raise JobError(f"the arithmetic version {arithmetic[:80]!r} is unprintable")
                check_step_count(steps)
            case _:
                raise JobError(f"a job has the fields {', '.join(cls.__slots__)}, addresses where they are wanted")
        return cls(
            step,
            state,
            data,
            Stream.from_body(stream),
            steps,
            arithmetic,
            _read_evaluation(evaluation),
            check_seed(seed),
            init,
            schedule,
            Check.from_value(check),
            _read_first_step(rest, steps, init),
        )


def check_step_count(steps: int) -> None:
    """Raise JobError for a number of steps that a job can't have."""
    if not 1 <= steps < MAX_STEPS:
        raise JobError(f"a job of {steps} steps is not supported (1 .. 2^53)")


def _read_first_step(rest: Mapping[str, Value], steps: int, init: Digest | None) -> int:
    """Return the step that a job begins with: 0 where it is not written, which has no other form."""
    if not rest:
        return 0
    first = rest["first_step"]
    if isinstance(first, bool) or not isinstance(first, int) or not 1 <= first < steps:
        raise JobError(f"first_step {first!r} is not an integer in 1 .. {steps - 1} (0 is not written)")
    if init is not None:
        raise JobError(f"a job that begins at step {first} starts from a stored state, and has no init graph")
    return first


def _read_evaluation(found: Value) -> Evaluation | None:
    match found:
        case None:
            return None
        case {"graph": Digest() as graph, "data": Digest() as data, **rest} if not rest:
            return Evaluation(graph, data)
        case _:
            raise JobError("an evaluation has the fields graph and data")


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
