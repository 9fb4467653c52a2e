"""Compacting gives space back, all or nothing, and only when nobody uses the store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from samebits.cas.compact import compact
from samebits.cas.digest import Digest
from samebits.cas.errors import StoreBusyError, StoreError
from samebits.cas.fsck import fsck
from samebits.cas.gc import collect_garbage
from samebits.cas.store import Store

MIB = 1 << 20


def fill(path: Path) -> Digest:
    with Store(path) as store:
        kept = store.put_blob(os.urandom(3 * MIB))
        store.put_blob(os.urandom(30 * MIB))
        collect_garbage(store, [kept], grace_s=-2)
    return kept


def test_space_is_given_back(tmp_path: Path) -> None:
    kept = fill(tmp_path)
    report = compact(tmp_path)
    assert report.before_size_bytes > 33 * MIB
    assert report.after_size_bytes < 3.2 * MIB
    assert (tmp_path / "cas" / "data.mdb").stat().st_size == report.after_size_bytes
    with Store(tmp_path) as store:
        assert fsck(store).problems == ()
        assert len(store.get_blob(kept)) == 3 * MIB
        store.put_blob(os.urandom(2 * MIB))
        assert len(list(store.objects())) == 2
    assert sorted(path.name for path in (tmp_path / "cas").iterdir() if path.suffix != ".lock") == [
        "data.mdb",
        "leases",
        "lock.mdb",
    ]


def test_stored_size_is_close_to_that_of_the_unique_bytes(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for _ in range(3):
            store.put_blob(os.urandom(20 * MIB))
        data = os.urandom(10 * MIB)
        for number in range(3):
            store.put_blob(data + b"%d" % number)
    assert (tmp_path / "cas" / "data.mdb").stat().st_size <= 1.02 * 70 * MIB
    compact(tmp_path)
    assert (tmp_path / "cas" / "data.mdb").stat().st_size <= 1.01 * 70 * MIB


def test_a_store_that_is_open_is_not_compacted(tmp_path: Path) -> None:
    kept = fill(tmp_path)
    with Store(tmp_path, read_only=True) as store:
        with pytest.raises(StoreBusyError, match="is open"):
            compact(tmp_path)
        assert store.has(kept)
    program = "import sys\nfrom samebits.cas import Store\nstore = Store(sys.argv[1])\nprint(flush=True)\ninput()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StoreBusyError, match="is open"):
            compact(tmp_path)
        other.communicate("\n")
    compact(tmp_path)


def test_a_store_that_is_being_compacted_is_waited_for(tmp_path: Path) -> None:
    kept = fill(tmp_path)
    program = """
import sys
from samebits.cas import Digest, Store
for _ in range(30):
    with Store(sys.argv[1]) as store:
        assert len(store.get_blob(Digest.parse(sys.argv[2]))) == 3 << 20
        store.put_blob(str(_).encode())
"""
    command = [sys.executable, "-c", program, str(tmp_path), str(kept)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as other:
        done = 0
        while other.poll() is None:
            try:
                compact(tmp_path)
                done += 1
            except StoreBusyError:
                pass
        assert other.communicate()[1] == ""
    assert done > 0
    with Store(tmp_path) as store:
        assert len(list(store.objects())) == 31


def test_a_copy_that_does_not_fit_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    kept = fill(tmp_path)
    program = """
import resource, sys
from samebits.cas import StoreFullError, compact
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    compact(sys.argv[1])
except StoreFullError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "it is as it was" in done.stdout, done.stderr
    with Store(tmp_path) as store:
        assert len(store.get_blob(kept)) == 3 * MIB
    assert not (tmp_path / "cas" / "compacting").exists()


def test_what_a_killed_compaction_left_is_removed(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "cas" / "compacting").mkdir()
    (tmp_path / "cas" / "compacting" / "data.mdb").write_bytes(b"half")
    compact(tmp_path)
    assert not (tmp_path / "cas" / "compacting").exists()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store here"):
        compact(tmp_path / "none")
