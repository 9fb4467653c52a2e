"""Read small files that anybody may have put there: a pipe or a device in their place must not stop the reader."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, limit_bytes: int) -> tuple[bytes, int]:
    """Return the bytes of a file and its mode; of one that is longer than the limit one byte more than that.

    Raises OSError, also ("not a regular file") for a pipe or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(min(limit_bytes, status.st_size) + 1), status.st_mode
    finally:
        os.close(descriptor)
