"""`samebits run`: run a job and chain it in the ledger."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from samebits.cas import Digest, references
from samebits.cas.remotes import StoreRemote
from samebits.cas.transfer import pull
from samebits.cli.limits import MaxMemoryOption, MaxSecondsOption, limited
from samebits.cli.options import DeviceOption, FromOption, JsonOption, StoreOption, open_existing_store, open_store
from samebits.cli.output import command, print_fields, print_json, print_metrics
from samebits.cli.progress import step_progress
from samebits.cli.script import resolve_job
from samebits.cli.trusting import KeyOption, load_given_key
from samebits.exec.devices.recomputation import DEFAULT_FAULT_RATE, check_fraction
from samebits.exec.runner import Run, put_job, run


@command
def run_command(
    job: Annotated[str, typer.Argument(help="script.py[:function], a job file, or a job's address.", metavar="JOB")],
    store: StoreOption = None,
    device: DeviceOption = "numpy",
    commit_every: Annotated[int, typer.Option(min=1, help="Commit to every N-th step.", metavar="N")] = 1,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Store the state every N steps.", metavar="N")] = 50,
    source: FromOption = None,
    key: KeyOption = None,
    paranoid: Annotated[
        float,
        typer.Option(min=0, max=1, help="Compute this fraction of launches twice, to find faults.", metavar="FRACTION"),
    ] = 0.0,
    fault_rate: Annotated[
        float,
        typer.Option(min=0, max=1, help="With --paranoid: wrong launches per launch to reckon with.", metavar="RATE"),
    ] = DEFAULT_FAULT_RATE,
    max_memory: MaxMemoryOption = None,
    max_seconds: MaxSecondsOption = None,
    json: JsonOption = False,
) -> None:
    """Run a job from its first step to its last and chain it in the ledger.

    A script defines `def job() -> samebits.Job`; it is run to capture the job. Neither --commit-every nor
    --checkpoint-every changes a bit of the result. With --paranoid a run whose device gives two results for one launch
    stops and names the operations; one that ends says how probable it was that a fault was missed.
    """
    check_fraction("--fault-rate", fault_rate)
    with limited(max_memory, max_seconds), contextlib.ExitStack() as stack:
        found, signer = resolve_job(job), load_given_key(key)
        other = None if source is None else stack.enter_context(open_existing_store(source))
        opened = stack.enter_context(open_store(store))
        if other is not None:
            put_job(found, opened)
            needed = [found] if isinstance(found, Digest) else references(found.spec.to_node())
            pull(StoreRemote(other), opened, needed)
        with step_progress("run") as progress:
            result = run(
                found,
                opened,
                device=device,
                commit_every=commit_every,
                checkpoint_every=checkpoint_every,
                progress=progress,
                key=signer,
                paranoid=paranoid,
            )
        report(result, fault_rate, as_json=json)


def report(result: Run, fault_rate: float, *, as_json: bool) -> None:
    """Print what a run left behind."""
    fields = {
        "run": result.address,
        "job": result.job,
        "final_state": result.final_state,
        "entry": result.entry,
        "steps": result.steps,
        "commits": len(result.commits),
        "device": result.device,
        "seconds": round(result.seconds, 3),
    }
    if result.recomputed is not None:
        missed = result.recomputed.missed_fault_probability(fault_rate)
        fields |= {
            "launches": result.recomputed.launches,
            "recomputed": result.recomputed.recomputed,
            "fault_rate": fault_rate,
            "missed_fault_probability": missed if as_json else f"{missed:.3g}",
        }
    if as_json:
        print_json({**fields, "metrics": dict(result.metrics)})
        return
    print_fields(fields)
    print_metrics(result.metrics)
