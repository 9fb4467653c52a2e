"""The help of every command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from samebits.cli.main import app


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of a command and of all below it."""
    yield path
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from walk(command.get_command(None, name), (*path, name))


COMMANDS = list(walk(typer.main.get_command(app)))


def test_all_commands_are_found() -> None:
    assert {("run",), ("cas", "put"), ("log", "find"), ("witness", "serve"), ("dispute",)} < set(COMMANDS)
    assert len(COMMANDS) > 50


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_says_what_a_command_is_for(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"])
    assert done.exit_code == 0, done.exception
    assert "Usage: " in done.stdout
    assert "--install-completion" not in done.stdout
