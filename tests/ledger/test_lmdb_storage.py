"""The log's storage in LMDB: atomic appends, shared environments, and one line for whatever is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from samebits.ledger.errors import MissingEntryError, StorageError
from samebits.ledger.lmdb_storage import LmdbLogStorage

NOBODY = 65_534


def run_python(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


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


def test_storage_cut_short_is_refused(tmp_path: Path) -> None:
    """Touching a page behind the end of the file killed the process (SIGBUS)."""
    storage = LmdbLogStorage(tmp_path / "log")
    with storage.writing() as writer:
        writer.append([b"%d" % i * 100 for i in range(40)], b"note")
    storage.close()
    size = (tmp_path / "log" / "data.mdb").stat().st_size
    lengths = [4095, 4096, 8191, 8192, 9655, size - 4096, size - 1]
    for length in lengths:
        shutil.copytree(tmp_path / "log", tmp_path / str(length))
        os.truncate(tmp_path / str(length) / "data.mdb", length)
    program = """
import sys
from pathlib import Path
from samebits.ledger.errors import StorageError
from samebits.ledger.lmdb_storage import LmdbLogStorage
for path in map(Path, sys.argv[1:]):
    for read_only in (True, False):
        try:
            with LmdbLogStorage(path, read_only=read_only).reading() as view:
                view.entries(0, view.size())
        except StorageError as error:
            print(error)
"""
    done = run_python(program, *(tmp_path / str(length) for length in lengths))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(lengths)
    for length, line in zip(lengths, lines[::2], strict=True):
        said = "damaged" if length < 8192 else f"damaged: data.mdb lacks its last {size - length} bytes"
        assert line.startswith(f"log {tmp_path / str(length)}: ")
        assert said in line
        assert (tmp_path / str(length) / "data.mdb").stat().st_size == length
    assert lines[::2] == lines[1::2]


@pytest.mark.parametrize("has_lock", [True, False])
def test_storage_that_may_only_be_read_opens_read_only(tmp_path: Path, has_lock: bool) -> None:
    """LMDB wants to write the lock file even of a reader."""
    log = tmp_path / "log"
    storage = LmdbLogStorage(log)
    with storage.writing() as writer:
        writer.append([b"a"], b"note")
    storage.close()
    if not has_lock:
        (log / "lock.mdb").unlink()
    for file in log.iterdir():
        file.chmod(0o444)
    log.chmod(0o555)
    program = """
import os, sys
from pathlib import Path
from samebits.ledger.errors import StorageError
from samebits.ledger.lmdb_storage import LmdbLogStorage
os.chdir(sys.argv[1])  # what is above may be closed to the other user
if os.getuid() == 0:
    os.setuid(int(sys.argv[2]))
reader = LmdbLogStorage(Path("."), read_only=True)
with reader.reading() as view:
    print(view.entries(0, view.size()), view.checkpoint())
for _ in range(2):
    try:
        LmdbLogStorage(Path("."))
    except StorageError as error:
        print(error)
    reader.close()
"""
    done = run_python(program, log, str(NOBODY))
    log.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[b'a'] b'note'"] + ["log .: may only be read here; open it read-only"] * 2
    assert (log / "lock.mdb").exists() == has_lock


def test_storage_that_may_not_be_read_names_its_path_once(tmp_path: Path) -> None:
    LmdbLogStorage(tmp_path / "log").close()
    (tmp_path / "log").chmod(0o755)
    (tmp_path / "log" / "data.mdb").chmod(0)
    program = """
import os, sys
from pathlib import Path
from samebits.ledger.errors import StorageError
from samebits.ledger.lmdb_storage import LmdbLogStorage
os.chdir(sys.argv[1])
if os.getuid() == 0:
    os.setuid(int(sys.argv[2]))
try:
    LmdbLogStorage(Path("."), read_only=True)
except StorageError as error:
    print(error)
"""
    done = run_python(program, tmp_path / "log", str(NOBODY))
    assert done.stdout == "log .: Permission denied\n", done.stderr


def test_storage_opens_where_address_space_is_short(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from samebits.ledger.lmdb_storage import LmdbLogStorage
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
storage = LmdbLogStorage(Path(sys.argv[1]))
with storage.writing() as writer:
    writer.append([b"a"], b"note")
    print(writer.entries(0, writer.size()))
"""
    for size in (6 << 30, 1536 << 20):
        done = run_python(program, tmp_path / str(size), str(size))
        assert done.stdout == "[b'a']\n", done.stderr


def test_storage_in_a_directory_whose_name_is_not_utf8(tmp_path: Path) -> None:
    """LMDB takes a path as text only if it is UTF-8 (UnicodeEncodeError)."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    try:
        path.mkdir()
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    storage = LmdbLogStorage(path)
    with storage.writing() as writer:
        writer.append([b"a"], b"note")
    storage.close()
    assert contents(LmdbLogStorage(path, read_only=True)) == ([b"a"], b"note")


def test_storage_says_when_its_map_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.ledger.lmdb_storage.MAP_SIZES_BYTES", (1 << 20,))
    storage = LmdbLogStorage(tmp_path)
    with pytest.raises(StorageError, match="full: the size of its map"), storage.writing() as writer:
        writer.append([bytes(60_000)] * 20, b"note")
    assert contents(storage) == ([], None)
    program = """
import sys
from pathlib import Path
from samebits.ledger.lmdb_storage import LmdbLogStorage
with LmdbLogStorage(Path(sys.argv[1])).writing() as writer:
    writer.append([bytes(60_000)] * 20, b"note")
"""
    done = run_python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    with pytest.raises(StorageError, match="open it again"):
        contents(storage)
    storage.close()
    assert len(contents(LmdbLogStorage(tmp_path, read_only=True))[0]) == 20


def test_a_log_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """LMDB writes its lock file through memory: where that did not fit, the process ended with SIGBUS."""
    program = """
import subprocess, sys
from pathlib import Path
from samebits.ledger.errors import StorageError
from samebits.ledger.lmdb_storage import LmdbLogStorage
disk = Path(sys.argv[1])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], stderr=subprocess.DEVNULL).returncode:
    sys.exit(77)
try:
    (disk / "filler").write_bytes(bytes(2 << 20))
except OSError:
    pass
try:
    LmdbLogStorage(disk / "log")
except StorageError as error:
    print(error)
"""
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", program, str(tmp_path)]
    try:
        done = subprocess.run(in_namespace, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) here, and a full disk needs a mount of its own")
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("a small file system can't be mounted here")
    assert (done.returncode, done.stdout) == (0, f"log {tmp_path / 'log'}: No space left on device\n"), done.stderr
