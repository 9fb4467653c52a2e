"""The command `cas`, which is `samebits cas` without the other commands' start-up."""

from __future__ import annotations

from samebits.cli.interrupts import quiet_interrupt


def main() -> None:
    """Run the command line `cas`."""
    with quiet_interrupt():
        from samebits.cli.cas import app  # takes a while, in which Ctrl-C may come
        from samebits.cli.process import run_command_line

        run_command_line(app, "cas")
