"""Garbage collection: what it keeps, what it takes, and what goes on beside it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.environment import COLLECTING_KEY, META, ROWS, SUBTREES, TOUCHES, UNFINISHED
from samebits.cas.errors import DamagedObjectError, ObjectNotFoundError, StoreBusyError, StoreError
from samebits.cas.gc import GcReport, collect_garbage
from samebits.cas.locks import alone
from samebits.cas.node import Node
from samebits.cas.reachable import check_objects
from samebits.cas.records import encode_record, row_key
from samebits.cas.store import Store
from samebits.cas.tree import put_tree

MIB = 1 << 20


def collect(store: Store, *roots: Digest, grace_s: float = -2, **given: object) -> GcReport:
    """Collect without any grace: what was put in this second goes too."""
    return collect_garbage(store, roots, grace_s=grace_s, **given)  # type: ignore[arg-type]


def put_list(store: Store, *parts: Digest) -> Digest:
    return store.put_node(Node("list", {"parts": list(parts)}))


def table_size(store: Store, table: str) -> int:
    with store.environment.reading() as transaction:
        return transaction.entries(table)


def age(store: Store, *digests: Digest) -> None:
    """Let objects look as if they were put long ago."""
    for digest in digests:
        record = store.reader.record(digest)
        store.environment.write(lambda t, d=digest, r=record: t.put("objects", d.raw, encode_record(r, 1)))  # type: ignore[misc]


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_what_a_pin_reaches_stays_and_the_rest_goes(store: Store) -> None:
    large, small = store.put_blob(os.urandom(3 * MIB + 5)), store.put_blob(b"small")
    top = put_list(store, put_list(store, large), small)
    lost = [store.put_blob(os.urandom(2 * MIB)), store.put_blob(b"lost"), put_list(store, small)]
    store.pin("top", top)
    report = collect(store)
    assert (report.objects, report.rows, report.kept_objects) == (3, 2, 4)
    assert 2 * MIB < report.size_bytes < 2 * MIB + 300
    assert check_objects(store, [top]) == (4, [])
    assert not any(map(store.has, lost))
    assert table_size(store, ROWS) == 4
    assert table_size(store, SUBTREES) == 4
    assert collect(store) == GcReport(kept_objects=4)
    assert store.unpin("top")
    assert collect(store).objects == 4
    assert [table_size(store, table) for table in (ROWS, SUBTREES)] == [0, 0]


def test_roots_of_the_caller_stay(store: Store) -> None:
    blob = store.put_blob(b"x")
    node, other = put_list(store, blob), store.put_blob(b"y")
    missing = hash_blob(b"never put")
    assert collect(store, node, missing).objects == 1
    assert store.has(node)
    assert store.has(blob)
    assert not store.has(other)


def test_a_row_that_a_kept_object_shares_stays(store: Store) -> None:
    row = os.urandom(MIB)
    kept, lost = store.put_blob(row + b"a"), store.put_blob(row + b"b")
    assert collect(store, kept).rows == 1
    assert store.get_blob(kept) == row + b"a"
    assert not store.has(lost)


def test_what_was_put_within_the_grace_time_stays(store: Store) -> None:
    node = put_list(store, store.put_blob(os.urandom(2 * MIB)))
    assert collect_garbage(store).objects == 0
    assert collect(store, grace_s=60).objects == 0
    assert check_objects(store, [node])[1] == []
    assert collect(store).objects == 2


def test_what_a_young_node_refers_to_stays_though_it_is_old(store: Store) -> None:
    old, lost = store.put_blob(b"old"), store.put_blob(b"lost")
    age(store, old, lost)
    young = put_list(store, old)
    assert collect(store, grace_s=500).objects == 1
    assert store.has(young)
    assert store.has(old)
    assert not store.has(lost)


def test_putting_again_touches(store: Store) -> None:
    small, large, lost = store.put_blob(b"old"), store.put_blob(bytes(2 * MIB)), store.put_blob(b"lost")
    age(store, small, large, lost)
    assert store.put_blob(b"old") == small
    with store.batch():
        assert store.put_blob(bytes(2 * MIB)) == large
    assert collect(store, grace_s=500).objects == 1
    assert store.get_blob(large) == bytes(2 * MIB)
    assert not store.has(lost)


def test_dry_run_tells_the_same_and_removes_nothing(store: Store) -> None:
    kept = put_list(store, store.put_blob(os.urandom(2 * MIB)))
    store.put_blob(os.urandom(3 * MIB))
    store.put_blob(b"x")
    looked = collect(store, kept, dry_run=True)
    assert len(list(store.objects())) == 4
    assert collect(store, kept) == looked
    assert len(list(store.objects())) == 2


def test_space_of_what_went_is_used_again(store: Store) -> None:
    data = store.path / "cas" / "data.mdb"
    sizes = []
    for _ in range(6):
        store.put_blob(os.urandom(20 * MIB))
        sizes.append(data.stat().st_size)
        collect(store)
    assert sizes[-1] < 3 * sizes[0]


WRITER = """
import sys
from samebits.cas import Node, Store
with Store(sys.argv[1]) as store:
    blob = store.put_blob(b"of a living process")
    large = store.put_blob(b"L" * (2 << 20))
    print(blob, large, flush=True)
    sys.stdin.readline()
    node = store.put_node(Node("list", {"parts": [blob, large]}))
    store.pin("made", node)
"""


def test_what_a_living_process_has_put_stays(store: Store) -> None:
    store.put_blob(b"ours")
    writer = start(WRITER, store.path)
    assert writer.stdout is not None
    line = writer.stdout.readline()
    for _ in range(2):
        assert collect(store).objects <= 1
    assert all(store.has(Digest.parse(text)) for text in line.split())
    writer.communicate("go\n", timeout=30)
    assert writer.returncode == 0
    collect(store)
    assert check_objects(store, [store.pins()["made"]]) == (3, [])


def test_what_a_dead_process_has_put_goes(store: Store) -> None:
    writer = start(WRITER, store.path)
    assert writer.stdout is not None
    line = writer.stdout.readline()
    writer.kill()
    writer.communicate()
    assert collect(store).objects == 2
    assert not any(store.has(Digest.parse(text)) for text in line.split())
    assert list((store.path / "cas" / "leases").iterdir()) == []


HOLDER = """
import sys
from samebits.cas import Digest, Store
with Store(sys.argv[1]) as store, store.holding([Digest.parse(sys.argv[2])]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_process_holds_stays_until_it_lets_go_or_dies(store: Store, killed: bool) -> None:
    blob = store.put_blob(b"held")
    node = put_list(store, blob)
    store.put_blob(b"not held")
    time.sleep(1.1)  # so that the lease of the other process is younger than all of it
    holder = start(HOLDER, store.path, node)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert collect(store).objects == 1
    assert store.has(node)
    assert store.has(blob)
    if killed:
        holder.kill()
        holder.communicate()
    else:
        holder.communicate("\n", timeout=30)
    assert collect(store).objects == 2
    assert table_size(store, "leases") == 0


def test_holding_refuses_what_is_not_there(store: Store) -> None:
    with pytest.raises(ObjectNotFoundError), store.holding([hash_blob(b"nothing")]):
        pass
    assert table_size(store, "leases") == 0


# Beside others


def meddle(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], skip: int = 1) -> None:
    """Do something before the first slice (after `skip` others) of a collection has the database to itself."""
    calls = iter(range(100))

    def alone_later(*arguments: Any) -> Any:
        if next(calls) == skip:
            act()
        return alone(*arguments)

    monkeypatch.setattr("samebits.cas.gc.alone", alone_later)


@pytest.fixture(params=["objects", "rows"])
def slice_(request: pytest.FixtureRequest) -> int:
    return {"objects": 1, "rows": 2}[request.param]


def test_what_is_put_between_mark_and_sweep_stays(store: Store, monkeypatch: pytest.MonkeyPatch, slice_: int) -> None:
    made: list[Digest] = []
    data = os.urandom(2 * MIB + 7)
    meddle(monkeypatch, lambda: made.append(put_list(store, store.put_blob(data), store.put_blob(b"new"))), slice_)
    collect(store)
    assert check_objects(store, made) == (3, [])
    assert table_size(store, TOUCHES) == 0
    assert store.environment.get(META, COLLECTING_KEY) is None


def test_what_is_put_again_between_mark_and_sweep_stays_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree that was put long ago is only named by a new node: all that it refers to must stay too."""
    data = os.urandom(2 * MIB)
    tree = put_tree(store, {"a": store.put_blob(data), "b": store.put_blob(b"b")})
    made: list[Digest] = []
    meddle(monkeypatch, lambda: made.append(put_list(store, tree)))
    assert collect(store).objects == 0
    assert check_objects(store, made) == (4, [])


def test_what_is_pinned_or_held_between_mark_and_sweep_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (put_list(store, store.put_blob(os.urandom(20_000))) for _ in range(2))
    holding = store.holding([second])

    def act() -> None:
        store.pin("first", first)
        holding.__enter__()

    meddle(monkeypatch, act)
    assert collect(store).objects == 0
    assert check_objects(store, [first, second]) == (4, [])
    holding.__exit__(None, None, None)


def test_a_batch_that_relies_on_a_row_is_let_finish(store: Store) -> None:
    """It has seen a row and not kept it; then the only object with that row is collected."""
    row, tail = os.urandom(MIB), os.urandom(MIB)
    age(store, store.put_blob(row + b"old"))
    seen, go = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield row
        yield tail
        for _ in range(40):  # so that the first row was measured
            yield tail
        seen.set()
        go.wait(10)
        yield b"end"

    made: list[Digest] = []
    putter = threading.Thread(target=lambda: made.append(store.put_pieces(pieces())))
    putter.start()
    seen.wait(10)
    reports: list[GcReport] = []
    collector = threading.Thread(target=lambda: reports.append(collect(store, grace_s=60)))
    collector.start()
    time.sleep(0.2)
    go.set()
    putter.join()
    collector.join()
    assert reports[0].objects == 1
    assert store.get_blob(made[0]) == row + tail * 41 + b"end"


@pytest.mark.parametrize("grace_s", [60, 0])
def test_a_long_batch_lets_a_collection_in_at_a_flush(
    store: Store, monkeypatch: pytest.MonkeyPatch, grace_s: float
) -> None:
    monkeypatch.setattr("samebits.cas.writes.FLUSH_SIZE_BYTES", 3 * MIB)
    row = os.urandom(MIB)
    old = store.put_blob(row + b"old")
    age(store, old)
    done = threading.Event()

    def collect_then_tell() -> None:
        collect(store, grace_s=grace_s, wait_s=20)
        done.set()

    collector = threading.Thread(target=collect_then_tell)

    def pieces() -> Iterator[bytes]:
        yield row
        for number in range(100):
            if number == 40:
                collector.start()
            yield os.urandom(MIB)
            if number > 60:
                time.sleep(0.01)
        assert done.wait(10), "the collection waited for the end of the batch"

    digest = store.put_pieces(pieces())
    collector.join()
    assert not store.has(old)
    assert store.stat(digest).size_bytes == 101 * MIB
    assert check_objects(store, [digest]) == (1, [])


def test_a_batch_that_stays_open_is_named(store: Store) -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with store.batch():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(10)
    with pytest.raises(StoreBusyError, match="a batch of puts has been open"):
        collect(store, wait_s=0.1)
    leave.set()
    thread.join()
    assert collect(store).objects == 0


def test_two_collections_exclude_each_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[BaseException] = []

    def second() -> None:
        try:
            collect(store)
        except StoreBusyError as error:
            errors.append(error)

    meddle(monkeypatch, second)
    collect(store)
    assert "collected already" in str(errors[0])


def test_a_batch_of_this_thread_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="batch"), store.batch():
        collect(store)


def test_rows_of_an_interrupted_put_stay_for_the_grace_time(store: Store) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(70):
            yield os.urandom(MIB)
        raise OSError

    with pytest.raises(OSError):
        store.put_pieces(pieces())
    rows = table_size(store, ROWS)
    assert rows > 20
    assert table_size(store, UNFINISHED) == rows
    assert collect(store, grace_s=60).rows == 0
    assert collect(store).rows == rows
    assert [table_size(store, table) for table in (ROWS, UNFINISHED, SUBTREES)] == [0, 0, 0]


def test_a_damaged_node_stops_a_collection_before_anything_is_gone(store: Store) -> None:
    blob = store.put_blob(b"reached only through the node")
    node = put_list(store, blob)
    store.pin("node", node)
    lost = store.put_blob(b"lost")

    def damage(transaction: object) -> None:
        value = bytearray(transaction.get("objects", node.raw))  # type: ignore[attr-defined]
        value[-1] ^= 1
        transaction.put("objects", node.raw, bytes(value))  # type: ignore[attr-defined]

    store.environment.write(damage)
    with pytest.raises(DamagedObjectError, match=str(node)):
        collect(store)
    assert store.has(blob)
    assert store.has(lost)


def test_a_missing_row_of_something_else_does_not_stop_it(store: Store) -> None:
    data = os.urandom(2 * MIB)
    kept = store.put_blob(data)
    store.environment.write(lambda transaction: transaction.delete(ROWS, row_key(data[:MIB])))
    store.put_blob(b"lost")
    assert collect(store, kept).objects == 1


PUT_AND_PIN = """
import os, random, sys
from samebits.cas import Digest, Node, Store
seed = int(sys.argv[2])
source = random.Random(seed)
shared = [random.Random(number).randbytes((100, 20_000, 1_500_000)[number % 3]) for number in range(12)]
with Store(sys.argv[1]) as store:
    for number in range(int(sys.argv[3])):
        parts = [store.put_blob(shared[source.randrange(12)]) for _ in range(3)]
        parts.append(store.put_blob(source.randbytes(source.choice((50, 30_000, 3 << 20)))))
        with store.batch():
            inner = store.put_node(Node("list", {"parts": parts}))
            outer = store.put_node(Node("list", {"parts": [inner], "number": number}))
        store.pin(f"{seed}/{number}", outer)
        if number % 3 == 2:
            store.unpin(f"{seed}/{source.randrange(number)}")
print("done")
"""


def test_two_writers_and_a_collector_at_once(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        writers = [start(PUT_AND_PIN, tmp_path, seed, 25) for seed in (1, 2)]
        collections = removed = 0
        source = random.Random(3)
        while any(writer.poll() is None for writer in writers):
            removed += collect(store).objects
            collections += 1
            time.sleep(source.uniform(0, 0.05))
        for writer in writers:
            out, error = writer.communicate(timeout=60)
            assert out == "done\n", error
        removed += collect(store).objects
        assert collections > 3
        assert removed > 10
        pins = store.pins()
        assert 30 < len(pins) < 50
        assert check_objects(store, pins.values())[1] == []
