"""Nodes and their references."""

from __future__ import annotations

from typing import Any

import pytest
from blake3 import blake3

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.encoding import encode
from samebits.cas.errors import CasError, EncodingError, NodeError
from samebits.cas.node import Node, decode_node, encode_node, node_address, references

A, B, C = (hash_blob(text) for text in (b"a", b"b", b"c"))


def test_decode_node_reads_what_encode_node_writes() -> None:
    node = Node("note", {"text": "hi", "parts": [A, None, -1], "more": {"b": B}})
    assert decode_node(encode_node(node)) == node


def test_encode_node_has_the_example_of_its_documentation() -> None:
    node = Node("note", {"text": "hi"})
    assert encode_node(node).hex() == "92" + "a46e6f7465" + "81" + "a474657874" + "a26869"
    assert (
        node_address(node).raw == blake3(encode_node(node), derive_key_context="samebits 2026-11-21 node v1").digest()
    )


@pytest.mark.parametrize(
    "value",
    [
        [],
        ["a"],
        ["a", {}, 1],
        ["", {}],
        ["A", {}],
        ["1a", {}],
        ["a b", {}],
        ["a\n", {}],
        ["a" * 65, {}],
        [b"a", {}],
        ["a", []],
        ["a", None],
        {"a": {}},
        None,
        A,
    ],
)
def test_decode_node_refuses_what_is_no_node(value: Any) -> None:
    with pytest.raises(NodeError):
        decode_node(encode(value))


def test_decode_node_refuses_a_second_encoding() -> None:
    with pytest.raises(EncodingError):
        decode_node(bytes.fromhex("92 d9 01 61 80"))


@pytest.mark.parametrize("kind", ["", "A", "a.b", "a" * 65, "é", 1, None])
def test_encode_node_refuses_a_kind(kind: Any) -> None:
    with pytest.raises(NodeError, match="kind"):
        encode_node(Node(kind, {}))


def test_encode_node_refuses_a_body() -> None:
    body: Any = [1]
    with pytest.raises(NodeError, match="body"):
        encode_node(Node("a", body))


def test_nodes_beyond_the_largest_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.cas.node.MAX_NODE_SIZE_BYTES", 100)
    for call in (lambda: encode_node(Node("a", {"b": b"x" * 100})), lambda: decode_node(b"x" * 101)):
        with pytest.raises(CasError, match="the most is 100"):
            call()


def test_references_are_all_digests_once_in_the_order_of_the_encoding() -> None:
    node = Node("x", {"z": A, "list": [B, [C, {"deep": Digest(bytes(32))}], B], "n": 1, "raw": A.raw})
    assert references(node) == (B, C, Digest(bytes(32)), A)
    assert references(decode_node(encode_node(node))) == references(node)
