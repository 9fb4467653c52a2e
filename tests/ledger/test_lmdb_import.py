"""Logs of older versions, in LMDB, become tiles when they are opened for writing; no crash on the way loses one."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from tests.ledger.faulty_os import FaultyOs, WatchedOs
from tests.ledger.raw_logs import check_files

from samebits.ledger.checkpoint import open_checkpoint
from samebits.ledger.entry import Entry, encode_entry
from samebits.ledger.errors import StorageError
from samebits.ledger.log import Log
from samebits.ledger.logkey import load_log_verifier
from samebits.ledger.tile_storage import TileLogStorage

MakeMany = Callable[..., list[Entry]]


@pytest.fixture
def old(tmp_path: Path, make_entries: MakeMany) -> Path:
    """The directory of a log of 301 entries as version 0.1 left it; `new` beside it is the same log in tiles."""
    with Log.open(tmp_path / "new", state_folder=tmp_path / "state of new") as log:
        log.append(make_entries(log.origin, 300))
        entries, note = [encode_entry(entry) for entry in log.entries()], log.checkpoint().encode()
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("log.key", "log.pub"):
        shutil.copy(tmp_path / "new" / name, folder / name)
    write_lmdb(folder, {b"format": b"samebits log v1", b"checkpoint": note, **rows(entries)})
    return folder


def rows(entries: list[bytes]) -> dict[bytes, bytes]:
    return {index.to_bytes(8, "big"): entry for index, entry in enumerate(entries)}


def write_lmdb(folder: Path, changed: dict[bytes, bytes | None]) -> None:
    """Put rows into a log's LMDB; None deletes one."""
    with lmdb.open(str(folder), map_size=64 << 20) as env, env.begin(write=True) as transaction:
        for key, value in changed.items():
            transaction.delete(key) if value is None else transaction.put(key, value)


def check_converted(tmp_path: Path, folder: Path) -> None:
    """Check that a log is what `new` is, and that the old file is put away."""
    note = (tmp_path / "new" / "checkpoint").read_bytes()
    assert (folder / "checkpoint").read_bytes() == note
    check_files(folder, open_checkpoint(note, load_log_verifier(folder)))
    assert not (folder / "data.mdb").exists()
    assert not (folder / "lock.mdb").exists()
    assert (folder / "data.mdb.old").exists()


def test_old_log_is_converted_when_it_is_opened_for_writing(old: Path, tmp_path: Path, make_entries: MakeMany) -> None:
    with pytest.raises(StorageError, match=r"is an older version's \(data\.mdb\); it is converted when"):
        Log.open(old, read_only=True)
    with Log.open(old) as log:
        check_converted(tmp_path, old)
        assert log.append(make_entries(log.origin, 1, nonce=7)).tree_size == 303
        log.audit().check()
    with Log.open(old) as log:
        assert log.size == 303


def open_storage(folder: Path, state_folder: Path) -> None:
    """Convert a log; its index, which it can do without, is not opened."""
    storage = TileLogStorage(folder, load_log_verifier(folder), state_folder=state_folder)
    try:
        with storage.writing():
            pass
    finally:
        storage.close()


def test_conversion_that_fails_anywhere_is_done_again(old: Path, tmp_path: Path) -> None:
    watched = WatchedOs(tmp_path)
    shutil.copytree(old, tmp_path / "count")
    with watched.installed():
        open_storage(tmp_path / "count", tmp_path / "state of count")
    for number, name in enumerate(watched.names, 1):
        folder = tmp_path / f"at {number}"
        shutil.copytree(old, folder)
        with FaultyOs(tmp_path, number, errno.EIO, lasting=True).installed(), pytest.raises(StorageError):
            open_storage(folder, tmp_path / f"state of {number}")
        assert (folder / "data.mdb").exists() or (folder / "data.mdb.old").exists(), name
        with WatchedOs(tmp_path).installed():
            Log.open(folder, state_folder=tmp_path / f"state of {number}").close()
        check_converted(tmp_path, folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({b"format": b"samebits log v2"}, "format b'samebits log v2' of data.mdb is not"),
        ({b"format": None}, "format none of data.mdb is not"),
        ({(7).to_bytes(8, "big"): b"another"}, "the entries in data.mdb are not those of its checkpoint"),
        ({(300).to_bytes(8, "big"): None}, "the entries in data.mdb are not those of its checkpoint"),
        ({(7).to_bytes(8, "big"): None, b"\1" * 8: b"x"}, "data.mdb lacks entry 7"),
        ({b"checkpoint": b"nonsense"}, "the checkpoint in data.mdb is damaged"),
    ],
)
def test_damaged_old_log_is_not_converted(old: Path, changed: dict[bytes, bytes | None], problem: str) -> None:
    write_lmdb(old, changed)
    for _ in range(2):
        with pytest.raises(StorageError, match=problem):
            Log.open(old)
    assert not (old / "checkpoint").exists()
    assert (old / "data.mdb").exists()


def test_old_log_that_is_no_database_is_one_line(old: Path) -> None:
    whole = (old / "data.mdb").read_bytes()
    for data in (b"x" * 8192, whole[:4096], whole[: len(whole) // 4096 * 4096 - 8192]):
        (old / "data.mdb").write_bytes(data)
        with pytest.raises(StorageError, match=r"data\.mdb (is not a log, or damaged|lacks its last)") as caught:
            Log.open(old)
        assert "\n" not in str(caught.value)


def test_old_log_that_was_never_written_is_begun(old: Path) -> None:
    """Killed between the file and its first transaction."""
    (old / "data.mdb").write_bytes(b"")
    (old / "log.pub").unlink()
    with Log.open(old) as log:
        assert log.size == 0


def test_old_backup_of_a_converted_log_refuses(old: Path, tmp_path: Path, make_entries: MakeMany) -> None:
    shutil.copytree(old, tmp_path / "backup")
    with Log.open(old) as log:
        log.append(make_entries(log.origin, 1, nonce=7))
    with pytest.raises(StorageError, match=r"signed a head of 303 entries here, but data\.mdb holds 301: restored"):
        Log.open(tmp_path / "backup")
    assert not (tmp_path / "backup" / "checkpoint").exists()
