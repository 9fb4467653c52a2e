"""What a verification found: the parts, the segments that were computed again, and how they were drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from samebits.cas import Digest
from samebits.exec.verification.sampling import miss_probability
from samebits.ledger import RunChain, Sample, SegmentBody

Outcome: TypeAlias = Literal["same", "different", "failed"]
SegmentOutcome: TypeAlias = Literal["same", "different", "failed", "skipped"]
Status: TypeAlias = Literal["verified", "failed", "skipped"]
SAME: Final[Literal["same"]] = "same"
DIFFERENT: Final[Literal["different"]] = "different"
FAILED: Final[Literal["failed"]] = "failed"
SKIPPED: Final[Literal["skipped"]] = "skipped"
VERIFIED: Final[Literal["verified"]] = "verified"


@dataclass(frozen=True, slots=True)
class Part:
    """One of the things that are checked, and what came of it. What is unknown is failed."""

    status: Status
    detail: str  # one line: what was checked, or the first problem
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A segment that was to be computed again, or its first steps."""

    number: int  # its place in the chain, from 0
    first_step: int
    stop_step: int  # the steps [first_step, stop_step) were to be computed
    result: SegmentOutcome  # "skipped": not begun, since one before it is different
    first_different_step: int | None = None
    commits: int = 0  # equal ones
    seconds: float = 0.0
    device: str = ""
    worker: str = ""  # HOST:PROCESS
    reason: str = ""  # why it failed
    metrics: Mapping[str, float] | None = None  # of its last step that was computed


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample of a run's segments, and the fraud that its probability is about."""

    sample: Sample
    total: int  # segments that could be drawn
    altered: int  # how many of them a fraud of that size alters
    fraud: Fraction

    @property
    def miss_probability(self) -> Fraction:
        """The probability that a run with so many altered segments would have passed."""
        return miss_probability(self.total, self.altered, len(self.sample.segments))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found. `verdict` is "same" only if everything that was to be checked was, and is as claimed.

    On which device and with which kernels the run was made is its runner's own statement in the segments; nothing here
    verifies it. `device` is the one that replayed. A log that is damaged says nothing of the run: `log` is failed, and
    what it would have told is None.
    """

    run: Digest
    verdict: Outcome
    first_different_step: int | None  # counted from 0
    log: Part  # signatures, tree and chain
    artifacts: Part  # the stored bytes that were needed
    computation: Part  # which steps
    segments: tuple[SegmentResult, ...]  # those that were to be computed again
    segments_total: int  # of the run
    drawn: Drawn | None  # None: everything, or a range of steps that the user named
    commits_checked: int  # equal ones
    steps_checked: int
    steps: int  # of the whole job
    device: str
    metrics: Mapping[str, float]  # of the last step that was computed, with those of the evaluation
    entry: Digest | None  # the signed verdict in the verifier's ledger; none where something failed
    ledger: str  # origin of that ledger; empty if nothing was signed
    objects_checked: int
    bytes_fetched: int
    seconds: float
    job: Digest | None = None
    final_state: Digest | None = None  # as the run claims it
    run_entry: Digest | None = None  # the last entry of the run that was checked
    run_author: bytes | None = None  # public key, 32 bytes, of who made the run
    log_vkey: str | None = None  # verifier key of the log that the run was read from
    log_key_known: bool = False  # it is the key that was asked for, or of a log on this machine; else as the place says
    log_audited: bool = False  # all of the log was checked, not the run's entries alone
    parentage: Part | None = None  # whether its first state is its parent's, as that one's entries say; None: no parent
    chain: RunChain | None = field(default=None, repr=False)  # the run's entries

    @property
    def claimed(self) -> tuple[SegmentBody, ...]:
        """The run's segments, as its entries claim them."""
        return () if self.chain is None else tuple(link.body for link in self.chain.segments)

    @property
    def first_step(self) -> int:
        """The step that the run begins with."""
        return 0 if self.chain is None else self.chain.body.first_step

    @property
    def parent(self) -> Digest | None:
        """The run that this one says to go on from."""
        return None if self.chain is None else self.chain.body.parent

    @property
    def is_whole(self) -> bool:
        """Whether every segment of the run was to be computed again, from its first step on."""
        return self.drawn is None and len(self.segments) == self.segments_total

    @property
    def problem(self) -> str:
        """Why the verdict is "failed": the first problem of the first part that failed; empty if none did."""
        return next((f"{name}: {part.detail}" for name, part in self.parts.items() if part.status == FAILED), "")

    @property
    def parts(self) -> dict[str, Part]:
        """What was checked, by name."""
        parts = {"log": self.log, "artifacts": self.artifacts, "computation": self.computation}
        return parts if self.parentage is None else {**parts, "parentage": self.parentage}
