"""The log's storage in LMDB: atomic appends, shared environments, and one line for whatever is wrong."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from samebits.ledger.errors import MissingEntryError, StorageError
from samebits.ledger.lmdb_storage import LmdbLogStorage


def contents(storage: LmdbLogStorage) -> tuple[list[bytes], bytes | None]:
    with storage.reading() as view:
        return view.entries(0, view.size()), view.checkpoint()


def test_append_is_seen_by_later_views_only(tmp_path: Path) -> None:
    storage = LmdbLogStorage(tmp_path)
    assert contents(storage) == ([], None)
    with storage.writing() as writer:
        writer.append([b"a", b""], b"one")
        writer.append([b"b" * 65_535], b"two")
        assert writer.size() == 3
        assert contents(storage) == ([], None)
    assert contents(storage) == ([b"a", b"", b"b" * 65_535], b"two")
    storage.close()


def test_writing_keeps_nothing_of_a_failed_append(tmp_path: Path) -> None:
    storage = LmdbLogStorage(tmp_path)
    with pytest.raises(ZeroDivisionError), storage.writing() as writer:
        writer.append([b"a"], b"one")
        raise ZeroDivisionError
    assert contents(storage) == ([], None)
    storage.close()


def test_entries_reads_ranges_across_key_borders(tmp_path: Path) -> None:
    storage = LmdbLogStorage(tmp_path)
    with storage.writing() as writer:
        writer.append([b"%d" % i for i in range(258)], b"note")
    with storage.reading() as view:
        assert view.entries(254, 258) == [b"254", b"255", b"256", b"257"]
        assert view.entries(5, 5) == []
        with pytest.raises(MissingEntryError, match="entry 258 is missing"):
            view.entries(257, 259)
    storage.close()


def test_storage_opened_twice_in_a_process_is_one(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "log")
    first = LmdbLogStorage(tmp_path / "log")
    second, reader = LmdbLogStorage(link), LmdbLogStorage(tmp_path / "log", read_only=True)
    with second.writing() as writer:
        writer.append([b"a"], b"note")
    assert contents(first) == contents(reader) == ([b"a"], b"note")
    first.close()
    first.close()
    assert contents(second) == ([b"a"], b"note")
    second.close()
    with pytest.raises(StorageError, match="closed"):
        contents(second)
    reader.close()


def test_storage_read_only_does_not_write_or_create(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StorageError, match="there is no log here"):
            LmdbLogStorage(path, read_only=True)
    assert list(tmp_path.iterdir()) == []
    LmdbLogStorage(tmp_path).close()
    reader = LmdbLogStorage(tmp_path, read_only=True)
    with pytest.raises(StorageError, match="for reading only"), reader.writing():
        pass


def test_storage_refuses_what_is_not_a_log_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "data.mdb").write_bytes(os.urandom(8192))
    for name in ("file", "garbage"):
        for read_only in (False, True):
            with pytest.raises(StorageError, match=str(tmp_path / name)) as caught:
                LmdbLogStorage(tmp_path / name, read_only=read_only)
            assert "\n" not in str(caught.value)


def test_storage_refuses_another_format(tmp_path: Path) -> None:
    storage = LmdbLogStorage(tmp_path)
    with storage.writing() as writer:
        writer._transaction.put(b"format", b"samebits log v2")
    storage.close()
    with pytest.raises(StorageError, match="format b'samebits log v2' is not"):
        LmdbLogStorage(tmp_path)


def test_writing_waits_for_the_other_writer(tmp_path: Path) -> None:
    storage = LmdbLogStorage(tmp_path)

    def add(count: int) -> None:
        mine = LmdbLogStorage(tmp_path)
        for _ in range(count):
            with mine.writing() as writer:
                writer.append([b"%d" % writer.size()], b"note")
        mine.close()

    threads = [threading.Thread(target=add, args=(20,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(storage)[0] == [b"%d" % i for i in range(60)]
    storage.close()


def test_storage_is_refused_in_a_forked_child_until_opened_again(tmp_path: Path) -> None:
    storage = LmdbLogStorage(tmp_path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            try:
                contents(storage)
            except StorageError:
                own = LmdbLogStorage(tmp_path)
                with own.writing() as writer:
                    writer.append([b"from the child"], b"note")
                own.close()
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert contents(storage) == ([b"from the child"], b"note")
    storage.close()
