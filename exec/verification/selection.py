"""Which steps of a run are computed again: everything, the steps that a user names, or a sample of the segments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

from samebits.exec.commits import commit_steps
from samebits.exec.errors import RunError
from samebits.exec.verification.sampling import altered_segments, smallest_sample
from samebits.ledger import RunChain, SegmentBody
from samebits.ledger.bodies import MAX_BEACON_SIZE_BYTES

DEFAULT_FRAUD: Final = Fraction(1, 20)
MAX_SAMPLE: Final = 10_000  # a verdict, which lists the drawn segments, is an entry of at most 64 KiB
_RANGE: Final = re.compile(r"([0-9]{0,18}):([0-9]{0,18})\Z")
_FRACTION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(%?)\Z")


@dataclass(frozen=True, slots=True)
class StepRange:
    """The steps [first, stop); None: from the run's first, to its last."""

    first: int | None = None
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """So many segments, or as many as hit a fraud of this fraction with this confidence; by a nonce, or a beacon."""

    size: int | None = None
    confidence: Fraction | None = None
    fraud: Fraction = DEFAULT_FRAUD
    beacon: bytes = b""

    def __post_init__(self) -> None:
        if (self.size is None) == (self.confidence is None):
            raise RunError("a sample has either a size or a confidence")
        if self.size is not None and self.size < 1:
            raise RunError(f"a sample of {self.size} segments: want 1 or more")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise RunError(f"a confidence of {float(self.confidence):g}: want one above 0 and below 1")
        if not 0 < self.fraud <= 1:
            raise RunError(f"a fraud of {float(self.fraud):g} of the segments: want a fraction above 0 and up to 1")
        if len(self.beacon) > MAX_BEACON_SIZE_BYTES:
            raise RunError(f"a beacon of {len(self.beacon)} bytes: want 1 to {MAX_BEACON_SIZE_BYTES}")

    def count(self, total: int) -> tuple[int, int]:
        """Return how many of a run's segments to draw, and how many of them the fraud alters; raises RunError."""
        altered = altered_segments(total, self.fraud)
        size = smallest_sample(total, altered, self.confidence) if self.confidence is not None else self.size
        if size is None or size > total:
            raise RunError(f"a sample of {size} segments: the run has {total}")
        if size > MAX_SAMPLE:
            raise RunError(f"a sample of {size} segments: a verdict lists up to {MAX_SAMPLE}; replay everything")
        return size, altered


Selection: TypeAlias = StepRange | SampleRequest


@dataclass(frozen=True, slots=True)
class Selected:
    """A segment to compute again from its stored state, up to a step."""

    number: int  # its place in the chain, from 0
    body: SegmentBody
    stop_step: int  # first_step < stop_step <= that of the segment


def select_all(chain: RunChain) -> list[Selected]:
    """Return every segment of a run."""
    return [Selected(number, link.body, link.body.stop_step) for number, link in enumerate(chain.segments)]


def select_steps(chain: RunChain, steps: StepRange) -> list[Selected]:
    """Return the segments that the steps are in, from the last checkpoint before them to the commit behind them.

    Raises RunError for a range that is empty or outside of what the run has.
    """
    begin, end = chain.segments[0].body.first_step, chain.next_step
    first = begin if steps.first is None else steps.first
    stop = end if steps.stop is None else steps.stop
    if not begin <= first < stop <= end:
        raise RunError(f"the run has the steps {begin}:{end}; {first}:{stop} is not a range in them")
    found = []
    for one in select_all(chain):
        body = one.body
        if body.first_step < stop and first < body.stop_step:
            due = commit_steps(body.first_step, body.stop_step, chain.body.commit_every)
            until = min(stop, body.stop_step)
            found.append(Selected(one.number, body, due.following(until - 1) + 1))
    return found


def select_numbers(chain: RunChain, numbers: tuple[int, ...]) -> list[Selected]:
    """Return the segments of these numbers."""
    everything = select_all(chain)
    return [everything[number] for number in numbers]


def parse_step_range(text: str) -> StepRange:
    """Read ``100:200``, ``:200``, ``100:``; raises RunError."""
    found = _RANGE.match(text)
    if found is None:
        raise RunError(f"{text[:80]!r} is no range of steps: want FIRST:STOP, either of which may be left out")
    first, stop = (int(number) if number else None for number in found.groups())
    return StepRange(first, stop)


def parse_fraction(text: str) -> Fraction:
    """Read ``0.05`` or ``5%``, exactly; raises RunError."""
    found = _FRACTION.match(text)
    if found is None:
        raise RunError(f"{text[:80]!r} is no fraction: want a number like 0.05 or 5%")
    return Fraction(found[1] + ("0" if found[1].endswith(".") else "")) / (100 if found[2] else 1)
