"""Opening remotes by what a user types, and the names that a remote's files have."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cas.remote_places import addresses, make_objects

from samebits.cas.digest import hash_blob
from samebits.cas.durable_files import sync_folder
from samebits.cas.errors import RemoteError
from samebits.cas.remotes import StoreRemote, directory, open_remote
from samebits.cas.remotes.files import FileRemote
from samebits.cas.remotes.layout import format_pins, parse_pin_name, parse_pins, pin_path, record_path, row_path
from samebits.cas.store import Store
from samebits.cas.transfer import pull, push


def test_directory_has_the_layout_of_the_readme(tmp_path: Path, store: Store) -> None:
    digest = store.put_blob(b"hello")
    remote = open_remote(str(tmp_path / "deep" / "remote"), create=True)
    push(store, remote, [digest])
    remote.write_pin("runs/mnist", digest)
    files = {
        path.relative_to(tmp_path / "deep" / "remote").as_posix(): path.read_bytes()
        for path in (tmp_path / "deep").rglob("*")
        if path.is_file()
    }
    address = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
    assert files == {
        "samebits-remote": b"samebits remote 1\n",
        f"objects/ea/{address[2:]}": bytes.fromhex("83a6696e6c696e65c40568656c6c6fa46b696e64a4626c6f62a473697a6505"),
        "pins/runs%2Fmnist": f"{address}\n".encode(),
        "pins.json": b'{\n"runs/mnist": "%s"\n}\n' % address.encode(),
    }


def test_row_path_and_record_path() -> None:
    digest = hash_blob(b"hello")
    assert record_path(digest) == f"objects/ea/{str(digest)[2:]}"
    assert row_path(digest.raw) == f"rows/ea/{str(digest)[2:]}"


@pytest.mark.parametrize(
    ("name", "file_name"),
    [("a", "a"), (".a", "%2Ea"), ("..", "%2E."), ("a.b-c_d~", "a.b-c_d~"), ("a/b%c", "a%2Fb%25c"), ("é ", "%C3%A9%20")],
)
def test_pin_path_of_a_name(name: str, file_name: str) -> None:
    assert pin_path(name) == f"pins/{file_name}"
    assert parse_pin_name(file_name) == name


@given(st.text(min_size=1, max_size=60))
def test_pin_names_come_back_from_file_names(name: str) -> None:
    try:
        path = pin_path(name)
    except ValueError:
        return
    folder, _, file_name = path.partition("/")
    assert (folder, parse_pin_name(file_name)) == ("pins", name)
    assert "/" not in file_name and not file_name.startswith(".") and len(file_name) <= 255
    assert file_name.isascii() and file_name.isprintable()


@given(st.text(max_size=30))
def test_parse_pin_name_accepts_only_what_pin_path_writes(file_name: str) -> None:
    name = parse_pin_name(file_name)
    assert name is None or pin_path(name) == f"pins/{file_name}"


@given(st.dictionaries(st.text("ab/%é", min_size=1, max_size=5), st.binary(max_size=3)))
def test_pins_come_back_from_json(contents: dict[str, bytes]) -> None:
    pins = {name: hash_blob(data) for name, data in contents.items()}
    assert parse_pins("there", format_pins(pins)) == pins


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host/", "http://", "http://user:secret@host/", "http://user@host/", "http://host/?query", "http://host/#x",
        "http://host:port/", "http://host:99999/", "http://[::1/", "s3://", "s3://a@b/", "s3://bucket?x=1", "file://host/path",
        "file:///tmp?x", "://", "no-such-directory/x", "http://a..b/", f"http://{70 * 'a'}.b/", "http://127.0.0.1:9/é",
    ],
)  # fmt: skip
def test_open_remote_refuses(text: str) -> None:
    with pytest.raises(RemoteError) as caught:
        open_remote(text)
    assert "secret" not in str(caught.value)


def test_open_remote_takes_paths_and_file_urls(tmp_path: Path) -> None:
    path = tmp_path / "a b%20"
    open_remote(str(path), create=True)
    assert isinstance(open_remote(str(path)), FileRemote)
    assert isinstance(open_remote(path.as_uri()), FileRemote)
    assert open_remote(path.as_uri()).name == path.as_uri()


def test_open_remote_makes_no_remote_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(RemoteError, match="other files"):
        open_remote(str(tmp_path), create=True)
    with pytest.raises(RemoteError, match="not a directory"):
        open_remote(str(tmp_path / "file"), create=True)
    with pytest.raises(RemoteError, match="no samebits remote"):
        open_remote(str(tmp_path))
    (tmp_path / "samebits-remote").write_bytes(b"samebits remote 2\n")
    with pytest.raises(RemoteError, match="version"):
        open_remote(str(tmp_path), create=True)


def test_open_remote_takes_a_store(tmp_path: Path, store: Store) -> None:
    made = make_objects(store)
    remote = open_remote(str(store.path))
    assert isinstance(remote, StoreRemote)
    with closing(remote), Store(tmp_path / "target") as target:
        pull(remote, target, [made.root])
        assert addresses(target) == made.all()


def test_open_s3_without_obstore_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("obstore", "obstore.store", "obstore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RemoteError, match=r"pip install \"samebits\[remote\]\""):
        open_remote("s3://bucket/prefix")


def test_a_killed_write_leaves_no_name(tmp_path: Path, store: Store) -> None:
    """What a crash leaves beside a file is neither a pin nor in the way."""
    made = make_objects(store)
    remote = open_remote(str(tmp_path / "remote"), create=True)
    push(store, remote, [made.root])
    remote.write_pin("a", made.root)
    (tmp_path / "remote" / "pins" / ".samebits-0123456789abcdef").write_bytes(b"half")
    assert remote.pins() == {"a": made.root}


def test_a_failed_write_leaves_nothing(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_objects(store)
    remote = open_remote(str(tmp_path / "remote"), create=True)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(RemoteError, match="No space left"):
        push(store, remote, [made.root])
    assert [path.name for path in (tmp_path / "remote").rglob("*") if path.is_file()] == ["samebits-remote"]


def test_directory_syncs_the_entries_of_rows_before_a_record_names_them(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power must not leave a record whose rows were never entered into their directories."""
    made, path = make_objects(store), tmp_path / "remote"
    remote = open_remote(str(path), create=True)
    unsynced: set[Path] = set()
    replace = Path.replace
    records = 0

    def logged_sync(folder: Path) -> None:
        sync_folder(folder)
        unsynced.discard(folder)

    def logged_replace(source: Path, target: Path) -> Path:
        nonlocal records
        if target.is_relative_to(path / "objects"):
            records += 1
            assert not unsynced, target
        unsynced.add(target.parent)
        return replace(source, target)

    monkeypatch.setattr(directory, "sync_folder", logged_sync)
    monkeypatch.setattr(Path, "replace", logged_replace)
    push(store, remote, [made.root], workers=1)
    assert (records, unsynced) == (6, set())
