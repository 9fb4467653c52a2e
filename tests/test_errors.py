"""Errors of every room go from one process to another as they are."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from samebits.cas import Digest
from samebits.exec.dispute.side import ConvictedError, FailedSideError

ROOMS = ("cas", "kernels", "ledger", "exec")
LIVE = (ConvictedError, FailedSideError)  # they hold a side with its connections, and never leave the process
VALUES = {  # by annotation
    "str": "some text",
    "str | None": "more text",
    "int": 7,
    "int | None": 8,
    "object": "anything",
    "Path": Path("folder/file"),
    "Digest": Digest(bytes(range(32))),
    "Digest | None": Digest(bytes(32)),
    "Digest | int": Digest(bytes(range(32))),
    "Sequence[str]": ("one", "two"),
}


def public_errors() -> list[type[BaseException]]:
    """Return every exception that a module of a room defines."""
    found: list[type[BaseException]] = []
    for room in ROOMS:
        package = importlib.import_module(f"samebits.{room}")
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            with suppress(ImportError):  # what an extra that is not installed needs
                module = importlib.import_module(info.name)
                defined = [one for one in vars(module).values() if inspect.isclass(one)]
                found += [one for one in defined if issubclass(one, BaseException) and one.__module__ == info.name]
    return sorted({one for one in found if not one.__name__.startswith("_")}, key=lambda one: one.__qualname__)


def make(error: type[BaseException]) -> BaseException:
    """Return an error of a class, with a value for every field that it takes."""
    if not inspect.isfunction(error.__init__):
        return error("some text")
    fields = list(inspect.signature(error.__init__).parameters.values())[1:]
    values: dict[str, Any] = {field.name: VALUES[field.annotation] for field in fields}
    return error(**values)


@pytest.mark.parametrize("error", [one for one in public_errors() if one not in LIVE])
def test_an_error_is_whole_after_pickling(error: type[BaseException]) -> None:
    made = make(error)
    made.args = (f"step 5: {made}", *made.args[1:])  # as who passes it on may put its place before it
    found = pickle.loads(pickle.dumps(made))
    assert type(found) is error
    assert (str(found), found.args, vars(found)) == (str(made), made.args, vars(made))


def test_errors_of_every_room_are_found() -> None:
    rooms = {one.__module__.split(".")[1] for one in public_errors()}
    assert rooms == set(ROOMS)
