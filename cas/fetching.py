"""Fetch one object of a remote into memory, checked, without a store."""

from __future__ import annotations

from samebits.cas.arrivals import check_row
from samebits.cas.digest import Digest
from samebits.cas.errors import EncodingError, NodeError, RemoteError
from samebits.cas.node import MAX_NODE_SIZE_BYTES, Node, decode_node
from samebits.cas.records import ObjectKind, address_hasher
from samebits.cas.remotes.protocol import Remote, read_record


def fetch_blob(remote: Remote, digest: Digest, limit_bytes: int) -> bytes:
    """Return the bytes of a blob of at most `limit_bytes`; raises ObjectNotFoundError, RemoteError (BadRowError)."""
    return fetch_object(remote, digest, "blob", limit_bytes)


def fetch_node(remote: Remote, digest: Digest) -> Node:
    """Return a node, and nothing that it refers to; raises ObjectNotFoundError, RemoteError (BadRowError)."""
    encoded = fetch_object(remote, digest, "node", MAX_NODE_SIZE_BYTES)
    try:
        return decode_node(encoded)
    except (EncodingError, NodeError) as error:
        raise RemoteError(remote.name, f"object {digest} is not a node: {error}") from error


def fetch_object(remote: Remote, digest: Digest, kind: ObjectKind, limit_bytes: int) -> bytes:
    """Return the bytes of an object of this kind, at most `limit_bytes`; raises ObjectNotFoundError, RemoteError."""
    record = read_record(remote, digest)
    if record.kind != kind:
        raise RemoteError(remote.name, f"object {digest} is a {record.kind}, not a {kind}")
    if record.size_bytes > limit_bytes:
        raise RemoteError(remote.name, f"object {digest} has {record.size_bytes} bytes, more than {limit_bytes}")
    if record.inline is not None:
        return record.inline
    rows = []
    for index, key in enumerate(record.row_keys):
        data = remote.read_row(key, record.row_size_bytes(index))
        check_row(remote.name, digest, record, index, data)
        rows.append(data)
    joined = b"".join(rows)
    if address_hasher(kind).update(joined).digest() != digest.raw:
        raise RemoteError(remote.name, f"the rows of object {digest} do not have its address")
    return joined
