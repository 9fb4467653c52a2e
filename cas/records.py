"""How an object lies in the store: its rows, and the record that names them.

An object of up to 16 KiB lies inside its record; a longer one in rows of 1 MiB (the last may be shorter), each under
the BLAKE3 of its bytes. A record is canonical msgpack. Example, the blob ``hello``:
``{"inline": b"hello", "kind": "blob", "size": 5}``; of a longer one: ``{"kind": "blob", "rows": hashes, "size": n}``
where ``hashes`` are the rows' 32-byte hashes one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from blake3 import blake3

from samebits.cas.digest import DIGEST_SIZE_BYTES, NODE_CONTEXT, Buffer, Digest
from samebits.cas.encoding import decode, encode
from samebits.cas.errors import DamagedObjectError, EncodingError

ROW_SIZE_BYTES: Final = 1 << 20
INLINE_SIZE_BYTES: Final = 16 << 10  # the largest object that lies inside its record

ObjectKind: TypeAlias = Literal["blob", "node"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store's index knows of an object."""

    digest: Digest
    kind: ObjectKind
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """Where the bytes of an object are: inside (`inline`), or in rows."""

    kind: ObjectKind
    size_bytes: int
    inline: bytes | None
    row_keys: tuple[bytes, ...]  # 32 bytes each; empty if inline

    def row_size_bytes(self, index: int) -> int:
        """Return the size of a row: 1 MiB, or what is left for the last one."""
        return min(ROW_SIZE_BYTES, self.size_bytes - index * ROW_SIZE_BYTES)


def row_key(row: Buffer) -> bytes:
    """Return the key of a row: BLAKE3 of its bytes."""
    return blake3(row).digest()


def address_hasher(kind: ObjectKind) -> blake3:
    """Return a fresh hash object that gives the address of an object of this kind."""
    return blake3() if kind == "blob" else blake3(derive_key_context=NODE_CONTEXT)


def encode_record(record: ObjectRecord) -> bytes:
    """Return the stored form of a record."""
    if record.inline is not None:
        return encode({"kind": record.kind, "size": record.size_bytes, "inline": record.inline})
    return encode({"kind": record.kind, "size": record.size_bytes, "rows": b"".join(record.row_keys)})


def decode_record(digest: Digest, data: Buffer) -> ObjectRecord:
    """Return the record of object `digest`; raises DamagedObjectError for bytes that `encode_record` never wrote."""
    try:
        value = decode(data)
    except EncodingError as error:
        raise DamagedObjectError(digest, f"its record does not decode: {error}") from error
    match value:
        case {"kind": "blob" | "node" as kind, "size": int() as size, "inline": bytes() as inline, **rest}:
            if not rest and size == len(inline) <= INLINE_SIZE_BYTES:
                return ObjectRecord(kind, size, inline, ())
        case {"kind": "blob" | "node" as kind, "size": int() as size, "rows": bytes() as rows, **rest}:
            rows_needed = -(-size // ROW_SIZE_BYTES)
            if not rest and size > INLINE_SIZE_BYTES and len(rows) == rows_needed * DIGEST_SIZE_BYTES:
                return ObjectRecord(kind, size, None, _cut_keys(rows))
    raise DamagedObjectError(digest, "its record is not one of a blob or a node")


def _cut_keys(rows: bytes) -> tuple[bytes, ...]:
    return tuple(rows[start : start + DIGEST_SIZE_BYTES] for start in range(0, len(rows), DIGEST_SIZE_BYTES))
