"""The log's storage in files: what is written, who may sign, and that no old copy of a log ever signs a fork."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.ledger.raw_logs import RawLog, check_files, raw_entry, raw_log

from samebits.ledger.errors import MissingEntryError, StorageError
from samebits.ledger.heads import STATE_VARIABLE, HeadFile, state_folder
from samebits.ledger.keys import SigningKey
from samebits.ledger.note import format_signature
from samebits.ledger.tile_storage import TileLogStorage
from samebits.ledger.tiles import Tile, tiles_of

NOBODY = 65_534
FORK = "To go on would sign a fork"


def files_of(log: RawLog) -> dict[str, bytes]:
    """Return every file below tile/, by its path."""
    found = (path for path in (log.directory / "tile").rglob("*") if path.is_file())
    return {path.relative_to(log.directory).as_posix(): path.read_bytes() for path in found}


def refuses(log: RawLog, match: str) -> None:
    """Check that a log refuses to sign, again and again, in one line, and that it changes nothing."""
    before, head = files_of(log), HeadFile(log.key.name, log.state_folder).path
    signed = head.read_bytes() if head.exists() else None
    calls: list[int] = []

    def sign(tree_size: int, root_hash: bytes) -> bytes:
        calls.append(tree_size)
        return log.sign(tree_size, root_hash)

    for _ in range(2):
        with pytest.raises(StorageError, match=match) as caught:
            log.append([b"more"], sign)
        assert "\n" not in str(caught.value)
    assert not calls
    assert files_of(log) == before
    assert signed is None or head.read_bytes() == signed


def copy_of(log: RawLog, folder: Path) -> RawLog:
    """Return a copy of a log's directory, opened on the same machine."""
    shutil.copytree(log.directory, folder)
    return log.again(folder)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_files_are_those_of_the_specification(size: int, tmp_path: Path) -> None:
    log = raw_log(tmp_path, size)
    if not size:
        log.append([])
    assert set(files_of(log)) == {tile.path for tile in tiles_of(size)}
    others = sorted(path.name for path in log.directory.iterdir() if path.name != "tile")
    assert others == ["checkpoint", "lock", "log.pub"]
    assert log.entries == [raw_entry(index) for index in range(size)]
    assert (log.state_folder / "heads" / log.key.name[-16:]).read_bytes() == log.note


def test_every_published_size_has_its_partial_tiles_until_the_full_one_is_there(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 0, 1, 2, 100, 255)
    assert sorted(files_of(log)) == sorted(
        f"tile/{level}/000.p/{width}" for level in ("entries", "0") for width in (1, 2, 100, 255)
    )
    log.grow(256, 300)
    assert set(files_of(log)) == {tile.path for tile in (*tiles_of(300), *tiles_of(256))}


def test_append_never_writes_a_signed_file_again(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 250)
    inodes: dict[str, tuple[int, int]] = {}
    for size in (254, 255, 256, 257, 511, 512, 900):
        log.grow(size)
        for path in files_of(log):
            status = (log.directory / path).stat()
            assert inodes.setdefault(path, (status.st_ino, status.st_mtime_ns)) == (status.st_ino, status.st_mtime_ns)


def test_sign_is_called_when_everything_else_is_there(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 200)
    seen: list[bool] = []

    def sign(tree_size: int, root_hash: bytes) -> bytes:
        seen.append({tile.path for tile in tiles_of(tree_size)} <= files_of(log).keys())
        assert log.size == 200
        return log.sign(tree_size, root_hash)

    log.append([b"a"] * 400, sign)
    assert seen == [True]
    assert log.size == 600


def test_append_refuses_another_signature(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 3)
    with pytest.raises(StorageError, match="what was signed is not the checkpoint of its 4 entries"):
        log.append([b"a"], lambda size, root: log.sign(size + 1, root))
    assert log.size == 3
    log.grow(5)
    assert log.entries == [raw_entry(index) for index in range(5)]


def test_view_stays_with_its_checkpoint(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 200)
    with log.storage.reading() as view:
        note = view.checkpoint()
        log.grow(300)
        assert (view.checkpoint(), view.size()) == (note, 200)
        assert view.entries(198, 200) == [raw_entry(198), raw_entry(199)]
        with pytest.raises(MissingEntryError, match="entry 200 is missing"):
            view.entries(199, 201)
    with log.storage.reading() as view:
        assert view.entries(250, 260) == [raw_entry(index) for index in range(250, 260)]
        assert view.entries(5, 5) == []


def test_writing_sees_its_own_appends(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 3)
    with log.storage.writing() as writer:
        writer.append([b"a"], log.sign)
        assert writer.size() == 4
        writer.append([b"b"], log.sign)
        assert writer.entries(3, 5) == [b"a", b"b"]
    assert log.size == 5


def test_view_that_failed_or_ended_does_not_append(tmp_path: Path) -> None:
    """It would begin at entry 0 again, or without a lock."""
    log = raw_log(tmp_path, 3)
    with log.storage.writing() as writer:
        with pytest.raises(ZeroDivisionError):
            writer.append([b"a"], lambda _size, _root: b"%d" % (1 // 0))
        for _ in range(2):
            with pytest.raises(StorageError, match="an append failed here"):
                writer.append([b"a"], log.sign)
        with pytest.raises(StorageError, match="an append failed here"):
            writer.republish(log.note)
    with log.storage.writing() as later:
        pass
    for ended in (writer, later):
        with pytest.raises(StorageError, match="this view has ended"):
            ended.append([b"a"], log.sign)
    assert log.grow(4).entries == [raw_entry(index) for index in range(4)]


def test_writing_waits_for_the_other_writers(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 0)

    def add(count: int) -> None:
        mine = log.again()
        for _ in range(count):
            with mine.storage.writing() as writer:
                writer.append([b"%d" % writer.size()], mine.sign)

    threads = [threading.Thread(target=add, args=(20,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.entries == [b"%d" % i for i in range(60)]


def test_reader_while_a_writer_appends_sees_whole_states(tmp_path: Path) -> None:
    log, ended = raw_log(tmp_path, 0), threading.Event()

    def add() -> None:
        while not ended.is_set():
            log.grow(log.size + 37)

    thread = threading.Thread(target=add)
    thread.start()
    try:
        reader, sizes = TileLogStorage(log.directory), list[int]()
        while len(sizes) < 300 or sizes[-1] < 600:
            with reader.reading() as view:
                sizes.append(view.size())
                assert view.entries(0, sizes[-1]) == [raw_entry(index) for index in range(sizes[-1])]
    finally:
        ended.set()
        thread.join()
    assert sizes == sorted(sizes)


def test_old_copy_of_a_log_refuses_to_sign(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 100)
    old = copy_of(log, tmp_path / "old")
    log.grow(101)
    refuses(old, f"signed a head of 101 entries here, but the files hold 100 .*restored from an old backup.*{FORK}")
    shutil.rmtree(log.directory)
    shutil.copytree(old.directory, log.directory)
    refuses(log, FORK)  # in its own place, by who had it open
    refuses(log.again(), FORK)
    assert log.size == 100  # it can be read
    copy_of(log, tmp_path / "new")


def test_old_copy_with_some_newer_files_refuses_to_sign(tmp_path: Path) -> None:
    """A copy that was made while the log grew: files of the head are there, but not all of them."""
    log = raw_log(tmp_path, 250)
    old = copy_of(log, tmp_path / "old")
    log.grow(300)
    new = {path: data for path, data in files_of(log).items() if path not in files_of(old)}
    assert set(new) == {tile.path for tile in tiles_of(300)}
    for missing in new:
        for path in new.keys() - {missing}:
            (old.directory / path).parent.mkdir(exist_ok=True, parents=True)
            (old.directory / path).write_bytes(new[path])
        (old.directory / missing).unlink(missing_ok=True)
        refuses(old.again(), FORK)
    (old.directory / missing).write_bytes(new[missing])
    with old.again().storage.writing():  # with all of them it goes on
        pass
    assert old.again().grow(301).entries == [raw_entry(index) for index in range(301)]


def test_two_logs_that_went_apart_refuse_to_sign(tmp_path: Path) -> None:
    """The same key used on two machines: what the other one signed is found out as soon as both are seen."""
    log = raw_log(tmp_path, 100)
    other = log.again(tmp_path / "other" / "log", tmp_path / "other" / "state")
    shutil.copytree(log.directory, other.directory, dirs_exist_ok=True)
    log.append([b"here"])
    other.append([b"there"])
    refuses(other.again(state_folder=log.state_folder), f"101 entries here, but they are not among the 101 .*{FORK}")
    other.append([b"there too"])
    refuses(other.again(state_folder=log.state_folder), f"101 entries here, but they are not among the 102 .*{FORK}")


def test_log_that_went_on_elsewhere_is_accepted_when_it_comes_back(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 100)
    other = log.again(tmp_path / "other" / "log", tmp_path / "other" / "state")
    shutil.copytree(log.directory, other.directory, dirs_exist_ok=True)
    other.grow(300)
    back = other.again(state_folder=log.state_folder)
    with back.storage.writing():
        pass
    assert HeadFile(log.key.name, log.state_folder).read() == other.note
    refuses(log, f"signed a head of 300 entries here, but the files hold 100 .*{FORK}")
    assert back.grow(301).size == 301


def test_head_that_was_not_published_is_published(tmp_path: Path) -> None:
    for first, second in ((0, 1), (1, 200), (255, 256), (200, 300)):
        log = raw_log(tmp_path / f"{first}-{second}", 0, first)
        old = log.note
        log.grow(second)
        note = log.note
        (log.directory / "checkpoint").write_bytes(old)
        if first == 0:
            (log.directory / "checkpoint").unlink()
        again = log.again()
        with again.storage.writing() as writer:
            assert writer.size() == second
        assert again.note == note
        assert again.grow(second + 1).entries == [raw_entry(index) for index in range(second + 1)]


def test_what_was_never_signed_is_written_anew(tmp_path: Path) -> None:
    """A crash before the signature leaves files; other entries than those come next."""
    for first, second in ((0, 1), (1, 200), (200, 300), (255, 256), (256, 257), (200, 70_000)):
        log = raw_log(tmp_path / f"{first}-{second}", 0, first)
        before = files_of(log)
        with pytest.raises(ZeroDivisionError):
            log.append([b"never"] * (second - first), lambda _size, _root: b"%d" % (1 // 0))
        assert set(files_of(log)) > set(before)
        assert log.size == first
        assert log.entries == [raw_entry(index) for index in range(first)]
        again = log.again().grow(second)
        assert again.entries == [raw_entry(index) for index in range(second)]
        paths = {tile.path for tile in tiles_of(second)}
        fresh = raw_log(tmp_path / f"fresh {first}-{second}", second)
        assert {path: data for path, data in files_of(again).items() if path in paths} == files_of(fresh)


@pytest.mark.parametrize("crashed_at", [67, 255, 256, 300, 600, 70_000])
def test_what_a_killed_process_left_is_gone_when_another_goes_on(crashed_at: int, tmp_path: Path) -> None:
    """The audit compares partial tiles of all sizes: what was never signed must not be among them."""
    log = raw_log(tmp_path, 60)
    killed = log.again()
    with pytest.raises(ZeroDivisionError):
        killed.append([b"never"] * (crashed_at - 60), lambda _size, _root: b"%d" % (1 // 0))
    for size in (130, 300, 70_010):
        log.grow(size)
        check_files(log.directory, log.checkpoint)


def test_left_over_files_beside_the_edge_are_removed(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 300)
    before = files_of(log)
    with pytest.raises(ZeroDivisionError):
        log.append([b"never"] * 300, lambda _size, _root: b"%d" % (1 // 0))
    for level in ("entries", "0"):
        (log.directory / f"tile/{level}/001.p/77").write_bytes(b"torn")
    with log.again().storage.writing():
        pass
    assert files_of(log) == before


@pytest.mark.parametrize(("size", "index"), [(300, 70), (300, 5_000), (0, 300), (256, 1_234_567)])
def test_left_over_files_behind_a_wide_gap_are_removed(size: int, index: int, tmp_path: Path) -> None:
    """A loss of power keeps any of the files; a later audit would call this one damage."""
    log = raw_log(tmp_path, size)
    log.append([])  # publishes the empty log too
    before = files_of(log)
    for tile in (Tile(0, index, 77), Tile(-1, index), Tile(1, index), Tile(2, 0, 1)):
        path = log.directory / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"torn")
    with log.again().storage.writing():
        pass
    assert files_of(log) == before


def test_damage_of_head_or_checkpoint_is_named(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 10)
    head, note = HeadFile(log.key.name, log.state_folder).path, log.note
    head.write_bytes(note[:-9])
    refuses(log, rf"the last signed head \({head}\) is damaged")
    refuses(log.again(), rf"the last signed head \({head}\) is damaged")
    head.write_bytes(note)
    (log.directory / "checkpoint").write_bytes(note.replace(b"\n10\n", b"\n11\n"))
    refuses(log.again(), "its checkpoint is damaged: .*does not verify")
    (log.directory / "checkpoint").write_bytes(note)
    (log.directory / "tile/0/000.p/10").unlink()
    refuses(log.again(), r"damaged, run `samebits log verify`: tile/0/000\.p/10: missing")


def test_storage_without_a_head_accepts_what_is_published(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 10)
    shutil.rmtree(log.state_folder)
    moved = log.again().grow(11)
    assert HeadFile(log.key.name, log.state_folder).read() == moved.note
    shutil.rmtree(log.state_folder)
    (log.directory / "checkpoint").unlink()
    refuses(log.again(), "checkpoint is gone")


def test_republish_takes_the_same_text_only(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 10)
    witness = SigningKey("witness.example", bytes(32))
    text = log.note.split(b"\n\n")[0] + b"\n"
    cosigned = log.note + format_signature(witness.name, witness.key_id + witness.sign(text)).encode()
    old = log.note
    with log.storage.writing() as writer:
        writer.republish(cosigned)
        assert writer.checkpoint() == cosigned
    assert log.again().note == cosigned
    log.again().grow(11)
    for note in (cosigned, old):
        with pytest.raises(StorageError, match="another text"), log.storage.writing() as writer:
            writer.republish(note)
    assert log.grow(12).size == 12


def test_storage_read_only_does_not_write_or_create(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StorageError, match="there is no log here"):
            TileLogStorage(path)
    assert list(tmp_path.iterdir()) == []
    log = raw_log(tmp_path, 10)
    reader = TileLogStorage(log.directory)
    with pytest.raises(StorageError, match="for reading only"), reader.writing():
        pass
    reader.close()
    log.storage.close()
    log.storage.close()
    with pytest.raises(StorageError, match="closed"), log.storage.reading():
        pass


OPEN_BOTH_WAYS = """
import os, sys
from pathlib import Path
from samebits.ledger.errors import StorageError
from samebits.ledger.keys import VerifierKey
from samebits.ledger.tile_storage import TileLogStorage
os.chdir(sys.argv[1])  # what is above may be closed to the other user
if os.getuid() == 0:
    os.setuid(int(sys.argv[2]))
with TileLogStorage(Path("log")).reading() as view:
    print(view.size(), len(view.entries(0, view.size())))
try:
    with TileLogStorage(Path("log"), VerifierKey.parse(sys.argv[3]), state_folder=Path("state")).writing() as writer:
        writer.append([b"a"], None)
except StorageError as error:
    print(error)
"""


def open_as_nobody(log: RawLog) -> list[str]:
    """Open a log as another user, and return what that says."""
    folder, vkey = str(log.directory.parent), log.key.verifier.vkey
    command = [sys.executable, "-c", OPEN_BOTH_WAYS, folder, str(NOBODY), vkey]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_storage_that_may_only_be_read(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 300)
    paths = [log.directory, *log.directory.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "state").chmod(0o500)
    tmp_path.chmod(0o755)
    refused = "can't keep its last signed head in state/heads (Permission denied)"
    hint = "set SAMEBITS_STATE to a folder that can be written"
    assert open_as_nobody(log) == ["300 300", f"log log: {refused}; {hint}"]
    for path in (tmp_path / "state", *(tmp_path / "state").rglob("*")):
        path.chmod(0o777)
    assert open_as_nobody(log) == ["300 300", "log log: may only be read here; open it read-only"]
    (log.directory / "checkpoint").chmod(0)
    with pytest.raises(AssertionError, match="StorageError: log log: checkpoint: Permission denied"):
        open_as_nobody(log)
    for path in paths:
        path.chmod(0o755)


def test_storage_is_refused_in_a_forked_child_until_opened_again(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 300)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            try:
                _ = log.entries
            except StorageError:
                log.again().grow(600)
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert log.grow(601).entries == [raw_entry(index) for index in range(601)]


def test_child_of_a_fork_does_not_keep_the_lock(tmp_path: Path) -> None:
    log = raw_log(tmp_path, 1)
    with log.storage.writing():
        child = os.fork()
        if child == 0:
            os.read(0, 0)
            threading.Event().wait(30)
            os._exit(0)
    try:
        again = log.again()
        done = threading.Thread(target=lambda: again.grow(2), daemon=True)
        done.start()
        done.join(10)
        assert not done.is_alive()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_state_folder_is_the_users_or_the_given_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    assert state_folder() == tmp_path
    assert HeadFile("samebits.local/log/0123").path == tmp_path / "heads" / "0123"
    monkeypatch.setenv(STATE_VARIABLE, "")
    assert state_folder().name == "samebits"
