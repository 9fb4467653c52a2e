"""What roots refer to, and whether it is all there."""

from __future__ import annotations

from dataclasses import dataclass

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.node import Node
from samebits.cas.reachable import Damage, check_objects, reachable
from samebits.cas.store import Store

MIB = 1 << 20


@dataclass
class Made:
    """root -> (left, right), left -> (large, shared), right -> (shared, large)."""

    root: Digest
    left: Digest
    right: Digest
    large: Digest
    shared: Digest

    def all(self) -> set[Digest]:
        return {self.root, self.left, self.right, self.large, self.shared}


def make_objects(store: Store) -> Made:
    large, shared = store.put_blob(bytes(range(256)) * (MIB // 100)), store.put_blob(b"shared")
    left = store.put_node(Node("pair", {"a": large, "b": [shared]}))
    right = store.put_node(Node("pair", {"a": shared, "b": {"deep": large}}))
    return Made(store.put_node(Node("root", {"left": left, "right": right})), left, right, large, shared)


def test_reachable_yields_each_object_once(store: Store) -> None:
    made = make_objects(store)
    store.put_blob(b"not reachable")
    assert sorted(info.digest for info in reachable(store, [made.root, made.left])) == sorted(made.all())
    assert [info.digest for info in reachable(store, [made.shared])] == [made.shared]


def test_check_objects_reports_all_that_is_missing_or_damaged(store: Store) -> None:
    made = make_objects(store)
    gone = hash_blob(b"gone")
    root = store.put_node(Node("root", {"a": made.left, "b": gone}))
    row = (bytes(range(256)) * (MIB // 100))[:MIB]
    store.environment.write(lambda transaction: transaction.delete("rows", hash_blob(row).raw))
    count, damaged = check_objects(store, [root])
    assert count == 5
    assert {damage.digest: damage.referred_by for damage in damaged} == {gone: root, made.large: made.left}
    assert all(str(damage.digest) in damage.reason for damage in damaged)
    assert check_objects(store, [gone])[1] == [Damage(gone, f"object {gone} is not in the store", None)]
