"""Files in, identical files out, never half a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.errors import CasError, DamagedObjectError, FileError, ObjectKindError, ObjectNotFoundError
from samebits.cas.files import StoredFile, get_file, put_file
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.tensor import put_tensor

MIB = 1 << 20


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("size", [0, 1, 16385, 2 * MIB + 1])
def test_get_file_gives_what_put_file_got(store: Store, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "in.bin").write_bytes(data)
    stored = put_file(store, tmp_path / "in.bin")
    assert stored == StoredFile(hash_blob(data), "blob", "in.bin", size, size)
    assert put_file(store, str(tmp_path / "in.bin")).new_bytes == 0
    assert get_file(store, stored.digest, str(tmp_path / "out.bin")) == size
    assert (tmp_path / "out.bin").read_bytes() == data
    assert files_of(tmp_path) == ["in.bin", "out.bin"]


def test_get_file_replaces_a_file_and_follows_the_umask(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    old = os.umask(0o027)
    try:
        get_file(store, store.put_blob(b"new"), tmp_path / "out")
    finally:
        os.umask(old)
    assert (tmp_path / "out").read_bytes() == b"new"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_get_file_of_a_damaged_object_leaves_the_old_file_alone(store: Store, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    digest = store.put_blob(data)
    store.environment.write(lambda transaction: transaction.put("rows", hash_blob(data[2 * MIB :]).raw, bytes(MIB)))
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(DamagedObjectError, match=str(digest)):
        get_file(store, digest, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert files_of(tmp_path) == ["out"]


def test_get_file_refuses_objects_that_are_no_file(store: Store, tmp_path: Path) -> None:
    tensor = put_tensor(store, np.zeros(3))
    cases = {
        tensor: "a tensor, not a file; its elements are the blob",
        store.put_node(Node("note", {})): "a note, not a file",
    }
    for digest, said in cases.items():
        with pytest.raises(ObjectKindError, match=said):
            get_file(store, digest, tmp_path / "out")
    with pytest.raises(ObjectNotFoundError):
        get_file(store, hash_blob(b"nowhere"), tmp_path / "out")
    assert files_of(tmp_path) == []


def test_get_file_refuses_places_where_no_file_can_be(store: Store, tmp_path: Path) -> None:
    digest = store.put_blob(b"x")
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", tmp_path / "none" / "out", tmp_path / ("x" * 300)):
        with pytest.raises(FileError) as caught:
            get_file(store, digest, place)
        assert str(place) in str(caught.value)
    assert files_of(tmp_path) == []


def test_put_file_refuses_what_is_no_file(store: Store, tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "no such file"), (tmp_path, "is not a file")):
        with pytest.raises(FileError, match=said):
            put_file(store, path)


def test_put_file_takes_a_weights_file_of_any_case_and_raw_as_a_blob(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "M.SafeTensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    assert put_file(store, path).kind == "weights_file"
    raw = put_file(store, path, raw=True)
    assert (raw.kind, raw.digest) == ("blob", hash_blob(path.read_bytes()))
    path.write_bytes(b"junk")
    with pytest.raises(CasError, match="raw=True"):
        put_file(store, path)


@pytest.mark.parametrize("name", ["x.bin", "x.safetensors"])
def test_put_file_refuses_a_file_that_changes_meanwhile(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A file of the same length that another process wrote to was stored as a mixture that it never was."""
    path = tmp_path / name
    header = b'{"a":{"dtype":"U8","shape":[40000],"data_offsets":[0,40000]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(40_000))
    put_section = Store.put_section

    def change(self: Store, descriptor: int, start: int, stop: int) -> Digest:
        with path.open("r+b") as file:
            file.seek(20_000)
            file.write(os.urandom(8))
        os.utime(path, ns=(1, 1))
        return put_section(self, descriptor, start, stop)

    monkeypatch.setattr(Store, "put_section", change)
    with pytest.raises(FileError, match="changed while it was read"):
        put_file(store, path)
    assert [info for info in store.objects() if info.kind == "node"] == []
