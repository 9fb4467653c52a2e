"""The commands of `samebits`."""

from __future__ import annotations

from typing import Annotated

import typer

import samebits
from samebits.cli import cas, jobs, key, log, log_search, witness
from samebits.cli.dispute import dispute_command
from samebits.cli.doctor import doctor_command
from samebits.cli.run import run_command
from samebits.cli.serve import serve_command
from samebits.cli.taking import pack_command, pull_command, push_command, unpack_command
from samebits.cli.verify import verify_command

app = typer.Typer(
    name="samebits",
    help="The same job gives the same bits on any machine, and anyone can check it by hash.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run_command)
app.command("verify")(verify_command)
app.command("pull")(pull_command)
app.command("push")(push_command)
app.command("pack")(pack_command)
app.command("unpack")(unpack_command)
app.command("dispute")(dispute_command)
app.add_typer(jobs.app, name="job")
app.add_typer(cas.app, name="cas")
log_search.add_commands(log.app)
app.add_typer(log.app, name="log")
app.add_typer(key.app, name="key")
app.add_typer(witness.app, name="witness")
app.command("serve")(serve_command)
app.command("doctor")(doctor_command)


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
