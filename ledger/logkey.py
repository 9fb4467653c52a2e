"""The two key files of a log's directory: `log.key`, private, and `log.pub`, for whoever reads the log.

A log's origin follows from its key, so nobody else can speak in its name:
``samebits.local/log/`` and the first 16 hex characters of SHA-256(public key).

Example of ``log.pub``: ``samebits.local/log/21fe31dfa154a261+04ee55d4+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea``
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

from samebits.cas.durable_files import replace_file
from samebits.ledger.errors import KeyFileError, NoteFormatError, StorageError
from samebits.ledger.keyfile import find_key, store_key
from samebits.ledger.keys import SEED_SIZE_BYTES, SigningKey, VerifierKey
from samebits.ledger.regular_file import read_regular
from samebits.ledger.tile_source import CHECKPOINT_PATH

PRIVATE_NAME: Final = "log.key"
PUBLIC_NAME: Final = "log.pub"
_MAX_PUBLIC_SIZE_BYTES: Final = 4096
ORIGIN_PREFIX: Final = "samebits.local/log/"


def log_origin(public: bytes) -> str:
    """Return the origin of the log with this public key."""
    return ORIGIN_PREFIX + sha256(public).hexdigest()[:16]


def load_or_create_log_key(directory: Path) -> SigningKey:
    """Return the private key of the log, created for a directory without a log in it.

    Raises KeyFileError if the key of an existing log is gone: a new one could only start another log.
    """
    has_log = any((directory / name).exists() for name in (PUBLIC_NAME, CHECKPOINT_PATH, "data.mdb"))
    path = directory / PRIVATE_NAME
    key = find_key(path)
    if key is None:
        if has_log:
            raise KeyFileError(path, "missing; without it this log can only be read (open it read-only)")
        seed = os.urandom(SEED_SIZE_BYTES)
        public = SigningKey("new", seed).public
        key = store_key(path, SigningKey(log_origin(public), seed))
    if key.name != log_origin(key.public):
        raise KeyFileError(path, f"the name {key.name} is not that of a log with this key")
    return key


def has_log_verifier(directory: Path) -> bool:
    """Return whether there is a `log.pub`."""
    return (directory / PUBLIC_NAME).exists()


def load_log_verifier(directory: Path) -> VerifierKey:
    """Return the public key of the log from `log.pub`; raises StorageError."""
    path = directory / PUBLIC_NAME
    try:
        key = VerifierKey.parse(read_regular(path, _MAX_PUBLIC_SIZE_BYTES)[0].decode().removesuffix("\n"))
    except OSError as error:
        raise StorageError(directory, f"{PUBLIC_NAME} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, NoteFormatError) as error:
        raise StorageError(directory, f"{PUBLIC_NAME} is damaged: {error}") from error
    if key.name != log_origin(key.public):
        raise StorageError(directory, f"{PUBLIC_NAME} is damaged: {key.name} is not the origin that its key gives")
    return key


def store_log_verifier(directory: Path, key: VerifierKey) -> None:
    """Write `log.pub` if it is not there, whole or not at all; raises StorageError."""
    path = directory / PUBLIC_NAME
    try:
        if not path.exists():
            replace_file(path, f"{key.vkey}\n".encode())
    except OSError as error:
        raise StorageError(directory, f"{PUBLIC_NAME} cannot be written: {error.strerror}") from error
