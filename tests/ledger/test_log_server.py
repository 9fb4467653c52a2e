"""The log over HTTP: paths, types, caching, and that nothing unsigned gets out."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger.log_places import serving_log
from tests.ledger.raw_logs import RawLog, raw_entry, raw_log

from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_source import HttpSource
from samebits.ledger.tiles import tiles_of

FOREVER = "public, max-age=31536000, immutable"


@pytest.fixture
def log(tmp_path: Path) -> RawLog:
    """A log that was published at 200 and at 300 entries."""
    made = raw_log(tmp_path, 200, 300)
    (made.directory / "log.key").write_text("secret")
    return made


@pytest.fixture
def url(log: RawLog) -> Iterator[str]:
    with serving_log(log.directory) as served:
        yield served


def ask(url: str, path: str, method: str = "GET") -> tuple[int, bytes, http.client.HTTPMessage]:
    """Send a request; the path is sent as it is."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    with closing(connection):
        connection.putrequest(method, path)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def test_server_gives_out_every_file_of_the_log(url: str, log: RawLog) -> None:
    for tile in tiles_of(300):
        status, data, headers = ask(url, "/" + tile.path)
        assert (status, data) == (200, (log.directory / tile.path).read_bytes())
        assert headers["content-type"] == "application/octet-stream"
        assert headers["cache-control"] == FOREVER
        assert ask(url, "/" + tile.path, "HEAD")[0] == 200
    status, data, headers = ask(url, "/checkpoint")
    assert (status, data) == (200, log.note)
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    status, data, headers = ask(url, "/log.pub")
    assert (status, data) == (200, f"{log.key.verifier.vkey}\n".encode())


@pytest.mark.parametrize("level", ["0", "entries"])
def test_server_gives_out_partial_tiles_of_older_sizes(url: str, log: RawLog, level: str) -> None:
    """Their files may be gone: what they held is in the full ones."""
    whole = ask(url, f"/tile/{level}/000")[1]
    status, part, headers = ask(url, f"/tile/{level}/000.p/200")
    assert (status, headers["cache-control"]) == (200, FOREVER)
    assert len(part) == (200 * 32 if level == "0" else sum(2 + len(raw_entry(index)) for index in range(200)))
    assert whole.startswith(part)


NOT_THERE = """/tile/0/001 /tile/0/001.p/45 /tile/0/002 /tile/0/002.p/1 /tile/1/000 /tile/1/000.p/2 /tile/2/000.p/1
    /tile/2/000 /tile/entries/001.p/45 /tile/0 /tile/ /tile /tile/0/0 /tile/8/0/000 /tile/0/../../log.key
    /tile/0/%2e%2e/x /tile/%2e%2e/log.key /tile/..%2flog.key /log.key /lock /checkpoint/ /checkpoint.new
    /tile/0/000/ /"""


@pytest.mark.parametrize("path", NOT_THERE.split())
def test_server_has_nothing_else(url: str, log: RawLog, path: str) -> None:
    status, data, headers = ask(url, path)
    assert (status, b"secret" in data) == (404, False)
    assert "immutable" not in (headers["cache-control"] or "")


def test_server_keeps_what_was_never_signed_to_itself(url: str, log: RawLog) -> None:
    with pytest.raises(ZeroDivisionError):
        log.append([b"never"] * 300, lambda _size, _root: b"%d" % (1 // 0))
    (log.directory / "tile/0/001.p/43").write_bytes(b"\xff" * 43 * 32)  # left over from a crash at 256
    assert (log.directory / "tile/0/001").exists()
    for path in ("/tile/0/001", "/tile/0/002.p/88", "/tile/entries/001", "/tile/1/000.p/2"):
        assert ask(url, path)[0] == 404
    signed = (log.directory / "tile/0/001.p/44").read_bytes()
    assert ask(url, "/tile/0/001.p/43")[:2] == (200, signed[: 43 * 32])


@pytest.mark.parametrize("checkpoint", [None, b"", b"samebits.local/log/x\n300\n", b"x" * 1_000_001, "folder"])
def test_server_gives_out_no_tiles_without_a_checkpoint(url: str, log: RawLog, checkpoint: bytes | str | None) -> None:
    """What files there are says nothing of what was signed."""
    path = log.directory / "checkpoint"
    path.unlink()
    if isinstance(checkpoint, bytes):
        path.write_bytes(checkpoint)
    elif checkpoint is not None:
        path.mkdir()
    wanted = 404 if checkpoint is None or (isinstance(checkpoint, bytes) and len(checkpoint) < 1_000_000) else 500
    for name in ("tile/0/000", "tile/0/001.p/44", "tile/entries/000", "tile/entries/001.p/44", "tile/1/000.p/1"):
        status, data, headers = ask(url, f"/{name}")
        assert (status, data.count(b"\n"), headers["cache-control"]) == (wanted, 1, "no-cache")


def test_server_takes_nothing(url: str) -> None:
    for path in ("/checkpoint", "/tile/0/000", "/log.pub"):
        for method in ("PUT", "POST", "DELETE"):
            assert ask(url, path, method)[0] == 405


def test_server_starts_before_the_log(tmp_path: Path) -> None:
    with serving_log(tmp_path / "log") as url:
        for path in ("/checkpoint", "/tile/0/000", "/log.pub"):
            assert ask(url, path)[0] == 404
        log = raw_log(tmp_path, 0, 3)
        assert ask(url, "/checkpoint")[1] == log.note
        log.grow(5)
        assert ask(url, "/checkpoint")[1] == log.note
        assert ask(url, "/tile/0/000.p/5")[0] == 200


def test_server_says_nothing_of_its_disk(url: str, log: RawLog) -> None:
    (log.directory / "tile/0/000").unlink()
    (log.directory / "tile/0/000").mkdir()
    assert ask(url, "/tile/0/000")[:2] == (500, b"the log can't be read\n")
    (log.directory / "tile/0/001.p/44").unlink()
    assert ask(url, "/tile/0/001.p/44")[:2] == (500, b"the log can't be read\n")


def test_reader_over_the_server(url: str, log: RawLog) -> None:
    with closing(HttpSource(url)) as source:
        reader = TileReader(source, log.checkpoint)
        assert list(reader.entries()) == [raw_entry(index) for index in range(300)]
