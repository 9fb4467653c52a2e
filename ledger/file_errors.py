"""What the file system says of a log's files, as errors of the ledger."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from samebits.cas.errors import StoreError
from samebits.ledger.errors import StorageError, TileError
from samebits.ledger.heads import STATE_VARIABLE, HeadFile

_NOT_WRITABLE_CODES: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def errors_named(path: Path, head: HeadFile | None = None, *, writes: bool = True) -> Iterator[None]:
    """Turn the errors of files into StorageError: of the log at `path`, and of its head file if that is used."""
    try:
        yield
    except TileError as error:
        raise StorageError(path, str(error)) from error
    except (OSError, StoreError) as error:
        cause = error.__cause__ if isinstance(error, StoreError) else error
        reason = (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(error)
        name = os.fsdecode(cause.filename) if isinstance(cause, OSError) and cause.filename is not None else ""
        if head is not None and name.startswith(str(head.path.parent.parent)):
            where = f"{head.path.parent} ({reason}); set {STATE_VARIABLE} to a folder that can be written"
            raise StorageError(path, f"can't keep its last signed head in {where}") from error
        if writes and isinstance(cause, OSError) and cause.errno in _NOT_WRITABLE_CODES:
            raise StorageError(path, "may only be read here; open it read-only") from error
        raise StorageError(path, reason) from error
