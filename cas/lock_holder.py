"""Who holds a lock that this process waits for, as far as the system tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_LOCKS: Final = Path("/proc/locks")  # Linux; a line is "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF"


def lock_holder(path: Path) -> int | None:
    """Return the process that holds a `flock` lock on a file; None if there is none or it isn't known."""
    try:
        found = path.stat()
        lines = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in lines:
        match line.split():
            case [_, "FLOCK", _, _, process, where, *_] if where == wanted and process.isdigit() and process != "0":
                return int(process)
    return None


def holder_text(path: Path) -> str:
    """Return who holds a lock, for a message: ``process 4711`` or ``another process``."""
    holder = lock_holder(path)
    return "another process" if holder is None else f"process {holder}"
