"""Names of things: addresses, their beginnings, pins, and paths inside."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from samebits.cas.contents import describe, entries, leaves
from samebits.cas.digest import Digest, hash_blob
from samebits.cas.directories import directory_node, put_directory
from samebits.cas.errors import NodeError, ObjectNotFoundError, PathError
from samebits.cas.files import put_file
from samebits.cas.node import Node
from samebits.cas.paths import resolve
from samebits.cas.store import Store
from samebits.cas.tensor import put_tensor
from samebits.cas.tree import put_tree


@pytest.fixture
def tensor(store: Store) -> Digest:
    return put_tensor(store, np.arange(6, dtype=np.float32).reshape(2, 3))


@pytest.fixture
def tree(store: Store, tensor: Digest) -> Digest:
    other = put_tensor(store, np.zeros(1))
    return put_tree(store, {"layer.weight": tensor, "block/0/bias": other, "block/1/bias": tensor})


@pytest.fixture
def model(store: Store, tmp_path: Path) -> Digest:
    numpy = pytest.importorskip("safetensors.numpy")
    folder = tmp_path / "model"
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(b"onnx")
    (folder / "config.json").write_bytes(b"{}")
    numpy.save_file({"layer.weight": np.ones((2, 2), np.float32)}, folder / "model.safetensors")
    return put_directory(store, folder).digest


def test_resolve_takes_addresses_and_paths_inside_a_tree(store: Store, tree: Digest, tensor: Digest) -> None:
    assert resolve(store, str(tree)).digest == tree
    assert resolve(store, f"{tree}/").digest == tree
    found = resolve(store, f"{tree}/layer.weight")
    assert (found.digest, found.name) == (tensor, "layer.weight")
    found = resolve(store, f"{tree}/block/1/bias/")
    assert (found.digest, found.name) == (tensor, "block/1/bias")


def test_resolve_goes_through_directories_and_weight_files(store: Store, model: Digest) -> None:
    assert store.get_blob(resolve(store, f"{model}/onnx/model.onnx").digest) == b"onnx"
    weights = resolve(store, f"{model}/model.safetensors")
    assert store.get_node(weights.digest).kind == "weights_file"
    found = resolve(store, f"{model}/model.safetensors/layer.weight")
    assert found.digest == put_tensor(store, np.ones((2, 2), np.float32))
    assert found.name == "layer.weight"


def test_resolve_goes_through_trees_of_trees(store: Store, tree: Digest, tensor: Digest) -> None:
    outer = put_tree(store, {"a": tree, "a/b": tree, "c/d": tensor})
    assert resolve(store, f"{outer}/a/layer.weight").digest == tensor
    assert resolve(store, f"{outer}/a/b/layer.weight").name == "layer.weight", "the longest name wins"
    assert resolve(store, f"{outer}/a/b").digest == tree


def test_resolve_takes_pins_and_the_longest_one_wins(store: Store, tree: Digest, tensor: Digest) -> None:
    store.pin("runs", tree)
    store.pin("runs/layer.weight", tree)
    store.pin("runs/best v2", tensor)
    assert resolve(store, "runs").digest == tree
    assert resolve(store, "runs/block/0/bias").name == "block/0/bias"
    assert resolve(store, "runs/layer.weight").digest == tree
    assert resolve(store, "runs/layer.weight/layer.weight").digest == tensor
    assert resolve(store, "runs/best v2").digest == tensor


def test_an_address_comes_before_a_pin_and_a_pin_before_a_prefix(store: Store, tree: Digest, tensor: Digest) -> None:
    store.pin(str(tree), tensor)
    store.pin(str(tree)[:12], tensor)
    assert resolve(store, str(tree)).digest == tree
    assert resolve(store, str(tree)[:12]).digest == tensor
    assert resolve(store, str(tree)[:13]).digest == tree


@pytest.mark.parametrize("length", [8, 9, 63])
def test_resolve_takes_the_beginning_of_an_address(store: Store, tree: Digest, length: int) -> None:
    assert resolve(store, str(tree)[:length]).digest == tree
    assert resolve(store, str(tree)[:length] + "/layer.weight").name == "layer.weight"


def test_find_gives_every_address_with_a_prefix(store: Store) -> None:
    blobs = sorted(store.put_blob(bytes([value])) for value in range(64))
    assert store.find("", 1000) == blobs
    for digit in "0123456789abcdef":
        assert store.find(digit, 1000) == [blob for blob in blobs if str(blob)[0] == digit]


def test_a_prefix_of_two_addresses_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.cas.paths._PREFIX", re.compile(r"[0-9a-f]{1,63}\Z"))
    for value in range(64):
        store.put_blob(bytes([value]))
    first = str(hash_blob(b"\0"))[0]
    with pytest.raises(PathError, match=rf"several addresses begin with {first}: {first}\w{{4}}\.\.\., "):
        resolve(store, first)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an address"),
        ("/", "not an address"),
        ("abc", "not an address, nor the first 8"),
        ("A" * 64, "not an address"),
        ("abcdef0", "not an address"),
        ("0badf00d", "no address in the store begins with 0badf00d"),
        ("my/modle", "did you mean 'my/model'?"),
        ("my/modle/layer.weight", "did you mean 'my/model'?"),
        ("my", "not an address"),
        ("x" * 100_000, "not an address"),
        ("my/model/none", "there is no 'none' in"),
        ("my/model/layer.wieght", "did you mean 'layer.weight'?"),
        ("my/model/block", "but it has 'block/0/bias'; name it whole"),
        ("my/model/block/0/", "but it has 'block/0/bias'; name it whole"),
        ("my/model//layer.weight", "there is no"),
        ("my/model/../x", "there is no"),
        ("my/model/layer.weight/0", "which is a tensor and holds nothing by name"),
        ("{blob}/x", "which is a blob and holds nothing by name"),
    ],
)
def test_resolve_says_what_is_wrong(store: Store, tree: Digest, text: str, said: str) -> None:
    store.pin("my/model", tree)
    with pytest.raises(PathError) as caught:
        resolve(store, text.format(blob=store.put_blob(b"x")))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_resolve_of_an_address_that_the_store_lacks(store: Store) -> None:
    with pytest.raises(ObjectNotFoundError):
        resolve(store, str(hash_blob(b"nowhere")))
    with pytest.raises(ObjectNotFoundError):
        resolve(store, f"{hash_blob(b'nowhere')}/x")


def test_entries_are_one_level_and_leaves_all(store: Store, tree: Digest, tensor: Digest, model: Digest) -> None:
    assert entries(store, tensor) is None
    assert entries(store, store.put_blob(b"x")) is None
    assert list(entries(store, tree) or ()) == ["block/0/bias", "block/1/bias", "layer.weight"]
    assert list(entries(store, model) or ()) == ["config.json", "model.safetensors", "onnx/model.onnx"]
    outer = put_tree(store, {"t": tree, "m": model})
    kinds = {name: leaf.kind for name, leaf in leaves(store, outer).items()}
    assert kinds == {
        "m/config.json": "blob",
        "m/model.safetensors": "weights_file",
        "m/model.safetensors/layer.weight": "tensor",
        "m/onnx/model.onnx": "blob",
        "t/block/0/bias": "tensor",
        "t/block/1/bias": "tensor",
        "t/layer.weight": "tensor",
    }
    assert list(leaves(store, tensor)) == [""]


def test_sizes_are_those_of_the_content(store: Store, tmp_path: Path, tree: Digest, tensor: Digest) -> None:
    assert describe(store, tensor).size_bytes == 24
    assert describe(store, tree).size_bytes == 24 + 24 + 8
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"w": np.ones(3)}, tmp_path / "m.safetensors")
    stored = put_file(store, tmp_path / "m.safetensors")
    assert describe(store, stored.digest).size_bytes == stored.size_bytes
    folder = store.put_node(directory_node({"a": stored.digest, "b": store.put_blob(b"12345")}))
    assert describe(store, folder).size_bytes == stored.size_bytes + 5
    note = store.put_node(Node("note", {"text": "hi"}))
    assert (describe(store, note).kind, describe(store, note).size_bytes) == ("note", 15)


def test_trees_that_hold_each_other_many_times_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.cas.contents.MAX_NAMES", 1000)
    for bomb in (store.put_blob(b"x"), put_tree(store, {})):
        for _ in range(40):  # 2**40 names
            bomb = put_tree(store, {"a": bomb, "b": bomb})
        with pytest.raises(NodeError, match="more than 1000 names"):
            leaves(store, bomb)
    chain = store.put_blob(b"x")
    for _ in range(65):
        chain = put_tree(store, {"a": chain})
    with pytest.raises(NodeError, match="nested deeper than 64"):
        leaves(store, chain)
    assert list(leaves(store, (entries(store, chain) or {})["a"])) == ["/".join("a" * 64)]


def test_a_name_that_stands_for_two_things_is_refused(store: Store, tensor: Digest) -> None:
    inner = put_tree(store, {"b": tensor})
    with pytest.raises(NodeError, match="'a/b' stands for two things"):
        leaves(store, put_tree(store, {"a": inner, "a/b": tensor}))
