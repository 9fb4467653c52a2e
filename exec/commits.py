"""Commits: what a run promises after a step, by address.

A commit is {step, state, metrics}: the number of the step (from 0), the address of the state tree after it, and the
step's metrics as scalars. It doesn't depend on how often a run commits or stores checkpoints. Most states are not
stored, so a commit holds the 32 bytes of the state's address, which no fetch follows. Example:
``["commit", {"metrics": {"loss": ["f32", 4 bytes]}, "state": 32 bytes, "step": 499}]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.cas import CasError, Digest, Node, node_address, tensor_address, tree_address
from samebits.cas.dtype import dtype_name, numpy_dtype
from samebits.cas.encoding import Value
from samebits.exec.errors import RunError

COMMIT_KIND: Final = "commit"
COMMITS_KIND: Final = "commits"

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Commit:
    """The state and the metrics after one step."""

    step: int
    state: Digest
    metrics: Mapping[str, tuple[str, bytes]]  # name -> dtype, little-endian bytes

    def to_node(self) -> Node:
        """Return the commit as a node of the store."""
        metrics: dict[str, Value] = {name: list(value) for name, value in self.metrics.items()}
        return Node(COMMIT_KIND, {"step": self.step, "state": self.state.raw, "metrics": metrics})

    def address(self) -> Digest:
        """Return the address of the commit node."""
        return node_address(self.to_node())

    @classmethod
    def from_node(cls, node: Node) -> Commit:
        """Read a commit; raises RunError."""
        match node:
            case Node("commit", {"step": int() as step, "state": bytes() as state, "metrics": dict() as found}) if (
                len(node.body) == 3 and len(state) == 32 and not isinstance(step, bool)
            ):
                return cls(step, Digest(state), {name: _read_metric(name, value) for name, value in found.items()})
            case Node("commit"):
                raise RunError("a commit has the fields step (an integer), state (32 bytes) and metrics")
            case _:
                raise RunError(f"not a commit but a {node.kind}")

    def values(self) -> dict[str, float]:
        """Return the metrics as Python numbers."""
        return {name: scalar_value(*value) for name, value in self.metrics.items()}


def _read_metric(name: str, value: Value) -> tuple[str, bytes]:
    match value:
        case [str() as dtype, bytes() as raw]:
            try:
                size_bytes = numpy_dtype(dtype).itemsize
            except CasError as error:
                raise RunError(f"metric {name!r} of a commit: {error}") from error
            if len(raw) != size_bytes:
                raise RunError(f"metric {name!r} of a commit: {dtype} has {size_bytes} bytes, not {len(raw)}")
            return dtype, raw
        case _:
            raise RunError(f"metric {name!r} of a commit is not [dtype, bytes]")


def scalar_value(dtype: str, raw: bytes) -> float:
    """Return a metric's scalar as a Python number."""
    return float(np.frombuffer(raw, numpy_dtype(dtype))[0])


def make_commit(step: int, state: Mapping[str, Array], metrics: Mapping[str, Array]) -> Commit:
    """Return the commit of a state and its metrics (0-d arrays)."""
    scalars = {name: (dtype_name(value.dtype), value.tobytes()) for name, value in metrics.items()}
    return Commit(step, state_address(state), scalars)


def state_address(state: Mapping[str, Array]) -> Digest:
    """Return the address of the tree of a state's tensors."""
    return tree_address({name: tensor_address(tensor) for name, tensor in state.items()})


def commits_node(commits: Iterable[tuple[int, Digest]]) -> Node:
    """Return the list of a segment's commits as a node: ``["commits", {"commits": [[step, address], ...]}]``."""
    return Node(COMMITS_KIND, {"commits": [[step, address] for step, address in commits]})


def read_commits(node: Node) -> list[tuple[int, Digest]]:
    """Return (step, address of the commit) for each commit of a segment; raises RunError."""
    listed = node.body.get("commits")
    if node.kind != COMMITS_KIND or len(node.body) != 1 or not isinstance(listed, list):
        raise RunError(f"not a list of commits but a {node.kind}")
    commits = []
    for item in listed:
        match item:
            case [int() as step, Digest() as address] if not isinstance(step, bool):
                commits.append((step, address))
            case _:
                raise RunError("an item of a list of commits is not [step, address]")
    return commits


@dataclass(frozen=True, slots=True)
class CommitSteps:
    """The steps in [first, stop) that are committed: each `every`-th, and the last. Never held as a list."""

    first: int
    stop: int  # > first
    every: int  # >= 1

    def __len__(self) -> int:
        return self.stop // self.every - self.first // self.every + (self.stop % self.every != 0)

    def __iter__(self) -> Iterator[int]:
        yield from range((self.first // self.every + 1) * self.every - 1, self.stop, self.every)
        if self.stop % self.every != 0:
            yield self.stop - 1

    def __contains__(self, step: int) -> bool:
        return self.first <= step < self.stop and ((step + 1) % self.every == 0 or step == self.stop - 1)

    def following(self, step: int) -> int:
        """Return the first committed step that is not before this one, which is in the range."""
        return min(step // self.every * self.every + self.every, self.stop) - 1


def commit_steps(first: int, stop: int, every: int) -> CommitSteps:
    """Return the steps in [first, stop) that are committed: each `every`-th, and the last."""
    return CommitSteps(first, stop, every)
