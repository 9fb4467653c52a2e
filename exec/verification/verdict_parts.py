"""Put a verdict together from what was found of the objects and the segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samebits.cas import Digest
from samebits.exec.places.run_places import FoundRun
from samebits.exec.verification.verdict import (
    DIFFERENT,
    FAILED,
    SAME,
    SKIPPED,
    VERIFIED,
    Drawn,
    Part,
    SegmentResult,
    Verdict,
)
from samebits.exec.verification.wanted_objects import WantedObjects


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out, apart from the log."""

    artifacts: Part
    computation: Part
    results: Sequence[SegmentResult] = ()
    drawn: Drawn | None = None


def artifacts_part(wanted: WantedObjects) -> Part:
    if wanted.problems:
        return Part(FAILED, wanted.problems[0], wanted.problems)
    return Part(VERIFIED, f"{wanted.objects_checked} objects")


def computation_part(results: Sequence[SegmentResult], device: str) -> Part:
    different = [one.first_different_step for one in results if one.first_different_step is not None]
    if different:
        return Part(FAILED, f"step {min(different)} is the first that differs (counted from 0)")
    problems = [f"segment {one.first_step}:{one.stop_step}: {one.reason}" for one in results if one.result == FAILED]
    if problems:
        return Part(FAILED, problems[0], tuple(problems))
    return Part(VERIFIED, f"steps {_ranges(results)} replayed on {device}")


def _ranges(results: Sequence[SegmentResult]) -> str:
    """Return the steps of segments, with those that follow one another as one range: ``0:20, 40:50``."""
    ranges: list[list[int]] = []
    for one in results:
        if ranges and ranges[-1][1] == one.first_step:
            ranges[-1][1] = one.stop_step
        else:
            ranges.append([one.first_step, one.stop_step])
    shown = [f"{first}:{stop}" for first, stop in ranges]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:12], f"... ({len(shown)} ranges)"])


def make_verdict(
    found: FoundRun, wanted: WantedObjects, outcome: Outcome, parentage: Part | None, device: str
) -> Verdict:
    """Put together what came out; signing comes after."""
    chain, results = found.chain, outcome.results
    different = [one.first_different_step for one in results if one.first_different_step is not None]
    is_whole = outcome.artifacts.status == outcome.computation.status == VERIFIED
    is_whole = is_whole and (parentage is None or parentage.status != FAILED)
    return Verdict(
        run=chain.run_address,
        verdict=DIFFERENT if different else SAME if is_whole else FAILED,
        first_different_step=min(different, default=None),
        log=Part(VERIFIED, _log_detail(found)),
        artifacts=outcome.artifacts,
        computation=outcome.computation,
        parentage=parentage,
        segments=tuple(results),
        segments_total=len(chain.segments),
        drawn=outcome.drawn,
        commits_checked=sum(one.commits for one in results),
        steps_checked=sum(map(_steps_checked, results)),
        steps=chain.body.steps,
        device=device,
        metrics=next((one.metrics for one in reversed(results) if one.metrics is not None), {}),
        entry=None,
        ledger="",
        objects_checked=wanted.objects_checked,
        bytes_fetched=wanted.bytes_fetched,
        seconds=0.0,
        job=chain.job,
        final_state=chain.segments[-1].body.state_out,
        run_entry=chain.head,
        run_author=chain.author,
        log_vkey=found.log_key.vkey,
        log_key_known=found.is_key_known,
        log_audited=found.audited,
        chain=chain,
    )


def _log_detail(found: FoundRun) -> str:
    if found.audited:
        return "every entry, signature and the tree"
    key = "its key is the one asked for" if found.is_key_known else "its key as the place says: compare with --log-key"
    return f"the run's entries, signatures and proofs that they are in the log ({key})"


def _steps_checked(result: SegmentResult) -> int:
    if result.first_different_step is not None:
        return result.first_different_step + 1 - result.first_step
    return result.stop_step - result.first_step if result.result == SAME else 0


def log_failed(run: Digest, reason: str, device: str) -> Verdict:
    """Return what can be said of a run in a log that is damaged: nothing else."""
    unknown = Part(SKIPPED, "unknown, since the log can't be believed")
    return Verdict(
        run=run,
        verdict=FAILED,
        first_different_step=None,
        log=Part(FAILED, reason, (reason,)),
        artifacts=unknown,
        computation=unknown,
        segments=(),
        segments_total=0,
        drawn=None,
        commits_checked=0,
        steps_checked=0,
        steps=0,
        device=device,
        metrics={},
        entry=None,
        ledger="",
        objects_checked=0,
        bytes_fetched=0,
        seconds=0.0,
    )
