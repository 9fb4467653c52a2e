"""One side of a dispute, as whoever asks sees it. No answer is believed: `Side` checks each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from samebits.cas import Digest, decode_node
from samebits.cas.remotes import Remote
from samebits.exec.commits import read_commits
from samebits.exec.dispute.fetching import Fetcher
from samebits.exec.dispute.objects import Objects
from samebits.exec.dispute.signed import LeafProof, Proof, commit_index
from samebits.exec.errors import CannotTraceError, RunError
from samebits.ledger import RunChain
from samebits.ledger.bodies import TraceLevel
from samebits.ledger.merkle import inclusion_proof, leaf_hash


class Prover(Protocol):
    """Answers questions about one run.

    Every method raises NoAnswerError where none comes in time, BadAnswerError for what is no answer, and CasError or
    ExecError; `trace` and what follows from it CannotTraceError where there is nobody to sign or to compute.
    """

    @property
    def name(self) -> str:
        """What messages call the place."""

    @property
    def chain(self) -> RunChain:
        """The run's entries; every rule and signature holds."""

    @property
    def remote(self) -> Remote:
        """Where objects come from, by hash."""

    def commit(self, step: int, trace: Digest | None = None) -> tuple[bytes, Proof]:
        """Return the encoded commit of a step, and its proof in a segment or a trace of the level `steps`."""

    def state(self, step: int) -> bytes:
        """Return the encoded tree of the state before a step."""

    def trace(self, level: TraceLevel, first: int, stop: int) -> bytes:
        """Return a trace entry, signed now at the latest; questions about it come after that."""

    def children(self, trace: Digest, first: int, stop: int) -> tuple[bytes, bytes]:
        """Return the two hashes below the one over the leaves [first, stop) of a trace."""

    def leaf(self, trace: Digest, index: int) -> LeafProof:
        """Return a leaf of a trace."""

    def values(self, trace: Digest, indexes: Sequence[int]) -> list[bytes]:
        """Return the elements of tensors that leaves of a trace name."""

    def close(self) -> None:
        """Let go of files and connections."""


class StoredProver:
    """What a place says that only holds a run: commits out of the stored lists. It signs nothing."""

    def __init__(self, name: str, chain: RunChain, remote: Remote, why: str = "nobody there signs") -> None:
        self._name, self._chain, self._remote = name, chain, remote
        self._why = why
        self._lists: dict[Digest, list[Digest]] = {}

    @property
    def name(self) -> str:
        """What messages call the place."""
        return self._name

    @property
    def chain(self) -> RunChain:
        """The run's entries; every rule and signature holds."""
        return self._chain

    @property
    def remote(self) -> Remote:
        """Where objects come from, by hash."""
        return self._remote

    def commit(self, step: int, trace: Digest | None = None) -> tuple[bytes, Proof]:
        """Return a commit that a segment signs: its encoded node, and its proof in the segment's root."""
        if trace is not None:
            raise CannotTraceError(f"{self._name} can't trace: {self._why}")
        for segment in self._chain.segments:
            if segment.body.first_step <= step < segment.body.stop_step:
                index, _ = commit_index(self._chain.body, segment.body, step)
                listed = self._listed(segment.body.commits)
                if index >= len(listed):
                    raise RunError(f"the stored list of commits has none of step {step}")
                proof = inclusion_proof([leaf_hash(address.raw) for address in listed], index)
                return self._node(listed[index]), proof
        raise RunError(f"the run has no step {step}")

    def state(self, step: int) -> bytes:
        """Return the encoded tree of a state that a segment starts from; others are not stored."""
        for segment in self._chain.segments:
            if segment.body.first_step == step:
                return self._node(segment.body.state_in)
        raise CannotTraceError(f"{self._name} has not stored the state before step {step}")

    def trace(self, level: TraceLevel, first: int, stop: int) -> bytes:
        """Refuse."""
        raise CannotTraceError(f"{self._name} can't trace: {self._why}")

    def children(self, trace: Digest, first: int, stop: int) -> tuple[bytes, bytes]:
        """Refuse."""
        raise CannotTraceError(f"{self._name} can't trace: {self._why}")

    def leaf(self, trace: Digest, index: int) -> LeafProof:
        """Refuse."""
        raise CannotTraceError(f"{self._name} can't trace: {self._why}")

    def values(self, trace: Digest, indexes: Sequence[int]) -> list[bytes]:
        """Refuse."""
        raise CannotTraceError(f"{self._name} can't trace: {self._why}")

    def close(self) -> None:
        """Let go of files and connections."""
        self._remote.close()

    def _listed(self, commits: Digest) -> list[Digest]:
        if commits not in self._lists:
            self._lists[commits] = [address for _, address in read_commits(decode_node(self._node(commits)))]
        return self._lists[commits]

    def _node(self, address: Digest) -> bytes:
        fetcher = Fetcher(Objects(), [self._remote])
        fetcher.node(address)
        return fetcher.objects.nodes[address]
