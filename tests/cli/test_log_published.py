"""`samebits log verify URL`: a log that is published over HTTP, by `samebits serve` and by servers that lie."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.cli.test_commands import samebits_command
from tests.cli.test_remote_commands import serve
from tests.exec.small_job import make_job
from tests.serving import serving_app
from typer.testing import CliRunner, Result

import samebits
from samebits.cas import Store
from samebits.cas.digest import hash_blob, hash_node
from samebits.cli.log_published import audit_url
from samebits.cli.main import app
from samebits.cli.output import CommandError
from samebits.ledger import Log, RunBody, SegmentBody, SigningKey, encode_entry, sign_entry
from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.logkey import log_origin
from samebits.ledger.tiles import TreeEdge, decode_hashes, edge_tiles, grow

SEED = bytes(range(32))
KEY = SigningKey(log_origin(SigningKey("x", SEED).public), SEED)
AUTHOR = SigningKey("runner.example", bytes(range(32, 64)))
Files = dict[str, bytes]


@contextmanager
def serving_files(files: Files, delay_s: float = 0.0) -> Iterator[str]:
    """Serve files as any web server does, each after a delay."""

    async def answer(request: Request) -> Response:
        await asyncio.sleep(delay_s)
        data = files.get(request.path_params["path"])
        return Response("", 404) if data is None else Response(data, media_type="application/octet-stream")

    with serving_app(Starlette(routes=[Route("/{path:path}", answer)])) as url:
        yield url


def publish(entries: list[bytes], key: SigningKey = KEY) -> Files:
    """Return the files of a log of these entries, whatever they say, signed by its key."""
    edge, tiles = grow(TreeEdge(), entries)
    files = {tile.path: data for tile, data in tiles.items()}
    files["checkpoint"] = sign_checkpoint(Checkpoint(key.name, edge.tree_size, edge.root_hash()), key).encode()
    return files | {"log.pub": f"{key.verifier.vkey}\n".encode()}


def segment(run: bytes, prev: bytes, step: int, key: SigningKey = AUTHOR, commits: bytes = b"commits") -> bytes:
    """Return an encoded segment of one step."""
    before, after = (hash_blob(b"state %d" % at) for at in (step, step + 1))
    body = SegmentBody(hash_node(run), step, step + 1, before, after, hash_blob(commits), bytes(32), "numpy", ())
    return encode_entry(sign_entry(KEY.name, hash_node(prev), body, key, time=1))


def run_entries(count: int, job: bytes = b"job") -> list[bytes]:
    """Return a run with its segments, each of one step."""
    body = RunBody(hash_blob(job), bytes(16), 10_000, 1, 1)
    entries = [encode_entry(sign_entry(KEY.name, None, body, AUTHOR, time=1))]
    while len(entries) < count:
        entries.append(segment(entries[0], entries[-1], len(entries) - 1))
    return entries


def verify(*arguments: object, code: int = 0) -> Result:
    """Run `samebits log verify ARGUMENTS` in this process and check its exit code."""
    done = CliRunner().invoke(app, ["log", "verify", *map(str, arguments)])
    assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr)
    return done


def fields(*arguments: object) -> dict[str, object]:
    """Return what the command prints as JSON."""
    found: dict[str, object] = json.loads(verify(*arguments, "--json").stdout)
    return found


def refusal(*arguments: object) -> str:
    """Return the one line with which the command ends."""
    done = verify(*arguments, code=2)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), (done.stdout, done.stderr)
    assert "internal error" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def entries() -> list[bytes]:
    """A bundle, and a part of one."""
    return run_entries(300)


def test_a_served_log_is_verified_as_the_store_itself_is(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path) as store:
        samebits.run(make_job(), store, checkpoint_every=10)
        with Log.open(path / "ledger", read_only=True) as log:
            (tmp_path / "old").write_text(log.checkpoint())
        run = samebits.run(make_job(), store, checkpoint_every=25).address
        samebits.verify(run, store)
        vkey = log.verifier.vkey
    own = fields("--store", path)
    assert own["verdicts"] == 1
    with serve("--store", path) as url:
        said = fields(url)
        assert said == {**own, "log_key": vkey, "is_key_known": False}
        known = ("--log-key", path / "ledger" / "log.pub", "--against", tmp_path / "old")
        wanted = {**own, "log_key": vkey, "is_key_known": True, "goes on from": 1}
        assert fields(url + "/", *known) == wanted
        (tmp_path / "policy").write_text(f"log {vkey}\nquorum none\n")
        assert fields(url, "--policy", tmp_path / "policy")["is_key_known"] is True
        assert "has the key" in refusal(url, "--log-key", KEY.verifier.vkey)
        assert "(as the server says" in verify(url).stdout


def test_a_log_of_several_bundles_is_read_from_any_web_server(entries: list[bytes]) -> None:
    with serving_files(publish(entries)) as url:
        found = fields(url)
    assert (found["entries"], found["runs"], found["segments"]) == (300, 1, 299)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tile/entries/000", "entry 3 is not the one that was signed"),
        ("tile/entries/001.p/44", "entry 259 is not the one that was signed"),
        ("tile/0/000", "its hashes are not those that were signed"),
        ("tile/0/001.p/44", "not what the checkpoint of 300 entries says"),
        ("tile/1/000.p/1", "not what the checkpoint of 300 entries says"),
    ],
)
def test_a_file_that_was_not_signed_is_named(entries: list[bytes], name: str, message: str) -> None:
    files = publish(entries)
    changed = [*entries]
    for index in (3, 259):
        changed[index] = segment(entries[0], entries[index - 1], 5000)
    _, lies = grow(TreeEdge(), changed)
    files[name] = {tile.path: data for tile, data in lies.items()}[name]
    with serving_files(files) as url:
        line = refusal(url)
    assert message in line and url in line


@pytest.mark.parametrize("name", ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"])
def test_a_file_that_is_missing_is_named(entries: list[bytes], name: str) -> None:
    files = publish(entries)
    del files[name]
    with serving_files(files) as url:
        assert f"{name}: missing" in refusal(url)


def test_what_the_logs_own_key_signed_wrongly_is_found(entries: list[bytes]) -> None:
    """The tree is right, so only the entries themselves tell."""
    fork = segment(entries[0], entries[4], 4, commits=b"other commits")
    by_another = segment(entries[0], entries[-1], 299, SigningKey("stranger.example", bytes(range(64, 96))))
    unsigned = segment(entries[0], entries[-1], 299).replace(b"numpy", b"Numpy")
    with serving_files(publish([*entries[:10], fork, *entries[10:], by_another, unsigned])) as url:
        done = verify(url, code=2)
    found = [line.partition(" (run")[0] for line in done.stderr.splitlines()]
    assert found == ["samebits: entry 10", "samebits: entry 301", "samebits: entry 302"], done.stderr


def test_a_rewritten_log_is_proved_by_a_checkpoint_that_was_kept(entries: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(publish(entries[:280])["checkpoint"])
    with serving_files(publish(entries)) as url:
        assert fields(url, "--against", tmp_path / "kept")["goes on from"] == 1
    with serving_files(publish(run_entries(290, b"another job"))) as url:
        done = verify(url, "--against", tmp_path / "kept", code=2)
    assert "a fork: the first 280 entries" in done.stderr


def test_checkpoint_and_key_must_be_the_logs_own(entries: list[bytes]) -> None:
    seed = bytes(range(1, 33))
    stranger = SigningKey(log_origin(SigningKey("x", seed).public), seed)
    files = publish(entries[:5])
    cases: list[tuple[Files, str]] = [
        ({"log.pub": f"{stranger.verifier.vkey}\n".encode()}, "not"),
        ({"log.pub": b"\xff\xfe"}, "not UTF-8"),
        ({"log.pub": f"{AUTHOR.verifier.vkey}\n".encode()}, "is not the origin of a log with the key"),
        ({"checkpoint": files["checkpoint"].replace(b"\n5\n", b"\n4\n")}, "does not verify"),
        ({"checkpoint": b"x" * (2 << 20)}, "more than"),
    ]
    for changed, message in cases:
        with serving_files(files | changed) as url:
            line = refusal(url)
            assert message in line and url in line


def test_a_log_that_is_too_long_is_refused_before_its_entries_are_read() -> None:
    size = 1_000_001
    files = {tile.path: os.urandom(32 * tile.width) for tile in edge_tiles(size)}
    levels = {tile.level: tuple(decode_hashes(tile, files[tile.path])) for tile in edge_tiles(size)}
    root = TreeEdge(size, tuple(levels.get(level, ()) for level in range(8))).root_hash()
    files["checkpoint"] = sign_checkpoint(Checkpoint(KEY.name, size, root), KEY).encode()
    files["log.pub"] = f"{KEY.verifier.vkey}\n".encode()
    with serving_files(files) as url:
        assert "has 1000001 entries, more than the 1000000" in refusal(url)


def test_entries_are_read_up_to_a_bound_in_bytes(entries: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    size_bytes = sum(map(len, entries))
    with serving_files(publish(entries)) as url:
        monkeypatch.setattr("samebits.ledger.published_log.MAX_AUDITED_SIZE_BYTES", size_bytes)
        assert audit_url(url, None, {}).audit.is_ok
        monkeypatch.setattr("samebits.ledger.published_log.MAX_AUDITED_SIZE_BYTES", size_bytes - 1)
        with pytest.raises(CommandError, match=f"{url}: the log's entries have more than {size_bytes - 1} bytes"):
            audit_url(url, None, {})


def test_the_time_limit_ends_a_server_that_takes_its_time(entries: list[bytes]) -> None:
    with serving_files(publish(entries), delay_s=1.0) as url:
        done = samebits_command("log", "verify", url, "--max-seconds", 2, code=2)
    assert done.stderr == "samebits: stopped after the 2 s that --max-seconds allows\n"


def test_what_is_no_log_is_said_in_one_line(tmp_path: Path) -> None:
    with serving_files({}) as url:
        assert f"{url}: there is no log here" in refusal(url)
    assert "want the http(s):// URL" in refusal(str(tmp_path))
    assert "can't connect" in refusal("http://127.0.0.1:9")
    assert "--store names another log" in refusal("http://localhost:1", "--store", tmp_path)
    assert "--log-key goes with a URL" in refusal("--log-key", KEY.verifier.vkey, "--store", tmp_path)
