"""What `samebits run --from` takes: a run with its place, and changes to its job."""

from __future__ import annotations

from pathlib import Path

from samebits.cas import Digest, Store
from samebits.cli.output import CommandError
from samebits.exec.job import Job
from samebits.exec.places.place_opening import open_run_place
from samebits.exec.places.run_reference import RunReference
from samebits.exec.running.fork import Changes, Fork, fork_run
from samebits.exec.running.ledger_wait import Notice


def parse_changes(steps: int | None, data: list[str] | None, rates: list[str] | None, seed: int | None) -> Changes:
    """Read the changes as the user typed them; raises CommandError."""
    files = dict(_split("--data", text, "NAME=FILE.npy") for text in data or ())
    values = dict(_split("--rate", text, "") for text in rates or ())
    if len(files) != len(data or ()) or len(values) != len(rates or ()):
        raise CommandError("--data and --rate set each name once")
    return Changes(
        steps, {name: Path(file) for name, file in files.items()}, {n: _number(v) for n, v in values.items()}, seed
    )


def fork_from(
    reference: RunReference, store: Store, job: Job | Digest | None, changes: Changes, device: str, notice: Notice
) -> Fork:
    """Return the job that goes on from what ``--from`` names: ``RUN@STEP`` or ``PLACE/RUN@STEP``."""
    with open_run_place(reference.place, store) as place:
        return fork_run(reference, place, store, job=job, changes=changes, device=device, notice=notice)


def _split(option: str, text: str, wanted: str) -> tuple[str, str]:
    name, sign, value = text.rpartition("=")
    if wanted and not (name and sign and value):
        raise CommandError(f"{option} {text!r}: want {wanted}")
    return name, value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"--rate {text!r}: want VALUE or NAME=VALUE, a number") from None
