"""Push, pull and clone: what moves, in which order, and how they go on where they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cas.remote_places import KIB, MIB, QuietHandler, addresses, make_objects, serving, serving_files

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.encoding import Value
from samebits.cas.errors import DamagedObjectError, ObjectNotFoundError, RemoteError, StoreError
from samebits.cas.node import Node
from samebits.cas.pulling import ROWS_IN_FLIGHT
from samebits.cas.reachable import check_objects
from samebits.cas.remotes import Remote, StoreRemote, open_remote
from samebits.cas.store import Store
from samebits.cas.transfer import TransferReport, clone, pull, push
from samebits.cas.wire import WireRecord, read_row, wire_record

PULL = """
import sys
from samebits.cas import Digest, Store, pulling
from samebits.cas.remotes import open_remote
from samebits.cas.transfer import pull
with Store(sys.argv[1]) as store:
    print("ready", flush=True)
    pulling.FLUSH_EVERY_S = 0.05
    pull(open_remote(sys.argv[2]), store, [Digest.parse(sys.argv[3])])
"""


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "target") as opened:
        yield opened


class Watched(StoreRemote):
    """A store as a remote that notes what is asked of it, and can fail at some point."""

    def __init__(self, store: Store, fail_after_rows: int | None = None) -> None:
        super().__init__(store, "watched")
        self.rows: list[bytes] = []
        self.written: list[Digest] = []
        self._fail_after_rows = fail_after_rows

    def read_row(self, key: bytes, size_bytes: int) -> bytes:
        self._count(key)
        return super().read_row(key, size_bytes)

    def write_row(self, key: bytes, data: bytes) -> None:
        self._count(key)
        super().write_row(key, data)

    def write_record(self, digest: Digest, record: WireRecord) -> None:
        super().write_record(digest, record)
        self.written.append(digest)

    def _count(self, key: bytes) -> None:
        if self._fail_after_rows is not None and len(self.rows) >= self._fail_after_rows:
            raise RemoteError(self.name, "is gone")
        self.rows.append(key)


@pytest.mark.parametrize("size", [0, 1, 16 * KIB, 16 * KIB + 1, MIB - 1, MIB, MIB + 1, 2 * MIB + 1])
def test_blob_of_any_size_moves(store: Store, target: Store, tmp_path: Path, size: int) -> None:
    digest = store.put_blob(b"x" * size)
    remote = open_remote(str(tmp_path / "remote"), create=True)
    assert push(store, remote, [digest]).size_bytes == (size if size <= 2 * MIB else MIB + 1)  # equal rows go once
    pull(remote, target, [digest])
    assert target.get_blob(digest) == b"x" * size


def test_equal_rows_move_once(store: Store, target: Store) -> None:
    """A window of requests must not ask again for a row that is on its way, nor use one that is not there yet."""
    blobs: list[Value] = [store.put_blob(bytes(5 * MIB)), store.put_blob(bytes(3 * MIB)), store.put_blob(bytes(MIB))]
    root = store.put_node(Node("list", {"blobs": blobs}))
    remote = Watched(store)
    assert pull(remote, target, [root]) == TransferReport(4, 1, MIB + store.stat(root).size_bytes, 0, 8)
    assert len(remote.rows) == 1
    assert addresses(target) == {*blobs, root}


def test_more_objects_than_the_window_holds(store: Store, target: Store, tmp_path: Path) -> None:
    with store.batch():
        blobs: list[Value] = [store.put_blob(b"%d" % number * 9000) for number in range(3 * ROWS_IN_FLIGHT)]
        root = store.put_node(Node("list", {"blobs": blobs}))
    with Store(tmp_path / "other") as other:
        assert push(store, StoreRemote(other), [root]).objects == len(blobs) + 1
        assert pull(StoreRemote(other), target, [root]).objects == len(blobs) + 1
    assert check_objects(target, [root]) == (len(blobs) + 1, [])


@pytest.mark.parametrize("count", [1, 63, 64, 65, 3000])
def test_many_small_blobs(store: Store, target: Store, tmp_path: Path, count: int) -> None:
    """3000 blobs without rows once made the window call itself until the stack was full."""
    with store.batch():
        root = store.put_node(Node("list", {"blobs": [store.put_blob(b"%d" % number) for number in range(count)]}))
    assert pull(StoreRemote(store), target, [root]).objects == count + 1
    if count < 100:
        with Store(tmp_path / "other") as other:
            assert push(store, StoreRemote(other), [root]).objects == count + 1


@pytest.mark.parametrize("move", ["pull", "push"])
def test_long_chain_moves(store: Store, target: Store, move: str) -> None:
    with store.batch():
        last = store.put_blob(b"end")
        for number in range(400):
            last = store.put_node(Node("link", {"number": number, "next": last}))
    report = pull(StoreRemote(store), target, [last]) if move == "pull" else push(store, StoreRemote(target), [last])
    assert report.objects == 401


def test_nodes_are_sent_behind_what_they_refer_to(store: Store, target: Store) -> None:
    made = make_objects(store)
    remote = Watched(target)
    push(store, remote, [made.root])
    place = {digest: number for number, digest in enumerate(remote.written)}
    assert place[made.root] == 5
    assert place[made.left] > max(place[made.rows], place[made.row], place[made.small])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 30), max_size=4), min_size=1, max_size=15))
def test_nodes_become_visible_behind_what_they_refer_to(
    tmp_path_factory: pytest.TempPathFactory, shape: list[list[int]]
) -> None:
    base = tmp_path_factory.mktemp("dag")
    with Store(base / "a") as store, Store(base / "b") as other, Store(base / "c") as target:
        made = [store.put_blob(b"leaf")]
        with store.batch():
            for number, picks in enumerate(shape):
                children: list[Value] = [made[pick % len(made)] for pick in picks]
                made.append(store.put_node(Node("n", {"number": number, "children": children})))
        remote = Watched(other)
        push(store, remote, made[::-1])
        order = remote.written
        assert sorted(order) == sorted(made)
        finished = _watch_finish(target, lambda: pull(StoreRemote(other), target, made[::-1]))
        for sequence in (order, finished):
            seen: set[Digest] = set()
            for digest in sequence:
                if digest != made[0]:
                    assert seen.issuperset(store.get_node(digest).body["children"])  # type: ignore[arg-type]
                seen.add(digest)


def _watch_finish(target: Store, act: Callable[[], object]) -> list[Digest]:
    """Call `act` and return the objects that it made visible, in order."""
    from samebits.cas.arrivals import Arrivals

    order: list[Digest] = []
    original = Arrivals.finish

    def finish(self: Arrivals, digest: Digest, record: WireRecord) -> None:
        original(self, digest, record)
        order.append(digest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Arrivals, "finish", finish)
        act()
    return order


def test_pull_completes_a_node_that_was_put_without_its_parts(store: Store, target: Store) -> None:
    made = make_objects(store)
    target.put_encoded_node(store.get_encoded(made.root))
    assert pull(StoreRemote(store), target, [made.root]).objects == 5
    assert check_objects(target, [made.root]) == (6, [])


def test_pull_works_where_records_are_not_kept(store: Store, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_objects(store)
    monkeypatch.setattr("samebits.cas.pulling._KEPT_RECORDS_BYTES", 0)
    pull(StoreRemote(store), target, [made.root])
    assert check_objects(target, [made.root]) == (6, [])


def test_pull_and_push_name_what_is_not_there(store: Store, target: Store) -> None:
    gone = hash_blob(b"gone")
    root = store.put_node(Node("root", {"child": gone}))
    with pytest.raises(ObjectNotFoundError, match=str(gone)):
        pull(StoreRemote(store), target, [root])
    with pytest.raises(ObjectNotFoundError, match=str(gone)):
        push(store, StoreRemote(target), [root])
    assert addresses(target) == set()


def test_pull_goes_on_where_it_was(store: Store, target: Store) -> None:
    digest = store.put_blob(os.urandom(6 * MIB))
    with pytest.raises(RemoteError, match=f"remote watched: row 4 of object {digest}: is gone"):
        pull(Watched(store, fail_after_rows=4), target, [digest], workers=1)
    assert addresses(target) == set()
    second = Watched(store)
    report = pull(second, target, [digest])
    assert (report.rows, report.skipped_rows, len(second.rows)) == (2, 4, 2)
    assert target.get_blob(digest) == store.get_blob(digest)


def test_push_goes_on_where_it_was(store: Store, target: Store) -> None:
    digest = store.put_blob(os.urandom(6 * MIB))
    with pytest.raises(RemoteError, match="gone"):
        push(store, Watched(target, fail_after_rows=4), [digest], workers=1)
    assert addresses(target) == set()
    second = Watched(target)
    report = push(store, second, [digest])
    assert (report.rows, report.skipped_rows, len(second.rows)) == (2, 4, 2)


def test_pull_survives_kills(store: Store, tmp_path: Path) -> None:
    """Rows that arrived before a kill -9 are not fetched again, and what is visible is whole."""
    with store.batch():
        blobs = [store.put_blob(os.urandom(20 * KIB)) for _ in range(40)]
        root = store.put_node(Node("list", {"blobs": list(blobs)}))
    remote = open_remote(str(tmp_path / "remote"), create=True)
    push(store, remote, [root])

    class Slow(QuietHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/rows/"):
                asked.append(self.path)
                time.sleep(0.4)  # eight at once: all of them take 2 s
            super().do_GET()

    asked: list[str] = []
    kept = 0
    with serving_files(tmp_path / "remote", Slow) as url:
        for attempt in range(20):
            if attempt >= 2 and kept > 0:  # a busy machine gets less done between two kills
                break
            command = [sys.executable, "-c", PULL, str(tmp_path / "target"), url, str(root)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.7)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)
            with Store(tmp_path / "target") as target:
                for digest in addresses(target):
                    assert check_objects(target, [digest])[1] == []
                keys = [key for blob in blobs for key in wire_record(store, blob).row_keys]
                kept = len(keys) - len(target.missing_rows(keys))
        assert 0 < kept < len(keys)
        asked.clear()
        with Store(tmp_path / "target") as target:
            report = pull(open_remote(url), target, [root])
            assert (report.rows, len(asked)) == (len(keys) - kept, len(keys) - kept)
            assert check_objects(target, [root]) == (41, [])


def test_pull_stops_where_the_stores_own_row_is_damaged(store: Store, target: Store) -> None:
    digest = store.put_blob(os.urandom(2 * MIB))
    key = wire_record(store, digest).row_keys[1]
    target.put_blob(read_row(store, digest, key))
    target.environment.write(lambda transaction: transaction.put("rows", key, bytes(MIB)))
    with pytest.raises(DamagedObjectError, match="row 1"):
        pull(StoreRemote(store), target, [digest])


def test_push_of_damaged_rows_sends_none_of_them(store: Store, target: Store) -> None:
    digest = store.put_blob(os.urandom(MIB))
    store.environment.write(lambda transaction: transaction.put("rows", digest.raw, bytes(MIB)))
    with pytest.raises(DamagedObjectError, match=str(digest)):
        push(store, StoreRemote(target), [digest])
    assert addresses(target) == set()


def test_clone_moves_no_pin_of_ours(store: Store, target: Store) -> None:
    theirs, ours = store.put_blob(b"theirs"), target.put_blob(b"ours")
    store.pin("model", theirs)
    target.pin("model", ours)
    with pytest.raises(StoreError, match="its pin 'model' is another object"):
        clone(StoreRemote(store), target)
    assert target.pins() == {"model": ours}
    assert not target.has(theirs)
    target.unpin("model")
    clone(StoreRemote(store), target)
    clone(StoreRemote(store), target)
    assert target.pins() == {"model": theirs}


def test_clone_refuses_pins_that_can_be_none(store: Store, target: Store) -> None:
    class Odd(StoreRemote):
        def pins(self) -> dict[str, Digest]:
            return {"a\nb": store.put_blob(b"1")}

    with pytest.raises(RemoteError, match="pin"):
        clone(Odd(store), target)
    assert addresses(target) == set()


def test_store_remote_refuses_what_is_not_complete(store: Store, target: Store) -> None:
    made = make_objects(store)
    remote: Remote = StoreRemote(target)
    sends: Sequence[tuple[Digest, str]] = [(made.rows, "row 0"), (made.left, "refers to"), (made.wide, "row 0")]
    for digest, reason in sends:
        with pytest.raises(Exception, match=reason):
            remote.write_record(digest, wire_record(store, digest))
    with pytest.raises(Exception, match="hash"):
        remote.write_row(bytes(32), b"1")
    assert addresses(target) == set()


def test_server_and_store_agree_after_concurrent_pushes(store: Store, tmp_path: Path) -> None:
    made = make_objects(store)
    with Store(tmp_path / "other") as other, serving(other, writable=True) as url:
        threads = [threading.Thread(target=push, args=(store, open_remote(url), [made.root])) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert check_objects(other, [made.root]) == (6, [])
