"""Judge sides at the step where they part: a signed trace is followed down to one leaf, and that leaf is computed.

Nobody is convicted here but by evidence that passes the same check as everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from samebits.cas import Digest, Node, encode_node, hash_blob, node_address
from samebits.exec.dispute.evidence import Evidence
from samebits.exec.dispute.fetching import Fetcher
from samebits.exec.dispute.given import GivenInputs
from samebits.exec.dispute.objects import Objects
from samebits.exec.dispute.side import BAD_ANSWER, NO_ANSWER, ConvictedError, FailedSideError, Side, SignedTrace
from samebits.exec.dispute.signed import check_leaf
from samebits.exec.errors import BadAnswerError, CannotTraceError
from samebits.exec.job import BATCH, STATE, JobSpec
from samebits.exec.trace import INPUT, Layout, Leaf
from samebits.exec.tracing import Trace
from samebits.ledger.bodies import TraceLevel
from samebits.ledger.merkle import root_hash, split_point

ValueSource = Callable[[Sequence[int]], list[bytes]]  # elements of the tensors that leaves name


class Tree(Protocol):
    """A Merkle tree that can be walked down."""

    @property
    def root(self) -> bytes:
        """The hash over all leaves."""

    def children(self, first: int, stop: int, parent: bytes) -> tuple[bytes, bytes]:
        """Return the two hashes below the one over the leaves [first, stop)."""


@dataclass(frozen=True, slots=True)
class SignedTree:
    """The trace that a side has signed."""

    side: Side
    trace: SignedTrace

    @property
    def root(self) -> bytes:
        """The hash over all leaves."""
        return self.trace.body.root

    def children(self, first: int, stop: int, parent: bytes) -> tuple[bytes, bytes]:
        """Return the two hashes below the one over the leaves [first, stop), checked against it."""
        return self.side.children(self.trace, first, stop, parent)

    def values(self, indexes: Sequence[int]) -> list[bytes]:
        """Return what the side says are the values of leaves."""
        return self.side.values(self.trace, indexes)


@dataclass(frozen=True, slots=True)
class ComputedTree:
    """A trace that was computed here."""

    hashes: Sequence[bytes]

    @classmethod
    def of(cls, trace: Trace) -> ComputedTree:
        """Return the tree of a trace."""
        return cls(trace.leaf_hashes())

    @property
    def root(self) -> bytes:
        """The hash over all leaves."""
        return root_hash(self.hashes)

    def children(self, first: int, stop: int, parent: bytes) -> tuple[bytes, bytes]:
        """Return the two hashes below the one over the leaves [first, stop)."""
        middle = first + split_point(stop - first)
        return root_hash(self.hashes[first:middle]), root_hash(self.hashes[middle:stop])


def first_difference(one: Tree, other: Tree, leaves: int) -> int | None:
    """Return the first leaf in which two trees of as many leaves differ; 2 log2(leaves) questions."""
    if one.root == other.root:
        return None
    first, stop, roots = 0, leaves, (one.root, other.root)
    while stop - first > 1:
        middle = first + split_point(stop - first)
        ours, theirs = one.children(first, stop, roots[0]), other.children(first, stop, roots[1])
        if ours[0] != theirs[0]:
            stop, roots = middle, (ours[0], theirs[0])
        else:
            first, roots = middle, (ours[1], theirs[1])
    return first


def check_trace(side: Side, trace: SignedTrace, layout: Layout, level: TraceLevel) -> SignedTree:
    """Hold a signed trace of a step against what the side signed before.

    Raises ConvictedError for a trace that contradicts it, and FailedSideError.
    """
    step = trace.body.first_step
    if trace.body.leaves != len(layout.leaves):
        raise ConvictedError(side, side.evidence("leaves", trace=trace.entry, leaves={0: side.leaf(trace, 0)}))
    last = side.leaf(trace, layout.last)
    address = check_leaf(trace.body, layout.last, last)[1]
    if level == "init":
        signed, fields = side.state_before(step), side.before(step)
    else:
        commit, proof = side.commit(step)
        signed, fields = commit.address(), {"after": proof}
    if address != signed:
        raise ConvictedError(side, side.evidence("end", trace=trace.entry, leaves={layout.last: last}, **fields))
    return SignedTree(side, trace)


@dataclass(frozen=True, slots=True)
class LeafCase:
    """What evidence about one leaf of a side's trace is put together from."""

    tree: SignedTree
    layout: Layout
    spec: JobSpec
    fetcher: Fetcher
    sources: Sequence[ValueSource]  # whoever may have the operands, tried in turn

    def evidence(self, index: int) -> Evidence:
        """Return what shows whether a leaf of the trace is right; raises FailedSideError."""
        side, trace = self.tree.side, self.tree.trace
        leaf = self.layout.leaves[index]
        proofs = {number: side.leaf(trace, number) for number in (index, *leaf.operands)}
        addresses = {number: check_leaf(trace.body, number, proof)[1] for number, proof in proofs.items()}
        objects = side.objects.copy()
        fields: dict[str, Any] = {"trace": trace.entry, "leaf": index, "leaves": proofs}
        tensors = [operand for operand in leaf.operands if self.layout.leaves[operand].type is not None]
        if leaf.kind in ("launch", "commit") and tensors:
            self._add_values(objects, tensors, addresses)
        if leaf.kind == "input":
            fields |= self._add_input(objects, leaf)
        return side.evidence("leaf", objects, **fields)

    def _add_input(self, objects: Objects, leaf: Leaf) -> dict[str, Any]:
        side, step = self.tree.side, self.tree.trace.body.first_step
        name = leaf.place.removeprefix(INPUT)
        if self.tree.trace.body.level == "init":
            return {}
        if name.startswith(STATE):
            objects.add_node(side.state_tree(step, side.state_before(step)))
            return side.before(step)
        if name.startswith(BATCH):
            add_batch(Fetcher(objects, self.fetcher.remotes), self.spec, step)
        return {}

    def _add_values(self, objects: Objects, indexes: list[int], addresses: dict[int, Digest]) -> None:
        problem: Exception | None = None
        for source in self.sources:
            try:
                values = source(indexes)
                for index, value in zip(indexes, values, strict=True):
                    self._add_value(objects, index, value, addresses[index])
            except (FailedSideError, BadAnswerError, CannotTraceError, ValueError) as error:
                problem = error
            else:
                return
        raise FailedSideError(self.tree.side, NO_ANSWER, f"nobody gives the operands: {problem}")

    def _add_value(self, objects: Objects, index: int, value: bytes, wanted: Digest) -> None:
        tensor = self.layout.leaves[index].type
        if tensor is None:
            raise AssertionError("only tensors have values")
        node = Node("tensor", {"dtype": tensor.dtype, "shape": list(tensor.shape), "blob": hash_blob(value)})
        if node_address(node) != wanted:
            raise BadAnswerError(f"the value of leaf {index} {BAD_ANSWER}")
        objects.add_node(encode_node(node))
        objects.add_blob(value)


def add_batch(fetcher: Fetcher, spec: JobSpec, step: int) -> None:
    """Fetch what the batch of a step lies in; raises CasError, ExecError."""
    given = GivenInputs(fetcher.objects, spec)
    rows = given.batch_rows(step)
    for address in given.batch_tensors():
        fetcher.tensor_rows(address, rows)
