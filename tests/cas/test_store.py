"""The store: what goes in comes out, once, under its address."""

from __future__ import annotations

import io
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.cas.digest import Digest, hash_blob, hash_node
from samebits.cas.environment import OBJECTS
from samebits.cas.errors import (
    DigestMismatchError,
    EncodingError,
    NodeError,
    ObjectKindError,
    ObjectNotFoundError,
    StoreError,
)
from samebits.cas.files import put_file
from samebits.cas.fsck import fsck
from samebits.cas.node import Node, encode_node, node_address
from samebits.cas.records import INLINE_SIZE_BYTES, ROW_SIZE_BYTES
from samebits.cas.store import Store

KIB, MIB = 1 << 10, 1 << 20
SIZES = (0, 1, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, MIB - 1, MIB, MIB + 1, 2 * MIB + 1)


def make_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


class DribblingStream(io.RawIOBase):
    """Gives its bytes in pieces of odd sizes, as a socket does."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)
        self._sizes = random.Random(7)

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(min(size, self._sizes.choice((1, 3, 70_000, 1 << 20))))


@pytest.mark.parametrize("size", SIZES)
def test_get_blob_gives_what_put_blob_got(store: Store, size: int) -> None:
    data = make_bytes(size)
    digest = store.put_blob(data)
    assert digest == hash_blob(data)
    assert store.has(digest)
    assert store.get_blob(digest) == data
    rows = list(store.read_rows(digest))
    assert b"".join(rows) == data
    assert all(len(row) == ROW_SIZE_BYTES for row in rows[:-1])
    info = store.stat(digest)
    assert (info.digest, info.kind, info.size_bytes) == (digest, "blob", size)
    out = memoryview(bytearray(size))
    store.read_into(digest, out)
    assert out == data


@pytest.mark.parametrize("size", SIZES)
def test_put_stream_stores_the_same_as_put_blob(store: Store, size: int) -> None:
    data = make_bytes(size)
    digest = store.put_stream(DribblingStream(data))  # type: ignore[arg-type]
    assert digest == hash_blob(data)
    assert store.get_blob(digest) == data
    added = store.new_bytes
    assert added == size
    assert (
        store.put_blob(data) == digest == store.put_stream(io.BytesIO(data)) == store.put_pieces([data[:5], data[5:]])
    )
    assert store.new_bytes == added


@pytest.mark.parametrize("size", [0, 16 * KIB, 2 * MIB])
def test_get_node_gives_what_put_node_got(store: Store, size: int) -> None:
    node = Node("note", {"data": make_bytes(size), "other": hash_blob(b"")})
    digest = store.put_node(node)
    assert digest == node_address(node)
    assert store.get_node(digest) == node
    assert store.get_encoded(digest) == encode_node(node) == b"".join(store.read_rows(digest))
    assert store.stat(digest).kind == "node"
    added = store.new_bytes
    assert store.put_encoded_node(encode_node(node)) == digest
    assert store.new_bytes == added


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_put_blob_takes_every_buffer(store: Store, make: Any) -> None:
    for size in (0, 5, 2 * MIB):
        assert store.get_blob(store.put_blob(make(make_bytes(size)))) == make_bytes(size)


def test_put_blob_in_a_batch_does_not_see_later_changes_of_the_buffer(store: Store) -> None:
    data = bytearray(make_bytes(MIB + 5))
    before = bytes(data)
    with store.batch():
        digest = store.put_blob(data)
        data[:] = bytes(len(data))
    assert store.get_blob(digest) == before


def test_equal_rows_are_stored_once(store: Store) -> None:
    row = make_bytes(MIB)
    store.put_blob(row * 5)
    assert store.new_bytes == MIB
    store.put_blob(row + b"tail")
    assert store.new_bytes == MIB + 4
    store.put_blob(b"x" + row)
    assert store.new_bytes == 2 * MIB + 5


@pytest.mark.parametrize("size", [1, 100, 16 * 1024, 16 * 1024 + 1])
def test_a_blob_that_is_the_last_row_of_another_has_its_bytes(store: Store, tmp_path: Path, size: int) -> None:
    """The store had such a row already, so a small blob was put as a record without its bytes."""
    tail = b"t" * size
    large = store.put_blob(bytes(1 << 20) + tail)
    (tmp_path / "tail").write_bytes(tail)
    puts: tuple[Callable[[], Digest], ...] = (
        lambda: store.put_blob(tail),
        lambda: store.put_stream(io.BytesIO(tail)),
        lambda: put_file(store, tmp_path / "tail").digest,
    )
    for put in puts:
        digest = put()
        assert store.get_blob(digest) == tail
        assert b"".join(store.read_rows(digest)) == tail
        store.environment.write(lambda transaction, digest=digest: transaction.delete(OBJECTS, digest.raw))  # type: ignore[misc]
    assert store.get_blob(large) == bytes(1 << 20) + tail


RELATED = st.tuples(st.sampled_from([b"", b"a", b"b", b"ab", b"ba"]), st.sampled_from([0, 1, 16 * KIB, 16 * KIB + 1]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(RELATED, min_size=1, max_size=4), max_size=4), st.sampled_from(["put_blob", "put_stream"]))
def test_blobs_that_share_rows_come_back(batches: list[list[tuple[bytes, int]]], how: str) -> None:
    """Each is some rows out of two, and a tail; they are put in any order, together or alone."""
    rows = {ord("a"): b"a" * MIB, ord("b"): b"b" * MIB}
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        put: dict[Digest, bytes] = {}
        for batch in batches:
            with store.batch():
                for letters, size in batch:
                    data = b"".join(rows[letter] for letter in letters) + b"t" * size
                    digest = store.put_blob(data) if how == "put_blob" else store.put_stream(io.BytesIO(data))
                    put[digest] = data
                    assert store.get_blob(digest) == data
        assert all(store.get_blob(digest) == data for digest, data in put.items())
        assert fsck(store).problems == ()


def test_a_blob_and_a_node_of_the_same_bytes_are_two_objects(store: Store) -> None:
    encoded = encode_node(Node("note", {}))
    blob, node = store.put_blob(encoded), store.put_encoded_node(encoded)
    assert (blob, node) == (hash_blob(encoded), hash_node(encoded))
    with pytest.raises(ObjectKindError, match=f"object {blob} is a blob, not a node"):
        store.get_node(blob)
    with pytest.raises(ObjectKindError, match=f"object {node} is a node, not a blob"):
        store.get_blob(node)


def test_put_encoded_node_refuses_what_is_no_node(store: Store) -> None:
    with pytest.raises(EncodingError):
        store.put_encoded_node(b"\xc1")
    with pytest.raises(NodeError):
        store.put_encoded_node(b"\x90")
    assert list(store.objects()) == []


@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_put_with_another_address_than_expected_leaves_nothing_visible(store: Store, size: int) -> None:
    data, other = make_bytes(size), hash_blob(b"other")
    with pytest.raises(DigestMismatchError) as caught:
        store.put_stream(io.BytesIO(data), expected=other)
    assert (caught.value.expected, caught.value.actual) == (other, hash_blob(data))
    assert list(store.objects()) == []


def test_reads_of_what_is_not_there_name_it(store: Store) -> None:
    digest = hash_blob(b"nowhere")
    assert not store.has(digest)
    for read in (store.stat, store.get_blob, store.get_node, store.get_encoded, lambda d: list(store.read_rows(d))):
        with pytest.raises(ObjectNotFoundError, match=str(digest)):
            read(digest)


def test_read_into_refuses_another_size(store: Store) -> None:
    digest = store.put_blob(b"12345")
    for size in (4, 6):
        with pytest.raises(ValueError, match="5 bytes"):
            store.read_into(digest, memoryview(bytearray(size)))


def test_objects_come_in_the_order_of_addresses_beyond_one_chunk(store: Store) -> None:
    with store.batch():
        put = {store.put_blob(b"%d" % number) for number in range(2100)}
    assert [info.digest for info in store.objects()] == sorted(put)


def test_objects_goes_on_while_objects_are_added(store: Store) -> None:
    with store.batch():
        for number in range(1500):
            store.put_blob(b"%d" % number)
    listing = store.objects()
    first = [next(listing) for _ in range(10)]
    store.put_blob(b"more")
    assert len({info.digest for info in [*first, *listing]}) in (1500, 1501)


def test_store_reopened_has_the_same_objects(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        digests = [store.put_blob(make_bytes(size)) for size in SIZES]
        store.pin("all", digests[-1])
    with Store(tmp_path / "s", read_only=True) as store:
        assert {info.digest for info in store.objects()} == set(digests)
        assert [store.get_blob(digest) for digest in digests] == [make_bytes(size) for size in SIZES]
        assert store.pins() == {"all": digests[-1]}


def test_pins_are_names_for_objects(store: Store) -> None:
    one, two = store.put_blob(b"1"), store.put_blob(b"2")
    store.pin("b", one)
    store.pin("a/é", two)
    assert list(store.pins().items()) == [("a/é", two), ("b", one)]
    store.pin("b", two)
    assert store.pins()["b"] == two
    assert store.unpin("b")
    assert not store.unpin("b")
    assert store.pins() == {"a/é": two}
    with pytest.raises(ObjectNotFoundError):
        store.pin("c", hash_blob(b"3"))


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "x" * 401, "\ud800"])
def test_pin_refuses_a_name(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="pin name"):
        store.pin(name, store.put_blob(b""))


def test_pins_are_all_listed_beyond_one_chunk(store: Store) -> None:
    digest = store.put_blob(b"")
    for number in range(2005):
        store.environment.write(lambda t, n=number: t.put("pins", b"%05d" % n, digest.raw))  # type: ignore[misc]
    assert len(store.pins()) == 2005


def test_batch_commits_at_its_end(store: Store, tmp_path: Path) -> None:
    with Store(store.path, read_only=True) as other:
        with store.batch():
            small, large = store.put_blob(b"1"), store.put_blob(make_bytes(2 * MIB + 5))
            node = store.put_node(Node("pair", {"a": small, "b": large}))
            assert store.get_blob(large) == make_bytes(2 * MIB + 5)
            assert store.get_node(node).kind == "pair"
            assert store.stat(small).size_bytes == 1
            assert not other.has(small)
        assert len(list(other.objects())) == 3


def test_batch_drops_everything_on_an_exception(store: Store) -> None:
    kept = store.put_blob(b"kept")
    with pytest.raises(KeyError), store.batch():
        store.put_blob(b"1")
        store.put_blob(make_bytes(2 * MIB))
        raise KeyError
    assert [info.digest for info in store.objects()] == [kept]
    assert store.new_bytes == 4
    with store.batch():
        store.put_blob(b"1")
    assert len(list(store.objects())) == 2


def test_batch_in_a_batch_is_refused_unless_it_joins(store: Store) -> None:
    with store.batch():
        one = store.put_blob(b"1")
        with pytest.raises(StoreError, match="already open"), store.batch():
            pass
        with store.batch(join=True):
            two = store.put_blob(b"2")
        assert not Store(store.path).has(two)
    assert store.has(one)
    assert store.has(two)


def test_batch_beyond_one_transaction_is_split(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.cas.writes.FLUSH_SIZE_BYTES", 4 * MIB)
    with pytest.raises(KeyError), store.batch():
        digests = [store.put_blob(make_bytes(MIB, seed)) for seed in range(10)]
        raise KeyError
    visible = [store.has(digest) for digest in digests]
    assert visible == sorted(visible, reverse=True)
    assert 6 <= sum(visible) < 10
    assert all(store.get_blob(d) == make_bytes(MIB, seed) for seed, d in enumerate(digests) if store.has(d))


def test_pin_in_a_batch_sees_its_objects(store: Store) -> None:
    with store.batch():
        digest = store.put_blob(b"1")
        store.pin("one", digest)
    assert store.pins() == {"one": digest}


def test_put_stream_refuses_a_stream_of_text(store: Store) -> None:
    stream: Any = io.StringIO("text")
    with pytest.raises(TypeError, match="str"):
        store.put_stream(stream)
    assert list(store.objects()) == []


def test_put_stream_that_breaks_off_leaves_nothing_visible(store: Store) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise OSError("gone")
            return data

    with pytest.raises(OSError, match="gone"):
        store.put_stream(Broken(os.urandom(3 * MIB)))
    assert list(store.objects()) == []


def test_inline_size_is_a_whole_number_of_pages() -> None:
    assert INLINE_SIZE_BYTES == 16 * KIB
