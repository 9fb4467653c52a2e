"""`samebits run`: run a job and chain it in the ledger, go on with a run, or from a state of one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from samebits.cas import CasError, Digest, Store, references
from samebits.cas.remotes import Remote, open_remote
from samebits.cas.transfer import pull
from samebits.cli.fork_options import fork_from, parse_changes
from samebits.cli.limits import MaxMemoryOption, MaxSecondsOption, limited
from samebits.cli.options import DeviceOption, JsonOption, StoreOption, open_store
from samebits.cli.output import CommandError, command, print_fields, print_json, print_metrics, say
from samebits.cli.progress import step_progress
from samebits.cli.script import resolve_job
from samebits.cli.trusting import KeyOption, load_given_key
from samebits.exec.devices.recomputation import DEFAULT_FAULT_RATE, check_fraction
from samebits.exec.job import Job
from samebits.exec.machine import Progress
from samebits.exec.places.place_opening import check_place
from samebits.exec.places.run_reference import parse_run_reference
from samebits.exec.running.fork import Changes
from samebits.exec.running.ledger_wait import Notice
from samebits.exec.running.resume import is_run, resume_run, unfinished_run
from samebits.exec.running.runner import CHECKPOINT_EVERY, COMMIT_EVERY, Run, put_job, run
from samebits.ledger import SigningKey


@command
def run_command(
    job: Annotated[
        str | None,
        typer.Argument(
            help="script.py[:function], a job file, or a job's address; with --resume also a run's. "
            "With --from it may be left out: the run's own job.",
            metavar="JOB",
        ),
    ] = None,
    store: StoreOption = None,
    device: DeviceOption = "numpy",
    commit_every: Annotated[
        int | None, typer.Option(min=1, help="Commit to every N-th step. Default: 1.", metavar="N")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Store the state every N steps. Default: 50.", metavar="N")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run, or with the job's latest unfinished run; begin one if there is none."
        ),
    ] = False,
    parent: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="[PLACE/]RUN@STEP",
            help="Go on from the state of a run after STEP steps. PLACE: a store's folder, URL, archive.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="With --from: the end of the job, counted from 0.", metavar="N")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="With --from: other data, of the same dtype and shape of a row.", metavar="NAME=FILE.npy"),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="With --from: a constant rate in place of the schedule's.", metavar="[NAME=]VALUE"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --from: another seed of keys and batches.", metavar="N")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="REMOTE", help="A store, or any remote, that has the job."),
    ] = None,
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
    --checkpoint-every changes a bit of the result. What ends a run early (a full disk, a kill) loses nothing that is in
    the ledger: --resume goes on there and ends with the same bits. --from continues or forks a run, which the ledger
    tells as the new run's parent.
    With --paranoid a run whose device gives two results for one launch stops and names the operations; one that ends
    says how probable it was that a fault was missed.
    """
    check_fraction("--fault-rate", fault_rate)
    with limited(max_memory, max_seconds), contextlib.ExitStack() as stack:
        changes = parse_changes(steps, data, rate, seed)
        _check_arguments(job, parent, changes)
        reference = None if parent is None else parse_run_reference(parent)
        check_place(None if reference is None else reference.place)  # before anything is made here
        signer = load_given_key(key)
        may_be_run = resume and parent is None and job is not None and _is_address(job)
        found = None if job is None else Digest.parse(job) if may_be_run else resolve_job(job)
        opened = stack.enter_context(open_store(store))
        run_address = found if may_be_run and isinstance(found, Digest) and is_run(found, opened, say) else None
        if may_be_run and run_address is None and source is None and not opened.has(Digest.parse(str(job))):
            raise CommandError(f"{job} is neither a run in the ledger of {opened.path} nor a job in the store")
        if source is not None and found is not None and run_address is None:
            _fetch(found, opened, stack.enter_context(contextlib.closing(open_remote(source))))
        origin = None
        if reference is not None:
            fork = fork_from(reference, opened, found, changes, device, say)
            found, origin = fork.job, fork.parent
        if found is None:
            raise AssertionError("without a job there is a run to go on from")
        if resume and run_address is None:
            run_address = unfinished_run(put_job(found, opened), opened, key=signer, notice=say)
        common: _Common = {"device": device, "key": signer, "notice": say, "paranoid": paranoid}
        common["progress"] = stack.enter_context(step_progress("run"))
        if run_address is not None:
            result = resume_run(run_address, opened, commit_every, checkpoint_every, **common)
        else:
            cadence = (commit_every or COMMIT_EVERY, checkpoint_every or CHECKPOINT_EVERY)
            result = run(found, opened, commit_every=cadence[0], checkpoint_every=cadence[1], parent=origin, **common)
        report(result, fault_rate, as_json=json)


class _Common(TypedDict, total=False):
    """What a run and going on with one both take."""

    device: str
    key: SigningKey | None
    notice: Notice
    paranoid: float
    progress: Progress


def _check_arguments(job: str | None, parent: str | None, changes: Changes) -> None:
    if job is None and parent is None:
        raise CommandError("want a JOB to run, or --from RUN@STEP to go on from (see samebits run --help)")
    if parent is None and changes != Changes():
        raise CommandError("--steps, --data, --rate and --seed change the job of a run: they need --from RUN@STEP")


def _is_address(text: str) -> bool:
    try:
        Digest.parse(text)
    except CasError:
        return False
    return not Path(text).exists()


def _fetch(job: Job | Digest, store: Store, source: Remote) -> None:
    """Fetch what a job names from elsewhere."""
    put_job(job, store)
    needed = [job] if isinstance(job, Digest) else references(job.spec.to_node())
    pull(source, store, needed)


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
    if result.parent is not None:
        fields |= {"first_step": result.first_step, "parent": result.parent}
    if as_json:
        print_json({**fields, "metrics": dict(result.metrics)})
        return
    print_fields(fields)
    print_metrics(result.metrics)
