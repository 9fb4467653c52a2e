"""Damage in the database is caught by every read, and the object is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.errors import CasError, DamagedObjectError, DigestMismatchError, ObjectNotFoundError
from samebits.cas.node import Node
from samebits.cas.reachable import check_objects
from samebits.cas.records import ObjectRecord, decode_record, encode_record, row_key
from samebits.cas.store import Store

MIB = 1 << 20
LARGE = bytes(range(256)) * (MIB // 128) + b"tail"  # two equal rows and a short one
Edit = Callable[[bytes], bytes | None]


def edit_value(path: Path, table: bytes, key: bytes, edit: Edit) -> None:
    """Change a value behind the store's back; None deletes it."""
    with lmdb.open(str(path / "cas"), max_dbs=8, map_size=1 << 30) as env, env.begin(write=True) as transaction:
        database = env.open_db(table, txn=transaction, create=False)
        value = transaction.get(key, db=database)
        assert value is not None
        changed = edit(value)
        if changed is None:
            transaction.delete(key, db=database)
        else:
            transaction.put(key, changed, db=database)


def flip(position: int) -> Edit:
    def edit(value: bytes) -> bytes:
        changed = bytearray(value)
        changed[position] ^= 1
        return bytes(changed)

    return edit


def all_reads(store: Store, digest: Digest) -> Iterator[Callable[[], object]]:
    size = store.stat(digest).size_bytes
    yield lambda: store.get_blob(digest)
    yield lambda: list(store.read_rows(digest))
    yield lambda: store.read_into(digest, memoryview(bytearray(size)))


ROW = LARGE[:MIB]
ROW_EDITS: dict[str, tuple[bytes, Edit]] = {
    "first byte of the first row": (row_key(ROW), flip(0)),
    "last byte of the last row": (row_key(b"tail"), flip(3)),
    "row missing": (row_key(b"tail"), lambda row: None),
    "row shorter": (row_key(ROW), lambda row: row[:-1]),
    "row longer": (row_key(b"tail"), lambda row: row + b"x"),
    "row of another": (row_key(ROW), lambda row: bytes(MIB)),
}


@pytest.mark.parametrize("what", ROW_EDITS)
def test_reads_catch_a_damaged_row(tmp_path: Path, what: str) -> None:
    with Store(tmp_path) as store:
        digest = store.put_blob(LARGE)
    edit_value(tmp_path, b"rows", *ROW_EDITS[what])
    with Store(tmp_path) as store:
        assert store.has(digest)
        for read in all_reads(store, digest):
            with pytest.raises(DamagedObjectError, match=str(digest)):
                read()
        assert [damage.digest for damage in check_objects(store, [digest])[1]] == [digest]


@pytest.mark.parametrize("position", [0, *range(9, 47)])  # bytes 1 to 8 say when it was touched
def test_reads_catch_any_damaged_byte_of_an_inline_object(tmp_path: Path, position: int) -> None:
    data = b"a blob that lies in its record"
    with Store(tmp_path) as store:
        digest = store.put_blob(data)
    edit_value(tmp_path, b"objects", digest.raw, lambda value: flip(position % len(value))(value))
    with Store(tmp_path) as store:
        with pytest.raises(CasError, match=str(digest)):
            store.get_blob(digest)
        with pytest.raises(CasError, match=str(digest)):
            list(store.read_rows(digest))


def test_reads_catch_rows_in_another_order(tmp_path: Path) -> None:
    first, second = bytes(MIB), b"\1" * MIB
    with Store(tmp_path) as store:
        digest = store.put_blob(first + second)
    swapped = ObjectRecord("blob", 2 * MIB, None, (row_key(second), row_key(first)))
    edit_value(tmp_path, b"objects", digest.raw, lambda value: encode_record(swapped, 0))
    with Store(tmp_path) as store:
        for read in all_reads(store, digest):
            with pytest.raises(DigestMismatchError) as caught:
                read()
            assert (caught.value.expected, caught.value.actual) == (digest, hash_blob(second + first))


def test_read_rows_never_gives_out_a_damaged_row(tmp_path: Path) -> None:
    rows = [bytes([number]) * MIB for number in range(3)]
    with Store(tmp_path) as store:
        digest = store.put_blob(b"".join(rows))
    edit_value(tmp_path, b"rows", row_key(rows[1]), flip(5))
    with Store(tmp_path) as store:
        given = store.read_rows(digest)
        assert next(given) == rows[0]
        with pytest.raises(DamagedObjectError, match="row 1 does not have its hash"):
            next(given)


def test_a_node_whose_record_says_blob_is_caught(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        digest = store.put_node(Node("note", {}))
        encoded = store.get_encoded(digest)
    record = ObjectRecord("blob", len(encoded), encoded, ())
    edit_value(tmp_path, b"objects", digest.raw, lambda value: encode_record(record, 0))
    with Store(tmp_path) as store, pytest.raises(DigestMismatchError, match=str(digest)):
        store.get_blob(digest)


def bad_record(form: int, size: int, body: bytes) -> bytes:
    return bytes([form]) + bytes(8) + size.to_bytes(8, "little") + body


BAD_RECORDS = [
    b"",
    b"\1",
    bytes(16),
    bad_record(0, 1, b"x"),
    bad_record(5, 1, b"x"),
    bad_record(255, 1, b"x"),
    bad_record(1, 2, b"x"),
    bad_record(1, 0, b"x"),
    bad_record(3, 1, b""),
    bad_record(1, 20_000, bytes(20_000)),
    bad_record(2, MIB, b""),
    bad_record(2, MIB, bytes(31)),
    bad_record(2, MIB + 1, bytes(32)),
    bad_record(4, MIB, bytes(64)),
    bad_record(2, 1 << 63, bytes(32)),
    bad_record(2, 1, bytes(32)),
    bad_record(2, 16384, bytes(32)),
]


@pytest.mark.parametrize("record", BAD_RECORDS)
def test_decode_record_refuses(record: bytes) -> None:
    with pytest.raises(DamagedObjectError, match="record"):
        decode_record(hash_blob(b""), record)


@given(st.sampled_from(["blob", "node"]), st.binary(max_size=200), st.integers(16385, 1 << 34))
def test_decode_record_reads_what_encode_record_writes(kind: str, inline: bytes, size: int) -> None:
    assert kind in ("blob", "node")
    small = ObjectRecord(kind, len(inline), inline, ())  # type: ignore[arg-type]
    large = ObjectRecord(kind, size, None, tuple(row_key(b"%d" % row) for row in range(-(-size // MIB))))  # type: ignore[arg-type]
    for record in (small, large):
        found = decode_record(hash_blob(b""), encode_record(record, 7))
        assert found == record._replace(touched_s=7)


def test_objects_names_a_record_that_does_not_decode(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        digest = store.put_blob(b"x")
    edit_value(tmp_path, b"objects", digest.raw, lambda value: b"\xc1")
    with Store(tmp_path) as store, pytest.raises(DamagedObjectError, match=str(digest)):
        list(store.objects())


@pytest.mark.parametrize("what", ROW_EDITS)
def test_discard_damaged_lets_the_object_be_put_again(tmp_path: Path, what: str) -> None:
    with Store(tmp_path) as store:
        digest, intact = store.put_blob(LARGE), store.put_blob(b"intact")
        assert not store.discard_damaged(digest)
    edit_value(tmp_path, b"rows", *ROW_EDITS[what])
    with Store(tmp_path) as store:
        assert store.discard_damaged(digest)
        assert not store.has(digest)
        assert not store.discard_damaged(intact)
        assert store.put_blob(LARGE) == digest
        assert store.get_blob(digest) == LARGE
        with pytest.raises(ObjectNotFoundError):
            store.discard_damaged(hash_blob(b"nowhere"))


def test_discard_damaged_takes_a_record_that_does_not_decode(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        digest = store.put_blob(b"x")
    edit_value(tmp_path, b"objects", digest.raw, lambda value: b"\xc1")
    with Store(tmp_path) as store:
        assert store.discard_damaged(digest)
        store.put_blob(b"x")
        assert store.get_blob(digest) == b"x"


@pytest.mark.parametrize("what", ROW_EDITS)
def test_putting_again_mends(tmp_path: Path, what: str) -> None:
    """A row of the right key was taken for the row: the put said all is well, and the object stayed damaged."""
    with Store(tmp_path) as store:
        digest = store.put_blob(LARGE)
    edit_value(tmp_path, b"rows", *ROW_EDITS[what])
    with Store(tmp_path) as store:
        before = store.new_bytes
        assert store.put_blob(LARGE) == digest
        assert store.get_blob(digest) == LARGE
        assert store.new_bytes - before == (4 if what == "row missing" else 0)
