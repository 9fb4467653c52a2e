"""Remotes that lie, stall and never end: each is found out at the first bad row, named, and nothing becomes visible."""

from __future__ import annotations

import http.server
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.cas.remote_places import MIB, Made, QuietHandler, addresses, make_objects, serving_files

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.encoding import encode
from samebits.cas.errors import BadRowError, ObjectNotFoundError, RemoteError
from samebits.cas.reachable import check_objects
from samebits.cas.remotes import open_remote
from samebits.cas.remotes.http import open_http
from samebits.cas.remotes.layout import pin_path, record_path, row_path
from samebits.cas.store import Store
from samebits.cas.transfer import clone, pull, push
from samebits.cas.wire import wire_record

Lie = Callable[[http.server.BaseHTTPRequestHandler, bytes], None]
TIMEOUT_S = 1.0  # for who is slow on purpose; all others have time, however busy the machine is


def send(data: bytes, status: int = 200, **headers: str) -> Lie:
    """Answer with these bytes."""

    def lie(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
        handler.send_response(status)
        for name, value in {"content_length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return lie


def changed(change: Callable[[bytes], bytes]) -> Lie:
    """Answer with a change of the true bytes."""
    return lambda handler, truth: send(change(truth))(handler, truth)


def endless(chunked: bool) -> Lie:
    """Answer without end."""

    def lie(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header(*(("transfer-encoding", "chunked") if chunked else ("content-type", "x/y")))
        handler.end_headers()
        block = b"10000\r\n" + bytes(1 << 16) + b"\r\n" if chunked else bytes(1 << 16)
        for _ in range(4000):
            handler.wfile.write(block)

    return lie


def stall(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
    """Say nothing for long."""
    time.sleep(4 * TIMEOUT_S)


def stall_within(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
    """Stop in the middle."""
    handler.send_response(200)
    handler.send_header("content-length", str(len(truth)))
    handler.end_headers()
    handler.wfile.write(truth[: len(truth) // 2])
    time.sleep(4 * TIMEOUT_S)


def trickle(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
    """Send a byte now and then, each well within the timeout."""
    handler.send_response(200)
    handler.send_header("content-length", str(len(truth)))
    handler.end_headers()
    for number in range(100):
        handler.wfile.write(truth[number : number + 1])
        time.sleep(TIMEOUT_S / 8)


def trickle_headers(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
    """Send headers without end, slowly."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    for number in range(100):
        handler.wfile.write(b"x-%d: 1\r\n" % number)
        time.sleep(TIMEOUT_S / 8)


def many_headers(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
    """Send more headers than anyone needs."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + b"x: 1\r\n" * 100_000)


def hang_up(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
    """Close the connection."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def end_early(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
    """Promise all, and send a part."""
    handler.send_response(200)
    handler.send_header("content-length", str(len(truth)))
    handler.end_headers()
    handler.wfile.write(truth[:-1])


def not_http(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
    """Speak something else."""
    handler.wfile.write(b"\x00\xff\r\n" * 100)


@dataclass
class Host:
    """A file server over a remote, that lies about the paths in `lies`."""

    url: str
    made: Made
    source: Store
    lies: dict[str, Lie] = field(default_factory=dict)

    def row(self, digest: Digest, index: int) -> str:
        """Return the path of an object's row."""
        return "/" + row_path(wire_record(self.source, digest).row_keys[index])


@pytest.fixture
def host(tmp_path: Path, store: Store) -> Iterator[Host]:
    made = make_objects(store)
    writer = open_remote(str(tmp_path / "remote"), create=True)
    push(store, writer, [made.root])
    writer.write_pin("root", made.root)

    class Liar(QuietHandler):
        def do_GET(self) -> None:
            if self.path not in opened.lies:
                super().do_GET()
                return
            file = tmp_path / "remote" / self.path[1:]
            with suppress(OSError):
                opened.lies[self.path](self, file.read_bytes() if file.is_file() else b"")
            self.close_connection = True

    with serving_files(tmp_path / "remote", Liar) as url:
        opened = Host(url, made, store)
        yield opened


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "target") as opened:
        yield opened


def patience_s(reason: str) -> float:
    """Return the timeout to ask a liar with: little for one that is to be found too slow."""
    return TIMEOUT_S if "too slow" in reason else 30.0


ROW_LIES: list[tuple[str, Lie, str]] = [
    ("other bytes", send(b"x" * MIB), "does not have its hash"),
    ("a flipped bit", changed(lambda row: row[:-1] + bytes([row[-1] ^ 1])), "does not have its hash"),
    ("nothing", send(b""), "has 0 bytes, not 1048576"),
    ("too short", changed(lambda row: row[:-1]), "has 1048575 bytes, not 1048576"),
    ("too long", changed(lambda row: row + b"x"), "has more than 1048576 bytes"),
    ("endless", endless(chunked=False), "has more than 1048576 bytes"),
    ("endless in chunks", endless(chunked=True), "has more than 1048576 bytes"),
    ("a stall", stall, "too slow"),
    ("a stall within", stall_within, "too slow"),
    ("a trickle", trickle, "too slow"),
    ("a trickle of headers", trickle_headers, "too slow"),
    ("too many headers", many_headers, "the connection broke"),
    ("an end", hang_up, "the connection broke"),
    ("an early end", end_early, "the connection broke: the answer ended 1 bytes early"),
    ("something else", not_http, "the connection broke"),
    ("a redirect", send(b"", 302, location="http://127.0.0.1:1/elsewhere"), "redirects .* to 'http://127.0.0.1:1/else"),
    ("not found", send(b"", 404), "has no row"),
    ("a failure", send(b"out of order\nsecond line", 500), "status 500: out of order$"),
    ("a part", send(b"x", 206), "status 206"),
]


@pytest.mark.parametrize(("lie", "reason"), [pytest.param(lie, why, id=name) for name, lie, why in ROW_LIES])
def test_pull_names_the_bad_row(
    host: Host, target: Store, lie: Lie, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samebits.cas.remotes.http_client._RETRY_AFTER_S", (0.01, 0.01))
    host.lies[host.row(host.made.rows, 1)] = lie
    started = time.monotonic()
    with closing(open_http(host.url, timeout_s=patience_s(reason))) as remote:
        with pytest.raises(RemoteError, match=f"remote {host.url}: row 1 of object {host.made.rows}:? .*{reason}"):
            pull(remote, target, [host.made.root])
        assert time.monotonic() - started < 8 * TIMEOUT_S
        assert addresses(target).isdisjoint({host.made.rows, host.made.left, host.made.wide, host.made.root})
    host.lies.clear()
    with closing(open_http(host.url)) as remote:
        pull(remote, target, [host.made.root])
    assert check_objects(target, [host.made.root]) == (6, [])


RECORD_LIES: list[tuple[str, Lie, str]] = [
    ("nothing", send(b""), "does not decode"),
    ("garbage", send(b"\xc1" * 100), "does not decode"),
    ("a node in its record", send(encode({"inline": b"hello", "kind": "node", "size": 5})), "address"),
    ("a small blob", send(encode({"inline": b"hello", "kind": "blob", "size": 5})), "address"),
    ("another row", send(encode({"kind": "blob", "rows": bytes(32), "size": 20_000})), "address"),
    ("other rows", send(encode({"kind": "blob", "rows": bytes(64), "size": 2 * MIB, "subtrees": bytes(64)})), "addr"),
    ("a stall", stall, "too slow"),
    ("an early end", end_early, "the connection broke"),
]


@pytest.mark.parametrize("which", ["root", "rows", "small"])
@pytest.mark.parametrize(("lie", "reason"), [pytest.param(lie, why, id=name) for name, lie, why in RECORD_LIES])
def test_pull_names_the_bad_record(
    host: Host, target: Store, lie: Lie, reason: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samebits.cas.remotes.http_client._RETRY_AFTER_S", (0.01, 0.01))
    digest: Digest = getattr(host.made, which)
    host.lies["/" + record_path(digest)] = lie
    with closing(open_http(host.url, timeout_s=patience_s(reason))) as remote:
        with pytest.raises(RemoteError, match=f"remote {host.url}: .*{reason}") as caught:
            pull(remote, target, [host.made.root])
        assert str(digest)[2:] in str(caught.value)
    assert addresses(target).isdisjoint({digest, host.made.root})


def test_pull_refuses_rows_in_another_order(host: Host, target: Store) -> None:
    """The subtree values are those of the address; the keys of the rows are changed around."""
    digest, record = host.made.rows, wire_record(host.source, host.made.rows)
    keys = b"".join((record.row_keys[1], record.row_keys[0], record.row_keys[2]))
    body = encode({"kind": "blob", "rows": keys, "size": record.size_bytes, "subtrees": b"".join(record.subtrees)})
    host.lies["/" + record_path(digest)] = send(body)
    for _ in range(2):  # the second time with the rows in the store
        with closing(open_http(host.url)) as remote, pytest.raises(BadRowError, match=f"row 0 of object {digest}"):
            pull(remote, target, [digest])
        push(host.source, open_remote(str(target.path), writable=True), [host.made.row])
        for index in range(2):
            target.put_blob(host.source.get_blob(digest)[index * MIB : (index + 1) * MIB])
    assert digest not in addresses(target)


def test_pull_refuses_a_node_of_other_rows(host: Host, target: Store) -> None:
    record = wire_record(host.source, host.made.rows)
    body = encode({"kind": "node", "rows": b"".join(record.row_keys), "size": record.size_bytes})
    host.lies["/" + record_path(host.made.wide)] = send(body)
    with closing(open_http(host.url)) as remote, pytest.raises(RemoteError, match=f"object {host.made.wide} do not"):
        pull(remote, target, [host.made.root])
    assert host.made.wide not in addresses(target)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b'{"a": 1}', b'{"a": "zz"}', b'{"": "%s"}' % (b"0" * 64), b"[" * 100_000, b'{"a\\n": "00"}'],
)
def test_clone_refuses_malformed_pins(host: Host, target: Store, body: bytes) -> None:
    host.lies["/pins.json"] = send(body)
    with closing(open_http(host.url)) as remote, pytest.raises(RemoteError, match="pins are malformed"):
        clone(remote, target)


@pytest.mark.parametrize("body", [b"", b"samebits remote 2\n", b"samebits remote 1\nmore", b"<html>"])
def test_open_refuses_what_is_no_remote(host: Host, body: bytes) -> None:
    host.lies["/samebits-remote"] = send(body)
    with pytest.raises(RemoteError, match="not a samebits remote"):
        open_http(host.url)


def test_static_host_that_says_it_is_a_server_is_refused(host: Host, target: Store) -> None:
    host.lies["/samebits-remote"] = send(b"samebits remote 1\n", samebits_server="1")
    with closing(open_http(host.url)) as remote, pytest.raises(RemoteError, match="status 501"):
        pull(remote, target, [host.made.root])


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0", b"\0\0\0\5abcd", b"\xff\xff\xff\xff", b"\0\0\0\1a" * 2, b"\0\0\0\1a", b"\0\0\0\0", b"x" * 100],
)
def test_framed_answers_are_checked(tmp_path: Path, target: Store, body: bytes) -> None:
    class Liar(QuietHandler):
        def do_GET(self) -> None:
            send(b"samebits remote 1\n", samebits_server="1")(self, b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            send(body)(self, b"")

    digest = hash_blob(b"1")
    with serving_files(tmp_path, Liar) as url, closing(open_http(url)) as remote:
        with pytest.raises(Exception, match=url) as caught:
            pull(remote, target, [digest])
        assert not isinstance(caught.value, AssertionError)
        if len(body) % 32 or len(body) > 32:
            with pytest.raises(RemoteError, match=url):
                remote.missing([digest])
    assert addresses(target) == set()


def test_connection_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(RemoteError, match="can't connect"):
        open_http(f"http://127.0.0.1:{port}")
    with pytest.raises(RemoteError, match="can't connect"):
        open_http("http://nowhere.invalid")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and never answers
        started = time.monotonic()
        with pytest.raises(RemoteError, match="too slow"):
            open_http(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=TIMEOUT_S)
        assert time.monotonic() - started < 5 * TIMEOUT_S


def test_requests_are_tried_again(host: Host, target: Store) -> None:
    left = [2]

    def sometimes(handler: http.server.BaseHTTPRequestHandler, truth: bytes) -> None:
        left[0] -= 1
        (hang_up if left[0] == 1 else send(b"busy", 503) if left[0] == 0 else send(truth))(handler, truth)

    host.lies[host.row(host.made.rows, 1)] = sometimes
    with closing(open_http(host.url)) as remote:
        pull(remote, target, [host.made.root])
    assert left == [-1]


def test_close_ends_requests_of_other_threads(host: Host) -> None:
    host.lies[host.row(host.made.row, 0)] = stall
    remote = open_http(host.url, timeout_s=60)
    failures: list[BaseException] = []

    def read() -> None:
        try:
            remote.read_row(host.made.row.raw, MIB)
        except RemoteError as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.2)
    started = time.monotonic()
    remote.close()
    thread.join(10)
    assert time.monotonic() - started < 3 * TIMEOUT_S  # the stall is longer
    assert len(failures) == 1
    with pytest.raises(RemoteError, match="closed"):
        remote.read_row(host.made.row.raw, MIB)


def test_memory_stays_bounded_with_an_endless_record(host: Host, target: Store) -> None:
    """A record has an end, too: 64 MiB. What comes behind that is not read."""
    host.lies["/" + record_path(host.made.small)] = endless(chunked=True)
    with (
        closing(open_http(host.url)) as remote,
        pytest.raises(RemoteError, match=r"record of object \w+ has more than"),
    ):
        pull(remote, target, [host.made.small])


def test_any_changed_bit_of_a_directory_is_found(tmp_path: Path, store: Store) -> None:
    """But for `pins.json`, which only readers that can't list use."""
    made, path = make_objects(store), tmp_path / "remote"
    writer = open_remote(str(path), create=True)
    push(store, writer, [made.root])
    writer.write_pin("root", made.root)
    files = sorted(found for found in path.rglob("*") if found.is_file() and found.name != "pins.json")
    source = random.Random(7)
    for number, file in enumerate(files * 2):
        intact = file.read_bytes()
        data = bytearray(intact)
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        file.write_bytes(data)
        with Store(tmp_path / f"target {number}") as target:
            with pytest.raises((RemoteError, ObjectNotFoundError)):
                clone(open_remote(str(path)), target)
            assert made.root not in addresses(target)
            assert all(check_objects(target, [digest])[1] == [] for digest in addresses(target))
        file.write_bytes(intact)


@pytest.mark.parametrize("which", ["pipe", "folder", "empty"])
def test_directory_with_something_else_in_a_rows_place(tmp_path: Path, store: Store, target: Store, which: str) -> None:
    made = make_objects(store)
    remote = open_remote(str(tmp_path / "remote"), create=True)
    push(store, remote, [made.root])
    file = tmp_path / "remote" / row_path(made.row.raw)
    file.unlink()
    if which == "pipe":
        os.mkfifo(file)
    elif which == "folder":
        file.mkdir()
    else:
        file.touch()
    with pytest.raises(RemoteError, match=f"row 0 of object {made.row}"):
        pull(remote, target, [made.root])


@pytest.mark.parametrize("name", ["%2E%2e", "..%2f", "a%2fb", "%00", "%", "%zz", "\udcff", "x" * 250, ".DS_Store"])
def test_directory_with_other_files_among_its_pins(tmp_path: Path, store: Store, name: str) -> None:
    made = make_objects(store)
    remote = open_remote(str(tmp_path / "remote"), create=True)
    push(store, remote, [made.root])
    remote.write_pin("a", made.root)
    (tmp_path / "remote" / "pins" / name).write_bytes(f"{made.small}\n".encode())
    assert set(remote.pins()) - {"x" * 250} == {"a"}


def test_directory_with_a_pin_that_names_nothing(tmp_path: Path, store: Store) -> None:
    remote = open_remote(str(tmp_path / "remote"), create=True)
    made = make_objects(store)
    push(store, remote, [made.root])
    remote.write_pin("a", made.root)
    (tmp_path / "remote" / pin_path("a")).write_bytes(b"nothing")
    with pytest.raises(RemoteError, match="pin 'a'"):
        remote.pins()
