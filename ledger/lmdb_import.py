"""Read a log in the format of older versions, LMDB, to convert it to tiles.

``data.mdb``, main database: key = index as 8 bytes, big endian: an entry. Key = ``format``: ``samebits log v1``.
Key = ``checkpoint``: the signed note.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import lmdb

from samebits.cas.database_files import needed_bytes
from samebits.cas.durable_files import sync_folder
from samebits.ledger.errors import StorageError

FORMAT: Final = b"samebits log v1"
DATA_NAME: Final = "data.mdb"
RETIRED_NAME: Final = "data.mdb.old"
_LOCK_NAME: Final = "lock.mdb"
_FORMAT_KEY: Final = b"format"
_CHECKPOINT_KEY: Final = b"checkpoint"
_SPARE_BYTES: Final = 1 << 20


def has_lmdb_log(directory: Path) -> bool:
    """Return whether there is a log in the old format."""
    return (directory / DATA_NAME).is_file()


def read_lmdb_log(directory: Path) -> tuple[list[bytes], bytes | None]:
    """Return the entries and the signed note of a log in the old format; raises StorageError if it is damaged.

    The note is None in a log that was being made when its process ended.
    """
    size = (directory / DATA_NAME).stat().st_size
    if not size:
        return [], None
    try:
        # nobody writes: older versions hold no lock that matters while this one has the log's
        with lmdb.open(os.fsencode(directory), map_size=size + _SPARE_BYTES, readonly=True, lock=False) as env:
            if (missing := needed_bytes(env) - size) > 0:
                raise StorageError(directory, f"damaged: {DATA_NAME} lacks its last {missing} bytes")
            with env.begin() as transaction:
                return _read(directory, transaction)
    except lmdb.Error as error:
        raise StorageError(directory, f"{DATA_NAME} is not a log, or damaged ({type(error).__name__})") from error


def retire_lmdb_log(directory: Path) -> None:
    """Put the old file out of the way, when all that was in it is in tiles; raises OSError."""
    (directory / DATA_NAME).replace(directory / RETIRED_NAME)
    (directory / _LOCK_NAME).unlink(missing_ok=True)
    sync_folder(directory)


def _read(directory: Path, transaction: Any) -> tuple[list[bytes], bytes | None]:
    rows = transaction.stat()["entries"]
    if not rows:
        return [], None
    found = transaction.get(_FORMAT_KEY)
    if found != FORMAT:
        shown = "none" if found is None else repr(bytes(found[:40]))
        raise StorageError(directory, f"format {shown} of {DATA_NAME} is not {FORMAT!r}")
    note: bytes | None = transaction.get(_CHECKPOINT_KEY)
    entries: list[bytes] = []
    for index in range(rows - 1 - (note is not None)):
        entry = transaction.get(index.to_bytes(8, "big"))
        if entry is None:
            raise StorageError(directory, f"{DATA_NAME} lacks entry {index}")
        entries.append(entry)
    return entries, note
