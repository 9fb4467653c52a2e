"""The trace of a step: its inputs and results as a list of leaves whose order follows from the job alone.

A leaf is the canonical msgpack of ``[1, place, address]``, 1 the version of this list, for example
``[1, "node/3/7", <address of the tensor>]``. Places, in their order:

- level ``nodes`` (one step): ``input/NAME`` for each input of the step graph by name; ``node/PATH`` for each launch of
  its plan; of the last step also ``evaluation/input/data/NAME`` and ``evaluation/node/PATH``; ``state``, the tree
  that came out; ``commit``, that of the step.
- level ``init``: ``input/key``; ``node/PATH`` for each launch of the init graph's plan; ``state``, the initial tree.
- level ``steps`` (a range): ``step/T`` for each step, its commit.

PATH is that of the planner: "12" is node 12 of the graph, "3/7" node 7 of the graph that node 3 calls. Nodes that are
equal with every call laid out are computed once, and stand where the first of them does. An output of a graph has no
leaf of its own: it is the value of one. The root over the leaves is that of RFC 6962, each leaf one entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from samebits.cas import CasError, Digest
from samebits.cas.encoding import decode, encode
from samebits.exec.errors import JobError, RunError
from samebits.exec.job import METRICS, STATE, JobSpec, under
from samebits.exec.machine import NodeSource, load_graph, load_library, load_tree
from samebits.exec.planner import Launch, Plan, plan_graph
from samebits.kernels.types import TensorType

VERSION: Final = 1
INPUT: Final = "input/"
NODE: Final = "node/"
EVALUATION: Final = "evaluation/"
MAX_LEAF_SIZE_BYTES: Final = 1 << 16

LeafKind = Literal["input", "launch", "state", "commit", "step"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """What stands at one place of a trace. Operands are earlier leaves, by number."""

    place: str
    kind: LeafKind
    type: TensorType | None = None  # of inputs and launches
    operands: tuple[int, ...] = ()  # of a commit: the state first, then the metrics
    names: tuple[str, ...] = ()  # of a state's tensors, or of a commit's metrics
    launch: Launch | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The leaves of a trace, their values left open."""

    leaves: tuple[Leaf, ...]

    @property
    def last(self) -> int:
        """The number of the last leaf, which says what came out of it all."""
        return len(self.leaves) - 1


def encode_leaf(place: str, address: Digest) -> bytes:
    """Return the bytes of a leaf."""
    return encode([VERSION, place, address])


def decode_leaf(data: bytes) -> tuple[str, Digest]:
    """Return place and address; raises RunError for other bytes, and for a version that is not known."""
    if len(data) > MAX_LEAF_SIZE_BYTES:
        raise RunError(f"a leaf of {len(data)} bytes; the most is {MAX_LEAF_SIZE_BYTES}")
    try:
        value = decode(data)
    except CasError as error:
        raise RunError(f"not a leaf of a trace: {error}") from error
    match value:
        case [1, str() as place, Digest() as address] if value[0] is not True:
            return place, address
        case _:
            raise RunError(f"not a leaf of a trace of version {VERSION}")


def step_layout(source: NodeSource, spec: JobSpec, step: int) -> Layout:
    """Return the leaves of one step; raises JobError or GraphError for a job that has none."""
    builder = _Builder()
    plan = _plan(source, spec.step, "step graph")
    outputs = builder.add_graph(plan, "", {})
    metrics = under(METRICS, outputs)
    state = under(STATE, outputs)
    if spec.evaluation is not None and step == spec.steps - 1:
        given = {STATE + name: leaf for name, leaf in state.items()}
        evaluated = builder.add_graph(_plan(source, spec.evaluation.graph, "evaluation graph"), EVALUATION, given)
        metrics |= {EVALUATION + name: leaf for name, leaf in under(METRICS, evaluated).items()}
    made = builder.add(Leaf("state", "state", None, tuple(state.values()), tuple(state)))
    builder.add(Leaf("commit", "commit", None, (made, *metrics.values()), tuple(metrics)))
    return builder.build()


def init_layout(source: NodeSource, spec: JobSpec) -> Layout:
    """Return the leaves of the initial state; raises JobError for a job without an init graph."""
    if spec.init is None:
        raise JobError("the job has no init graph: its initial state is a tree")
    builder = _Builder()
    made = under(STATE, builder.add_graph(_plan(source, spec.init, "init graph"), "", {}))
    builder.add(Leaf("state", "state", None, tuple(made.values()), tuple(made)))
    return builder.build()


def steps_layout(first: int, stop: int) -> Layout:
    """Return the leaves of a range of steps."""
    return Layout(tuple(Leaf(f"step/{t}", "step") for t in range(first, stop)))


def initial_tree(source: NodeSource, spec: JobSpec) -> dict[str, Digest]:
    """Return the tensors of the initial state that the job names itself."""
    return load_tree(source, spec.state, "initial state")


def _plan(source: NodeSource, graph: Digest, what: str) -> Plan:
    typed = load_graph(source, graph, what)
    return plan_graph(typed.graph, load_library(source, typed.graph))


class _Builder:
    """Numbers leaves."""

    def __init__(self) -> None:
        self._leaves: list[Leaf] = []

    def add(self, leaf: Leaf) -> int:
        self._leaves.append(leaf)
        return len(self._leaves) - 1

    def add_graph(self, plan: Plan, prefix: str, given: Mapping[str, int]) -> dict[str, int]:
        """Add what a plan takes and computes, but inputs that are leaves already; returns the leaf of each output."""
        values: dict[int, int] = {}
        for value, (name, tensor) in enumerate(plan.inputs):
            if name in given:
                values[value] = given[name]
                self._check_type(name, given[name], tensor)
            else:
                values[value] = self.add(Leaf(f"{prefix}{INPUT}{name}", "input", tensor))
        for launch in plan.launches:
            operands = tuple(values[operand] for operand in launch.operands)
            (result,) = launch.results
            place = f"{prefix}{NODE}{launch.node}"
            values[result] = self.add(Leaf(place, "launch", plan.types[result], operands, launch=launch))
        return {name: values[value] for name, value in plan.outputs}

    def build(self) -> Layout:
        return Layout(tuple(self._leaves))

    def _check_type(self, name: str, leaf: int, wanted: TensorType) -> None:
        if self._leaves[leaf].type != wanted:
            raise JobError(f"the evaluation graph wants {name} as {wanted}, the step gives {self._leaves[leaf].type}")
