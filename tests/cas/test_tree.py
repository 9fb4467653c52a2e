"""Trees of names and addresses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.cas.digest import hash_blob
from samebits.cas.errors import NodeError
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.tree import get_tree, put_tree, read_tree, tree_address, tree_node

A, B = hash_blob(b"a"), hash_blob(b"b")
PARTS = st.text(st.characters().filter(lambda c: c.isprintable() and c != "/"), min_size=1, max_size=8)
NAMES = st.lists(PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4).map("/".join)


def test_get_tree_gives_what_put_tree_got_in_order(store: Store) -> None:
    entries = {"model/b": A, "model/a": B, "é": A, "z.weight": B}
    digest = put_tree(store, entries)
    assert digest == tree_address(dict(reversed(entries.items())))
    assert list(get_tree(store, digest).items()) == [("model/a", B), ("model/b", A), ("z.weight", B), ("é", A)]
    assert get_tree(store, put_tree(store, {})) == {}


@given(st.dictionaries(NAMES, st.sampled_from([A, B])))
def test_read_tree_reads_what_tree_node_makes(entries: dict[str, Any]) -> None:
    assert read_tree(tree_node(entries)) == entries


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", ".", "..", "a/..", "./a", "a\0", "a\n", "\x1b[2J", "\ud800", 1, b"a"]
)
def test_names_are_refused(name: Any) -> None:
    with pytest.raises(NodeError, match="name in a tree"):
        tree_node({name: A})
    if isinstance(name, str):
        with pytest.raises(NodeError):
            read_tree(Node("tree", {"entries": {name: A}}))


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (Node("tensor", {"entries": {}}), "not a tree"),
        (Node("tree", {}), "entries"),
        (Node("tree", {"entries": {}, "more": 1}), "entries"),
        (Node("tree", {"entries": [A]}), "entries"),
        (Node("tree", {"entries": {"a": A.raw}}), "'a' of a tree is not an address"),
    ],
)
def test_read_tree_refuses(node: Node, said: str) -> None:
    with pytest.raises(NodeError, match=said):
        read_tree(node)
