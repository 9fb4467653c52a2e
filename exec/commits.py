"""Commits: what a run promises after a step, by address.

A commit is {step, state, metrics}: the number of the step (from 0), the address of the state tree after it, and the
step's metrics as scalars. It doesn't depend on how often a run commits or stores checkpoints. Most states are not
stored, so a commit holds the 32 bytes of the state's address, which no fetch follows. Example:
``["commit", {"metrics": {"loss": ["f32", 4 bytes]}, "state": 32 bytes, "step": 499}]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.cas import Digest, Node, node_address, tensor_address, tree_address
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
                len(state) == 32
            ):
                metrics: dict[str, tuple[str, bytes]] = {}
                for name, value in found.items():
                    match value:
                        case [str() as dtype, bytes() as raw]:
                            metrics[name] = (dtype, raw)
                        case _:
                            raise RunError(f"metric {name!r} of a commit is not [dtype, bytes]")
                return cls(step, Digest(state), metrics)
            case _:
                raise RunError(f"not a commit but a {node.kind}")

    def values(self) -> dict[str, float]:
        """Return the metrics as Python numbers."""
        return {name: scalar_value(*value) for name, value in self.metrics.items()}


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
    if node.kind != COMMITS_KIND or not isinstance(listed, list):
        raise RunError(f"not a list of commits but a {node.kind}")
    commits = []
    for item in listed:
        match item:
            case [int() as step, Digest() as address]:
                commits.append((step, address))
            case _:
                raise RunError("an item of a list of commits is not [step, address]")
    return commits


def commit_steps(first: int, stop: int, every: int) -> Sequence[int]:
    """Return the steps in [first, stop) that are committed: each `every`-th, and the last."""
    return [step for step in range(first, stop) if (step + 1) % every == 0 or step == stop - 1]
