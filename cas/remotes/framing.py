"""Many records in one answer: before each its size in 4 bytes, big endian; size 0 stands for an absent object.

The record of ``hello`` (32 bytes) and then one that is missing: ``00000020 83a6696e6c...7a6505 00000000``. An answer
may hold fewer records than were asked for, at least one; who asked asks again for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from samebits.cas.errors import RemoteError
from samebits.cas.wire import MAX_WIRE_SIZE_BYTES

MAX_ASKED: Final = 4096  # addresses in one request
FULL_SIZE_BYTES: Final = 8 << 20  # an answer that has reached this size takes no more
MAX_ANSWER_SIZE_BYTES: Final = FULL_SIZE_BYTES + 4 + MAX_WIRE_SIZE_BYTES


def write_frames(records: Iterable[bytes]) -> bytes:
    """Return the first of the records in one answer; an empty one stands for an object that is not there."""
    parts, size = [], 0
    for record in records:
        parts += [len(record).to_bytes(4, "big"), record]
        size += 4 + len(record)
        if size >= FULL_SIZE_BYTES:
            break
    return b"".join(parts)


def read_frames(remote: str, data: bytes, most: int) -> list[bytes]:
    """Return the records in an answer, one at least and `most` at most; raises RemoteError."""
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 4 + size > len(data) or len(frames) == most:
            raise RemoteError(remote, "its answer to records does not hold what it says")
        frames.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    if not frames:
        raise RemoteError(remote, "its answer to records is empty")
    return frames
