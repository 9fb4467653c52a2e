"""One body of tests for every kind of remote: a directory, a store, a server of ours, a static file server, S3."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer
from tests.cas.remote_places import MIB, Made, addresses, make_objects, serving, serving_files

from samebits.cas.digest import hash_blob
from samebits.cas.encoding import Value
from samebits.cas.errors import CasError, ObjectNotFoundError, RemoteError
from samebits.cas.node import Node
from samebits.cas.reachable import check_objects
from samebits.cas.records import row_key
from samebits.cas.remotes import Remote, open_remote, read_record
from samebits.cas.store import Store
from samebits.cas.transfer import TransferReport, clone, pull, push
from samebits.cas.wire import wire_record

KINDS = ("directory", "store", "server", "static", "s3")
PIN_NAMES = ("a", "A b", "runs/mnist", "../up", "..", ".hidden", "100%", "a%2Fb", "ä/ö?#&+", "é" * 40, "pins.json")


@dataclass(frozen=True)
class Place:
    """A remote under test, and one that writes into the same place (another one where that is read-only)."""

    kind: str
    remote: Remote
    writer: Remote


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    bucket = "b" + hash_blob(str(tmp_path).encode()).raw.hex()[:20]
    boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    return bucket


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind, path = request.param, tmp_path / "place"
    with ExitStack() as stack:
        opened = functools.partial(_open, stack)
        if kind == "directory":
            remote = writer = opened(str(path), create=True)
        elif kind == "s3":
            remote = writer = opened(f"s3://{request.getfixturevalue('s3_bucket')}/some/prefix", create=True)
        elif kind == "store":
            Store(path).close()
            remote = writer = opened(str(path), writable=True)
        elif kind == "server":
            store = stack.enter_context(Store(path))
            remote = writer = opened(stack.enter_context(serving(store, writable=True)))
        else:
            writer = opened(str(path), create=True)
            remote = opened(stack.enter_context(serving_files(path)))
        yield Place(kind, remote, writer)


def _open(stack: ExitStack, text: str, *, create: bool = False, writable: bool = False) -> Remote:
    return stack.enter_context(closing(open_remote(text, create=create, writable=writable, timeout_s=10)))


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "target") as opened:
        yield opened


def fill(place: Place, store: Store) -> Made:
    made = make_objects(store)
    push(store, place.writer, [made.root])
    return made


def test_remote_gives_back_records_and_rows(place: Place, store: Store) -> None:
    made = fill(place, store)
    digests = sorted(made.all())
    assert place.remote.read_records(digests) == [wire_record(store, digest) for digest in digests]
    record = read_record(place.remote, made.rows)
    for index, key in enumerate(record.row_keys):
        size = record.row_size_bytes(index)
        row = place.remote.read_row(key, size)
        assert (len(row), row_key(row)) == (size, key)
        assert len(place.remote.read_row(key, max(0, size - 10))) == min(size, max(0, size - 10) + 1)
    assert place.remote.read_records([]) == []


def test_remote_says_what_is_missing_in_order(place: Place, store: Store) -> None:
    made = fill(place, store)
    gone = [hash_blob(b"%d" % number) for number in range(20)]
    assert place.remote.missing([gone[3], made.root, gone[1], made.small, gone[2]]) == [gone[3], gone[1], gone[2]]
    keys = wire_record(store, made.rows).row_keys
    assert place.remote.missing_rows([gone[3].raw, *keys, gone[1].raw]) == [gone[3].raw, gone[1].raw]
    assert place.remote.missing([]) == []
    assert place.remote.missing_rows([]) == []


def test_remote_names_what_it_lacks(place: Place, store: Store) -> None:
    made, gone = fill(place, store), hash_blob(b"gone")
    with pytest.raises(ObjectNotFoundError, match=str(gone)):
        place.remote.read_records([made.root, gone])
    with pytest.raises(RemoteError, match=gone.raw.hex()):
        place.remote.read_row(gone.raw, 10)


def test_remote_pins(place: Place, store: Store) -> None:
    made = fill(place, store)
    assert place.remote.pins() == {}
    for name in PIN_NAMES:
        place.writer.write_pin(name, made.small)
    place.writer.write_pin("a", made.root)
    pins = place.remote.pins()
    assert dict(pins) == {name: made.root if name == "a" else made.small for name in PIN_NAMES}
    assert list(pins) == sorted(pins)


def test_remote_refuses_names_that_are_none(place: Place, store: Store) -> None:
    made = fill(place, store)
    for name in ("", "a\nb", "x" * 401, "\ud800"):
        with pytest.raises(ValueError, match="pin name"):
            place.writer.write_pin(name, made.small)
    assert place.remote.pins() == {}


def test_remote_refuses_a_pin_of_what_it_lacks(place: Place) -> None:
    with pytest.raises(ObjectNotFoundError):
        place.writer.write_pin("a", hash_blob(b"gone"))
    assert place.remote.pins() == {}


def test_push_and_pull_move_everything_once(place: Place, store: Store, target: Store) -> None:
    made = make_objects(store)
    size = sum(info.size_bytes for info in store.objects())
    store.put_blob(b"not reachable")
    seen: list[tuple[int, int]] = []
    expected = TransferReport(objects=6, rows=6, size_bytes=size, skipped_objects=0, skipped_rows=0)
    assert push(store, place.writer, [made.root, made.root], progress=lambda *done: seen.append(done)) == expected
    assert (seen[-1], seen) == ((size, size), sorted(seen))
    seen.clear()
    assert pull(place.remote, target, [made.root], progress=lambda *done: seen.append(done)) == expected
    assert (seen[-1], seen) == ((size, size), sorted(seen))
    assert addresses(target) == made.all()
    assert check_objects(target, [made.root]) == (6, [])
    nothing = TransferReport(objects=0, rows=0, size_bytes=0, skipped_objects=6, skipped_rows=0)
    assert push(store, place.writer, [made.root]) == pull(place.remote, target, [made.root]) == nothing


def test_clone_takes_all_pins(place: Place, store: Store, target: Store) -> None:
    made = fill(place, store)
    place.writer.write_pin("model/v1", made.left)
    place.writer.write_pin("small", made.small)
    assert clone(place.remote, target).objects == 4
    assert target.pins() == {"model/v1": made.left, "small": made.small}
    assert addresses(target) == {made.left, made.rows, made.row, made.small}


def test_remote_serves_threads_at_once(place: Place, store: Store) -> None:
    made = fill(place, store)
    keys = wire_record(store, made.rows).row_keys * 20
    with ThreadPoolExecutor(8) as pool:
        assert [row_key(row) for row in pool.map(lambda key: place.remote.read_row(key, MIB), keys)] == list(keys)
        assert set(pool.map(lambda digest: read_record(place.remote, digest), [made.root] * 40)) == {
            wire_record(store, made.root)
        }


def test_pull_of_many_small_nodes(place: Place, store: Store, target: Store) -> None:
    with store.batch():
        parts: list[Value] = [store.put_node(Node("part", {"number": number})) for number in range(150)]
        root = store.put_node(Node("root", {"parts": parts}))
    push(store, place.writer, [root])
    assert pull(place.remote, target, [root]).objects == 151


def test_static_remote_refuses_writes(tmp_path: Path, store: Store) -> None:
    made, path = make_objects(store), tmp_path / "place"
    open_remote(str(path), create=True)
    with serving_files(path) as url, closing(open_remote(url, timeout_s=10)) as remote:  # noqa: SIM117
        with pytest.raises(RemoteError, match="read-only"):
            push(store, remote, [made.root])


def test_read_only_server_refuses_writes(tmp_path: Path, store: Store) -> None:
    made = make_objects(store)
    with Store(tmp_path / "other") as other, serving(other) as url, closing(open_remote(url, timeout_s=10)) as remote:
        for _ in range(3):
            with pytest.raises(RemoteError, match="read-only"):
                push(store, remote, [made.root])
        assert addresses(other) == set()


def test_read_only_store_refuses_writes(tmp_path: Path, store: Store) -> None:
    made = make_objects(store)
    Store(tmp_path / "other").close()
    with closing(open_remote(str(tmp_path / "other"))) as remote, pytest.raises(CasError, match="reading only"):
        push(store, remote, [made.root])


def test_s3_lays_files_out_as_a_directory_does(s3_bucket: str, s3_endpoint: str, tmp_path: Path, store: Store) -> None:
    made = make_objects(store)
    for text in (f"s3://{s3_bucket}/deep/er", str(tmp_path / "directory")):
        remote = open_remote(text, create=True)
        push(store, remote, [made.root])
        for name in PIN_NAMES:
            remote.write_pin(name, made.root)
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    keys = {entry["Key"] for entry in client.list_objects_v2(Bucket=s3_bucket)["Contents"]}
    files = [path for path in (tmp_path / "directory").rglob("*") if path.is_file()]
    assert keys == {"deep/er/" + path.relative_to(tmp_path / "directory").as_posix() for path in files}
    for path in files:
        key = "deep/er/" + path.relative_to(tmp_path / "directory").as_posix()
        assert client.get_object(Bucket=s3_bucket, Key=key)["Body"].read() == path.read_bytes()


def test_s3_refuses_a_prefix_of_something_else(s3_bucket: str, s3_endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    client.put_object(Bucket=s3_bucket, Key="theirs/file", Body=b"1")
    for create in (False, True):
        with pytest.raises(RemoteError, match="samebits remote"):
            open_remote(f"s3://{s3_bucket}/theirs", create=create)
    with pytest.raises(RemoteError, match="no samebits remote"):
        open_remote(f"s3://{s3_bucket}/empty")
    with pytest.raises(RemoteError, match="s3://no-such-bucket"):
        open_remote("s3://no-such-bucket", create=True)
