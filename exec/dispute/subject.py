"""The subject of evidence: a run, and what its author has signed about it, each statement verified when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from samebits.cas import Digest
from samebits.exec.dispute.evidence import Evidence
from samebits.exec.dispute.signed import SignedRun, check_commit, check_leaf, read_segment, read_trace
from samebits.exec.errors import EvidenceError
from samebits.exec.job import JobSpec
from samebits.exec.trace import Layout, init_layout, step_layout, steps_layout
from samebits.ledger import SegmentBody, TraceBody

MAX_TRACED_STEPS = 1 << 20  # of a trace of the level `steps`

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accusation:
    """What evidence proves."""

    run: Digest
    job: Digest
    author: bytes  # public key
    step: int | None  # None: the initial state
    place: str | None  # in the trace of the step, as in "node/3/7"; None: the step as a whole
    what: str  # the author signed something wrong: one line

    def __str__(self) -> str:
        where = "the initial state" if self.step is None else f"step {self.step}"
        return where + ("" if self.place is None else f", {self.place}") + f": {self.what}"


def need(value: T | None, what: str) -> T:
    """Return a value; raises EvidenceError if it is missing."""
    if value is None:
        raise EvidenceError(f"{what} is missing in it")
    return value


@dataclass(frozen=True)
class Subject:
    """A run under evidence. Methods raise CasError, LedgerError or ExecError for what is not signed or does not fit."""

    evidence: Evidence
    run: SignedRun
    spec: JobSpec

    @cached_property
    def trace(self) -> TraceBody:
        """The signed trace."""
        return read_trace(self.run, need(self.evidence.trace, "the trace entry"))

    @cached_property
    def segment(self) -> SegmentBody:
        """The signed segment."""
        return read_segment(self.run, need(self.evidence.segment, "the segment entry"))

    @cached_property
    def layout(self) -> Layout:
        """The leaves that the trace has to have."""
        trace = self.trace
        if trace.level == "steps":
            if trace.stop_step - trace.first_step > MAX_TRACED_STEPS:
                raise EvidenceError(f"a trace of more than {MAX_TRACED_STEPS} steps")
            return steps_layout(trace.first_step, trace.stop_step)
        if trace.level == "init":
            if trace.first_step != self.run.body.first_step:
                raise EvidenceError("the trace of an initial state is that of the run's first step")
            return init_layout(self.evidence.objects, self.spec)
        return step_layout(self.evidence.objects, self.spec, trace.first_step)

    @property
    def step(self) -> int | None:
        """The step that the trace is about; None for the initial state."""
        return None if self.trace.level == "init" else self.trace.stop_step - 1

    def leaf(self, index: int) -> tuple[str, Digest]:
        """Return place and address of a leaf that is in the signed trace."""
        return check_leaf(self.trace, index, need(self.evidence.leaves.get(index), f"leaf {index}"))

    def operand(self, index: int) -> Digest:
        """Return the address at a leaf in the signed trace; a wrong place is another accusation than this one."""
        place, address = self.leaf(index)
        if place != self.layout.leaves[index].place:
            raise EvidenceError(f"leaf {index} is {place[:80]!r}, not {self.layout.leaves[index].place}")
        return address

    def state_before(self, step: int) -> Digest:
        """Return the state before a step as the author signed it: where a segment starts, or in the commit before."""
        if self.evidence.segment is not None:
            if self.segment.first_step == step:
                return self.segment.state_in
            raise EvidenceError(f"the segment starts at step {self.segment.first_step}, not {step}")
        commit = check_commit(self.run, need(self.evidence.before, f"the state before step {step}"), step - 1)
        if commit.step != step - 1:
            raise EvidenceError(f"the commit before step {step} names step {commit.step}")
        return commit.state

    def accuse(self, step: int | None, place: str | None, what: str) -> Accusation:
        """Return an accusation of the run's author."""
        return Accusation(self.run.address, self.run.body.job, self.run.author, step, place, what)
