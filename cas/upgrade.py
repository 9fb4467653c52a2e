"""Stores of version 1: their records were canonical msgpack and did not say when an object was put."""

from __future__ import annotations

import time
from typing import Any, Final

from samebits.cas.digest import DIGEST_SIZE_BYTES, Digest
from samebits.cas.encoding import decode, encode
from samebits.cas.errors import DamagedObjectError, EncodingError
from samebits.cas.records import ObjectRecord, encode_record

OLD_FORMAT_RECORD: Final = encode({"format": "samebits-cas", "version": 1})


def upgrade_records(transaction: Any, objects: Any) -> None:
    """Write every record of the database `objects` in today's form; raises DamagedObjectError, and changes nothing.

    They count as put now: there is the grace time to pin what is to stay.
    What was `{"kind": "blob", "size": n, "inline": bytes}` or `{"kind": ..., "size": n, "rows": hashes}`.
    """
    now = int(time.time())
    with transaction.cursor(db=objects) as cursor:
        for key, value in cursor:
            if len(key) != DIGEST_SIZE_BYTES:
                raise EncodingError(f"the index of the store has the key {bytes(key).hex()}; nothing was changed")
            digest = Digest(bytes(key))
            cursor.put(digest.raw, encode_record(_read_old(digest, bytes(value)), now))


def _read_old(digest: Digest, data: bytes) -> ObjectRecord:
    try:
        value = decode(data)
    except EncodingError as error:
        raise DamagedObjectError(digest, f"its record does not decode: {error}") from error
    match value:
        case {"kind": "blob" | "node" as kind, "size": int() as size, "inline": bytes() as inline}:
            return ObjectRecord(kind, size, inline, ())
        case {"kind": "blob" | "node" as kind, "size": int() as size, "rows": bytes() as rows}:
            starts = range(0, len(rows), DIGEST_SIZE_BYTES)
            return ObjectRecord(kind, size, None, tuple(rows[start : start + DIGEST_SIZE_BYTES] for start in starts))
    raise DamagedObjectError(digest, "its record is not one of a blob or a node")
