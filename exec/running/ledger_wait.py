"""Waiting for a ledger that another process writes to, saying so."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from samebits.cas.lock_holder import holder_text
from samebits.cas.locks import open_exclusive, try_lock
from samebits.exec.errors import RunError
from samebits.ledger.tile_storage import LOCK_NAME

Notice = Callable[[str], None]  # told what a long wait is for, in one line
_POLL_S: Final = 0.05
_SAY_AFTER_S: Final = 2.0
_SAY_EVERY_S: Final = 60.0


def wait_for_ledger(directory: Path, notice: Notice | None, is_interrupted: Callable[[], bool] | None = None) -> None:
    """Return when nobody writes to a ledger, for that moment; raises RunError once it is interrupted.

    A directory that can't be locked is left to what writes, which says why.
    """
    path = directory / LOCK_NAME
    if not path.exists():
        return
    began = time.monotonic()
    say_at = began + _SAY_AFTER_S
    with open_exclusive(path) as descriptor:
        while not try_lock(descriptor, fcntl.LOCK_EX):
            now = time.monotonic()
            if is_interrupted is not None and is_interrupted():
                raise RunError(f"ledger {directory} is locked by {holder_text(path)}")
            if notice is not None and now >= say_at:
                notice(f"waiting for the ledger {directory}, which {holder_text(path)} has locked")
                say_at = now + _SAY_EVERY_S
            time.sleep(_POLL_S)
