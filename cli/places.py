"""Runs on the command line: `RUN` or `PLACE/RUN`, `--from PLACE` and `--log-key`."""

from __future__ import annotations

from typing import Annotated

import typer

from samebits.cas import Digest
from samebits.cli.output import CommandError
from samebits.cli.trusting import load_verifier
from samebits.exec.places.place_opening import check_place
from samebits.exec.places.run_reference import parse_run_reference
from samebits.ledger import VerifierKey

RunArgument = Annotated[
    str,
    typer.Argument(
        help="The run: its address, or PLACE/ADDRESS. PLACE: http(s)://HOST:PORT/PATH, s3://BUCKET/PREFIX, the "
        "folder of another store or of a remote, or an archive (.car).",
        metavar="[PLACE/]RUN",
    ),
]
OwnRunArgument = Annotated[str, typer.Argument(help="Address of a run in this store.", metavar="RUN")]
PlaceOption = Annotated[
    str | None,
    typer.Option("--from", metavar="PLACE", help="Where the run is, and missing objects are fetched from by hash."),
]
LogKeyOption = Annotated[
    str | None,
    typer.Option(
        "--log-key",
        metavar="VKEY|FILE",
        help="The key of the run's log, or a file of it (log.pub). Default: what the place says is its key.",
    ),
]


def run_and_place(text: str, source: str | None) -> tuple[Digest, str | None]:
    """Return the run that a user named, and where it is (None: in the own store); raises RunError, CommandError."""
    reference = parse_run_reference(text)
    if reference.step is not None:
        raise CommandError(f"{text!r} names a step; want a whole run, without @{reference.step}")
    if source is not None and reference.place is not None:
        raise CommandError(f"the run's place is said twice: {reference.place} and --from {source}")
    place = source if reference.place is None else reference.place
    check_place(place)  # before anything is made here
    return reference.run, place


def own_run(text: str) -> Digest:
    """Return the run in the own store that a user named; raises RunError, and CommandError for one elsewhere."""
    run, place = run_and_place(text, None)
    if place is not None:
        raise CommandError(f"want a run of this store, not one of {place}; `samebits pull {text}` takes it home first")
    return run


def parse_log_key(text: str | None) -> VerifierKey | None:
    """Return the log's key that a user named, as a text or a file of it; raises NoteFormatError."""
    return None if text is None else load_verifier(text)
