"""Any bytes in the place of a node, a wire record, a store's record or a remote's pins: read as written, or refused.

Weight files are in `test_formats_fuzz.py`. What is made up here is close to right: valid bytes, edited, and bytes put
together of what the encodings consist of.
"""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.digest import Digest, hash_blob, hash_node
from samebits.cas.encoding import decode, encode
from samebits.cas.errors import (
    DamagedObjectError,
    DigestMismatchError,
    EncodingError,
    NodeError,
    RemoteError,
    WireError,
)
from samebits.cas.node import Node, decode_node, encode_node, references
from samebits.cas.records import ObjectRecord, decode_record, encode_record, row_key
from samebits.cas.remotes.framing import read_frames, write_frames
from samebits.cas.remotes.layout import (
    format_address,
    format_pins,
    parse_address,
    parse_pin_name,
    parse_pins,
    pin_path,
)
from samebits.cas.store import Store
from samebits.cas.wire import WireRecord, check_wire, decode_wire, encode_wire

KIB, MIB = 1 << 10, 1 << 20
DIGEST = hash_blob(b"x")
KEYS = tuple(row_key(b"%d" % number) for number in range(3))

NODE = encode_node(Node("list", {"parts": [DIGEST, hash_blob(b"y")], "n": -1, "b": b"bytes", "t": "text", "x": None}))
WIRES = [
    encode_wire(WireRecord("blob", 5, b"hello", (), ())),
    encode_wire(WireRecord("node", len(NODE), NODE, (), ())),
    encode_wire(WireRecord("blob", 2 * MIB + 5, None, KEYS, KEYS[::-1])),
    encode_wire(WireRecord("node", MIB + 1, None, KEYS[:2], ())),
]
RECORDS = [
    encode_record(ObjectRecord("blob", 5, b"hello", ()), 1),
    encode_record(ObjectRecord("node", len(NODE), NODE, ()), 1 << 40),
    encode_record(ObjectRecord("blob", 2 * MIB + 5, None, KEYS), 7),
    encode_record(ObjectRecord("node", 16 * KIB + 1, None, KEYS[:1]), 0),
]
PINS = format_pins({"runs/mnist": DIGEST, "é": hash_blob(b"y")})
FRAMES = write_frames([*WIRES[:2], b"", WIRES[2]])

# what msgpack is made of: types, lengths, and the words of our encodings
TOKENS = st.sampled_from(
    [
        b"\x92", b"\x93", b"\x80", b"\x81", b"\x82", b"\x83", b"\x84", b"\x90", b"\xdc\0\2", b"\xdd\xff\xff\xff\xff",
        b"\xde\0\1", b"\xdf\xff\xff\xff\xff", b"\xa4kind", b"\xa4size", b"\xa6inline", b"\xa4rows", b"\xa8subtrees",
        b"\xa4blob", b"\xa4node", b"\xd9\1a", b"\xc4\0", b"\xc4\1x", b"\xc4\5hello",
        b"\xc5\0\1x", b"\xc6\xff\xff\xff\xff",
        b"\xc7\x20\1" + DIGEST.raw, b"\xd8\1" + bytes(16), b"\xc0", b"\xc1", b"\xc2", b"\xc3", b"\xca\0\0\0\0", b"\0",
        b"\5",
        b"\x7f", b"\xcc\x80", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xff", b"\xd3" + bytes(8),
        b"\xc4\x20" + KEYS[0],
    ]
)  # fmt: skip
JSON = st.dictionaries(
    st.text(max_size=5),
    st.sampled_from([None, 1, 1.5, [], {}, "", "0" * 63, "0" * 64, "F" * 64, "é" * 64, ["0" * 64]]),
    max_size=3,
).map(lambda value: json.dumps(value).encode())
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=9) | TOKENS), min_size=1, max_size=4)


def near(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Return bytes that are almost one of these: some of their bytes cut out, others put in."""

    def edit(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
        for place, cut, piece in edits:
            at = round(place * len(data))
            data = data[:at] + piece + data[at + cut :]
        return data

    return st.builds(edit, st.sampled_from(valid), EDITS)


def any_bytes(*valid: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(near(*valid), st.lists(TOKENS, max_size=12).map(b"".join), st.binary(max_size=120))


@given(any_bytes(NODE))
def test_a_node_is_read_as_it_was_written_or_refused(data: bytes) -> None:
    try:
        node = decode_node(data)
    except (EncodingError, NodeError) as error:
        assert str(error).isprintable() and len(str(error)) < 400
        return
    assert encode_node(node) == data
    assert all(digest.raw in data for digest in references(node))


@given(any_bytes(NODE))
def test_only_canonical_bytes_decode(data: bytes) -> None:
    try:
        value = decode(data)
    except EncodingError:
        return
    assert encode(value) == data


@given(any_bytes(*WIRES), st.booleans())
def test_a_wire_record_is_read_as_it_was_written_or_refused(data: bytes, is_own: bool) -> None:
    try:
        record = decode_wire(data)
    except WireError:
        return
    assert encode_wire(record) == data
    assert len(record.row_keys) == (0 if record.inline is not None else -(-record.size_bytes // MIB))
    assert sum(map(record.row_size_bytes, range(len(record.row_keys)))) == (
        record.size_bytes if record.inline is None else 0
    )
    hasher = hash_blob if record.kind == "blob" else hash_node
    own = hasher(record.inline) if is_own and record.inline is not None else DIGEST
    try:
        check_wire(own, record)
    except WireError:
        assert own == DIGEST
    else:
        assert record.inline is None or hasher(record.inline) == own


@given(any_bytes(*RECORDS) | st.builds(struct.pack, st.just("<BQQ"), *[st.integers(0, 255)] * 3))
def test_a_record_is_read_as_it_was_written_or_refused(data: bytes) -> None:
    try:
        record = decode_record(DIGEST, data)
    except DamagedObjectError as error:
        assert str(DIGEST) in str(error)
        return
    assert encode_record(record, record.touched_s) == data
    assert len(b"".join(record.row_keys)) == 32 * len(record.row_keys)


@given(any_bytes(PINS) | JSON)
def test_pins_are_addresses_under_names_or_refused(data: bytes) -> None:
    try:
        pins = parse_pins("there", data)
    except RemoteError as error:
        assert "\n" not in str(error)
        return
    assert parse_pins("there", format_pins(pins)) == pins
    assert all(str(digest).encode() in data or b"\\u" in data for digest in pins.values())


@given(any_bytes(format_address(DIGEST)))
def test_an_address_in_a_pins_file_is_one_or_refused(data: bytes) -> None:
    try:
        digest = parse_address("there", "a", data)
    except RemoteError:
        return
    assert data.removesuffix(b"\n") == str(digest).encode()


@given(near(b"runs%2Fmnist", b"%2Egit", b"%C3%A9").map(lambda data: data.decode(errors="surrogateescape")))
def test_a_pins_file_name_is_the_one_that_is_written_or_none(file_name: str) -> None:
    name = parse_pin_name(file_name)
    if name is not None and len(file_name) <= 255:
        assert pin_path(name) == f"pins/{file_name}"


@given(any_bytes(FRAMES), st.integers(1, 5))
def test_framed_answers_are_cut_where_they_say_or_refused(data: bytes, most: int) -> None:
    try:
        frames = read_frames("there", data, most)
    except RemoteError:
        return
    assert 1 <= len(frames) <= most
    assert write_frames(frames) == data


@settings(deadline=None)  # it waits for the disk
@given(data=any_bytes(NODE))
def test_a_store_takes_a_node_only_as_it_is_written(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Store(tmp_path_factory.getbasetemp() / "fuzzed") as store:
        try:
            digest = store.put_encoded_node(data)
        except (EncodingError, NodeError):
            assert not store.has(hash_node(data))
            return
        assert digest == hash_node(data)
        assert store.get_encoded(digest) == data
        with pytest.raises(DigestMismatchError):
            store.put_encoded_node(data, expected=Digest(bytes(32)))
