"""Taking a damaged object out of the store, so that it can be put or fetched again.

What is damaged is looked for without the lock of writers, however large the object is. The transaction that deletes it
looks once more, at what was found alone: somebody may have mended it meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from samebits.cas.digest import Digest
from samebits.cas.environment import OBJECTS, ROWS, UNFINISHED, Environment
from samebits.cas.errors import DamagedObjectError
from samebits.cas.records import decode_record, row_key, touch_record
from samebits.cas.row_values import forget_row
from samebits.cas.transaction import Transaction

_MARKED_AT_ONCE: Final = 10_000

Keep = Callable[[str, bytes], None]  # takes a name and what is about to be deleted


def take_out(environment: Environment, digest: Digest, keep: Keep | None = None) -> bool:
    """Delete the record of a damaged object, and its damaged rows; return whether that was still to be done.

    All of it is given to `keep` before, row by row. Rows that are intact are marked: they stay for the grace time.
    """
    encoded = environment.get(OBJECTS, digest.raw)
    if encoded is None:
        return False
    if keep is not None:
        keep(f"{digest}.record", encoded)
    bad: list[bytes] = []
    intact: list[bytes] = []
    for key in dict.fromkeys(_row_keys(digest, encoded)):
        row = environment.get(ROWS, key)
        if row is not None and row_key(row) == key:
            intact.append(key)
            continue
        bad.append(key)
        if keep is not None and row is not None:
            keep(f"{key.hex()}.row", row)
    for start in range(0, len(intact), _MARKED_AT_ONCE):
        environment.write(partial(_mark, intact[start : start + _MARKED_AT_ONCE]))
    return environment.write(partial(_delete, digest, encoded, bad), frees=True)


def _row_keys(digest: Digest, encoded: bytes) -> tuple[bytes, ...]:
    try:
        return decode_record(digest, encoded).row_keys
    except DamagedObjectError:
        return ()


def _mark(keys: list[bytes], transaction: Transaction) -> None:
    now = int(time.time()).to_bytes(8, "big")
    for key in keys:
        if transaction.has(ROWS, key):
            transaction.put(UNFINISHED, key, now)


def _delete(digest: Digest, encoded: bytes, bad: list[bytes], transaction: Transaction) -> bool:
    """Delete the object unless its record has changed, or none of its rows that were bad still is."""
    stored = transaction.get(OBJECTS, digest.raw)
    if stored is None or touch_record(stored, 0) != touch_record(encoded, 0):
        return False
    rows = {key: transaction.get(ROWS, key) for key in bad}
    still = [key for key, row in rows.items() if row is None or row_key(row) != key]
    if bad and not still:
        return False
    for key in still:
        forget_row(transaction, key)
    return transaction.delete(OBJECTS, digest.raw)
