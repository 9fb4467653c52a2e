"""Trees: sorted names with addresses. A checkpoint, a weights file, a data set.

Example: ``["tree", {"entries": {"layer/bias": <address>, "layer/weight": <address>}}]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from samebits.cas.digest import Digest
from samebits.cas.encoding import Value
from samebits.cas.errors import NodeError
from samebits.cas.node import Node, node_address
from samebits.cas.store import Store

TREE_KIND: Final = "tree"


def tree_node(entries: Mapping[str, Digest]) -> Node:
    """Return the node of a tree; raises NodeError for a name that a tree can't have."""
    checked: dict[str, Value] = {check_name(name): digest for name, digest in entries.items()}
    return Node(TREE_KIND, {"entries": checked})


def tree_address(entries: Mapping[str, Digest]) -> Digest:
    """Return the address of a tree, without storing anything."""
    return node_address(tree_node(entries))


def put_tree(store: Store, entries: Mapping[str, Digest]) -> Digest:
    """Store a tree; returns its address."""
    return store.put_node(tree_node(entries))


def get_tree(store: Store, digest: Digest) -> dict[str, Digest]:
    """Return the entries of a stored tree in the order of their names; raises NodeError."""
    return read_tree(store.get_node(digest))


def read_tree(node: Node) -> dict[str, Digest]:
    """Return the entries of a tree node in the order of their names; raises NodeError."""
    if node.kind != TREE_KIND:
        raise NodeError(f"not a tree but a {node.kind}")
    entries = node.body.get("entries")
    if not isinstance(entries, dict) or len(node.body) != 1:
        raise NodeError("a tree has the one field entries, a map")
    found = {}
    for name, digest in entries.items():
        if not isinstance(digest, Digest):
            raise NodeError(f"entry {name!r} of a tree is not an address")
        found[check_name(name)] = digest
    return dict(sorted(found.items(), key=lambda entry: entry[0].encode()))


def check_name(name: object) -> str:
    """Return the name if a tree may have it: parts between slashes, none empty, `.` or `..`, all printable."""
    if not isinstance(name, str) or not name.isprintable() or any(part in ("", ".", "..") for part in name.split("/")):
        raise NodeError(f"{name!r} can't be a name in a tree")
    return name
