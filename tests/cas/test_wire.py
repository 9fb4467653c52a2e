"""Wire records: one encoding, and a check against the address before anything else is believed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.encoding import Value, encode
from samebits.cas.errors import ObjectNotFoundError, WireError
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.wire import WireRecord, check_wire, decode_wire, encode_wire, wire_record

KIB, MIB = 1 << 10, 1 << 20
KEY, OTHER = bytes(range(32)), bytes(32)


def test_encode_wire_gives_the_example() -> None:
    record = WireRecord("blob", 5, b"hello", (), ())
    encoded = bytes.fromhex("83a6696e6c696e65c40568656c6c6fa46b696e64a4626c6f62a473697a6505")
    assert encode_wire(record) == encoded
    assert decode_wire(encoded) == record
    check_wire(hash_blob(b"hello"), record)


@pytest.mark.parametrize("size", [0, 1, 16 * KIB, 16 * KIB + 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1])
def test_wire_record_of_a_blob_fits_its_address(store: Store, size: int) -> None:
    digest = store.put_blob(bytes(size))
    record = wire_record(store, digest)
    rows = 0 if size <= 16 * KIB else -(-size // MIB)
    assert (record.size_bytes, len(record.row_keys), len(record.subtrees)) == (size, rows, rows if rows > 1 else 0)
    check_wire(digest, record)
    assert decode_wire(encode_wire(record)) == record
    with pytest.raises(WireError, match="address"):
        check_wire(hash_blob(b"another"), record)


def test_wire_record_of_nodes(store: Store) -> None:
    small = store.put_node(Node("note", {"text": "hi"}))
    large = store.put_node(Node("note", {"bytes": bytes(MIB)}))
    check_wire(small, wire_record(store, small))
    record = wire_record(store, large)
    assert (record.kind, len(record.row_keys), record.subtrees) == ("node", 2, ())
    check_wire(large, record)
    assert decode_wire(encode_wire(record)) == record
    as_blob = dataclasses.replace(wire_record(store, small), kind="blob")
    with pytest.raises(WireError):
        check_wire(small, as_blob)


def test_wire_record_of_what_is_not_there_names_it(store: Store) -> None:
    with pytest.raises(ObjectNotFoundError):
        wire_record(store, hash_blob(b"gone"))


def test_check_wire_refuses_values_in_another_order(store: Store) -> None:
    digest = store.put_blob(bytes(MIB) + b"1" * MIB)
    record = wire_record(store, digest)
    check_wire(digest, record)
    with pytest.raises(WireError):
        check_wire(digest, dataclasses.replace(record, subtrees=record.subtrees[::-1]))


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"kind": "blob", "size": 1},
        {"kind": "tree", "size": 1, "inline": b"1"},
        {"kind": "blob", "size": 2, "inline": b"1"},
        {"kind": "blob", "size": True, "inline": b"1"},
        {"kind": "blob", "size": -1, "inline": b""},
        {"kind": "blob", "size": 1, "inline": "1"},
        {"kind": "blob", "size": 1, "inline": b"1", "more": 1},
        {"kind": "blob", "size": 1, "inline": b"1", "rows": KEY},
        {"kind": "blob", "size": 16 * KIB + 1, "inline": bytes(16 * KIB + 1)},
        {"kind": "blob", "size": 16 * KIB, "rows": KEY},
        {"kind": "blob", "size": True, "rows": KEY},
        {"kind": "blob", "size": MIB, "rows": b""},
        {"kind": "blob", "size": MIB, "rows": KEY[:31]},
        {"kind": "blob", "size": MIB, "rows": KEY + OTHER},
        {"kind": "blob", "size": MIB, "rows": KEY, "subtrees": KEY},
        {"kind": "blob", "size": MIB, "rows": KEY, "subtrees": b""},
        {"kind": "blob", "size": MIB + 1, "rows": KEY + OTHER},
        {"kind": "blob", "size": MIB + 1, "rows": KEY + OTHER, "subtrees": KEY},
        {"kind": "blob", "size": MIB + 1, "rows": KEY, "subtrees": KEY + OTHER},
        {"kind": "blob", "size": MIB + 1, "rows": KEY + OTHER, "subtrees": 1},
        {"kind": "blob", "size": 2 * MIB + 1, "rows": KEY + OTHER, "subtrees": KEY + OTHER},
        {"kind": "node", "size": MIB + 1, "rows": KEY + OTHER, "subtrees": KEY + OTHER},
        {"kind": "node", "size": 64 * MIB + 1, "rows": KEY * 65},
        {"kind": "blob", "size": 1 << 63, "rows": KEY},
        {"kind": "blob", "size": MIB, "rows": Digest(KEY)},
    ],
)
def test_decode_wire_refuses(value: Value) -> None:
    with pytest.raises(WireError):
        decode_wire(encode(value))


@pytest.mark.parametrize("data", [b"", b"\x80\x00", b"\xc1", bytes.fromhex("83a473697a6505") + b"\xa4kind\xa4blob"])
def test_decode_wire_refuses_other_bytes(data: bytes) -> None:
    with pytest.raises(WireError, match="does not decode"):
        decode_wire(data)


@given(st.binary(max_size=200))
def test_decode_wire_accepts_only_what_encode_wire_writes(data: bytes) -> None:
    try:
        record = decode_wire(data)
    except WireError:
        return
    assert encode_wire(record) == data


@given(st.sampled_from(["blob", "node"]), st.binary(max_size=200) | st.integers(16 * KIB + 1, 64 * MIB))
def test_decode_wire_gives_back_every_record(kind: str, content: bytes | int) -> None:
    assert kind in ("blob", "node")
    if isinstance(content, bytes):
        record = WireRecord(kind, len(content), content, (), ())  # type: ignore[arg-type]
    else:
        keys = tuple(index.to_bytes(32, "big") for index in range(-(-content // MIB)))
        subtrees = keys[::-1] if kind == "blob" and len(keys) > 1 else ()
        record = WireRecord(kind, content, None, keys, subtrees)  # type: ignore[arg-type]
    assert decode_wire(encode_wire(record)) == record
