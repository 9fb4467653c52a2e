"""Running a command line as a process."""

from __future__ import annotations

import io
import sys

import typer

from samebits.cli.allocator import keep_freed_memory
from samebits.cli.output import EXIT_BAD_INPUT, printable


def run_command_line(application: typer.Typer, name: str) -> None:
    """Run a command line; a wrong option or argument is one line, like every other error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    keep_freed_memory()
    command = typer.main.get_command(application)
    try:
        code = command.main(prog_name=name, standalone_mode=False)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error, file=sys.stderr)
        elif hasattr(error, "format_message"):  # an error of usage
            print(f"{name}: {printable(error.format_message())} (see {name} --help)", file=sys.stderr)
        elif type(error).__name__ != "Abort":
            raise
        code = EXIT_BAD_INPUT
    sys.exit(code if isinstance(code, int) else 0)
