"""`cas push`, `pull`, `clone` and `serve` as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.cas.remote_places import addresses, make_objects
from typer.testing import CliRunner, Result

from samebits.cas import Digest, Node, Store
from samebits.cli.main import app
from samebits.ledger import Log, RunBody, SigningKey, decode_entry, open_checkpoint, sign_entry
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_source import HttpSource


def cas(*arguments: object, code: int = 0) -> Result:
    """Run `samebits cas ARGUMENTS` in this process and check its exit code."""
    done = CliRunner().invoke(app, ["cas", *map(str, arguments)])
    assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr)
    if code:
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert "internal error" not in done.stderr
    return done


@contextmanager
def serve(*arguments: object) -> Iterator[str]:
    """Run `samebits serve` in a process of its own; yields the URL that it prints."""
    command = [sys.executable, "-m", "samebits.cli", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), (line, process.poll())
        yield line.strip()
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert "Traceback" not in error


@pytest.fixture
def source(tmp_path: Path) -> Iterator[tuple[Path, Digest]]:
    with Store(tmp_path / "source") as store:
        made = make_objects(store)
        store.pin("runs/one", made.root)
    yield tmp_path / "source", made.root


def test_push_pull_and_clone_through_a_directory(tmp_path: Path, source: tuple[Path, Digest]) -> None:
    store, root = source
    remote, target = tmp_path / "remote", tmp_path / "target"
    done = cas("push", remote, "runs/one", "--pin", "there", "--store", store)
    assert done.stdout.startswith("pushed 6 objects, 6 rows, ")
    report = json.loads(cas("pull", remote, root, "--pin", "here", "--store", target, "--json").stdout)
    assert (report["objects"], report["rows"], report["roots"]) == (6, 6, [str(root)])
    with Store(target) as opened:
        assert (len(addresses(opened)), opened.pins()) == (6, {"here": root})
    done = cas("clone", remote, tmp_path / "clone")
    assert done.stdout.splitlines()[1] == f"{root}  there"
    report = json.loads(cas("clone", remote, "--store", target, "--json").stdout)
    assert (report["objects"], report["skipped_objects"], report["pins"]) == (0, 6, {"there": str(root)})


def test_pull_takes_the_beginning_of_an_address_that_is_pinned(tmp_path: Path, source: tuple[Path, Digest]) -> None:
    store, root = source
    with Store(store, read_only=True) as opened:
        inner = next(info.digest for info in opened.objects() if info.digest != root)
    cas("push", tmp_path / "remote", "runs/one", "--pin", "there", "--store", store)
    for text in (str(root)[:8], str(root)[:63]):
        target = tmp_path / f"target {len(text)}"
        report = json.loads(cas("pull", tmp_path / "remote", text, "--store", target, "--json").stdout)
        assert report["roots"] == [str(root)]
        with Store(target) as opened:
            assert opened.pins() == {f"kept/{root}": root}
    for text in (str(root)[:7], str(inner)[:8], "0" * 8):
        said = cas("pull", tmp_path / "remote", text, "--store", tmp_path / "none", code=2).stderr
        assert "is neither an address" in said if len(text) < 8 else f"has pinned begins with {text}" in said


def test_serve_gives_out_and_takes_in(tmp_path: Path, source: tuple[Path, Digest]) -> None:
    store, root = source
    with serve("--store", store) as url:
        cas("pull", url, "runs/one", "--store", tmp_path / "target")
        with Store(store) as opened:
            new = opened.put_node(Node("new", {"root": root}))
        cas("pull", url, new, "--store", tmp_path / "target")
        assert "read-only" in cas("push", url, new, "--pin", "x", "--store", tmp_path / "target", code=2).stderr
    with serve("--store", tmp_path / "other", "--writable") as url:
        cas("push", url, new, "--pin", "x", "--store", tmp_path / "target")
    with Store(tmp_path / "other") as opened:
        assert (len(addresses(opened)), opened.pins()) == (7, {"x": new})


def test_bad_input_is_one_line(tmp_path: Path, source: tuple[Path, Digest]) -> None:
    store, root = source
    cas("push", tmp_path / "remote", root, "--store", store)
    gone = "ab" * 32
    cases: list[tuple[str, tuple[object, ...]]] = [
        ("not an address", ("push", tmp_path / "remote", "nothing", "--store", store)),
        ("neither an address", ("pull", tmp_path / "remote", "nothing", "--store", store)),
        (gone, ("push", tmp_path / "remote", gone, "--store", store)),
        (gone, ("pull", tmp_path / "remote", gone, "--store", store)),
        ("only one", ("push", tmp_path / "remote", root, root, "--pin", "a", "--store", store)),
        ("pin name", ("push", tmp_path / "remote", root, "--pin", "", "--store", store)),
        ("no store", ("push", tmp_path / "remote", root, "--store", tmp_path / "nowhere")),
        ("no samebits remote", ("pull", tmp_path / "nowhere", root, "--store", store)),
        ("unknown kind", ("clone", "gopher://host", tmp_path / "clone")),
        ("can't connect", ("clone", "http://127.0.0.1:1", tmp_path / "clone")),
    ]
    cases += [
        (f"{gone} is not in remote {store}", ("pull", store, gone, "--store", tmp_path / "target")),
        ("neither an address", ("pull", store, gone[:7], "--store", tmp_path / "clone")),
        ("no address that", ("pull", store, gone[:8], "--store", tmp_path / "clone")),
    ]
    for reason, arguments in cases:
        assert reason in cas(*arguments, code=2).stderr
    assert not (tmp_path / "clone").exists()


def test_serve_says_what_is_wrong(tmp_path: Path, source: tuple[Path, Digest]) -> None:
    for arguments, reason in [
        (["--store", str(tmp_path / "nowhere")], "no store"),
        (["--store", str(source[0]), "--host", "no.such.host.invalid"], "can't listen"),
    ]:
        done = CliRunner().invoke(app, ["serve", *arguments])
        assert (done.exit_code, done.stdout) == (2, "")
        assert reason in done.stderr


def test_serve_without_its_packages_says_what_to_install(
    source: tuple[Path, Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(app, ["serve", "--port", "0", "--store", str(source[0])])
    assert done.exit_code == 2
    assert 'pip install "samebits[remote]"' in done.stderr


def test_names_travel(tmp_path: Path, source: tuple[Path, Digest]) -> None:
    store, root = source
    remote, target = tmp_path / "remote", tmp_path / "target"
    cas("push", remote, "runs/one", "--store", store)
    cas("pull", remote, "runs/one", "--store", target)
    with Store(target) as opened:
        assert opened.pins() == {"runs/one": root}
        other = opened.put_blob(b"other")
        opened.pin("runs/one", other)
    assert "--force" in cas("pull", remote, "runs/one", "--store", target, code=2).stderr
    cas("pull", remote, "runs/one", "--store", target, "--force")
    cas("pull", remote, root, "--store", target)
    with Store(target) as opened:
        assert opened.pins() == {f"kept/{root}": root, "runs/one": root}


def test_a_host_is_no_folder(tmp_path: Path, source: tuple[Path, Digest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store, root = source
    assert "another machine" in cas("push", "host:/models", root, "--store", store, code=2).stderr
    assert not (tmp_path / "host:").exists()


def test_serve_publishes_the_ledger_too(tmp_path: Path, source: tuple[Path, Digest]) -> None:
    store, root = source
    with serve("--store", store) as url, closing(HttpSource(url)) as tiles:
        assert tiles.read("checkpoint", 1000) is None
        with Log.open(store / "ledger") as log:
            author = SigningKey("runner.example", bytes(32))
            body = RunBody(root, bytes(16), 10, 1, 1)
            log.append([sign_entry(log.origin, None, body, author)])
            note, entry = log.checkpoint().encode(), log.entry(0)
        assert tiles.read("log.pub", 1000) == f"{log.verifier.vkey}\n".encode()
        assert tiles.read("checkpoint", 1000) == note
        reader = TileReader(tiles, open_checkpoint(note, log.verifier))
        assert list(map(decode_entry, reader.entries())) == [entry]
        assert tiles.read("log.key", 1000) is None
        cas("pull", url, "runs/one", "--store", tmp_path / "target")
