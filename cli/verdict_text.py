"""A verdict as text and as JSON. What was drawn is never said in words that could be read as a full replay."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

from samebits.cli.output import print_fields, print_json, print_metrics, readable, size_text
from samebits.cli.trusting import author_text
from samebits.exec.verification.verdict import FAILED, SAME, SKIPPED, Drawn, Part, Verdict
from samebits.ledger import Trust


def print_verdict(verdict: Verdict, trust: Trust, *, as_json: bool) -> None:
    """Print a verdict, and by whom the run is as far as the trust file says."""
    author = verdict.run_author
    name = None if author is None else trust.author_name(author)
    log_name = None if verdict.log_vkey is None else trust.log_name(verdict.log_vkey)
    if as_json:
        print_json({**verdict_fields(verdict), "run_author_name": name, "log_name": log_name})
        return
    by = "" if author is None else author.hex() if name is None else author_text(trust, author, "run")
    fields = {
        "verdict": summary(verdict),
        "run": verdict.run,
        "run by": by,
        "job": verdict.job,
        "begins": begins_text(verdict),
        "final state": verdict.final_state,
        "ledger entry": f"{verdict.run_entry} (the run's last)" if verdict.run_entry else None,
        "this verdict": signed_text(verdict),
        "log": part_text(verdict.log) + (f" (of {log_name})" if log_name else ""),
        "artifacts": part_text(verdict.artifacts) + f" ({size_text(verdict.bytes_fetched)} fetched)",
        "computation": part_text(verdict.computation) + f", {verdict.seconds:.1f} s in all",
        "parentage": None if verdict.parentage is None else part_text(verdict.parentage),
    }
    print_fields({name: value for name, value in fields.items() if value})
    print_metrics(verdict.metrics)


def begins_text(verdict: Verdict) -> str:
    """Return where a run begins that does not begin at step 0, and that this says nothing about the steps before."""
    if verdict.first_step == 0:
        return ""
    begins = f"at step {verdict.first_step}, in a state that its job names; "
    if verdict.parent is None:
        return begins + "where that comes from is not checked"
    return begins + f"how run {verdict.parent} came to it, `verify` of that run checks"


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as values that JSON can hold."""
    names = [field.name for field in dataclasses.fields(verdict) if field.name != "chain"]
    fields = {name: readable(getattr(verdict, name)) for name in names}
    fields |= {name: dataclasses.asdict(fields[name]) for name in verdict.parts}
    fields["segments"] = [dataclasses.asdict(one) for one in verdict.segments]
    fields |= {"first_step": verdict.first_step, "parent": readable(verdict.parent)}
    fields["drawn"] = None if verdict.drawn is None else _drawn_fields(verdict.drawn)
    return fields


def summary(verdict: Verdict) -> str:
    """Return the verdict in one line."""
    if verdict.verdict == FAILED:
        return f"failed: {verdict.problem}"
    if verdict.first_different_step is not None:
        among = "" if verdict.is_whole else " of the steps that were computed"
        return f"different: step {verdict.first_different_step} is the first that differs{among} (counted from 0)"
    if verdict.drawn is not None:
        return f"same: {drawn_text(verdict.drawn)}"
    commits, checked, steps = verdict.commits_checked, verdict.steps_checked, verdict.steps
    if checked == steps - verdict.first_step:
        return f"same: all {commits} commits of {checked} of {steps} steps are equal"
    return f"same: the {commits} commits of {verdict.computation.detail.partition(' replayed')[0]} of {steps} are equal"


def drawn_text(drawn: Drawn) -> str:
    """Return what a sample says and what it can't."""
    count = len(drawn.sample.segments)
    how = "a beacon" if drawn.sample.draw is None else f"a nonce announced in entry {drawn.sample.draw}"
    return (
        f"{count} of {drawn.total} segments (drawn by {how}); a run with {percent_text(drawn.fraud)} altered "
        f"segments ({drawn.altered} of {drawn.total}) would have passed with probability "
        f"{probability_text(drawn.miss_probability)}"
        + ("; a single altered step is only surely found by replaying everything" if count < drawn.total else "")
    )


def percent_text(fraction: Fraction) -> str:
    """Return a fraction for people: ``5 %``."""
    return f"{float(fraction * 100):g} %"


def probability_text(probability: Fraction) -> str:
    """Return a probability with two digits that count; one that is not 0 never reads as 0."""
    if 0 < probability < Fraction(1, 10**300):
        return "below 1e-300"
    return f"{float(probability):.2g}"


def part_text(part: Part) -> str:
    """Return what came of a part: ``verified: 40 objects``."""
    more = f" (and {len(part.problems) - 1} more)" if len(part.problems) > 1 else ""
    return f"{part.status}: {part.detail}{more}"


def signed_text(verdict: Verdict) -> str:
    """Return where the verdict was signed into."""
    return "not signed" if verdict.entry is None else f"{verdict.entry} (signed, in ledger {verdict.ledger})"


def counts_text(verdict: Verdict) -> str:
    """Return how many of the segments came out how: ``58 same, 1 different``."""
    outcomes = [one.result for one in verdict.segments]
    said = [f"{outcomes.count(name)} {name}" for name in (SAME, "different", FAILED, SKIPPED) if name in outcomes]
    return ", ".join(said) or "none"


def _drawn_fields(drawn: Drawn) -> dict[str, Any]:
    return {
        **readable(drawn.sample.to_body()),
        "segments_total": drawn.total,
        "sample": len(drawn.sample.segments),
        "fraud": float(drawn.fraud),
        "altered_segments": drawn.altered,
        "miss_probability": float(drawn.miss_probability),
    }
