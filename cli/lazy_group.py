"""A group of commands that are imported when they are called: what one command needs, another need not wait for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


def make_group(text: str, kind: type[TyperGroup] = TyperGroup, name: str | None = None) -> typer.Typer:
    """Return an empty group of commands with this help; errors and completion are left to `run_command_line`."""
    return typer.Typer(
        name=name, cls=kind, help=text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )


class LazyGroup(TyperGroup):
    """A group whose commands are named by where they are: ``MODULE:ATTRIBUTE`` of a function or of another group."""

    places: ClassVar[Mapping[str, str]] = {}  # name of a command -> where it is, in the order of the help

    def list_commands(self, ctx: object) -> list[str]:
        """Return the names of all commands."""
        return list(self.places)

    def get_command(self, ctx: object, cmd_name: str) -> Any:
        """Import a command; None if there is none of this name."""
        place = self.places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: Any = getattr(import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            alone = make_group("")
            alone.command(cmd_name)(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command
