"""What a folder without a published checkpoint is: no log, one that is only being made, or what is left of one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from samebits.ledger.durable import new_path
from samebits.ledger.lmdb_import import has_lmdb_log
from samebits.ledger.logkey import PUBLIC_NAME
from samebits.ledger.tile_source import CHECKPOINT_PATH
from samebits.ledger.tiles import ROOT_FOLDER

NO_CHECKPOINT: Final = "its checkpoint is gone; restore it from a copy, or start a new log"
_NOT_YET: Final = "there is no log here yet; its first writer is at it, or was interrupted: the next one publishes it"
_OLD_FORMAT: Final = (
    "is an older version's (data.mdb); it is converted when it is opened for writing, as by samebits run"
)


def is_being_made(path: Path) -> bool:
    """Return whether there is no log yet, but its first checkpoint is signed: by somebody at work, or interrupted."""
    checkpoint = path / CHECKPOINT_PATH
    return new_path(checkpoint).exists() and not checkpoint.exists() and not (path / ROOT_FOLDER).exists()


def is_remnant(path: Path) -> bool:
    """Return whether a folder without a checkpoint has something of a log that had one."""
    return (path / ROOT_FOLDER).exists() or (path / PUBLIC_NAME).exists()


def why_none(path: Path) -> str:
    """Return why a folder without a checkpoint can't be read as a log."""
    if has_lmdb_log(path):
        return _OLD_FORMAT
    if is_being_made(path):
        return _NOT_YET
    return NO_CHECKPOINT if is_remnant(path) else "there is no log here"
