"""Options that commands share, and opening what they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from samebits.cas import Store
from samebits.cli.output import CommandError
from samebits.exec.ledger_folder import LEDGER_FOLDER
from samebits.ledger import Log
from samebits.ledger.policy import MAX_POLICY_SIZE_BYTES, Policy, parse_policy

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", envvar="SAMEBITS_STORE", help="The store. Default: the user's data folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, everything else on stderr.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Move a pin that names another object.")]
NameArgument = Annotated[
    str,
    typer.Argument(help="ADDRESS (or its first 8 or more characters) or PIN, and /path/inside.", metavar="NAME"),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="Where to compute. See `samebits doctor`.")]
FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="DIR", help="Another store, from which missing objects are fetched by hash."),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="Logs to believe, and witnesses that must have cosigned."),
]


def store_path(given: Path | None) -> Path:
    """Return the store's directory: the one given, or the default of the platform."""
    return given if given is not None else platformdirs.user_data_path("samebits", appauthor=False)


def read_file(path: Path, limit_bytes: int) -> bytes:
    """Return what a file holds, at most `limit_bytes` + 1 bytes of it; raises OSError."""
    with path.open("rb") as file:
        return file.read(limit_bytes + 1)


def check_target(option: str, path: Path) -> None:
    """Raise CommandError, before anything is computed, for a file that could not be written."""
    if not path.parent.is_dir():
        raise CommandError(f"{option} {path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise CommandError(f"{option} {path}: it is there and not a regular file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CommandError(f"{option} {path}: the folder {path.parent} may not be written")


def load_policy(path: Path) -> Policy:
    """Read a policy file; raises PolicyFormatError."""
    return parse_policy(read_file(path, MAX_POLICY_SIZE_BYTES))


def open_store(given: Path | None) -> Store:
    """Open the store, making it where there is none."""
    return Store(store_path(given))


def open_log(given: Path | None) -> Log:
    """Open the log of a store for reading; raises LedgerError."""
    return Log.open(store_path(given) / LEDGER_FOLDER, read_only=True)


def open_existing_store(path: Path) -> Store:
    """Open a store for reading; raises StoreError if there is none."""
    return Store(path, read_only=True)
