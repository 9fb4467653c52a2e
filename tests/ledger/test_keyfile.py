"""Private key files: made once, for the owner only, and refused with the reason otherwise."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from samebits.ledger.errors import KeyFileError
from samebits.ledger.keyfile import load_key, load_or_create_key, store_key
from samebits.ledger.keys import SigningKey

KEY = SigningKey("a.example", bytes(range(32)))


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_load_or_create_key_makes_a_file_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.key"
    key = load_or_create_key(path, "a.example")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == key.format() + "\n"
    assert load_or_create_key(path, "another.example") == key
    assert load_key(path) == key
    assert [item.name for item in path.parent.iterdir()] == ["run.key"]


def test_load_or_create_key_ignores_a_generous_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create_key(tmp_path / "key", "a.example")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_store_key_keeps_the_key_that_was_there_first(tmp_path: Path) -> None:
    assert store_key(tmp_path / "key", KEY) == KEY
    assert store_key(tmp_path / "key", SigningKey.generate("b.example")) == KEY
    assert [item.name for item in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_load_key_refuses_a_file_that_others_may_use(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key", KEY.format().encode(), mode)
    with pytest.raises(KeyFileError, match=rf"mode {mode:04o}\); run: chmod 600"):
        load_key(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\xff",
        KEY.format().encode()[:-1],
        KEY.format().encode() + b"\n\n",
        b" " + KEY.format().encode(),
        KEY.vkey.encode(),
        KEY.format().encode() + b"x" * 10_000,
    ],
)
def test_load_key_refuses_a_malformed_file_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyFileError, match="not a private key") as caught:
        load_key(write(tmp_path / "key", content))
    assert "\n" not in str(caught.value)
    assert "AAECAwQF" not in str(caught.value)
    with pytest.raises(KeyFileError):
        load_or_create_key(tmp_path / "key", "a.example")


def test_load_key_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no such file"):
        load_key(tmp_path / "missing")
    with pytest.raises(KeyFileError, match="directory"):
        load_key(tmp_path)
    write(tmp_path / "file", b"")
    with pytest.raises(KeyFileError, match="Not a directory"):
        load_or_create_key(tmp_path / "file" / "key", "a.example")


def create(path: Path, results: multiprocessing.Queue[str]) -> None:
    results.put(load_or_create_key(path, f"name.{os.getpid()}").format())


def test_load_or_create_key_gives_racing_processes_the_same_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    for attempt in range(5):
        path = tmp_path / f"key{attempt}"
        processes = [context.Process(target=create, args=(path, results)) for _ in range(4)]
        for process in processes:
            process.start()
        keys = {results.get(timeout=20) for _ in processes}
        for process in processes:
            process.join()
        assert keys == {load_key(path).format()}
    assert len(list(tmp_path.iterdir())) == 5
