"""How an object lies in the store: its rows, and the record that names them.

An object of up to 16 KiB lies inside its record; a longer one in rows of 1 MiB (the last may be shorter), each under
the BLAKE3 of its bytes. A record is 17 bytes, then the object or the joined hashes of its rows:

    form     u8      1: a blob inside, 2: a blob in rows, 3: a node inside, 4: a node in rows
    touched  u64le   Unix time in seconds when it was last put; garbage collection goes by it
    size     u64le   of the object, in bytes

Example, the blob ``hello`` put at time 1: ``01 0100000000000000 0500000000000000 68656c6c6f``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from blake3 import blake3

from samebits.cas.digest import DIGEST_SIZE_BYTES, NODE_CONTEXT, Buffer, Digest
from samebits.cas.errors import DamagedObjectError

ROW_SIZE_BYTES: Final = 1 << 20
INLINE_SIZE_BYTES: Final = 16 << 10  # the largest object that lies inside its record

ObjectKind: TypeAlias = Literal["blob", "node"]

_HEAD: Final = struct.Struct("<BQQ")
_FORMS: Final[dict[int, tuple[ObjectKind, bool]]] = {  # form -> kind, whether it lies in rows
    1: ("blob", False),
    2: ("blob", True),
    3: ("node", False),
    4: ("node", True),
}
_FORM_OF: Final = {described: form for form, described in _FORMS.items()}


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store's index knows of an object."""

    digest: Digest
    kind: ObjectKind
    size_bytes: int


class ObjectRecord(NamedTuple):
    """Where the bytes of an object are: inside (`inline`), or in rows."""

    kind: ObjectKind
    size_bytes: int
    inline: bytes | None
    row_keys: tuple[bytes, ...]  # 32 bytes each; empty if inline
    touched_s: int = 0  # Unix time of the last put

    def row_size_bytes(self, index: int) -> int:
        """Return the size of a row: 1 MiB, or what is left for the last one."""
        return min(ROW_SIZE_BYTES, self.size_bytes - index * ROW_SIZE_BYTES)


def row_key(row: Buffer) -> bytes:
    """Return the key of a row: BLAKE3 of its bytes."""
    return blake3(row).digest()


def row_count(size_bytes: int) -> int:
    """Return how many rows an object of this size has (if it doesn't lie in its record)."""
    return -(-size_bytes // ROW_SIZE_BYTES)


def address_hasher(kind: ObjectKind) -> blake3:
    """Return a fresh hash object that gives the address of an object of this kind."""
    return blake3() if kind == "blob" else blake3(derive_key_context=NODE_CONTEXT)


def encode_record(record: ObjectRecord, touched_s: int) -> bytes:
    """Return the stored form of a record, touched now."""
    head = _HEAD.pack(_FORM_OF[record.kind, record.inline is None], touched_s, record.size_bytes)
    return head + (b"".join(record.row_keys) if record.inline is None else record.inline)


def decode_record(digest: Digest, data: Buffer) -> ObjectRecord:
    """Return the record of object `digest`; raises DamagedObjectError for bytes that `encode_record` never wrote."""
    if len(data) >= _HEAD.size:
        form, touched, size = _HEAD.unpack_from(data)
        body = bytes(data[_HEAD.size :])
        kind, in_rows = _FORMS.get(form, (None, False))
        if kind is not None and not in_rows and size == len(body) <= INLINE_SIZE_BYTES:
            return ObjectRecord(kind, size, body, (), touched)
        keys_size = row_count(size) * DIGEST_SIZE_BYTES
        if kind is not None and in_rows and size > INLINE_SIZE_BYTES and len(body) == keys_size:
            return ObjectRecord(kind, size, None, _cut_keys(body), touched)
    raise DamagedObjectError(digest, "its record is not one of a blob or a node")


def is_same_record(one: Buffer, other: Buffer) -> bool:
    """Return whether two encoded records say the same, but for the time."""
    return one[:1] == other[:1] and one[9:] == other[9:]


def touch_record(stored: bytes | memoryview, touched_s: int) -> bytes:
    """Return a stored record, well-formed or not, as one that was touched at a time."""
    data = bytes(stored)
    return data if len(data) < _HEAD.size else data[:1] + touched_s.to_bytes(8, "little") + data[9:]


def _cut_keys(rows: bytes) -> tuple[bytes, ...]:
    return tuple(rows[start : start + DIGEST_SIZE_BYTES] for start in range(0, len(rows), DIGEST_SIZE_BYTES))
