"""The command `samebits`."""

from __future__ import annotations

from samebits.cli.interrupts import quiet_interrupt


def main() -> None:
    """Run the command line `samebits`."""
    with quiet_interrupt():
        from samebits.cli.main import app  # takes a while, in which Ctrl-C may come
        from samebits.cli.process import run_command_line

        run_command_line(app, "samebits")
