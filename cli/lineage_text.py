"""The lineage of a state as a tree for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from samebits.cas import CasError, Digest, Store
from samebits.cli.output import time_text
from samebits.exec.errors import JobError
from samebits.exec.job import JobSpec
from samebits.ledger import Lineage, RunOfJob, RunPart
from samebits.ledger.lineage import Parent

_PartKey = tuple[Digest, int]  # run, stop step
_SHOWN: Final = 20  # runs of one job, from one state, or that made one: anyone may append as many as they like


def lineage_lines(lineage: Lineage, store: Store | None) -> Iterator[str]:
    """Yield the lines of a tree whose root is the result, each level two characters further in."""
    yield f"{lineage.address}"
    if not lineage.made_by:
        yield "  no run of this ledger made it; " + _used(lineage)
        return
    shown: set[_PartKey] = set()
    told: set[Digest] = set()  # jobs and states, the forks of which are shown above
    waiting = [(1, part) for part in reversed(lineage.made_by)]
    while waiting:
        depth, part = waiting.pop()
        indent = "  " * depth
        yield f"{indent}made by run {part.run}, {_steps(part)}"
        if _key(part) in shown:
            yield f"{indent}  (shown above)"
            continue
        shown.add(_key(part))
        yield from (f"{indent}  {line}" for line in _part_lines(part, lineage, store, told))
        makers, are_more = _makers(lineage, part)
        root = "" if makers else f"  ({_root(part, store)})"
        yield f"{indent}  started from state {part.state_in}{root}"
        if are_more:
            yield f"{indent}    made by more than {_SHOWN} runs, the first of which are:"
        waiting.extend((depth + 2, maker) for maker in reversed(makers))


def lineage_fields(lineage: Lineage, store: Store | None) -> dict[str, Any]:
    """Return the lineage as one flat list of parts of runs, which name the parts that they started from."""
    parts: dict[_PartKey, RunPart] = {}
    waiting = list(reversed(lineage.made_by))
    while waiting:
        part = waiting.pop()
        if _key(part) not in parts:
            parts[_key(part)] = part
            waiting.extend(reversed(_makers(lineage, part)[0]))
    return {
        "address": lineage.address,
        "made_by": [_name(part) for part in lineage.made_by],
        "used_by": list(lineage.used_by),
        "parts": [_part_fields(part, lineage, store) for part in parts.values()],
        "runs_of_jobs": {str(job): _runs_fields(lineage.runs[job]) for job in {part.job: 0 for part in parts.values()}},
        "runs_from_states": {
            str(state): {"count": len(runs), "runs": runs[:_SHOWN]}
            for state in {part.state_in: 0 for part in parts.values()}
            for runs in [lineage.starts[state]]
        },
    }


def _runs_fields(runs: tuple[RunOfJob, ...]) -> dict[str, Any]:
    """Return the first runs of a job, and how many there are."""
    listed = [
        {"run": run.run, "run_entry": run.index, "next_step": run.next_step, "state": run.state}
        for run in runs[:_SHOWN]
    ]
    return {"count": len(runs), "runs": listed}


def _makers(lineage: Lineage, part: RunPart) -> tuple[tuple[RunPart, ...], bool]:
    """Return the first that made the state which a part started from, and whether there are more."""
    makers = lineage.makers(part, _SHOWN + 1)
    return makers[:_SHOWN], len(makers) > _SHOWN


def _part_fields(part: RunPart, lineage: Lineage, store: Store | None) -> dict[str, Any]:
    makers, are_more = _makers(lineage, part)
    return {
        "part": _name(part),
        "run": part.run,
        "run_entry": part.run_index,
        "author": part.author.hex(),
        "time": part.time,
        "steps": part.steps,
        "first_step": part.first_step,
        "stop_step": part.stop_step,
        "parent": None if part.parent is None else part.parent.run,
        "parent_entry": None if part.parent is None else part.parent.index,
        "segments": part.segments,
        "devices": part.devices,
        "kernels": part.kernels,
        "job": part.job,
        "job_parts": _job_parts(part.job, store),
        "state_in": part.state_in,
        "state_out": part.state_out,
        "started_from": [_name(maker) for maker in makers],
        "started_from_more": are_more,
    }


def _part_lines(part: RunPart, lineage: Lineage, store: Store | None, told: set[Digest]) -> Iterator[str]:
    count = len(part.segments)
    entries = f"entries {part.first_index}..{part.last_index}" if count > 1 else f"entry {part.first_index}"
    time = "" if part.time is None else f", {time_text(part.time)} by its clock"
    yield f"signed by {part.author.hex()}, {count} segment{'s' * (count > 1)} ({entries}){time}"
    yield f"on {', '.join(part.devices)}, kernels: {', '.join(map(str, part.kernels)) or 'none'}"
    if part.parent is not None:
        yield f"goes on from run {part.parent.run} at step {part.first_step} {_known(part.parent, part)}"
    yield f"job {part.job}"
    parts = _job_parts(part.job, store)
    yield from (f"  {name} {address}" for name, address in parts.items())
    if not parts:
        yield "  (not in this store)"
    if part.job not in told:
        for other in lineage.other_runs(part, _SHOWN):
            yield f"fork: run {other.run} (entry {other.index}) of the same job {_relation(other, part)}"
        yield from _more(len(lineage.runs[part.job]) - 1, "of the same job")
    if part.state_in not in told:
        for run in lineage.branches(part, _SHOWN):
            yield f"fork: run {run} starts from the same state"
        yield from _more(len(lineage.starts[part.state_in]) - 1, "that start from the same state")
    told |= {part.job, part.state_in}


def _more(count: int, what: str) -> Iterator[str]:
    if count > _SHOWN:
        yield f"fork: and {count - _SHOWN} more runs {what}"


def _job_parts(job: Digest, store: Store | None) -> dict[str, Digest]:
    """Return the code and data of a job by name; nothing if the store does not have it."""
    if store is None:
        return {}
    try:
        spec = JobSpec.from_node(store.get_node(job))
    except (CasError, JobError):
        return {}
    evaluation = spec.evaluation
    named = {
        "step graph": spec.step,
        "init graph": spec.init,
        "schedule": spec.schedule,
        "data": spec.data,
        "state": spec.state,
        "evaluation graph": None if evaluation is None else evaluation.graph,
        "evaluation data": None if evaluation is None else evaluation.data,
    }
    return {name: address for name, address in named.items() if address is not None}


def _root(part: RunPart, store: Store | None) -> str:
    """Say where a state comes from that no run made before."""
    parts = _job_parts(part.job, store)
    if part.state_in == parts.get("state"):
        return "the job's own; no run of this ledger made it before"
    if "init graph" in parts:
        return "made by the job's init graph; no run of this ledger made it before"
    return "no run of this ledger made it before"


def _relation(other: RunOfJob, part: RunPart) -> str:
    if other.next_step != part.stop_step:
        return f"stands at step {other.next_step}"
    return "came to the same state" if other.state == part.state_out else "came to ANOTHER state"


def _steps(part: RunPart) -> str:
    return f"steps {part.first_step}..{part.stop_step} of {part.steps}"


def _known(parent: Parent, part: RunPart) -> str:
    """Say what this log has of the run that a part goes on from."""
    if parent.index is None:
        return "(which is in another log)"
    if parent.reached is None:
        return f"(entry {parent.index}; no segment of it ends there)"
    same = parent.reached == part.state_in
    return f"(entry {parent.index})" if same else f"(entry {parent.index}, which had ANOTHER state there)"


def _used(lineage: Lineage) -> str:
    entries = ", ".join(map(str, lineage.used_by))
    return f"named as something used by entries {entries}" if entries else "nothing here used it"


def _key(part: RunPart) -> _PartKey:
    return part.run, part.stop_step


def _name(part: RunPart) -> str:
    return f"{part.run}:{part.stop_step}"
