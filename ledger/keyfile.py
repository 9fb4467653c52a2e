"""Private key files: one line of text, mode 0600, written whole or not at all.

Example of the line (RFC 8032's first test key under the name ``example.com/log``):
``PRIVATE+KEY+example.com/log+cc714670+AZ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g``
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from samebits.cas.durable_files import sync_folder
from samebits.ledger.errors import KeyFileError, NoteFormatError
from samebits.ledger.keys import SigningKey
from samebits.ledger.regular_file import read_regular

_MAX_SIZE_BYTES: Final = 4096
_OTHERS: Final = 0o077

Key = TypeVar("Key")


def load_or_create_key(path: Path, name: str) -> SigningKey:
    """Return the key of the file; a file that does not exist is created with a new key of this name.

    An existing key keeps the name it has. Processes that race end with the same key. Raises KeyFileError.
    """
    return find_key(path) or store_key(path, SigningKey.generate(name))


def load_key(path: Path) -> SigningKey:
    """Read a private key file; raises KeyFileError if it is missing, malformed or others may read it."""
    key = find_key(path)
    if key is None:
        raise KeyFileError(path, "there is no such file")
    return key


def find_key(path: Path) -> SigningKey | None:
    """Read a private key file, None if there is none; raises KeyFileError if it is malformed or others may read it."""
    return read_key(path, SigningKey.parse)


def read_key(path: Path, parse: Callable[[str], Key]) -> Key | None:
    """Read a private key file of any type, None if there is none; raises KeyFileError.

    `parse` reads the text, and raises NoteFormatError.
    """
    try:
        content, mode = read_regular(path, _MAX_SIZE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(path, f"cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise KeyFileError(path, f"others may use it (mode {stat.S_IMODE(mode):04o}); run: chmod 600 {path}")
    try:
        return parse(content.decode().removesuffix("\n"))
    except (UnicodeDecodeError, NoteFormatError) as error:
        problem = error.problem if isinstance(error, NoteFormatError) else "it is not text"
        hint = "restore it from a backup, or move it away to start with a new key"
        raise KeyFileError(path, f"not a private key ({problem}); {hint}") from None


def store_key(path: Path, key: SigningKey) -> SigningKey:
    """Write a key to a new file and return it; if the file exists by then, return the key that it holds.

    Raises KeyFileError.
    """
    return key if write_key(path, key.format()) else load_key(path)


def write_key(path: Path, text: str) -> bool:
    """Write the text of a private key to a new file; returns False if the file exists by then.

    The text is complete and durable under a temporary name before it gets the final one. Raises KeyFileError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(f"{text}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(path, f"cannot be written: {error.strerror}") from error
    return True
