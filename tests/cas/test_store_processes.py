"""The store under threads, processes, forks and kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from samebits.cas.digest import hash_blob
from samebits.cas.errors import CasError
from samebits.cas.store import Store

MIB = 1 << 20

WRITER = """
import random, sys
from samebits.cas import Node, Store
seed, count = int(sys.argv[2]), int(sys.argv[3])
source = random.Random(seed)
with Store(sys.argv[1]) as store:
    for number in range(count):
        data = source.randbytes(source.choice((10, 20_000, 3 << 20)))
        blob = store.put_blob(data)
        node = store.put_node(Node("pair", {"blob": blob, "number": number}))
        assert store.get_blob(blob) == data and store.get_node(node).body["number"] == number
        store.put_blob(b"common %d" % number)
print("done")
"""

PUT_FOREVER = """
import itertools, os, sys
from samebits.cas import Node, Store
with Store(sys.argv[1]) as store:
    print("ready", flush=True)
    for number in itertools.count():
        blob = store.put_blob(os.urandom((20_000, 9 << 20, 12 << 20, 70 << 20)[number % 4]))
        with store.batch():
            parts = [store.put_blob(os.urandom(100 * size)) for size in range(50)]
            store.put_node(Node("list", {"parts": parts, "blob": blob}))
"""

STREAM = """
import sys, threading
from pathlib import Path
from samebits.cas import Store
SIZE = 320 << 20
peak_kib, done = 0, threading.Event()
def watch():
    global peak_kib
    while not done.wait(0.005):
        status = Path("/proc/self/status").read_text()
        peak_kib = max(peak_kib, int(status.partition("RssAnon:")[2].split()[0]))
class Counter:
    left = SIZE
    def read(self, size):
        size = min(size, self.left)
        self.left -= size
        return self.left.to_bytes(8, "big") * (size // 8)
watcher = threading.Thread(target=watch)
watcher.start()
try:
    with Store(sys.argv[1]) as store:
        digest = store.put_stream(Counter())
        assert store.new_bytes == store.stat(digest).size_bytes == SIZE
        assert sum(map(len, store.read_rows(digest))) == SIZE
finally:
    done.set()
    watcher.join()
print(peak_kib)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_everything(store: Store) -> int:
    """Read every visible object and what it refers to; return how many there are."""
    count = 0
    for info in store.objects():
        count += 1
        if info.kind == "node":
            body = store.get_node(info.digest).body
            assert store.has(body["blob"])  # type: ignore[arg-type]
        else:
            assert sum(map(len, store.read_rows(info.digest))) == info.size_bytes
    return count


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    count = 25
    writers = [start(WRITER, tmp_path, seed, count) for seed in (1, 2)]
    for writer in writers:
        out, error = writer.communicate(timeout=60)
        assert (out, writer.returncode) == ("done\n", 0), error
    with Store(tmp_path, read_only=True) as store:
        assert check_everything(store) == 2 * 2 * count + count


def test_kill_at_any_moment_leaves_only_whole_objects(tmp_path: Path) -> None:
    moments = random.Random(5)
    seen = 0
    for attempt in range(150):
        if attempt >= 15 and seen > 50:  # a busy machine gets less done between two kills
            break
        writer = start(PUT_FOREVER, tmp_path)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.3))
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=30)
        with Store(tmp_path) as store:
            seen = max(seen, check_everything(store))
            store.put_blob(b"writable")
        if sum(path.stat().st_size for path in (tmp_path / "cas").iterdir()) > 400 * MIB:
            for path in (tmp_path / "cas").iterdir():
                path.unlink()
    assert seen > 50


def test_threads_write_and_read_at_once(store: Store) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        source = random.Random(seed)
        try:
            for number in range(30):
                data = source.randbytes(source.choice((10, 20_000, 2 * MIB)))
                before = store.new_bytes
                digest = store.put_blob(data)
                assert store.new_bytes - before == len(data)
                assert store.get_blob(digest) == data
                with store.batch():
                    parts = [store.put_blob(b"%d %d %d" % (seed, number, part)) for part in range(5)]
                    assert all(map(store.has, parts))
                store.put_blob(b"common")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert check_everything(store) == 6 * 30 * 6 + 1


def test_batch_belongs_to_its_thread(store: Store) -> None:
    other: list[bool] = []
    with store.batch():
        digest = store.put_blob(b"1")
        thread = threading.Thread(target=lambda: other.extend((store.has(digest), store.has(store.put_blob(b"2")))))
        thread.start()
        thread.join()
    assert other == [False, True]


def test_close_waits_for_a_read_that_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with store._environment.reading() as transaction:
            inside.set()
            leave.wait(10)
            assert transaction.get("objects", bytes(32)) is None

    reader = threading.Thread(target=read)
    reader.start()
    inside.wait(10)
    closer = threading.Thread(target=store.close)
    closer.start()
    closer.join(0.1)
    assert closer.is_alive()
    leave.set()
    closer.join(10)
    reader.join(10)
    assert not closer.is_alive()


def in_child(work: object) -> int:
    """Run `work()` in a fork of this process; return its exit code, 0 if all went well."""
    assert callable(work)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_store_works_on_in_a_fork_and_in_its_parent(store: Store) -> None:
    """The child's closing of what it inherited invalidated the reader slots that the parent had cached."""
    before = store.put_blob(b"before")

    def work() -> None:
        assert store.get_blob(before) == b"before"
        store.put_blob(b"child")
        with Store(store.path) as another:
            another.put_blob(b"child 2")
        store.close()

    assert in_child(work) == 0
    assert store.get_blob(hash_blob(b"child")) == b"child"
    store.put_blob(b"parent")
    assert in_child(lambda: store.get_blob(hash_blob(b"parent"))) == 0
    assert {info.size_bytes for info in store.objects()} == {5, 6, 7}
    assert len(list(store.objects())) == 4


def test_fork_during_a_write_of_another_thread(store: Store) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            store.put_blob(os.urandom(MIB))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            digest = hash_blob(b"%d" % number)
            assert in_child(lambda number=number: store.put_blob(b"%d" % number)) == 0
            assert store.has(digest)
    finally:
        stop.set()
        writer.join()
    check_everything(store)


def test_store_closed_in_a_fork_stays_open_in_the_parent(store: Store) -> None:
    assert in_child(store.close) == 0
    store.put_blob(b"1")

    def use_closed() -> None:
        store.close()
        with pytest.raises(CasError, match="closed"):
            store.put_blob(b"2")

    assert in_child(use_closed) == 0


def test_put_stream_is_bounded_in_memory(tmp_path: Path) -> None:
    """320 MiB pass through two times 64 MiB: the rows that wait, and LMDB's copy of them while it commits."""
    process = start(STREAM, tmp_path)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert 30 * 1024 < int(out) < 230 * 1024
