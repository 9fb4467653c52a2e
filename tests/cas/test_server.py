"""The server as any HTTP client sees it: paths, methods, ranges, limits, and what it does not give out."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cas.remote_places import MIB, Made, addresses, make_objects, serving

from samebits.cas.digest import Digest, hash_blob, hash_node
from samebits.cas.encoding import encode
from samebits.cas.node import Node
from samebits.cas.records import row_key
from samebits.cas.remotes.framing import read_frames, write_frames
from samebits.cas.remotes.layout import pin_path, record_path, row_path
from samebits.cas.store import Store
from samebits.cas.wire import encode_wire, wire_record


@dataclass
class Client:
    """Sends one request on a connection of its own."""

    url: str

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Return status, body and headers. The path is sent as it is."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()


@pytest.fixture
def made(store: Store) -> Made:
    return make_objects(store)


@pytest.fixture
def client(store: Store, made: Made) -> Iterator[Client]:
    store.pin("runs/mnist", made.root)
    with serving(store) as url:
        yield Client(url)


@pytest.fixture
def writable(other: Store) -> Iterator[Client]:
    with serving(other, writable=True) as url:
        yield Client(url)


def test_server_gives_out_the_layout_of_a_remote(client: Client, store: Store, made: Made) -> None:
    assert client.ask("GET", "/samebits-remote")[:2] == (200, b"samebits remote 1\n")
    for digest in made.all():
        status, data, headers = client.ask("GET", "/" + record_path(digest))
        assert (status, data) == (200, encode_wire(wire_record(store, digest)))
        assert "immutable" in headers["cache-control"]
    for key in wire_record(store, made.rows).row_keys:
        status, data, headers = client.ask("GET", "/" + row_path(key))
        assert (status, row_key(data), headers["content-length"]) == (200, key, str(len(data)))
        assert "immutable" in headers["cache-control"]
        status, data, headers = client.ask("HEAD", "/" + row_path(key))
        assert (status, data) == (200, b"")
    for path in ("/pins/", "/pins.json"):
        status, data, headers = client.ask("GET", path)
        assert (status, json.loads(data), headers["cache-control"]) == (200, {"runs/mnist": str(made.root)}, "no-cache")
    assert client.ask("GET", "/pins/runs%252Fmnist")[:2] == (200, f"{made.root}\n".encode())


def test_server_answers_questions_about_many(client: Client, store: Store, made: Made) -> None:
    gone = hash_blob(b"gone").raw
    assert client.ask("POST", "/missing", gone + made.root.raw + gone)[:2] == (200, gone + gone)
    key = wire_record(store, made.row).row_keys[0]
    assert client.ask("POST", "/missing-rows", key + gone)[:2] == (200, gone)
    status, data, _ = client.ask("POST", "/records", made.small.raw + gone + made.root.raw)
    frames = read_frames("there", data, 3)
    expected = [encode_wire(wire_record(store, digest)) for digest in (made.small, made.root)]
    assert (status, frames) == (200, [expected[0], b"", expected[1]])
    assert client.ask("POST", "/missing", b"")[:2] == (200, b"")


def test_write_frames_stops_when_an_answer_is_full() -> None:
    records = [bytes(3 * MIB)] * 5
    assert len(read_frames("there", write_frames(records), 5)) == 3
    assert read_frames("there", write_frames([bytes(9 * MIB), b"1"]), 2) == [bytes(9 * MIB)]


PATHS_OF_NOTHING = (
    "/", "/objects/", "/rows/", "/objects/ab", "/rows/../samebits-remote", "/rows/..%2f..%2fetc%2fpasswd",
    "/objects/" + "ab" * 32, "/objects/AB/" + "ab" * 31, "/objects/ab/" + "ab" * 32, "/objects/ab/" + "ab" * 31 + "%0a",
    "/rows/ab/" + "zz" * 31, "/rows/%61b/" + "ab" * 31, "//rows/ab", "/rows/ab/" + "%D9%A1" * 62,
    "/rows/ab/%00", "/rows/ab/..%2f",
    "/pins/..%2f", "/pins/%2E%2E", "/pins/none", "/pins/a%2Fb", "/pins/%00", "/pins/%ff", "/pins", "/pins//",
    "/blobs", "/blobs/" + "ab" * 32, "/blobs/..%2f", "/data.mdb", "/cas/data.mdb", "/..%2fcas%2fdata.mdb",
)  # fmt: skip


def test_paths_of_nothing_are_one_line(client: Client) -> None:
    for path in PATHS_OF_NOTHING:
        status, data, _ = client.ask("GET", path)
        assert status in (400, 404), (path, status, data)
        assert data.count(b"\n") <= 1, path
        assert len(data) < 300, path


@pytest.mark.parametrize("path", ["/missing", "/missing-rows", "/records"])
def test_questions_that_are_none_are_refused(client: Client, path: str) -> None:
    assert client.ask("POST", path, bytes(31))[0] == 400
    assert client.ask("POST", path, bytes(33))[0] == 400
    assert client.ask("POST", path, bytes(32 * 4097))[0] == 413
    assert client.ask("GET", path)[0] == 405


def test_read_only_server_takes_nothing(client: Client, store: Store, made: Made) -> None:
    before = addresses(store)
    row = b"new"
    puts = [
        (row_path(row_key(row)), row),
        (record_path(hash_blob(row)), encode({"inline": row, "kind": "blob", "size": 3})),
        (pin_path("new"), f"{made.root}\n".encode()),
    ]
    for path, body in puts:
        assert client.ask("PUT", "/" + path, body)[:2] == (405, b"this server is read-only\n")
        assert client.ask("DELETE", "/" + path)[0] == 405
        assert client.ask("POST", "/" + path, body)[0] == 405
    assert (addresses(store), store.pins(), store.missing_rows([row_key(row)])) == (
        before,
        {"runs/mnist": made.root},
        [row_key(row)],
    )


def test_writable_server_takes_only_what_is_right(writable: Client, other: Store, store: Store, made: Made) -> None:
    record = wire_record(store, made.row)
    row = store.get_blob(made.row)
    node = Node("note", {"refers": made.row})
    parent = store.put_node(node)
    refused = [
        (row_path(bytes(32)), row, 400),
        (row_path(row_key(row)), row + b"x", 400),
        (row_path(row_key(b"")), b"", 400),
        (row_path(row_key(row)), bytes(MIB + 1), 413),
        (record_path(made.row), encode_wire(record), 400),  # its row is not there
        (record_path(made.row), b"garbage", 400),
        (record_path(made.small), encode_wire(wire_record(store, made.row)), 400),
        (record_path(parent), encode_wire(wire_record(store, parent)), 400),  # what it refers to is not there
        (record_path(hash_blob(b"1")), encode({"inline": b"2", "kind": "blob", "size": 1}), 400),
        (pin_path("a"), f"{made.row}\n".encode(), 404),
        (pin_path("a"), b"nothing", 400),
    ]
    for path, body, expected in refused:
        status, data, _ = writable.ask("PUT", "/" + path, body)
        assert (status, data.count(b"\n")) == (expected, 1), data
    assert (addresses(other), other.pins()) == (set(), {})
    taken = [
        (row_path(made.row.raw), row),
        (record_path(made.row), encode_wire(record)),
        (record_path(parent), encode_wire(wire_record(store, parent))),
        (pin_path("a/b"), f"{parent}\n".encode()),
    ]
    for path, body in taken * 2:
        assert writable.ask("PUT", "/" + path.replace("%", "%25"), body)[:2] == (204, b"")
    assert (addresses(other), other.pins()) == ({made.row, parent}, {"a/b": parent})


def test_writable_server_refuses_what_is_no_node(writable: Client, other: Store) -> None:
    for encoded in (b"garbage", encode(["note", 1]), encode(["NOTE", {}])):
        body = encode({"inline": encoded, "kind": "node", "size": len(encoded)})
        status, data, _ = writable.ask("PUT", "/" + record_path(hash_node(encoded)), body)
        assert (status, b"not a node" in data) == (400, True)
    assert addresses(other) == set()


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 2 * MIB + 1),
        ("bytes=5-9", 5, 10),
        (f"bytes={MIB - 1}-{MIB}", MIB - 1, MIB + 1),
        (f"bytes={MIB}-{2 * MIB - 1}", MIB, 2 * MIB),
        (f"bytes={2 * MIB}-", 2 * MIB, 2 * MIB + 1),
        (f"bytes={2 * MIB}-{99 * MIB}", 2 * MIB, 2 * MIB + 1),
        ("bytes=-1", 2 * MIB, 2 * MIB + 1),
        (f"bytes=-{99 * MIB}", 0, 2 * MIB + 1),
    ],
)
def test_ranges_of_a_blob(client: Client, store: Store, made: Made, asked: str, start: int, stop: int) -> None:
    whole = store.get_blob(made.rows)
    status, data, headers = client.ask("GET", f"/blobs/{made.rows}", headers={"range": asked})
    assert (status, data == whole[start:stop]) == (206, True)
    assert headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
    assert headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("asked", [f"bytes={2 * MIB + 1}-", f"bytes={99 * MIB}-{100 * MIB}", "bytes=-0"])
def test_ranges_behind_the_end(client: Client, made: Made, asked: str) -> None:
    status, _, headers = client.ask("GET", f"/blobs/{made.rows}", headers={"range": asked})
    assert (status, headers["content-range"]) == (416, f"bytes */{2 * MIB + 1}")


@pytest.mark.parametrize(
    "asked", ["bytes=-", "bytes=5-4", "bytes=0-1,3-4", "rows=0-1", "bytes=a-b", "bytes=" + "9" * 99]
)
def test_ranges_that_are_none_give_the_whole(client: Client, store: Store, made: Made, asked: str) -> None:
    status, data, _ = client.ask("GET", f"/blobs/{made.rows}", headers={"range": asked})
    assert (status, hash_blob(data)) == (200, made.rows)


def test_blobs_of_every_size(client: Client, store: Store, made: Made) -> None:
    empty = store.put_blob(b"")
    for digest in (made.rows, made.row, made.small, empty):
        status, data, headers = client.ask("GET", f"/blobs/{digest}")
        assert (status, hash_blob(data), headers["etag"]) == (200, digest, f'"{digest}"')
        status, data, headers = client.ask("HEAD", f"/blobs/{digest}")
        assert (status, data, headers["content-length"]) == (200, b"", str(store.stat(digest).size_bytes))
    assert client.ask("GET", f"/blobs/{empty}", headers={"range": "bytes=0-"})[0] == 416
    assert (
        client.ask("GET", f"/blobs/{made.small}", headers={"range": "bytes=10-19"})[1]
        == store.get_blob(made.small)[10:20]
    )


def test_nodes_are_no_blobs(client: Client, made: Made) -> None:
    status, data, _ = client.ask("GET", f"/blobs/{made.root}")
    assert (status, b"node" in data) == (404, True)


@pytest.mark.parametrize("asked", [None, f"bytes={MIB}-"])
def test_damage_cuts_the_answer_short(client: Client, store: Store, made: Made, asked: str | None) -> None:
    key = wire_record(store, made.rows).row_keys[1]
    store.environment.write(lambda transaction: transaction.put("rows", key, bytes(MIB)))
    headers = {} if asked is None else {"range": asked}
    with pytest.raises((http.client.IncompleteRead, ConnectionError)) as caught:
        client.ask("GET", f"/blobs/{made.rows}", headers=headers)
    if asked is None and isinstance(caught.value, http.client.IncompleteRead):
        assert len(caught.value.partial) <= MIB


def test_errors_of_the_store_say_nothing_of_this_machine(client: Client, store: Store, made: Made) -> None:
    store.environment.write(lambda transaction: transaction.put("objects", made.small.raw, b"garbage"))
    status, data, _ = client.ask("GET", "/" + record_path(made.small))
    assert (status, str(made.small).encode() in data) == (500, True)
    store.close()
    for path in ("/" + record_path(made.root), f"/blobs/{made.rows}", "/pins.json"):
        status, data, _ = client.ask("GET", path)
        assert (status, data) == (500, b"the store can't be used\n")
    assert str(store.path).encode() not in data


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_downloads_and_resumes(client: Client, store: Store, made: Made, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(store.get_blob(made.rows)[: MIB + 7])
    command = ["curl", "-sS", "--fail", "--noproxy", "*", "-C", "-", "-o", str(file), f"{client.url}/blobs/{made.rows}"]
    subprocess.run(command, check=True, timeout=30, env={**os.environ})
    assert hash_blob(file.read_bytes()) == made.rows
    assert Digest.parse(str(made.rows)) == made.rows


def test_small_answers_do_not_wait(client: Client) -> None:
    """Header and body go out in two writes; without TCP_NODELAY the second waited 40 ms for the client's receipt."""
    connection = http.client.HTTPConnection(client.url.removeprefix("http://"), timeout=10)
    times = []
    for _ in range(15):
        started = time.monotonic()
        connection.request("GET", "/samebits-remote")
        connection.getresponse().read()
        times.append(time.monotonic() - started)
    connection.close()
    assert sorted(times)[7] < 0.03
