"""`samebits verify`: compute steps of a run again and compare every commit."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from samebits.cas import Store
from samebits.cas.files import refuse_inside, replacing_file
from samebits.cli.limits import MaxMemoryOption, MaxSecondsOption, limited
from samebits.cli.options import DeviceOption, JsonOption, StoreOption, check_target, open_store, store_path
from samebits.cli.output import EXIT_DIFFERENT, CommandError, command, fail, say
from samebits.cli.places import LogKeyOption, PlaceOption, RunArgument, parse_log_key, run_and_place
from samebits.cli.progress import step_progress
from samebits.cli.report_page import render_page
from samebits.cli.trusting import KeyOption, TrustOption, load_given_key, load_trust
from samebits.cli.verdict_text import print_verdict
from samebits.exec.places.place_opening import open_run_place
from samebits.exec.verification.curves import read_curves
from samebits.exec.verification.selection import (
    DEFAULT_FRAUD,
    SampleRequest,
    Selection,
    parse_fraction,
    parse_step_range,
)
from samebits.exec.verification.verdict import DIFFERENT, FAILED, Verdict
from samebits.exec.verification.verify import verify
from samebits.ledger import Trust

AUDIT = "Audit: a sample"
WHERE = "Where to compute"


@command
def verify_command(
    run: RunArgument,
    store: StoreOption = None,
    device: DeviceOption = "numpy",
    source: PlaceOption = None,
    log_key: LogKeyOption = None,
    partial: Annotated[bool, typer.Option("--partial", help="Accept a run that stops before its last step.")] = False,
    steps: Annotated[
        str | None,
        typer.Option(help="Replay these steps only, from the checkpoint before them.", metavar="FIRST:STOP"),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Replay K segments, drawn by chance.", metavar="K", rich_help_panel=AUDIT),
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(help="Draw so many that fraud is hit with this probability.", metavar="P", rich_help_panel=AUDIT),
    ] = None,
    fraud: Annotated[
        str | None,
        typer.Option(help="The fraction of altered segments. Default: 0.05.", metavar="F", rich_help_panel=AUDIT),
    ] = None,
    beacon: Annotated[
        str | None,
        typer.Option(
            help="Draw by public randomness (1 to 64 bytes), not by a nonce announced in the ledger.",
            metavar="HEX",
            rich_help_panel=AUDIT,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Replay segments in N processes.", metavar="N", rich_help_panel=WHERE)
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Replay on the workers of a Dask cluster, which are trusted with the result.",
            metavar="tcp://HOST:PORT",
            rich_help_panel=WHERE,
        ),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="Sign draw and verdict into this log, or that of this store.", metavar="DIR"),
    ] = None,
    sign: Annotated[bool, typer.Option("--sign/--no-sign", help="Sign the verdict into a ledger.")] = True,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page about the verdict.", metavar="FILE.html")
    ] = None,
    key: KeyOption = None,
    trust: TrustOption = None,
    max_memory: MaxMemoryOption = None,
    max_seconds: MaxSecondsOption = None,
    json: JsonOption = False,
) -> None:
    """Replay a run, or a part of it, and compare every commit.

    Checks the ledger (signatures, tree, chain), the stored bytes that are needed, whether a fork begins with its
    parent's state, and every step, or the segments of a sample: how likely a fraud is to pass it is said with the
    verdict. From another machine only what is needed is fetched, by hash; of its log the run's entries are checked,
    with the proofs that they are in it. Exit code: 0 same, 1 different, 2 something is missing, damaged or malformed,
    or the parent is not the run's.
    """
    (address, place), key_of_log = run_and_place(run, source), parse_log_key(log_key)
    selection = _selection(steps, sample, confidence, fraud, beacon)
    known, signer = load_trust(trust, store_path(store)), load_given_key(key)
    with limited(max_memory, max_seconds), contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_store(store))
        if report is not None:
            check_target("--report", report)
            refuse_inside(opened, report)
        other = stack.enter_context(open_run_place(place, opened, log_key=key_of_log))
        progress = stack.enter_context(step_progress("verify"))
        verdict = verify(
            address,
            opened,
            device=device,
            source=other,
            partial=partial,
            progress=progress,
            key=signer,
            selection=selection,
            jobs=jobs,
            scheduler=scheduler,
            ledger=ledger,
            sign=sign,
            notice=say,
        )
        try:
            if report is not None:
                given = {
                    "--from": source,
                    "--device": device,
                    "--steps": steps,
                    "--sample": sample,
                    "--confidence": confidence,
                    "--fraud": fraud,
                    "--beacon": beacon,
                }
                _write_report(report, verdict, opened, known, _command_line(run, given, partial=partial))
        finally:  # also where the page can't be written
            print_verdict(verdict, known, as_json=json)
    if verdict.verdict == FAILED:
        fail(f"run {address} is not verified: {verdict.problem}")
    if verdict.verdict == DIFFERENT:
        raise typer.Exit(EXIT_DIFFERENT)


def _write_report(path: Path, verdict: Verdict, store: Store, trust: Trust, command: str) -> None:
    """Write the page, whole or not at all; raises FileError."""
    chain, author, log = verdict.chain, verdict.run_author, verdict.log_vkey
    curves = {} if chain is None else read_curves(store, chain.body, verdict.claimed)
    author_name = "" if author is None else (trust.author_name(author) or "").strip()
    log_name = "" if log is None else trust.log_name(log)
    page = render_page(
        verdict,
        curves,
        " ".join(filter(None, (author_name, "" if author is None else author.hex()))),
        " ".join(filter(None, (log_name, log))),
        command,
    )
    with replacing_file(path) as file:
        file.write(page.encode())


def _command_line(run: str, given: Mapping[str, object], *, partial: bool) -> str:
    """Return the command that does the same once more; a sample of a nonce draws anew."""
    words = ["samebits", "verify", run, *(["--partial"] if partial else [])]
    for option, value in given.items():
        words += [] if value is None else [option, str(value)]
    return shlex.join(words)


def _selection(
    steps: str | None, sample: int | None, confidence: str | None, fraud: str | None, beacon: str | None
) -> Selection | None:
    """Return what the options select; raises CommandError for options that contradict each other, and RunError."""
    if sum(option is not None for option in (steps, sample, confidence)) > 1:
        raise CommandError("--steps, --sample and --confidence: give one of them")
    if sample is None and confidence is None:
        if fraud is not None or beacon is not None:
            raise CommandError("--fraud and --beacon belong to --sample K or --confidence P")
        return None if steps is None else parse_step_range(steps)
    return SampleRequest(
        sample,
        None if confidence is None else parse_fraction(confidence),
        DEFAULT_FRAUD if fraud is None else parse_fraction(fraud),
        b"" if beacon is None else _read_beacon(beacon),
    )


def _read_beacon(text: str) -> bytes:
    try:
        beacon = bytes.fromhex(text)
    except ValueError:
        beacon = b""
    if not beacon or not text.isalnum():
        raise CommandError(f"--beacon {text[:80]!r}: want 1 to 64 bytes in hex")
    return beacon
