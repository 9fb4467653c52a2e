"""Which devices have passed the conformance vectors, remembered in the user's cache folder.

A file's name is the hash of everything that could change a bit: device and driver, the vectors, and every file that
kernels are made from. Only its presence counts.
"""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path
from typing import Final

import platformdirs

import samebits.exec.devices
import samebits.kernels
from samebits.cas.digest import hash_blob
from samebits.exec.devices.protocol import Backend
from samebits.kernels.version import ARITHMETIC

_KERNELS: Final = Path(samebits.kernels.__path__[0])
_DEVICES: Final = Path(samebits.exec.devices.__path__[0])


def has_passed(backend: Backend) -> bool:
    """Say whether this device has passed with this driver and these kernels."""
    return _file(backend).exists()


def remember_passed(backend: Backend) -> None:
    """Remember that it passed. A cache that can't be written is no error: the device is checked again next time."""
    file = _file(backend)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def _file(backend: Backend) -> Path:
    key = "\n".join([backend.language, backend.describe(), *backend.options, ARITHMETIC, _kernels_digest()])
    return platformdirs.user_cache_path("samebits", appauthor=False) / "conformance" / str(hash_blob(key.encode()))


@cache
def _kernels_digest() -> str:
    """Return the hash of every file that takes part in making kernels."""
    files = sorted([*_KERNELS.glob("source/**/*.h"), *_KERNELS.glob("**/*.py"), *_DEVICES.glob("*.py")])
    return str(hash_blob(b"".join(hash_blob(file.read_bytes()).raw for file in files)))
