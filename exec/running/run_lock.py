"""One process at a time computes a run: a lock file in the store's folder `running/`, named by the run.

The ledger has the last word: of two segments that follow the same one it takes the first. The lock only spares the
second process its work.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from samebits.cas import Digest, Store
from samebits.cas.errors import file_system_error
from samebits.cas.lock_holder import holder_text
from samebits.cas.locks import open_exclusive, try_lock
from samebits.exec.errors import RunError

_FOLDER: Final = "running"


@contextmanager
def running(store: Store, run: Digest) -> Iterator[None]:
    """Be the one process that computes a run; raises RunError if another one does, StoreError without a lock file."""
    path = Path(store.path) / _FOLDER / str(run)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise file_system_error(store.path, error) from error
    while True:
        with open_exclusive(path) as descriptor:
            if not try_lock(descriptor, fcntl.LOCK_EX):
                raise RunError(f"run {run} is being computed by {holder_text(path)}; wait until that has ended")
            if not _is_at(path, descriptor):  # the one before removed it when it ended
                continue
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            return


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)
