"""Safetensors files, written by the real package, come back byte for byte; hostile ones are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.errors import FileFormatError
from samebits.cas.files import get_file, put_file
from samebits.cas.formats.plan import FilePlan, Section
from samebits.cas.formats.safetensors import DTYPES, plan_safetensors, read_header
from samebits.cas.formats.store_file import _SectionReader
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.tensor import get_tensor
from samebits.cas.tree import get_tree

PATH = Path("model.safetensors")
HERE = '{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'
NEXT = '{"dtype":"U8","shape":[2],"data_offsets":[2,4]}'


def make_file(header: str | bytes, data: bytes = b"") -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return len(text).to_bytes(8, "little") + text + data


def read_bytes(data: bytes) -> object:
    return read_header(io.BytesIO(data), len(data), PATH)


def store_and_compare(store: Store, path: Path) -> dict[str, Digest]:
    """Put a file, get it back, compare; return its tree of tensors."""
    stored = put_file(store, path)
    assert (stored.kind, stored.size_bytes) == ("weights_file", path.stat().st_size)
    copy = path.with_name("copy")
    assert get_file(store, stored.digest, copy) == path.stat().st_size
    assert copy.read_bytes() == path.read_bytes()
    assert put_file(store, path).new_bytes == 0
    tensors = store.get_node(stored.digest).body["tensors"]
    assert isinstance(tensors, Digest)
    return get_tree(store, tensors)


def test_put_file_keeps_every_numpy_type(store: Store, tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    types = ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
    arrays = {f"layer.{name}": source.integers(0, 2, (3, 5)).astype(name) for name in types}
    arrays |= {"scalar": np.array(1.5, "f4"), "empty": np.zeros((0, 3), "f4"), "large": source.normal(size=(600, 900))}
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "np", "note": "é"})
    tree = store_and_compare(store, tmp_path / "model.safetensors")
    assert set(tree) == set(arrays)
    for name, address in tree.items():
        found = get_tensor(store, address)
        assert (found.dtype, found.shape, found.tobytes()) == (
            arrays[name].dtype,
            arrays[name].shape,
            arrays[name].tobytes(),
        )


def test_put_file_keeps_torch_types_that_numpy_lacks(store: Store, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "bf16": torch.randn(7, 3).to(torch.bfloat16),
        "f8a": torch.randn(11).to(torch.float8_e4m3fn),
        "f8b": torch.randn(5, 2).to(torch.float8_e5m2),
        "f32": torch.randn(4),
    }
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    tree = store_and_compare(store, tmp_path / "model.safetensors")
    assert set(tree) == {"bf16", "f32"}
    found = get_tensor(store, tree["bf16"])
    assert found.dtype == ml_dtypes.bfloat16
    assert found.tobytes() == tensors["bf16"].view(torch.int16).numpy().tobytes()


def test_equal_tensors_of_two_files_are_stored_once(store: Store, tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    base, head = source.normal(size=(500, 500)), source.normal(size=(10, 10))
    safetensors.numpy.save_file({"base": base, "head": head}, tmp_path / "a.safetensors")
    safetensors.numpy.save_file({"head": head + 1, "other name": base}, tmp_path / "b.safetensors")
    first, second = (put_file(store, tmp_path / f"{name}.safetensors") for name in "ab")
    assert first.new_bytes > base.nbytes
    assert second.new_bytes < 3000


FAITHFUL = {
    "no tensor": make_file("{}"),
    "no tensor but metadata": make_file('{"__metadata__":{"a":"b"}}'),
    "padded": make_file('{"a":' + HERE + "}     ", b"ab"),
    "spaces inside": make_file('{ "a" :\n' + HERE + "}", b"ab"),
    "order of names differs from offsets": make_file('{"a":' + NEXT + ',"b":' + HERE + "}", b"abcd"),
    "a dtype of a later version": make_file('{"a":{"dtype":"F3_X","shape":[9],"data_offsets":[0,2]}}', b"ab"),
    "names that a tree can't have": make_file('{"":' + HERE + ',"../b":' + NEXT + "}", b"abcd"),
    "a bool that is 2": make_file('{"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}', b"\1\2"),
    "65 axes": make_file('{"a":{"dtype":"U8","shape":[' + ",".join(["1"] * 65) + '],"data_offsets":[0,1]}}', b"a"),
    "half bytes": make_file('{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}', b"a"),
}


@pytest.mark.parametrize("what", FAITHFUL)
def test_odd_but_valid_files_come_back(store: Store, tmp_path: Path, what: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(FAITHFUL[what])
    tree = store_and_compare(store, tmp_path / "m.safetensors")
    for address in tree.values():
        get_tensor(store, address)


HOSTILE = {
    "nothing": b"",
    "seven bytes": bytes(7),
    "no header": bytes(8),
    "header longer than the file": (100).to_bytes(8, "little") + b"{}",
    "header of 2^64-1 bytes": b"\xff" * 8 + b"{}",
    "header beyond 100 MB": (100_000_001).to_bytes(8, "little") + b"{}",
    "not JSON": make_file("{nonsense}"),
    "a list": make_file("[]"),
    "leading space": make_file(" {}"),
    "trailing newline": make_file("{}\n"),
    "two objects": make_file("{}{}"),
    "not UTF-8": make_file(b'{"\xff":1}'),
    "UTF-8 mark": make_file(b"\xef\xbb\xbf{}"),
    "a name twice": make_file('{"a":' + HERE + ',"a":' + NEXT + "}", b"abcd"),
    "a field twice": make_file('{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "metadata twice": make_file('{"__metadata__":{},"__metadata__":{}}'),
    "metadata of numbers": make_file('{"__metadata__":{"a":1}}'),
    "metadata a list": make_file('{"__metadata__":[]}'),
    "deep nesting": make_file('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a tensor that is a number": make_file('{"a":1}'),
    "no dtype": make_file('{"a":{"shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "a field too many": make_file('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":1}}', b"ab"),
    "dtype a number": make_file('{"a":{"dtype":8,"shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "dtype no name": make_file('{"a":{"dtype":"u8","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "shape a float": make_file('{"a":{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]}}', b"ab"),
    "shape negative": make_file('{"a":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}}', b"ab"),
    "shape a bool": make_file('{"a":{"dtype":"U8","shape":[true,2],"data_offsets":[0,2]}}', b"ab"),
    "shape overflowing": make_file('{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
    "shape beyond 2^63": make_file('{"a":{"dtype":"U8","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'),
    "NaN": make_file('{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,2]}}', b"ab"),
    "offsets of three": make_file('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,1,2]}}', b"ab"),
    "offsets reversed": make_file('{"a":{"dtype":"F3_X","shape":[2],"data_offsets":[2,0]}}', b"ab"),
    "offsets back to the start": make_file('{"a":' + HERE + ',"b":{"dtype":"F3_X","shape":[2],"data_offsets":[2,0]}}'),
    "size not that of the shape": make_file('{"a":{"dtype":"U16","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "half a byte": make_file('{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}', b"a"),
    "a gap at the start": make_file('{"a":' + NEXT + "}", b"abcd"),
    "a gap at the end": make_file('{"a":' + HERE + "}", b"abcd"),
    "an overlap": make_file('{"a":' + HERE + ',"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}', b"abc"),
    "the same bytes twice": make_file('{"a":' + HERE + ',"b":' + HERE + "}", b"ab"),
    "data cut short": make_file('{"a":' + HERE + "}", b"a"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_put_file_refuses_hostile_files_and_names_them(store: Store, tmp_path: Path, what: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(FileFormatError, match="raw=True") as caught:
        put_file(store, path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert list(store.objects()) == []
    stored = put_file(store, path, raw=True)
    assert store.get_blob(stored.digest) == HOSTILE[what]


@pytest.mark.parametrize("what", HOSTILE)
def test_read_header_refuses_no_less_than_the_real_package(what: str) -> None:
    """What we refuse, and the package takes, is listed here."""
    stricter = {
        "a field too many",
        "a name twice",
        "dtype no name",
        "leading space",
        "metadata twice",
        "shape beyond 2^63",
        "trailing newline",
    }
    try:
        safetensors.deserialize(HOSTILE[what])  # type: ignore[no-untyped-call]
    except Exception:
        return
    assert what in stricter


@given(st.binary(max_size=100))
def test_read_header_refuses_or_reads_any_bytes(data: bytes) -> None:
    for candidate in (data, make_file(data)):
        try:
            read_bytes(candidate)
        except FileFormatError:
            continue


NAMES = st.text(max_size=5) | st.sampled_from(["a", "__metadata__"])
NUMBERS = st.integers(-2, 1 << 65) | st.integers(0, 4) | st.floats() | st.booleans() | st.none() | st.text(max_size=2)
FIELDS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "X", ""]),
        "shape": st.lists(NUMBERS, max_size=3),
        "data_offsets": st.lists(NUMBERS, max_size=3),
    }
)


@given(st.dictionaries(NAMES, FIELDS | NUMBERS, max_size=4), st.binary(max_size=8))
def test_read_header_only_accepts_headers_that_cover_the_file(header: dict[str, Any], data: bytes) -> None:
    file = make_file(json.dumps(header), data)
    try:
        found = read_header(io.BytesIO(file), len(file), PATH)
    except FileFormatError:
        return
    assert sum(tensor.stop - tensor.start for tensor in found.tensors) == len(data)
    assert found.raw + data == file


def test_file_that_shrinks_while_it_is_read_is_refused() -> None:
    whole = make_file('{"a":' + HERE + "}", b"ab")
    for left in (8, 12):
        with pytest.raises(FileFormatError, match="became shorter"):
            read_header(io.BytesIO(whole[:left]), len(whole), PATH)
    with pytest.raises(FileFormatError, match="became shorter"):
        list(iter(_SectionReader(io.BytesIO(b"a"), Section(0, 2), PATH).read, b""))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a gap at the start", "gap or overlap"),
        ("an overlap", "gap or overlap"),
        ("the same bytes twice", "gap or overlap"),
        ("offsets back to the start", "ends before it starts"),
    ],
)
def test_read_header_refuses_gaps_and_overlaps(what: str, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        read_bytes(HOSTILE[what])


def test_file_that_grows_while_it_is_read_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(make_file('{"a":' + HERE + "}", b"ab"))

    def read_and_append(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan:
        plan = plan_safetensors(stream, size_bytes, path)
        with path.open("ab") as file:
            file.write(b"more")
        return plan

    monkeypatch.setattr("samebits.cas.formats.detect.plan_safetensors", read_and_append)
    with pytest.raises(FileFormatError, match="became longer"):
        put_file(store, path)
    assert list(store.objects()) == []


def test_get_file_refuses_a_malformed_weights_file(store: Store, tmp_path: Path) -> None:
    blob = store.put_blob(b"")
    body: dict[str, Any] = {"format": "safetensors", "header": blob, "order": [blob], "tensors": blob}
    changes: list[dict[str, Any]] = [
        {"format": "zip"},
        {"header": b""},
        {"order": blob},
        {"order": [1]},
        {"tensors": 1},
        {"more": 1},
    ]
    for change in changes:
        digest = store.put_node(Node("weights_file", body | change))
        with pytest.raises(Exception, match="weights file"):
            get_file(store, digest, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert get_file(store, store.put_node(Node("weights_file", body)), tmp_path / "out") == 0
    assert hash_blob((tmp_path / "out").read_bytes()) == blob
