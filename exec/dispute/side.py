"""One side of a dispute, every answer checked: against its own signatures, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from samebits.cas import CasError, Digest
from samebits.cas.digest import hash_node
from samebits.exec.commits import Commit, commit_steps
from samebits.exec.dispute.evidence import Evidence, EvidenceKind
from samebits.exec.dispute.objects import Objects
from samebits.exec.dispute.prover import Prover
from samebits.exec.dispute.signed import (
    CommitProof,
    LeafProof,
    SignedRun,
    check_commit,
    check_leaf,
    read_run,
    read_trace,
)
from samebits.exec.errors import BadAnswerError, CannotTraceError, ExecError
from samebits.ledger import LedgerError, TraceBody, encode_entry, entry_address
from samebits.ledger.bodies import TraceLevel
from samebits.ledger.chain import ChainSegment
from samebits.ledger.entry import decode_entry
from samebits.ledger.merkle import HASH_SIZE_BYTES, node_hash

T = TypeVar("T")
NO_ANSWER: Final = "did not answer"
BAD_ANSWER: Final = "gave answers that do not verify"
Level = Literal["steps", "operations"]


@dataclass(slots=True)
class Traffic:
    """What was asked for on one level of the search."""

    queries: int = 0
    size_bytes: int = 0  # of the answers


class ConvictedError(ExecError):
    """A side whose own signatures contradict each other."""

    def __init__(self, side: Side, evidence: Evidence) -> None:
        self.side, self.evidence = side, evidence
        super().__init__(f"{side.label} contradicts itself")


class FailedSideError(ExecError):
    """A side that did not answer, or whose answer does not verify."""

    def __init__(self, side: Side, verdict: str, reason: str) -> None:
        self.side, self.verdict, self.reason = side, verdict, reason
        super().__init__(f"{side.label} {verdict}: {reason}")


@dataclass(frozen=True, slots=True)
class SignedTrace:
    """A trace entry of this run, its signature verified."""

    entry: bytes
    address: Digest
    body: TraceBody


@dataclass(slots=True)
class Side:
    """A prover whose answers are checked. Methods raise FailedSideError, ConvictedError, CannotTraceError."""

    label: str  # "A" | "B"
    prover: Prover
    objects: Objects  # the job's nodes
    run: SignedRun = field(init=False)
    traffic: dict[Level, Traffic] = field(default_factory=lambda: {"steps": Traffic(), "operations": Traffic()})
    _commits: dict[int, tuple[Commit, CommitProof]] = field(default_factory=dict)
    _gaps: dict[int, SignedTrace] = field(default_factory=dict)  # traces of steps, by their first step

    def __post_init__(self) -> None:
        self.run = read_run(encode_entry(self.prover.chain.run))

    def segment_of(self, step: int) -> ChainSegment:
        """Return the segment that a step is in."""
        return next(s for s in self.prover.chain.segments if s.body.first_step <= step < s.body.stop_step)

    def commit(self, step: int) -> tuple[Commit, CommitProof]:
        """Return the signed commit of a step; where the run has none, out of a trace of steps up to the next one."""
        if step not in self._commits:
            segment = self.segment_of(step)
            every = self.run.body.commit_every
            if step in commit_steps(segment.body.first_step, segment.body.stop_step, every):
                self._commits[step] = self._ask_commit(step, encode_entry(segment.entry), None)
            else:
                gap = self._gap(segment, step // every * every)
                self._commits[step] = self._ask_commit(step, gap.entry, gap.address)
        return self._commits[step]

    def state_before(self, step: int) -> Digest:
        """Return the address of the state before a step, as this side signed it."""
        segment = self.segment_of(step).body
        return segment.state_in if segment.first_step == step else self.commit(step - 1)[0].state

    def trace(self, level: TraceLevel, first: int, stop: int) -> SignedTrace:
        """Return a trace that this side signs."""
        entry = self._ask(lambda: self.prover.trace(level, first, stop), "steps" if level == "steps" else "operations")
        body = self._check(lambda: read_trace(self.run, entry))
        if (body.level, body.first_step, body.stop_step) != (level, first, stop):
            raise FailedSideError(self, BAD_ANSWER, f"a trace of other steps than {first}:{stop} ({level})")
        return SignedTrace(entry, self._check(lambda: entry_address(decode_entry(entry))), body)

    def children(self, trace: SignedTrace, first: int, stop: int, parent: bytes) -> tuple[bytes, bytes]:
        """Return the two hashes below one that is known."""
        left, right = self._ask(lambda: self.prover.children(trace.address, first, stop), "operations")
        sizes = {len(left), len(right)}
        if sizes != {HASH_SIZE_BYTES} or node_hash(left, right) != parent:
            raise FailedSideError(
                self, BAD_ANSWER, f"the hashes below leaves {first}:{stop} do not give the signed root"
            )
        return left, right

    def leaf(self, trace: SignedTrace, index: int) -> LeafProof:
        """Return a leaf that is in a signed trace."""
        level: Level = "steps" if trace.body.level == "steps" else "operations"
        proof = self._ask(lambda: self.prover.leaf(trace.address, index), level)
        self._check(lambda: check_leaf(trace.body, index, proof))
        return proof

    def values(self, trace: SignedTrace, indexes: Sequence[int]) -> list[bytes]:
        """Return bytes that are said to be those of leaves; the caller checks them."""
        return self._ask(lambda: self.prover.values(trace.address, indexes), "operations")

    def state_tree(self, step: int, address: Digest) -> bytes:
        """Return the encoded tree of the state before a step, which has this address."""
        encoded = self._ask(lambda: self.prover.state(step), "operations")
        if hash_node(encoded) != address:
            raise FailedSideError(self, BAD_ANSWER, f"the state before step {step} does not have its address")
        return encoded

    def evidence(self, kind: EvidenceKind, objects: Objects | None = None, **fields: Any) -> Evidence:
        """Return evidence against this side."""
        run = encode_entry(self.prover.chain.run)
        return Evidence(kind, run, self.objects if objects is None else objects, **fields)

    def before(self, step: int) -> dict[str, Any]:
        """Return what shows in evidence which state this side signed before a step."""
        segment = self.segment_of(step)
        if segment.body.first_step == step:
            return {"segment": encode_entry(segment.entry)}
        return {"before": self.commit(step - 1)[1]}

    def _gap(self, segment: ChainSegment, start: int) -> SignedTrace:
        first = max(start, segment.body.first_step)
        if first not in self._gaps:
            stop = min(start + self.run.body.commit_every, segment.body.stop_step)
            trace = self.trace("steps", first, stop)
            proof = self.leaf(trace, trace.body.leaves - 1)
            after = self.commit(stop - 1)
            if trace.body.leaves != stop - first:
                self._convict("leaves", trace=trace.entry, leaves={0: self.leaf(trace, 0)})
            if check_leaf(trace.body, stop - first - 1, proof)[1] != after[0].address():
                self._convict("end", trace=trace.entry, leaves={stop - first - 1: proof}, after=after[1])
            self._gaps[first] = trace
        return self._gaps[first]

    def _ask_commit(self, step: int, entry: bytes, trace: Digest | None) -> tuple[Commit, CommitProof]:
        encoded, siblings = self._ask(lambda: self.prover.commit(step, trace), "steps")
        proof = CommitProof(entry, encoded, tuple(siblings))
        commit = self._check(lambda: check_commit(self.run, proof, step))
        if commit.step != step:
            self._convict("number", steps=(step, step + 1), after=proof)
        return commit, proof

    def _convict(self, kind: EvidenceKind, **fields: Any) -> None:
        raise ConvictedError(self, self.evidence(kind, **fields))

    def _ask(self, question: Callable[[], T], level: Level) -> T:
        self.traffic[level].queries += 1
        try:
            answer = question()
        except CannotTraceError:
            raise
        except (CasError, LedgerError, ExecError) as error:
            verdict = BAD_ANSWER if isinstance(error, BadAnswerError) else NO_ANSWER
            raise FailedSideError(self, verdict, str(error)) from error
        self.traffic[level].size_bytes += _size_bytes(answer)
        return answer

    def _check(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except (CasError, LedgerError, ExecError) as error:
            raise FailedSideError(self, BAD_ANSWER, str(error)) from error


def _size_bytes(answer: object) -> int:
    match answer:
        case bytes():
            return len(answer)
        case list() | tuple():
            return sum(map(_size_bytes, answer))
        case LeafProof(leaf, proof):
            return len(leaf) + _size_bytes(proof)
        case _:
            return 0
