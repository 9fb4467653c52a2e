"""Nodes: typed records in canonical msgpack, named by their hash.

A node is the canonical encoding of ``[kind, body]``: kind is short text, body a map with text keys. Example: the node
``["note", {"text": "hi"}]`` encodes as ``92 a4 6e6f7465 81 a4 74657874 a2 6869``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from samebits.cas.digest import Buffer, Digest, hash_node
from samebits.cas.encoding import Value, decode, encode
from samebits.cas.errors import NodeError

MAX_NODE_SIZE_BYTES: Final = 64 << 20
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Node:
    """A typed record. References to other objects are the Digests anywhere in its body."""

    kind: str  # [a-z][a-z0-9_-]{0,63}
    body: dict[str, Value]


def encode_node(node: Node) -> bytes:
    """Return the one encoding of a node; raises NodeError, or EncodingError for a value that has none."""
    _check_kind(node.kind)
    if not isinstance(node.body, dict):
        raise NodeError(f"the body of a {node.kind} node is not a map")
    encoded = encode([node.kind, node.body])
    _check_size(len(encoded))
    return encoded


def decode_node(data: Buffer, max_length: int | None = None) -> Node:
    """Return the node of its encoding; raises EncodingError or NodeError for anything else.

    A list or map of more than `max_length` items is refused before it is read.
    """
    _check_size(memoryview(data).nbytes)
    match decode(data, max_length):
        case [str() as kind, dict() as body]:
            _check_kind(kind)
            return Node(kind, body)
        case _:
            raise NodeError("a node is a list of a kind (text) and a body (map)")


def node_address(node: Node) -> Digest:
    """Return the address under which a store keeps the node."""
    return hash_node(encode_node(node))


def references(node: Node) -> tuple[Digest, ...]:
    """Return every Digest in the node's body, each once, in the order of the encoding."""
    return tuple(dict.fromkeys(_digests(node.body)))


def _digests(value: Value) -> Iterator[Digest]:
    if isinstance(value, Digest):
        yield value
    elif isinstance(value, dict):
        for key in sorted(value, key=lambda key: key.encode(errors="surrogatepass")):
            yield from _digests(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _digests(item)


def _check_kind(kind: object) -> None:
    if not isinstance(kind, str) or not _KIND.match(kind):
        raise NodeError(f"node kind {str(kind)[:80]!r} is not [a-z][a-z0-9_-]{{0,63}}")


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_NODE_SIZE_BYTES:
        raise NodeError(f"a node of {size_bytes} bytes; the most is {MAX_NODE_SIZE_BYTES}")
