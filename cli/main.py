"""The commands `samebits` and `cas`."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

import samebits
from samebits.cli import cas, jobs, log
from samebits.cli.allocator import keep_freed_memory
from samebits.cli.doctor import doctor_command
from samebits.cli.output import EXIT_BAD_INPUT, EXIT_INTERRUPTED, printable
from samebits.cli.run import run_command
from samebits.cli.serve import serve_command
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
app.add_typer(jobs.app, name="job")
app.add_typer(cas.app, name="cas")
app.add_typer(log.app, name="log")
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


def main() -> None:
    """Run the command line `samebits`."""
    _run(app, "samebits")


def main_cas() -> None:
    """Run the command line `cas`, which is `samebits cas`."""
    _run(cas.app, "cas")


def _run(application: typer.Typer, name: str) -> None:
    """Run a command line; a wrong option or argument is one line, like every other error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    keep_freed_memory()
    command = typer.main.get_command(application)
    try:
        code = command.main(prog_name=name, standalone_mode=False)
    except KeyboardInterrupt:
        print("samebits: interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error, file=sys.stderr)
        elif hasattr(error, "format_message"):  # an error of usage
            print(f"{name}: {printable(error.format_message())} (see {name} --help)", file=sys.stderr)
        elif type(error).__name__ != "Abort":
            raise
        code = EXIT_BAD_INPUT
    sys.exit(code if isinstance(code, int) else 0)
