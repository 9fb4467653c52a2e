"""Any bytes give a plan or one clear refusal, in every format; what is accepted comes back byte for byte."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cas.test_formats_gguf import field, make_file, string, tensor
from tests.cas.weight_files import dict_pickle, make_checkpoint, plan_or_refuse, save_torch, tensor_code

from samebits.cas.files import get_file, put_file
from samebits.cas.store import Store


def saved_npz(*, is_compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if is_compressed else np.savez)(stream, a=np.arange(3), b=np.zeros((2, 2), ">f4"))
    return stream.getvalue()


def saved_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(6, dtype=np.float32).reshape(2, 3))
    return stream.getvalue()


WHOLE = torch.arange(6.0)
STATE = {"a": WHOLE[:4].view(2, 2), "b": [WHOLE[4:], torch.nn.Parameter(torch.zeros(1))], "c": WHOLE[1:3]}
VALID = {
    "m.safetensors": safetensors.numpy.save({"a": np.arange(3), "b": np.zeros((2, 2), np.bool_)}, {"x": "y"}),
    "m.gguf": make_file(
        [tensor("a", (3, 2)), tensor("b", (32,), 2, 32)],
        bytes(50),
        [field("k", 9, struct.pack("<IQ", 8, 1) + string("v")), field("general.alignment", 4, b"\x20\0\0\0")],
    ),
    "m.npy": saved_npy(),
    "m.npz": saved_npz(),
    "deflated.npz": saved_npz(is_compressed=True),
    "m.pt": save_torch(STATE),
    "small.pt": make_checkpoint(
        dict_pickle({"a": tensor_code(), "b": tensor_code(shape=(3,), strides=(1,), offset=3)}),
        {"0": bytes(24)},
        byteorder=b"little",
    ),
    "protocol4.pt": save_torch(STATE, pickle_protocol=4),
    "legacy.bin": save_torch(STATE, _use_new_zipfile_serialization=False),
}
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]
PLACES = st.floats(0, 1, exclude_max=True)
PIECES = st.one_of(
    st.sampled_from(INTERESTING).map(lambda value: bytes([value])),
    st.binary(min_size=1, max_size=3),
    st.sampled_from([0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]).map(
        lambda value: struct.pack("<Q", value)
    ),
    st.sampled_from([b"\xff\xff\xff\xff", b"PK\5\6", b"PK\3\4", b"R", b"h\0", b"(", b"t.", b"cos\nsystem\n"]),
)
EDITS = st.lists(st.tuples(st.sampled_from(["set", "insert", "cut", "copy"]), PLACES, PIECES, PLACES), max_size=4)


def edited(data: bytes, edits: list[tuple[str, float, bytes, float]]) -> bytes:
    for how, place, piece, length in edits:
        at = int(place * len(data))
        stop = at + int(length * length * (len(data) - at))
        match how:
            case "set":
                data = data[:at] + piece + data[at + len(piece) :]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "cut":
                data = data[:at] + data[stop:]
            case _:
                data = data[:at] + data[at:stop] + data[at:]
    return data


@pytest.mark.parametrize("name", VALID)
def test_valid_files_are_planned(name: str) -> None:
    assert plan_or_refuse(VALID[name], name) is not None


@given(st.sampled_from(sorted(VALID)), EDITS)
def test_edited_files_are_planned_or_refused(name: str, edits: list[tuple[str, float, bytes, float]]) -> None:
    plan_or_refuse(edited(VALID[name], edits), name)


@given(st.sampled_from(sorted(VALID)), st.integers(0, 40), st.binary(max_size=200))
def test_any_bytes_are_planned_or_refused(name: str, kept: int, data: bytes) -> None:
    plan_or_refuse(VALID[name][:kept] + data, name)


@settings(deadline=None)  # it waits for the disk
@given(st.sampled_from(sorted(VALID)), EDITS)
def test_accepted_files_come_back(name: str, edits: list[tuple[str, float, bytes, float]]) -> None:
    data = edited(VALID[name], edits)
    if plan_or_refuse(data, name) is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        with Store(Path(folder) / "store") as store:
            get_file(store, put_file(store, path).digest, path.with_name("copy"))
        assert path.with_name("copy").read_bytes() == data
