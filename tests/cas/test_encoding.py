"""Canonical msgpack: one encoding per value."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.cas.digest import Digest
from samebits.cas.encoding import MAX_DEPTH, Value, decode, encode
from samebits.cas.errors import EncodingError

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text()
    | st.binary(max_size=300)
    | st.binary(min_size=32, max_size=32).map(Digest),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=30,
)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@given(VALUES)
def test_decode_reads_what_encode_writes(value: Value) -> None:
    assert decode(encode(value)) == value


@given(st.dictionaries(st.text(), st.integers(0, 9), min_size=2, max_size=6))
def test_encode_does_not_depend_on_the_order_of_a_map(value: dict[str, Value]) -> None:
    assert encode(dict(reversed(value.items()))) == encode(value)


@given(st.binary(max_size=60))
def test_decode_accepts_nothing_but_what_encode_writes(data: bytes) -> None:
    try:
        value = decode(data)
    except EncodingError:
        return
    assert encode(value) == data


@given(VALUES, st.data())
def test_decode_of_a_changed_encoding_is_another_value_or_refused(value: Value, data: st.DataObject) -> None:
    encoded = bytearray(encode(value))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode(encoded)
    except EncodingError:
        return
    assert encode(changed) == encoded


def test_encode_has_the_example_of_its_documentation() -> None:
    assert encode({"b": 1, "a": [b"x", None]}).hex(" ") == "82 a1 61 92 c4 01 78 c0 a1 62 01"


@pytest.mark.parametrize(
    "value",
    [0, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1, -1, -32, -33, -128, -129, -(1 << 63)]
    + ["a" * n for n in (0, 31, 32, 255, 256, 65535, 65536)]
    + [b"a" * n for n in (0, 255, 256, 65536)]
    + [[None] * n for n in (0, 15, 16, 65536)],
)
def test_encode_takes_the_shortest_form_at_every_border(value: Value) -> None:
    assert encode(value) == msgpack.packb(value, use_bin_type=True)
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        "",  # nothing
        "c1",  # a byte that msgpack never uses
        "01 02",  # two values
        "cc 01",  # 1 in two bytes
        "cd 00 ff",  # 255 in three
        "d0 01",  # positive as signed
        "d9 01 61",  # short text in the longer form
        "c5 00 01 61",  # short bytes in the longer form
        "dc 00 00",  # empty list in the longer form
        "de 00 00",  # empty map in the longer form
        "82 a1 62 01 a1 61 01",  # keys out of order
        "82 a1 61 01 a1 61 01",  # a key twice
        "81 01 01",  # a key that is a number
        "81 c4 01 61 01",  # a key that is bytes
        "cb 3f f0 00 00 00 00 00 00",  # a float
        "ca 3f 80 00 00",  # a short float
        "d6 ff 00 00 00 00",  # a time
        "d4 01 00",  # an address of one byte
        "c7 20 02" + " 00" * 32,  # an extension that is not an address
        "c8 00 20 01" + " 00" * 32,  # an address in the longer form
        "a1 ff",  # text that is not UTF-8
        "a3 ed a0 80",  # a surrogate
        "a2 61",  # cut off
        "92 01",  # cut off
        "dd ff ff ff ff",  # a list that claims 4 billion items
        "c6 ff ff ff ff",  # bytes that claim 4 GiB
    ],
)
def test_decode_refuses(data: str) -> None:
    with pytest.raises(EncodingError):
        decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    "value", [1.5, 1 << 64, -(1 << 63) - 1, {1: 2}, {b"a": 1}, {1, 2}, "\ud800", {"\ud800": 1}, object()]
)
def test_encode_refuses(value: Any) -> None:
    with pytest.raises(EncodingError):
        encode(value)
    with pytest.raises(EncodingError):
        encode([{"a": value}])


def test_encode_and_decode_refuse_deep_nesting() -> None:
    assert decode(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(EncodingError, match="nested"):
        encode(nested(MAX_DEPTH + 1))
    for depth in (MAX_DEPTH + 1, 600, 100_000):
        with pytest.raises(EncodingError):
            decode(b"\x91" * depth + b"\x90")
