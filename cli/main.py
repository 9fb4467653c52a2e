"""The commands of `samebits`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import typer

import samebits
from samebits.cli.lazy_group import LazyGroup, make_group


class _Commands(LazyGroup):
    """All commands."""

    places: ClassVar[Mapping[str, str]] = {
        "run": "samebits.cli.run:run_command",
        "verify": "samebits.cli.verify:verify_command",
        "pull": "samebits.cli.taking:pull_command",
        "push": "samebits.cli.taking:push_command",
        "pack": "samebits.cli.taking:pack_command",
        "unpack": "samebits.cli.taking:unpack_command",
        "dispute": "samebits.cli.dispute:dispute_command",
        "job": "samebits.cli.jobs:app",
        "cas": "samebits.cli.cas:app",
        "log": "samebits.cli.log_app:app",
        "key": "samebits.cli.key:app",
        "witness": "samebits.cli.witness:app",
        "serve": "samebits.cli.serve:serve_command",
        "doctor": "samebits.cli.doctor:doctor_command",
    }


app = make_group(
    "The same job gives the same bits on any machine, and anyone can check it by hash.", _Commands, "samebits"
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"samebits {samebits.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Verifiable machine learning."""
