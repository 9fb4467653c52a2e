"""The last head that a log's key has signed on this machine, kept outside the log's directory.

Who puts an old copy of a log's directory in place of the log would sign two different trees with one key: a fork, which
a log must never have. So the last signed checkpoint is also in ``<state folder>/heads/<last part of the origin>``, and
is compared with the log's files before anything is signed. The state folder is the platform's (on Linux
``~/.local/state/samebits``), or that of the environment variable SAMEBITS_STATE.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import platformdirs

from samebits.ledger.durable import locked, make_folder
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES
from samebits.ledger.regular_file import read_regular

STATE_VARIABLE: Final = "SAMEBITS_STATE"
_FOLDER: Final = "heads"


def state_folder() -> Path:
    """Return where this user's state is kept."""
    given = os.environ.get(STATE_VARIABLE)
    return Path(given) if given else platformdirs.user_state_path("samebits", appauthor=False)


class HeadFile:
    """The file of the last signed head of one log; every method raises OSError or StoreError."""

    def __init__(self, origin: str, folder: Path | None = None) -> None:
        """`folder` is the state folder, if not the user's."""
        name = origin.rpartition("/")[2]
        self.path = (state_folder() if folder is None else folder) / _FOLDER / name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process that could sign for this log away, and make the folder if it is not there."""
        make_folder(self.path.parent)
        with locked(self.path.with_name(self.path.name + ".lock")):
            yield

    def read(self) -> bytes | None:
        """Return the signed note, or None if this machine knows of none."""
        try:
            return read_regular(self.path, MAX_NOTE_SIZE_BYTES)[0]
        except FileNotFoundError:
            return None
