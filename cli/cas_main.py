"""The command `cas`, which is `samebits cas` without the other commands' start-up."""

from __future__ import annotations

from samebits.cli.cas import app
from samebits.cli.process import run_command_line


def main() -> None:
    """Run the command line `cas`."""
    run_command_line(app, "cas")
