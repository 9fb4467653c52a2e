"""What went wrong between puts, collections, forks and interrupts when the store was attacked; each test says what."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samebits.cas.digest import Buffer, Digest, hash_blob
from samebits.cas.environment import LEASES, UNFINISHED
from samebits.cas.errors import StoreError, StoreFullError
from samebits.cas.gc import collect_garbage
from samebits.cas.locks import BATCHES, Gate, alone, only_collector, open_lock, try_lock
from samebits.cas.node import Node
from samebits.cas.parallel import run_ahead
from samebits.cas.reachable import check_objects
from samebits.cas.records import encode_record, row_key
from samebits.cas.remotes.store_remote import StoreRemote
from samebits.cas.store import Store
from samebits.cas.subtree import subtree_value
from samebits.cas.transfer import pull

MIB = 1 << 20


def put_list(store: Store, *parts: Digest) -> Digest:
    return store.put_node(Node("list", {"parts": list(parts)}))


def age(store: Store, *digests: Digest) -> None:
    """Let objects look as if they were put long ago."""
    for digest in digests:
        record = store.reader.record(digest)
        store.environment.write(lambda t, d=digest, r=record: t.put("objects", d.raw, encode_record(r, 1)))  # type: ignore[misc]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def run_python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# The gate


def test_a_batch_that_begins_does_not_block_a_collection_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for the sweep with the gate's own lock in hand, and the collection wanted that."""
    gate = Gate(tmp_path)
    passed, go_on = threading.Event(), threading.Event()
    flock = fcntl.flock

    def flock_slowly(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN and not passed.is_set():
            flock(descriptor, operation)
            passed.set()
            go_on.wait(10)
            return
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_slowly)
    batch = in_thread(lambda: gate.leave(gate.enter()))
    assert passed.wait(10)
    with alone(tmp_path, tmp_path, 1):
        go_on.set()
        time.sleep(0.1)  # the batch is at the second lock now
        asked = in_thread(gate.open_since_s)
        asked.join(2)
        assert not asked.is_alive()
    batch.join(10)
    assert not batch.is_alive()
    gate.close()


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt."""


def test_an_interrupt_at_the_gate_leaves_later_batches_protected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch was counted out twice; from then on a sweep came in beside every batch of the process."""
    real = Gate.is_wanted
    flock = fcntl.flock

    def flock_interrupted(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_SH:
            raise Interrupt
        flock(descriptor, operation)

    with pytest.raises(Interrupt), store.batch():
        store.put_blob(b"1")
        monkeypatch.setattr(Gate, "is_wanted", lambda self: True)
        monkeypatch.setattr(fcntl, "flock", flock_interrupted)
        store.flush()
    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(Gate, "is_wanted", real)
    assert not batches_are_open(store)
    with store.batch():
        assert batches_are_open(store)
    assert not batches_are_open(store)


def batches_are_open(store: Store) -> bool:
    descriptor = open_lock(store.environment.directory / BATCHES)
    try:
        return not try_lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def test_a_store_closed_within_a_batch_says_so(tmp_path: Path) -> None:
    """It was an OSError about a bad file descriptor, or the lock of another file that had got the number."""
    store = Store(tmp_path)
    with pytest.raises(StoreError, match="closed"), store.batch():
        store.put_blob(b"1")
        store.close()


def test_a_batch_that_lets_a_collection_of_its_process_in_keeps_what_it_put(
    store: Store,
) -> None:
    """While it stood aside it did not count as open: with a short grace time its own objects went."""
    with store.batch():
        first = store.put_blob(b"of this batch")
        large = store.put_blob(os.urandom(2 * MIB))
        collector = in_thread(lambda: collect_garbage(store, grace_s=-5))
        while collector.is_alive():
            store.flush()
            time.sleep(0.001)
        node = put_list(store, first, large)
    assert check_objects(store, [node])[1] == []


# What a collection may take


def test_what_is_put_again_counts_as_put_now(store: Store) -> None:
    """It was not noted if this process had put it before, however long ago: the grace time began then."""
    store.put_blob(b"begins the lease")
    digest = store.put_blob(b"put long ago, and again")
    began = store.environment.lease().began_s
    store.environment.write(lambda t: t.put("objects", digest.raw, encode_record(store.reader.record(digest), began)))
    time.sleep(2.1)
    store.put_blob(b"put long ago, and again")
    collect_garbage(store, grace_s=1)
    assert store.has(digest)


def collect_at_next_flush(store: Store) -> threading.Thread:
    """Begin a collection in a thread, which waits for the batch of this one."""
    collector = in_thread(lambda: collect_garbage(store, grace_s=3600))
    while not store.environment.gate().is_wanted():
        time.sleep(0.001)
    return collector


class CollectingRemote(StoreRemote):
    """A remote; when it is asked for a row, garbage is collected in the store that pulls."""

    def __init__(self, source: Store, target: Store) -> None:
        super().__init__(source)
        self.target = target
        self.collectors: list[threading.Thread] = []
        self.lock = threading.Lock()

    def read_row(self, key: bytes, size_bytes: int) -> bytes:
        with self.lock:
            if not self.collectors:
                self.collectors.append(collect_at_next_flush(self.target))
        return super().read_row(key, size_bytes)


def test_what_a_pull_finds_in_the_store_stays(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was skipped and not noted: a collection took it before the pull ended, and the pull said all is well."""
    monkeypatch.setattr("samebits.cas.pulling.FLUSH_EVERY_S", 0.0)
    with Store(tmp_path / "source") as source:
        old = put_list(source, put_list(source, source.put_blob(b"inner")), source.put_blob(os.urandom(20_000)))
        pull(StoreRemote(source), store, [old])
        age(store, *(info.digest for info in store.objects()))
        top = put_list(source, put_list(source, old), *(source.put_blob(os.urandom(MIB + 1)) for _ in range(40)))
        remote = CollectingRemote(source, store)
        pull(remote, store, [top])
        remote.collectors[0].join(10)
    assert check_objects(store, [top])[1] == []


def test_a_row_that_a_pull_found_in_the_store_stays(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was relied on when its turn came: a collection took it before, and the pull ended with an AssertionError."""
    monkeypatch.setattr("samebits.cas.pulling.FLUSH_EVERY_S", 0.0)
    shared, data = os.urandom(MIB), os.urandom(20 * MIB)
    lost = store.put_blob(shared + b"of an object that goes")
    age(store, lost)
    with Store(tmp_path / "source") as source:
        wanted = source.put_blob(data + shared + b"end")
        remote = CollectingRemote(source, store)
        pull(remote, store, [wanted])
        remote.collectors[0].join(10)
    assert store.get_blob(wanted) == data + shared + b"end"


@pytest.mark.parametrize("keep", ["pin", "hold", "put"])
def test_what_is_kept_in_the_middle_of_a_sweep_is_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    """Parts of it had gone in slices before; it was kept, and named what was no longer there."""
    monkeypatch.setattr("samebits.cas.gc._SLICE_OBJECTS", 1)
    parts = [put_list(store, store.put_blob(b"%d" % number)) for number in range(8)]
    nodes = [store.put_node(Node("list", {"parts": list(parts), "number": number})) for number in range(4)]
    wanted = max(nodes)
    age(store, *(info.digest for info in store.objects()))
    kept: list[Digest] = []
    slices = iter(range(1000))

    def alone_later(*arguments: object) -> object:
        if next(slices) == 4 and store.has(wanted):
            if keep == "pin":
                store.pin("late", wanted)
            elif keep == "hold":
                store.holding([wanted]).__enter__()
            else:
                put_list(store, wanted)
            kept.append(wanted)
        return alone(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("samebits.cas.gc.alone", alone_later)
    collect_garbage(store, grace_s=3600)
    assert kept
    assert check_objects(store, kept)[1] == []
    assert not all(map(store.has, nodes))


def test_a_record_mended_while_garbage_is_collected_keeps_its_rows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its damaged record had been marked, with the keys of other rows; the mended one was not looked at again."""
    data = os.urandom(MIB + 9)
    digest = store.put_blob(data)
    right = store.reader.record(digest)
    wrong = type(right)("blob", right.size_bytes, None, tuple(reversed(right.row_keys[:1])) * 2)
    store.environment.write(lambda t: t.put("objects", digest.raw, encode_record(wrong, 1)))
    calls = iter(range(100))

    def alone_later(*arguments: object) -> object:
        if next(calls) == 1:
            store.put_blob(data)
        return alone(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("samebits.cas.gc.alone", alone_later)
    collect_garbage(store, [digest], grace_s=-2)
    assert store.get_blob(digest) == data


def test_a_full_store_can_be_collected(tmp_path: Path) -> None:
    with Store(tmp_path, max_size_bytes=MIB) as store:
        with pytest.raises(StoreFullError):
            for number in range(10_000):
                store.put_blob(os.urandom(200) + b"%d" % number)
        collect_garbage(store, grace_s=-2)
        assert list(store.objects()) == []
        store.put_blob(bytes(200_000))


# Failures within a batch


def test_a_batch_whose_flush_failed_takes_nothing_more(tmp_path: Path) -> None:
    """What it had gathered was dropped, then the rest was committed: nodes that refer to nothing."""
    with Store(tmp_path, max_size_bytes=8 * MIB) as store:
        with pytest.raises(StoreFullError), store.batch():
            part = store.put_blob(b"part")
            with pytest.raises(StoreFullError):
                store.put_blob(os.urandom(40 * MIB))
            with pytest.raises(StoreFullError):
                put_list(store, part)
        assert list(store.objects()) == []
        assert check_objects(store, [put_list(store, store.put_blob(b"part"))])[1] == []


def test_rows_that_are_read_while_they_are_committed_are_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were dropped from what is pending before they were in the database: threads that read found neither."""
    data = os.urandom(3 * MIB)
    found: list[bytes | None] = []
    real = store.environment.write

    with store.batch():
        digest = store.put_blob(data)
        pending = store.pending_writes()
        record = store.record(digest)

        def write(work: Callable[..., object]) -> object:
            found.append(store.reader._visit_row(digest, record, 0, pending, bytes))
            return real(work)

        monkeypatch.setattr(type(store.environment), "write", lambda self, work: write(work))
        store.flush()
        monkeypatch.undo()
    assert found == [data[:MIB]]


def test_pieces_may_share_a_buffer(store: Store) -> None:
    """Rows are hashed ahead: a generator that reads into one buffer again and again had put its last piece n times."""
    data = os.urandom(5 * MIB)

    def pieces() -> Iterator[memoryview]:
        buffer = bytearray(MIB)
        for start in range(0, len(data), MIB):
            buffer[:] = data[start : start + MIB]
            yield memoryview(buffer)

    assert store.put_pieces(pieces()) == hash_blob(data)
    assert store.get_blob(hash_blob(data)) == data


def test_a_row_is_marked_as_unfinished_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice of a sweep had all rows of a long put marked again: 1 TB is a million rows."""
    with store.batch():
        writes = store.pending_writes()
        for number in range(20):
            writes.rely_on_row(row_key(b"%d" % number))
        monkeypatch.setattr(Gate, "is_wanted", lambda self: True)
        store.flush()
        assert writes.incomplete == set()
    with store.environment.reading() as transaction:
        assert transaction.entries(UNFINISHED) == 20


# Forks


def in_child(work: Callable[[], object]) -> int:
    """Run `work()` in a fork of this process; return its exit code, 0 if all went well, and kill it after 10 s."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    for _ in range(1000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -9


def test_a_fork_of_a_process_with_many_files_lets_the_store_go_on(tmp_path: Path) -> None:
    """select() takes no descriptor from 1024 on: the parent's hook failed with the store locked."""
    program = """
import os, resource, sys
from samebits.cas import Store
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with Store(sys.argv[1]) as store:
    files = [os.dup(0) for _ in range(1100)]
    child = os.fork()
    if child == 0:
        store.put_blob(b"child")
        os._exit(0)
    os.waitpid(child, 0)
    store.put_blob(b"parent")
    print(len(list(store.objects())))
"""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4096:
        pytest.skip("at most so few files may be open here")
    done = run_python(program, tmp_path)
    assert done.stdout == "2\n", done.stderr


@pytest.mark.parametrize("lock", ["alone", "collector"])
def test_a_child_does_not_keep_the_locks_of_a_collection(tmp_path: Path, lock: str) -> None:
    """A child forked by another thread meanwhile kept everybody out for as long as it lived."""
    take = alone(tmp_path, tmp_path, 1) if lock == "alone" else only_collector(tmp_path, tmp_path)
    go_on, done = os.pipe()
    with take:
        child = os.fork()
        if child == 0:
            os.close(done)
            os.read(go_on, 1)
            os._exit(0)
    try:
        with alone(tmp_path, tmp_path, 0.2), only_collector(tmp_path, tmp_path):
            pass
    finally:
        os.close(done)
        os.waitpid(child, 0)
        os.close(go_on)


def test_a_child_lets_go_of_a_collection_that_its_parent_dies_in(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from samebits.cas.locks import alone
with alone(Path(sys.argv[1]), Path(sys.argv[1]), 1):
    child = os.fork()
    if child == 0:
        os.close(1)
        os.close(2)
        os.read(0, 1)
        os._exit(0)
    print(child, flush=True)
    os._exit(0)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert other.wait(10) == 0
        with alone(tmp_path, tmp_path, 5):
            pass


def test_reading_goes_on_in_a_child(store: Store) -> None:
    """The rows that other threads had been given never came, those threads are not in the child."""
    data = os.urandom(20 * MIB)
    digest = store.put_blob(data)
    rows = store.read_rows(digest)
    first = next(rows)

    def work() -> None:
        assert first + b"".join(rows) == data

    for _ in range(3):
        assert in_child(work) == 0
    assert first + b"".join(rows) == data


def test_tasks_that_run_at_a_fork_are_done_again_in_the_child() -> None:
    started = threading.Event()

    def slow(number: int) -> int:
        started.set()
        time.sleep(0.2)
        return number

    results = run_ahead((lambda number=number: slow(number) for number in range(6)), 4)  # type: ignore[misc]
    assert next(results) == 0

    def work() -> None:
        assert list(results) == [1, 2, 3, 4, 5]

    def drop() -> None:
        next(results)
        results.close()  # type: ignore[attr-defined]

    assert in_child(work) == 0
    assert in_child(drop) == 0
    assert list(results) == [1, 2, 3, 4, 5]


def test_a_batch_is_not_its_childs(store: Store) -> None:
    """The child let go of locks by the numbers of descriptors that were closed, or of other files."""

    def work() -> None:
        assert not store.has_batch
        with store.batch():
            store.put_blob(b"child")

    code = 1
    try:
        with store.batch():
            store.put_blob(b"only of the parent")
            assert in_child(work) == 0
            assert batches_are_open(store)
            child = os.fork()
    except StoreError as error:
        code = 0 if "fork" in str(error) else 2
    if child == 0:
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(info.size_bytes for info in store.objects()) == [5, 18]


def test_a_child_does_not_end_what_its_parent_holds(store: Store) -> None:
    digest = store.put_blob(b"held")
    holding = store.holding([digest])
    holding.__enter__()
    assert in_child(lambda: holding.__exit__(None, None, None)) == 0
    with store.environment.reading() as transaction:
        assert transaction.entries(LEASES) == 1
    holding.__exit__(None, None, None)
    with store.environment.reading() as transaction:
        assert transaction.entries(LEASES) == 0


# Reading


def test_a_map_that_grows_while_a_file_is_written_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction within a transaction waited for the end of the first."""
    program = "import os, sys; from samebits.cas import Store; Store(sys.argv[1]).put_blob(os.urandom(9 << 20))"
    grown: list[int] = []

    def grow_first(row: Buffer, index: int) -> bytes:
        if not grown:
            grown.append(run_python(program, tmp_path / "s").returncode)
        return subtree_value(row, index)

    with Store(tmp_path / "s", map_size_bytes=4 * MIB) as store:
        digest = store.put_blob(os.urandom(2 * MIB))
        monkeypatch.setattr("samebits.cas.reads.subtree_value", grow_first)
        with (tmp_path / "out").open("wb") as out:
            done = in_thread(lambda: store.write_to(digest, out.fileno(), 0))
            done.join(20)
            assert not done.is_alive()
        assert set(grown) == {0}
        assert hash_blob((tmp_path / "out").read_bytes()) == digest


def test_a_store_on_a_read_only_file_system_opens(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        digest = store.put_blob(b"burnt on a disc")
    program = f"""
import subprocess, sys
if subprocess.run(["mount", "--bind", "-o", "ro", sys.argv[1], sys.argv[1]], capture_output=True).returncode:
    print("skip")
    sys.exit()
from samebits.cas import Digest, Store
with Store(sys.argv[1], read_only=True) as store:
    print(store.get_blob(Digest.parse("{digest}")))
"""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", program, str(tmp_path / "s")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.stdout == "skip\n" or "unshare" in done.stderr:
        pytest.skip("nothing can be mounted here")
    assert done.stdout == "b'burnt on a disc'\n", done.stderr
