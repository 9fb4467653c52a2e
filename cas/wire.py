"""Wire records: what a remote says of an object, and what of it can be checked against the address alone.

Canonical msgpack. An object of up to 16 KiB lies inside: ``{"inline": b"hello", "kind": "blob", "size": 5}`` is
``83a6696e6c696e65c40568656c6c6fa46b696e64a4626c6f62a473697a6505``. A longer one is named by its rows of 1 MiB (the last
may be shorter): ``{"kind": "node", "rows": keys, "size": n}``, or for a blob of two rows and more
``{"kind": "blob", "rows": keys, "size": n, "subtrees": values}``. ``keys`` are the BLAKE3 hashes of the rows,
``values`` their chaining values in the BLAKE3 tree of the blob, 32 bytes each, joined. The values give the blob's
address, so each row can be checked at its place as soon as it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samebits.cas.digest import DIGEST_SIZE_BYTES, Buffer, Digest
from samebits.cas.encoding import decode, encode
from samebits.cas.errors import DamagedObjectError, EncodingError, WireError
from samebits.cas.node import MAX_NODE_SIZE_BYTES
from samebits.cas.ranges import subtree_values
from samebits.cas.records import INLINE_SIZE_BYTES, ROW_SIZE_BYTES, ObjectKind, address_hasher, row_key
from samebits.cas.store import Store
from samebits.cas.subtree import root_address

MAX_OBJECT_SIZE_BYTES: Final = 1 << 40
MAX_WIRE_SIZE_BYTES: Final = (64 << 20) + 64  # the record of the largest object


@dataclass(frozen=True, slots=True)
class WireRecord:
    """What a remote says of an object: its bytes (`inline`), or the names of its rows."""

    kind: ObjectKind
    size_bytes: int
    inline: bytes | None
    row_keys: tuple[bytes, ...]  # 32 bytes each; empty if inline
    subtrees: tuple[bytes, ...]  # 32 bytes each, as many as rows; empty unless a blob of two rows or more

    def row_size_bytes(self, index: int) -> int:
        """Return the size of a row: 1 MiB, or what is left for the last one."""
        return min(ROW_SIZE_BYTES, self.size_bytes - index * ROW_SIZE_BYTES)


def encode_wire(record: WireRecord) -> bytes:
    """Return the one encoding of a record."""
    if record.inline is not None:
        return encode({"kind": record.kind, "size": record.size_bytes, "inline": record.inline})
    rows = b"".join(record.row_keys)
    if not record.subtrees:
        return encode({"kind": record.kind, "size": record.size_bytes, "rows": rows})
    subtrees = b"".join(record.subtrees)
    return encode({"kind": record.kind, "size": record.size_bytes, "rows": rows, "subtrees": subtrees})


def decode_wire(data: Buffer) -> WireRecord:
    """Return the record of its encoding; raises WireError for bytes that are none."""
    try:
        value = decode(data)
    except EncodingError as error:
        raise WireError(f"it does not decode: {error}") from error
    match value:
        case {"kind": "blob" | "node" as kind, "size": int() as size, "inline": bytes() as inline, **rest}:
            if not rest and not isinstance(size, bool) and size == len(inline) <= INLINE_SIZE_BYTES:
                return WireRecord(kind, size, inline, (), ())
        case {"kind": "blob" | "node" as kind, "size": int() as size, "rows": bytes() as rows, **rest}:
            subtrees = rest.pop("subtrees", None)
            if not rest and _counts_fit(kind, size, rows, subtrees):
                return WireRecord(kind, size, None, _cut(rows), _cut(subtrees if isinstance(subtrees, bytes) else b""))
    raise WireError("it is not one of a blob or a node")


def check_wire(digest: Digest, record: WireRecord) -> None:
    """Raise WireError unless a decoded record is one of the object `digest`, as far as the address alone can tell.

    What stays open: the bytes of rows, and whether the row keys of a node, and those of a blob of two rows and more,
    are right. The latter are checked with the rows.
    """
    if record.inline is not None:
        fits = address_hasher(record.kind).update(record.inline).digest() == digest.raw
    elif record.kind == "node":
        fits = True
    elif len(record.row_keys) == 1:
        fits = record.row_keys[0] == digest.raw
    else:
        fits = root_address(record.subtrees) == digest
    if not fits:
        raise WireError("it does not have the object's address")


def wire_record(store: Store, digest: Digest) -> WireRecord:
    """Return what the store says of an object; raises ObjectNotFoundError, DamagedObjectError."""
    record = store.record(digest)
    subtrees = subtree_values(store, digest) if record.kind == "blob" else ()
    return WireRecord(record.kind, record.size_bytes, record.inline, record.row_keys, subtrees)


def read_row(store: Store, digest: Digest, key: bytes) -> bytes:
    """Return a row of the object `digest`, verified against its key; raises DamagedObjectError."""
    row = store.row(key)
    if row is None:
        raise DamagedObjectError(digest, f"row {key.hex()} is missing")
    if row_key(row) != key:
        raise DamagedObjectError(digest, f"row {key.hex()} does not have its hash")
    return row


def _counts_fit(kind: ObjectKind, size_bytes: int, rows: bytes, subtrees: object) -> bool:
    largest = MAX_NODE_SIZE_BYTES if kind == "node" else MAX_OBJECT_SIZE_BYTES
    if isinstance(size_bytes, bool) or not INLINE_SIZE_BYTES < size_bytes <= largest:
        return False
    joined_bytes = -(-size_bytes // ROW_SIZE_BYTES) * DIGEST_SIZE_BYTES
    if kind == "blob" and joined_bytes > DIGEST_SIZE_BYTES:
        return len(rows) == joined_bytes and isinstance(subtrees, bytes) and len(subtrees) == joined_bytes
    return len(rows) == joined_bytes and subtrees is None


def _cut(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined[start : start + DIGEST_SIZE_BYTES] for start in range(0, len(joined), DIGEST_SIZE_BYTES))
