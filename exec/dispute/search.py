"""Find the step at which two runs part: boundaries of segments first, then commits, then single steps between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import lcm

from samebits.cas import Digest
from samebits.exec.commits import CommitSteps, commit_steps
from samebits.exec.dispute.side import ConvictedError, Side
from samebits.ledger import encode_entry


@dataclass(frozen=True, slots=True)
class Gap:
    """Both runs agree before step `first`, and differ in the commit of step `stop` - 1."""

    first: int
    stop: int
    checkpoint: int  # the last boundary of segments of both, not after `first`


def find_gap(a: Side, b: Side) -> Gap | None:
    """Return where the runs part, as far as both have commits; None if they agree as far as both go."""
    common = _common_boundaries(a, b)
    agreed = a.run.body.first_step
    for boundary in common:
        if _end(a, boundary) != _end(b, boundary):
            return _between(a, b, agreed, boundary)
        if not _same_commits(a, b, agreed, boundary):
            found = _scan(a, b, agreed, boundary)
            if found is not None:
                return found
        agreed = boundary
    return None


def agreed_steps(a: Side, b: Side) -> int:
    """Return the last boundary of segments that both runs have; their first step if there is none."""
    return max(_common_boundaries(a, b), default=a.run.body.first_step)


def narrow(a: Side, b: Side, gap: Gap) -> Gap:
    """Return the one step in a gap at which the runs part; sides that don't commit every step sign traces of them."""
    steps = range(gap.first, gap.stop)
    at = bisect(len(steps), lambda index: _differ(a, b, steps[index]))
    return Gap(steps[at], steps[at] + 1, gap.checkpoint)


def bisect(count: int, differs: Callable[[int], bool]) -> int:
    """Return an index that differs while the one before it does not; the last, `count` - 1, is known to differ."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if differs(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _between(a: Side, b: Side, first: int, stop: int) -> Gap:
    """Return where runs part that have the same state at one boundary and another one at the next."""
    for side in (a, b):
        segment = side.segment_of(stop - 1)
        commit, proof = side.commit(stop - 1)
        if commit.state != segment.body.state_out:
            raise ConvictedError(side, side.evidence("state_out", segment=encode_entry(segment.entry), after=proof))
    steps = commit_steps(first, stop, lcm(a.run.body.commit_every, b.run.body.commit_every))
    at = bisect(len(steps), lambda index: _differ(a, b, _nth(steps, index)))
    return Gap(first if at == 0 else _nth(steps, at - 1) + 1, _nth(steps, at) + 1, first)


def _scan(a: Side, b: Side, first: int, stop: int) -> Gap | None:
    """Return where the commits of runs part that meet again, or None: every commit of both is compared."""
    before = first
    for step in commit_steps(first, stop, lcm(a.run.body.commit_every, b.run.body.commit_every)):
        if _differ(a, b, step):
            return Gap(before, step + 1, first)
        before = step + 1
    return None


def _differ(a: Side, b: Side, step: int) -> bool:
    return a.commit(step)[0] != b.commit(step)[0]


def _nth(steps: CommitSteps, index: int) -> int:
    return min((steps.first // steps.every + 1 + index) * steps.every, steps.stop) - 1


def _common_boundaries(a: Side, b: Side) -> list[int]:
    ends = [{segment.body.stop_step for segment in side.prover.chain.segments} for side in (a, b)]
    return sorted(ends[0] & ends[1])


def _end(side: Side, boundary: int) -> Digest:
    return side.segment_of(boundary - 1).body.state_out


def _same_commits(a: Side, b: Side, first: int, stop: int) -> bool:
    """Say whether the segments between two boundaries sign the same commits, by their roots alone."""
    signed = []
    for side in (a, b):
        segments = [s.body for s in side.prover.chain.segments if first <= s.body.first_step < stop]
        signed.append([(s.first_step, s.stop_step, s.commits_root) for s in segments])
    return signed[0] == signed[1] and a.run.body.commit_every == b.run.body.commit_every
