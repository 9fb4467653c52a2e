"""Copying between stores, and checking what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.errors import DigestMismatchError, NodeError, ObjectNotFoundError
from samebits.cas.fetch import Damage, FetchReport, check_objects, fetch, reachable
from samebits.cas.node import Node, encode_node
from samebits.cas.records import ObjectInfo
from samebits.cas.store import Store

MIB = 1 << 20


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "target") as opened:
        yield opened


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


class LyingSource:
    """A store that gives other bytes, or another kind, for one object."""

    def __init__(self, store: Store, about: Digest, rows: list[bytes] | None = None, kind: str = "") -> None:
        self._store, self._about, self._rows, self._kind = store, about, rows, kind

    def stat(self, digest: Digest) -> ObjectInfo:
        info = self._store.stat(digest)
        return ObjectInfo(digest, self._kind, info.size_bytes) if digest == self._about and self._kind else info  # type: ignore[arg-type]

    def read_rows(self, digest: Digest) -> Iterator[bytes]:
        if digest == self._about and self._rows is not None:
            return iter(self._rows)
        return self._store.read_rows(digest)


def test_fetch_copies_everything_once(store: Store, target: Store) -> None:
    made = make_objects(store)
    store.put_blob(b"not reachable")
    sizes: list[int] = []
    report = fetch([made.root, made.root], store, target, sizes.append)
    assert report == FetchReport(5, sum(store.stat(digest).size_bytes for digest in made.all()))
    assert (len(sizes), sum(sizes)) == (5, report.size_bytes)
    assert {info.digest for info in target.objects()} == made.all()
    assert check_objects(target, [made.root]) == (5, [])
    assert fetch([made.root], store, target) == FetchReport(0, 0)


def test_fetch_copies_only_what_is_missing(store: Store, target: Store) -> None:
    made = make_objects(store)
    fetch([made.left], store, target)
    assert {info.digest for info in target.objects()} == {made.left, made.large, made.shared}
    assert fetch([made.root], store, target).objects == 2


def test_fetch_completes_a_node_that_was_put_without_its_parts(store: Store, target: Store) -> None:
    made = make_objects(store)
    target.put_encoded_node(store.get_encoded(made.root))
    assert fetch([made.root], store, target).objects == 4
    assert check_objects(target, [made.root]) == (5, [])


def test_fetch_stores_a_node_behind_what_it_refers_to(
    store: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_objects(store)
    order: list[Digest] = []
    for method in ("put_pieces", "put_encoded_node"):
        original = getattr(target, method)

        def record(*arguments: object, original: object = original, **named: object) -> Digest:
            assert callable(original)
            digest = original(*arguments, **named)
            assert isinstance(digest, Digest)
            order.append(digest)
            return digest

        monkeypatch.setattr(target, method, record)
    fetch([made.root], store, target)
    assert order == [made.large, made.shared, made.left, made.right, made.root]


@pytest.mark.parametrize("which", ["root", "left", "large", "shared"])
@pytest.mark.parametrize(
    "rows", [[b"another"], [], [bytes(MIB), b"tail"], [encode_node(Node("pair", {"a": hash_blob(b"")}))]]
)
def test_fetch_from_a_lying_source_leaves_nothing_visible(
    store: Store, target: Store, which: str, rows: list[bytes]
) -> None:
    made = make_objects(store)
    about: Digest = getattr(made, which)
    with pytest.raises(DigestMismatchError) as caught:
        fetch([made.root], LyingSource(store, about, rows), target)
    assert caught.value.expected == about
    assert list(target.objects()) == []
    assert fetch([made.root], store, target).objects == 5


@pytest.mark.parametrize(("which", "kind"), [("root", "blob"), ("shared", "node")])
def test_fetch_from_a_source_that_lies_about_kinds_is_refused(
    store: Store, target: Store, which: str, kind: str
) -> None:
    made = make_objects(store)
    with pytest.raises(DigestMismatchError):
        fetch([made.root], LyingSource(store, getattr(made, which), kind=kind), target)
    assert list(target.objects()) == []


def test_fetch_of_a_node_without_end_stops(store: Store, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("samebits.cas.fetch"), "MAX_NODE_SIZE_BYTES", 10_000)
    made = make_objects(store)
    with pytest.raises(NodeError, match="larger"):
        fetch([made.root], LyingSource(store, made.root, [bytes(9_000)] * 10), target)


def test_fetch_of_damaged_bytes_leaves_nothing_visible(store: Store, target: Store) -> None:
    made = make_objects(store)
    row = (bytes(range(256)) * (MIB // 100))[:MIB]
    store.environment.write(lambda transaction: transaction.put("rows", hash_blob(row).raw, b"\1" + row[1:]))
    with pytest.raises(Exception, match=str(made.large)):
        fetch([made.root], store, target)
    assert list(target.objects()) == []


def test_fetch_of_what_the_source_lacks_names_it(store: Store, target: Store) -> None:
    gone = hash_blob(b"gone")
    root = store.put_node(Node("root", {"child": gone}))
    with pytest.raises(ObjectNotFoundError, match=str(gone)):
        fetch([root], store, target)
    assert list(target.objects()) == []


def test_fetch_follows_a_long_chain(store: Store, target: Store) -> None:
    with store.batch():
        last = store.put_blob(b"end")
        for number in range(3000):
            last = store.put_node(Node("link", {"number": number, "next": last}))
    assert fetch([last], store, target).objects == 3001


def test_fetch_joins_a_batch(store: Store, target: Store) -> None:
    made = make_objects(store)
    with target.batch():
        fetch([made.root], store, target)
        assert list(target.objects()) == []
    assert len(list(target.objects())) == 5


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
