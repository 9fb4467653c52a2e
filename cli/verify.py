"""`samebits verify`: replay a run and compare every commit."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Annotated

import typer

from samebits.cli.limits import MaxMemoryOption, MaxSecondsOption, limited
from samebits.cli.options import DeviceOption, JsonOption, StoreOption, open_store, store_path
from samebits.cli.output import EXIT_DIFFERENT, command, print_fields, print_json, print_metrics, readable, size_text
from samebits.cli.places import LogKeyOption, PlaceOption, RunArgument, parse_log_key, run_and_place
from samebits.cli.progress import step_progress
from samebits.cli.trusting import KeyOption, TrustOption, author_text, load_given_key, load_trust
from samebits.exec.place_opening import open_run_place
from samebits.exec.verify import SAME, Verdict, verify
from samebits.ledger import Trust


@command
def verify_command(
    run: RunArgument,
    store: StoreOption = None,
    device: DeviceOption = "numpy",
    source: PlaceOption = None,
    log_key: LogKeyOption = None,
    partial: Annotated[bool, typer.Option("--partial", help="Accept a run that stops before its last step.")] = False,
    key: KeyOption = None,
    trust: TrustOption = None,
    max_memory: MaxMemoryOption = None,
    max_seconds: MaxSecondsOption = None,
    json: JsonOption = False,
) -> None:
    """Replay a run and compare every commit.

    Checks the ledger (signatures, tree, chain), every stored byte that the run names, and every step. From another
    machine only what is needed is fetched, by hash; of its log the run's entries are checked, with the proofs that they
    are in it. Exit code: 0 same, 1 different, 2 something is missing, damaged or malformed.
    """
    (address, place), key_of_log = run_and_place(run, source), parse_log_key(log_key)
    known, signer = load_trust(trust, store_path(store)), load_given_key(key)
    with limited(max_memory, max_seconds), contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_store(store))
        other = stack.enter_context(open_run_place(place, opened, log_key=key_of_log))
        progress = stack.enter_context(step_progress("verify"))
        verdict = verify(address, opened, device=device, source=other, partial=partial, progress=progress, key=signer)
    report(verdict, known, as_json=json)
    if verdict.verdict != SAME:
        raise typer.Exit(EXIT_DIFFERENT)


def report(verdict: Verdict, trust: Trust, *, as_json: bool) -> None:
    """Print a verdict, and by whom the run is as far as the trust file says."""
    name, log_name = trust.author_name(verdict.run_author), trust.log_name(verdict.log_vkey)
    if as_json:
        fields = {field.name: readable(getattr(verdict, field.name)) for field in dataclasses.fields(verdict)}
        print_json({**fields, "run_author_name": name, "log_name": log_name})
        return
    if verdict.verdict == SAME:
        said = (
            f"same: all {verdict.commits_checked} commits of {verdict.steps_checked} of {verdict.steps} steps are equal"
        )
    else:
        said = f"different: step {verdict.first_different_step} is the first that differs (counted from 0)"
    print_fields(
        {
            "verdict": said,
            "run": verdict.run,
            "run by": verdict.run_author.hex() if name is None else author_text(trust, verdict.run_author, "run"),
            "job": verdict.job,
            "final state": verdict.final_state,
            "ledger entry": f"{verdict.run_entry} (the run's last)",
            "this verdict": f"{verdict.entry} (signed, in this store's ledger)",
            "log": _log_text(verdict) + (f" (of {log_name})" if log_name else ""),
            "artifacts": f"verified: {verdict.objects_checked} objects ({size_text(verdict.bytes_fetched)} fetched)",
            "computation": f"replayed on {verdict.device} in {verdict.seconds:.1f} s",
        }
    )
    print_metrics(verdict.metrics)


def _log_text(verdict: Verdict) -> str:
    if verdict.log_audited:
        return "verified: every entry, signature and the tree"
    key = "the key that was asked for" if verdict.log_key_known else "its key as the place says: compare with --log-key"
    return f"verified: the run's entries, signatures and proofs that they are in the log ({key})"
