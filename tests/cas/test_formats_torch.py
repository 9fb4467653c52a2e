"""PyTorch checkpoints, zip and legacy: every tensor has its name and its bytes, every lie is refused."""

from __future__ import annotations

import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cas.weight_files import (
    dict_pickle,
    integer,
    make_checkpoint,
    make_zip,
    named,
    plan_bytes,
    plan_or_refuse,
    put_and_compare,
    save_torch,
    tensor_code,
    text,
)

from samebits.cas.dtype import numpy_dtype
from samebits.cas.errors import FileFormatError
from samebits.cas.files import put_file
from samebits.cas.formats import torch_names, torch_objects
from samebits.cas.store import Store
from samebits.cas.tensor import get_tensor

BOTH = pytest.mark.parametrize("is_legacy", [False, True], ids=["zip", "legacy"])
DATA = bytes(range(24))


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def save(value: object, is_legacy: bool, **options: Any) -> bytes:
    return save_torch(value, _use_new_zipfile_serialization=not is_legacy, **options)


def put(store: Store, tmp_path: Path, value: object, is_legacy: bool) -> dict[str, Any]:
    (tmp_path / "model.pt").write_bytes(save(value, is_legacy))
    tree = put_and_compare(store, tmp_path / "model.pt", "torch")
    return {name: get_tensor(store, address) for name, address in tree.items()}


@BOTH
def test_state_dict_and_optimizer_have_their_names(store: Store, tmp_path: Path, is_legacy: bool) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "rng": torch.get_rng_state()}
    found = put(store, tmp_path, saved, is_legacy)
    wanted = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        wanted |= {f"optimizer/state/{index}/{name}": tensor for name, tensor in state.items()}
    wanted["rng"] = saved["rng"]
    assert set(found) == set(wanted)
    for name, array in found.items():
        assert (array.shape, array.tobytes()) == (tuple(wanted[name].shape), bits(wanted[name])), name
    assert set(put(store, tmp_path, model.state_dict(), is_legacy)) == set(model.state_dict())


@BOTH
def test_every_dtype_is_kept_and_named_where_we_have_it(store: Store, tmp_path: Path, is_legacy: bool) -> None:
    source = torch.randint(0, 2, (3, 5), generator=torch.Generator().manual_seed(0))
    dtypes = {name: getattr(torch, name) for name in torch_names.DTYPES}
    others = [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.complex128]
    saved = {name: source.to(dtype) for name, dtype in dtypes.items()}
    found = put(store, tmp_path, saved | {str(dtype): source.to(dtype) for dtype in others}, is_legacy)
    assert set(found) == set(saved)
    for name, array in found.items():
        assert array.dtype == numpy_dtype(torch_names.DTYPES[name])
        assert array.tobytes() == bits(saved[name])


@BOTH
def test_containers_parameters_and_keys_make_names(is_legacy: bool) -> None:
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    parameter = torch.nn.Parameter(two)
    tagged = torch.nn.Parameter(torch.tensor([3.0]))
    tagged.tag = "x"  # type: ignore[attr-defined]
    plain = torch.tensor([4.0])
    plain.tag = "x"  # type: ignore[attr-defined]
    cases: list[tuple[object, set[str]]] = [
        (one, {"tensor"}),
        ([one, (two, parameter)], {"0", "1/0", "1/1"}),
        ({"a": {1: one, (2, 3): two, None: two, False: two, 1.5: two, "": two}}, {"a/1", "a/"}),
        (OrderedDict([("p", parameter), ("t", tagged), ("x", plain)]), {"p", "t", "x"}),
        ({"a": {"b": one}, "a/b": two}, set()),
        ({"a": {"b": one}, "a/b": one}, {"a/b"}),
        ({"n": 1, "s": "text", "f": 0.5, "set": {1}, "size": one.shape, "dtype": one.dtype}, set()),
        ({"k" * 4096: one, "k" * 4097: one}, {"k" * 4096}),
    ]
    for value, names in cases:
        data = save(value, is_legacy)
        assert set(named(plan_bytes(data, "m.pt"), data)) == names


@BOTH
def test_tied_weights_share_a_section_and_slices_cut_one(is_legacy: bool) -> None:
    whole = torch.arange(12.0)
    data = save({"a": whole[:4].view(2, 2), "b": whole[4:10], "tied": whole[4:10], "flat": whole[:4]}, is_legacy)
    found = named(plan_bytes(data, "m.pt"), data)
    assert {name: (dtype, shape) for name, (dtype, shape, _) in found.items()} == {
        "a": ("f32", (2, 2)),
        "b": ("f32", (6,)),
        "tied": ("f32", (6,)),
        "flat": ("f32", (4,)),
    }
    assert found["b"][2] == found["tied"][2] == bits(whole[4:10])
    assert found["flat"][2] == bits(whole[:4])
    plan = plan_bytes(data, "m.pt")
    assert plan is not None
    assert bits(whole[10:]) in [data[section.start : section.stop] for section in plan.sections]


@BOTH
def test_views_that_the_file_does_not_hold_in_order_have_no_name(is_legacy: bool) -> None:
    whole = torch.arange(12.0).view(3, 4)
    negated = torch._neg_view(torch.arange(3.0))
    cases: list[tuple[dict[str, torch.Tensor], set[str]]] = [
        ({"t": whole.t()}, set()),
        ({"column": whole[:, 1]}, set()),
        ({"expanded": torch.zeros(1).expand(3)}, set()),
        ({"sparse": torch.eye(3).to_sparse()}, set()),
        ({"lazily negated": negated}, set()),
        ({"left": whole[:2], "right": whole[1:]}, set()),
        ({"left": whole[:2], "right": whole[1:], "inner": whole[1:2]}, set()),
        ({"all": whole, "t": whole.t(), "row": whole[1]}, {"all"}),
        ({"left": whole.view(-1)[:5], "right": whole.view(-1)[4:8], "apart": whole.view(-1)[8:]}, {"apart"}),
        ({"one element each way": torch.zeros(5, 1).t()}, {"one element each way"}),
        ({"empty": torch.zeros(0, 3), "scalar": torch.tensor(1.5), "of all": whole, "in": whole[1:1]}, {"*"}),
    ]
    for value, names in cases:
        data = save(value, is_legacy)
        found = named(plan_bytes(data, "m.pt"), data)
        assert set(found) == (set(value) if names == {"*"} else names)
        assert {name: held for name, (_, _, held) in found.items()} == {name: bits(value[name]) for name in found}


@pytest.mark.filterwarnings("ignore")
def test_odd_tensors_come_back(store: Store, tmp_path: Path) -> None:
    value = {
        "quantized": torch.quantize_per_tensor(torch.randn(3), 0.1, 1, torch.qint8),
        "meta": torch.zeros(3, device="meta"),
        "storage": torch.zeros(2).untyped_storage(),
        "bytes": b"x",
        "device": torch.device("cpu"),
        "csr": torch.eye(3).to_sparse_csr(),
    }
    assert put(store, tmp_path, value, is_legacy=False) == {}


@pytest.mark.filterwarnings("ignore")
def test_torchscript_and_other_archives_are_plain_bytes(store: Store, tmp_path: Path) -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x

    path = tmp_path / "m.pt"
    torch.jit.trace(Twice(), torch.zeros(1)).save(str(path))
    for data in (path.read_bytes(), make_zip({"a": b""}), b"junk", b"", b"\x80\x02N."):
        path.write_bytes(data)
        stored = put_file(store, path)
        assert (stored.kind, stored.format) == ("blob", None)
    for suffix in (".pth", ".BIN", ".ckpt", ".zip"):
        for is_legacy in (False, True):
            plan = plan_bytes(save({}, is_legacy), f"m{suffix}")
            assert (plan is None) == (suffix == ".zip")


def test_big_endian_files_have_no_names() -> None:
    tensors = dict_pickle({"a": tensor_code()})
    for order, names in ((b"little", {"a"}), (b"big", set())):
        data = make_checkpoint(tensors, {"0": DATA}, byteorder=order)
        assert set(named(plan_bytes(data, "m.pt"), data)) == names
    data = make_checkpoint(tensors, {"0": DATA})
    assert named(plan_bytes(data, "m.pt"), data) == {"a": ("f32", (2, 3), DATA)}
    with pytest.raises(FileFormatError, match="byteorder"):
        plan_bytes(make_checkpoint(tensors, {"0": DATA}, byteorder=b"middle"), "m.pt")
    legacy = save({"a": torch.zeros(3)}, is_legacy=True)
    assert legacy.count(b"little_endian") == 1
    at = legacy.index(b"\x88", legacy.index(b"little_endian"))
    changed = legacy[:at] + b"\x89" + legacy[at + 1 :]
    assert named(plan_bytes(changed, "m.pt"), changed) == {}


HUGE = 1 << 63
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a size of 2^63": (tensor_code(shape=(HUGE, 1)), "a size or an offset"),
    "sizes that overflow": (tensor_code(shape=(1 << 40, 1 << 40), strides=(1 << 40, 1)), "its storage has 24 bytes"),
    "one element too many": (tensor_code(shape=(7,), strides=(1,)), "ends at 28, its storage has 24"),
    "an offset of one": (tensor_code(offset=1), "ends at 28"),
    "an offset of 2^62": (tensor_code(offset=1 << 62), "its storage has 24"),
    "an offset of 2^63": (tensor_code(offset=HUGE), "a size or an offset"),
    "a negative offset": (tensor_code(offset=-1), "a size or an offset"),
    "a negative size": (tensor_code(shape=(-2, -3)), "a size or an offset"),
    "a negative stride": (tensor_code(strides=(3, -1)), "a size or an offset"),
    "a stride too few": (tensor_code(strides=(1,)), "a size or an offset"),
    "65 axes": (tensor_code(shape=(1,) * 65, strides=(1,) * 65), "a size or an offset"),
    "a storage of 2^63": (tensor_code(count=HUGE), "not a storage"),
    "a storage that is too long": (tensor_code(count=7), "has 24 bytes, data.pkl says 28"),
    "a storage that is too short": (tensor_code(count=5, shape=(1, 1)), "has 24 bytes, data.pkl says 20"),
    "a negative storage": (tensor_code(count=-1), "not a storage"),
    "a storage that is not there": (tensor_code(key="1"), "lacks the storage '1'"),
    "a storage elsewhere": (tensor_code(key="../0"), r"lacks the storage '\.\./0'"),
    "a storage of another type": (tensor_code(kind="FloatTensor"), "of type 'FloatTensor'"),
    "one storage of two sizes": (b"(" + tensor_code() + tensor_code(count=5, shape=(1, 1)) + b"t", "two sizes"),
    "something else outside": (b"(" + text("module") + b"tQ", "not a storage"),
    "a text outside": (text("storage") + b"Q", "not a storage"),
    "a tensor of nothing": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "is not {storage"),
    "a tensor of a number": (b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR", "is not {storage"),
    "an offset that is true": (tensor_code().replace(b"Q" + integer(0), b"Q\x88"), "a size or an offset"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_checkpoints_that_lie_are_refused(what: str) -> None:
    code, said = HOSTILE[what]
    with pytest.raises(FileFormatError, match=said):
        plan_bytes(make_checkpoint(dict_pickle({"a": code}), {"0": DATA}), "m.pt")


def test_wrapped_tensors_are_followed_so_far() -> None:
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + tensor_code() + b"\x88ccollections\nOrderedDict\n)RtR"
    nested = parameter
    for _ in range(10):
        nested = b"ctorch._utils\n_rebuild_parameter\n(" + nested + b"\x88NtR"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    arguments = tensor_code().removeprefix(rebuild).removesuffix(b"R")
    typed = b"ctorch._tensor\n_rebuild_from_type_v2\n(" + rebuild + b"ctorch\nKind\n" + arguments + b"}tR"
    tensor, other = typed.replace(b"Kind", b"Tensor"), typed.replace(b"Kind", b"FloatTensor")
    for code, names in ((parameter, {"a"}), (nested, set()), (tensor, {"a"}), (other, set())):
        data = make_checkpoint(dict_pickle({"a": code}), {"0": DATA})
        assert set(named(plan_bytes(data, "m.pt"), data)) == names


def test_old_dicts_and_names_twice() -> None:
    old = b"ccollections\nOrderedDict\n](](" + text("a") + tensor_code() + b"ee\x85R"
    data = make_checkpoint(b"\x80\x02" + old + b".", {"0": DATA})
    assert set(named(plan_bytes(data, "m.pt"), data)) == {"a"}
    twice = b"\x80\x02}(" + text("a") + tensor_code() + text("a") + tensor_code(shape=(6,), strides=(1,)) + b"u."
    data = make_checkpoint(twice, {"0": DATA})
    assert named(plan_bytes(data, "m.pt"), data) == {}


def test_pickle_that_goes_on_is_refused() -> None:
    with pytest.raises(FileFormatError, match="goes on behind its end"):
        plan_bytes(make_checkpoint(b"\x80\x02}.N.", {}), "m.pt")


def test_names_that_fill_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_objects, "MAX_NAMES_SIZE_CHARS", 100)
    data = make_checkpoint(dict_pickle({"k" * 60: tensor_code(), "l" * 60: tensor_code()}), {"0": DATA})
    with pytest.raises(FileFormatError, match="too many tensors"):
        plan_bytes(data, "m.pt")


LEGACY = save({"a": torch.arange(3.0), "b": torch.arange(2)}, is_legacy=True)


def test_legacy_file_that_lies_is_refused() -> None:
    at = LEGACY.rindex(struct.pack("<q", 3) + struct.pack("<3f", 0, 1, 2))
    keys = LEGACY.rindex(b"\x80\x02]")
    cases = {
        "an element too many": (LEGACY[:at] + struct.pack("<q", 4) + LEGACY[at + 8 :], "has 4 elements"),
        "2^63 elements": (LEGACY[:at] + struct.pack("<Q", HUGE) + LEGACY[at + 8 :], "elements"),
        "no keys": (LEGACY[:keys] + b"\x80\x02]." + LEGACY[at:], "storage keys"),
        "keys that are numbers": (LEGACY[:keys] + b"\x80\x02]K\1a." + LEGACY[at:], "list of texts"),
        "another protocol": (LEGACY.replace(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xea\x03."), "protocol 1001"),
        "no byte order": (LEGACY.replace(b"little_endian", b"likely_endian"), "byte order"),
        "a class in the facts": (LEGACY.replace(b"\x80\x02}q\0(X\x10", b"\x80\x02cos\nsystem\n)R(X\x10"), "os.system"),
    }
    for data, said in cases.values():
        assert data != LEGACY
        with pytest.raises(FileFormatError, match=said):
            plan_bytes(data, "m.pt")


def test_legacy_file_may_go_on_behind_its_storages() -> None:
    data = LEGACY + LEGACY
    assert set(named(plan_bytes(data, "m.pt"), data)) == {"a", "b"}


def test_truncated_checkpoints_are_refused_at_every_length() -> None:
    for length in range(len(LEGACY)):
        assert plan_or_refuse(LEGACY[:length], "m.pt") is None
    data = make_checkpoint(dict_pickle({"a": tensor_code()}), {"0": DATA}, byteorder=b"little")
    assert plan_or_refuse(data, "m.pt") is not None
    for length in range(len(data)):
        assert plan_or_refuse(data[:length], "m.pt") is None


def test_bool_tensor_with_other_bytes_has_no_name(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    pickled = dict_pickle({"a": tensor_code(kind="BoolStorage"), "b": tensor_code(key="1", kind="BoolStorage")})
    path.write_bytes(make_checkpoint(pickled, {"0": b"\1\0\1\0\1\2", "1": b"\1\0\1\0\1\1"}))
    assert set(put_and_compare(store, path, "torch")) == {"b"}


def test_names_that_a_tree_can_not_have_are_left_out(store: Store, tmp_path: Path) -> None:
    one = torch.zeros(2)
    saved = {"": one, "..": one, "a": one, "a/b": one, "/c": one, "d\n": one, "\ud800": one}
    assert set(put(store, tmp_path, saved, is_legacy=False)) == {"a", "a/b"}


def test_views_of_old_files_count_from_their_start() -> None:
    view = b"(" + text("view") + integer(2) + integer(3) + b"t"
    code = tensor_code(shape=(3,), strides=(1,)).replace(integer(6) + b"tQ", integer(6) + view + b"tQ", 1)
    data = make_checkpoint(dict_pickle({"a": code}), {"0": DATA})
    assert named(plan_bytes(data, "m.pt"), data) == {"a": ("f32", (3,), DATA[8:20])}
    assert np.frombuffer(DATA[8:20], np.uint8)[0] == 8
