"""What a dispute found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from samebits.cas import Digest
from samebits.exec.dispute.evidence import Evidence
from samebits.exec.dispute.side import Level, Traffic
from samebits.exec.dispute.subject import Accusation

LIED: Final = "lied"
CONTRADICTS: Final = "contradicts itself"
NOTHING: Final = "nothing against it"

# "liar": a side's signatures are proved false, or its answers do not verify; "undecided": the runs differ, or a side
# does not answer, and neither is shown
Outcome = Literal["agree", "stops early", "undecided", "liar"]
Depth = Literal["run", "segment", "steps", "step", "operation"]


@dataclass(slots=True)
class Finding:
    """What is known of one side in the end."""

    verdict: str = (
        ""  # LIED, CONTRADICTS, "did not answer", "gave answers that do not verify"; empty: nothing against it
    )
    reason: str = ""
    accusation: Accusation | None = None
    evidence: Evidence | None = None
    cleared: bool = False  # what differs was computed, and this side has it right


@dataclass(slots=True)
class DisputeReport:
    """The outcome of a dispute; `findings` and `traffic` are those of A and B in this order."""

    runs: tuple[Digest, Digest]
    job: Digest
    outcome: Outcome = "agree"
    depth: Depth = "run"  # how far the difference was followed
    agreed_steps: int = 0  # both runs agree before this step
    steps: tuple[int, int] | None = None  # where they part, half-open; one step if that is known
    place: str | None = None  # in the trace of the step
    stops: tuple[int, int] = (0, 0)  # the first step that each does not cover
    job_steps: int = 0
    findings: tuple[Finding, Finding] = field(default_factory=lambda: (Finding(), Finding()))
    traffic: dict[Level, Traffic] = field(default_factory=dict)  # of both
    bytes_fetched: int = 0  # objects, by hash, beside the answers
    operations_computed: int = 0
    steps_computed: int = 0
    seconds: float = 0.0
