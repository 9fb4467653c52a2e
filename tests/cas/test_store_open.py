"""Opening a store: where there is none, twice, read-only, full, of another format."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from samebits.cas.encoding import encode
from samebits.cas.errors import StoreError, StoreFullError
from samebits.cas.store import Store

MIB = 1 << 20


def run_python(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def write_meta(path: Path, value: bytes) -> None:
    with lmdb.open(str(path / "cas"), max_dbs=4) as env, env.begin(write=True) as transaction:
        transaction.put(b"format", value, db=env.open_db(b"meta", txn=transaction))


@pytest.mark.parametrize("options", [{"read_only": True}, {"create": False}])
def test_store_that_is_not_there_is_refused_and_not_made(tmp_path: Path, options: dict[str, bool]) -> None:
    with pytest.raises(StoreError, match="no store here") as caught:
        Store(tmp_path / "none", **options)
    assert str(tmp_path / "none") in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_store_beside_other_files_is_made(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    with Store(tmp_path) as store:
        store.put_blob(b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cas", "ledger"]


def test_store_on_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="not a directory"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError):
        Store(tmp_path / "file" / "below")


@pytest.mark.parametrize("junk", [b"x" * 100, bytes(9000), b"\xff" * 20_000])
def test_store_on_junk_is_refused(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "s" / "cas").mkdir(parents=True)
    (tmp_path / "s" / "cas" / "data.mdb").write_bytes(junk)
    for options in ({}, {"read_only": True}):
        with pytest.raises(StoreError, match="damaged") as caught:
            Store(tmp_path / "s", **options)
        assert str(tmp_path / "s") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_store_cut_short_is_refused(tmp_path: Path) -> None:
    """Touching a page behind the end of the file killed the process (SIGBUS)."""
    with Store(tmp_path / "s") as store:
        store.put_blob(os.urandom(8 * MIB))
    data = tmp_path / "s" / "cas" / "data.mdb"
    os.truncate(data, data.stat().st_size - 2 * MIB)
    for options in ({}, {"read_only": True}):
        with pytest.raises(StoreError, match="lacks its last 2097152 bytes"):
            Store(tmp_path / "s", **options)


def test_store_that_lacks_a_few_unwritten_pages_opens(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        kept = store.put_blob(b"kept")
        store.put_blob(os.urandom(MIB))
    data = tmp_path / "s" / "cas" / "data.mdb"
    size = data.stat().st_size
    os.truncate(data, size - 4096)
    with Store(tmp_path / "s") as store:
        assert store.get_blob(kept) == b"kept"
    assert data.stat().st_size == size


def test_another_lmdb_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cas").mkdir()
    with lmdb.open(str(tmp_path / "cas")) as env, env.begin(write=True) as transaction:
        transaction.put(b"some", b"thing")
    with pytest.raises(StoreError, match="not of a store"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (encode({"format": "samebits-cas", "version": 3}), "'samebits-cas' version 3"),
        (encode({"format": "other", "version": 1}), "'other' version 1"),
        (b"\xc1", "something else"),
    ],
)
def test_store_of_another_format_is_refused(tmp_path: Path, record: bytes, said: str) -> None:
    Store(tmp_path / "s").close()
    write_meta(tmp_path / "s", record)
    with pytest.raises(StoreError, match=said):
        Store(tmp_path / "s")


def test_store_opened_twice_is_one(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "s"), Store(tmp_path / "s" / ".." / "s")
    digest = first.put_blob(b"1")
    assert second.get_blob(digest) == b"1"
    first.close()
    first.close()
    assert second.get_blob(digest) == b"1"
    second.put_blob(b"2")
    second.close()
    with Store(tmp_path / "s") as third:
        assert len(list(third.objects())) == 2


def test_store_opened_read_only_first_can_be_written_by_another(tmp_path: Path) -> None:
    Store(tmp_path / "s").close()
    with Store(tmp_path / "s", read_only=True) as reader, Store(tmp_path / "s") as writer:
        digest = writer.put_blob(b"1")
        assert reader.get_blob(digest) == b"1"


def test_store_made_anew_at_the_same_place_is_another(tmp_path: Path) -> None:
    old = Store(tmp_path / "s")
    digest = old.put_blob(b"old")
    (tmp_path / "s").rename(tmp_path / "moved")
    with Store(tmp_path / "s") as new:
        assert not new.has(digest)
    assert old.has(digest)
    old.close()


def test_read_only_store_refuses_to_write(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        digest = store.put_blob(b"1")
    with Store(tmp_path / "s", read_only=True) as store:
        for write in (
            lambda: store.put_blob(b"1"),
            lambda: store.put_blob(b"2"),
            lambda: store.pin("a", digest),
            lambda: store.unpin("a"),
            lambda: store.batch().__enter__(),
            lambda: store.discard_damaged(digest),
        ):
            with pytest.raises(StoreError, match="reading only"):
                write()


def test_closed_store_refuses_everything(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    digest = store.put_blob(b"1")
    rows = store.read_rows(digest)
    store.close()
    for use in (
        lambda: store.get_blob(digest),
        lambda: store.put_blob(b"2"),
        lambda: next(rows),
        lambda: list(store.objects()),
    ):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_full_store_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    with Store(tmp_path / "s", max_size_bytes=8 * MIB) as store:
        kept = store.put_blob(os.urandom(3 * MIB))
        with pytest.raises(StoreFullError, match="full") as caught:
            store.put_blob(os.urandom(20 * MIB))
        assert "\n" not in str(caught.value)
        assert [info.digest for info in store.objects()] == [kept]
        assert len(store.get_blob(kept)) == 3 * MIB
        store.put_blob(b"still fits")
    with Store(tmp_path / "s") as store:
        store.put_blob(os.urandom(20 * MIB))
        assert len(list(store.objects())) == 3


def test_map_grows_by_itself(tmp_path: Path) -> None:
    with Store(tmp_path / "s", map_size_bytes=2 * MIB) as store, Store(tmp_path / "s") as other:
        blobs = [os.urandom(3 * MIB) for _ in range(5)]
        digests = [store.put_blob(blob) for blob in blobs]
        assert [other.get_blob(digest) for digest in digests] == blobs


def test_map_grows_in_two_processes_that_write(tmp_path: Path) -> None:
    program = """
import os, sys
from samebits.cas import Store
with Store(sys.argv[1], map_size_bytes=2 << 20) as store:
    for number in range(20):
        data = os.urandom(2 << 20)
        assert store.get_blob(store.put_blob(data)) == data
"""
    command = [sys.executable, "-c", program, str(tmp_path / "s")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for writer in writers:
        assert writer.wait(60) == 0, writer.communicate()[1]
    with Store(tmp_path / "s") as store:
        assert sum(info.size_bytes for info in store.objects()) == 40 * 2 * MIB


def test_disk_that_is_full_is_told_and_leaves_nothing_visible(tmp_path: Path) -> None:
    program = """
import os, resource, sys
from samebits.cas import Store, StoreFullError
store = Store(sys.argv[1])
kept = store.put_blob(b"kept")
resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20))
try:
    store.put_blob(os.urandom(20 << 20))
except StoreFullError as error:
    print(error)
print([info.digest for info in store.objects()] == [kept], store.get_blob(kept))
"""
    done = run_python(program, tmp_path / "s")
    assert done.returncode == 0, done.stderr
    message, state = done.stdout.splitlines()
    assert "the disk is full" in message
    assert state == "True b'kept'"
    with Store(tmp_path / "s") as store:
        assert len(list(store.objects())) == 1


def test_store_opens_where_address_space_is_short(tmp_path: Path) -> None:
    program = """
import resource, sys
from samebits.cas import Store
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
with Store(sys.argv[1]) as store:
    print(store.get_blob(store.put_blob(b"hello")))
"""
    done = run_python(program, tmp_path / "s")
    assert done.stdout == "b'hello'\n", done.stderr


def test_store_follows_a_map_that_another_process_made_larger(tmp_path: Path) -> None:
    program = """
import os, sys
from samebits.cas import Store
with Store(sys.argv[1]) as store:
    print(store.put_blob(bytes(16) + os.urandom(20 << 20)))
"""
    with Store(tmp_path / "s", map_size_bytes=8 * MIB) as store:
        store.put_blob(b"1")
        done = run_python(program, tmp_path / "s")
        assert done.returncode == 0, done.stderr
        assert str(done.stdout.strip()) in {str(info.digest) for info in store.objects()}
        store.put_blob(b"2")
        assert len(list(store.objects())) == 3
