"""`.npy` and `.npz` files, written by NumPy, come back byte for byte; hostile headers are refused."""

from __future__ import annotations

import ast
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.lib import format as npy_format
from tests.cas.weight_files import make_zip, named, plan_bytes, plan_or_refuse, put_and_compare

from samebits.cas.dtype import DTYPES, dtype_name, numpy_dtype
from samebits.cas.errors import FileFormatError
from samebits.cas.files import put_file
from samebits.cas.formats.literal import LiteralDict, LiteralError, parse_literal
from samebits.cas.store import Store
from samebits.cas.tensor import Array, get_tensor, tensor_address


def npy(array: Array, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    npy_format.write_array(stream, array, version)
    return stream.getvalue()


def with_header(header: str | bytes, data: bytes = b"", *, major: int = 1) -> bytes:
    text = header.encode("utf-8" if major == 3 else "latin-1") if isinstance(header, str) else header
    return b"\x93NUMPY" + bytes([major, 0]) + struct.pack("<H" if major == 1 else "<I", len(text)) + text + data


def head(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize("name", [name for name in DTYPES if name != "bf16"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 0, 3), (7, 1, 2)])
def test_put_file_keeps_an_npy_file(store: Store, tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(numpy_dtype(name))
    np.save(tmp_path / "a.npy", array)
    assert put_and_compare(store, tmp_path / "a.npy", "npy") == {"array": tensor_address(array)}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_is_read(version: tuple[int, int]) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = npy(array, version)
    assert named(plan_bytes(data, "a.npy"), data) == {"array": ("f32", (2, 3), array.tobytes())}


NAMELESS = {
    "Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">f4"),
    "complex": np.zeros(3, np.complex64),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"a", b"bcd"]),
    "dates": np.array(["2026-01-01"], "datetime64[D]"),
    "a structure": np.zeros(3, [("x", "<f4"), ("y", "<i2", (2,)), ("é", "O")]),
    "objects": np.array([{"a": 1}, None]),
    "long doubles": np.zeros(3, np.longdouble),
    "half of our types": np.zeros(3, numpy_dtype("bf16")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", NAMELESS)
def test_arrays_without_a_name_come_back(store: Store, tmp_path: Path, what: str) -> None:
    np.save(tmp_path / "a.npy", NAMELESS[what])
    assert put_and_compare(store, tmp_path / "a.npy", "npy") == {}
    np.savez(tmp_path / "a.npz", a=NAMELESS[what], b=np.zeros(2))
    assert set(put_and_compare(store, tmp_path / "a.npz", "npz")) == {"b"}


def test_pickles_in_npy_files_are_never_read(store: Store, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    (tmp_path / "a.npy").write_bytes(with_header(head("'|O'")) + pickle.dumps(Attack()))
    assert put_and_compare(store, tmp_path / "a.npy", "npy") == {}
    assert not (tmp_path / "ran").exists()


def test_put_file_keeps_an_npz_file(store: Store, tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    arrays: dict[str, Array] = {
        "w": source.normal(size=(30, 50)),
        "layer/b": source.integers(0, 9, 7),
        "e": np.zeros((0, 2), np.float16),
    }
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    tree = put_and_compare(store, tmp_path / "a.npz", "npz")
    assert tree == {name: tensor_address(array) for name, array in arrays.items()}
    assert get_tensor(store, tree["w"]).tobytes() == arrays["w"].tobytes()
    np.savez_compressed(tmp_path / "c.npz", **arrays)  # type: ignore[arg-type]
    assert put_and_compare(store, tmp_path / "c.npz", "npz") == {}
    np.savez(tmp_path / "none.npz")
    assert put_and_compare(store, tmp_path / "none.npz", "npz") == {}


def test_npz_with_other_members_comes_back(store: Store, tmp_path: Path) -> None:
    array = np.arange(5, dtype=np.int16)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("notes.txt", b"hello")
        archive.writestr("x.npy", npy(array))
        archive.writestr("y.npy", npy(array), zipfile.ZIP_DEFLATED)
        archive.writestr("empty", b"")
    assert put_and_compare(store, tmp_path / "a.npz", "npz") == {"x": tensor_address(array)}
    for member in (b"", b"junk", npy(array)[:-1]):
        with pytest.raises(FileFormatError, match="npy"):
            plan_bytes(make_zip({"x.npy": member}), "a.npz")


def test_other_files_of_these_names_are_plain_bytes(store: Store, tmp_path: Path) -> None:
    for name in ("a.npy", "a.npz"):
        (tmp_path / name).write_bytes(pickle.dumps([1]))
        assert put_file(store, tmp_path / name).kind == "blob"


def test_bytes_behind_an_array_are_kept() -> None:
    array = np.arange(3)
    data = npy(array) * 2  # two calls of np.save into one file
    assert named(plan_bytes(data, "a.npy"), data) == {"array": ("i64", (3,), array.tobytes())}


BIG = str(1 << 62)
HOSTILE = {
    "no version": (b"\x93NUMPY", "ends early"),
    "version 4": (with_header(head(), bytes(8), major=4), "known version"),
    "a header longer than the file": (b"\x93NUMPY\1\0\xff\xff{}", "ends early"),
    "a header of 2^32-1 bytes": (b"\x93NUMPY\2\0\xff\xff\xff\xff{}", "the most is 1000000"),
    "no header": (with_header(""), "ends early"),
    "not UTF-8": (with_header(b"\xff", major=3), "literal"),
    "no dict": (with_header("[]"), "is not {descr"),
    "a list of pairs": (with_header(head().replace("{", "[").replace("}", "]").replace(": ", ", ")), "is not {descr"),
    "a set": (with_header("{'descr', 'shape'}"), "key has no value"),
    "a call": (with_header(head(shape="tuple([2])")), "character"),
    "an expression": (with_header(head(shape="(1+1,)")), "character|comma"),
    "a format text": (with_header(head(descr="f'<f4'")), "character"),
    "an escape": (with_header(head(descr=r"'\x3cf4'")), "character"),
    "two values": (with_header(head() + " 1"), "follows"),
    "a field too few": (with_header("{'descr': '<f4', 'shape': (2,)}"), "is not {descr"),
    "a field too many": (with_header(head()[:-1] + "'x': 1}"), "a field too many"),
    "a field twice": (with_header(head()[:-1] + "'shape': (2,)}"), "occurs twice"),
    "a number for a key": (with_header("{1: 2}"), "no text"),
    "order a number": (with_header(head(order="0")), "is not {descr"),
    "a list for a shape": (with_header(head(shape="[2]")), "is not {descr"),
    "a number for a shape": (with_header(head(shape="(2)")), "is not {descr"),
    "a negative size": (with_header(head(shape="(-2,)")), "a size that is not one"),
    "a size that is true": (with_header(head(shape="(True,)")), "a size that is not one"),
    "65 axes": (with_header(head(shape="(" + "1," * 65 + ")")), "a size that is not one"),
    "no type": (with_header(head(descr="'f4'")), "the type"),
    "a type of many lines": (with_header(head(descr="'<f4" + "x" * 100 + "'")), "the type"),
    "a missing byte": (with_header(head(), bytes(7)), "should have 8 bytes, there are 7"),
    "a size of 2^62": (with_header(head(shape=f"({BIG},)"), bytes(8)), "should have"),
    "sizes that overflow": (with_header(head(shape=f"({BIG}, {BIG})"), bytes(8)), "should have"),
    "an integer of 1000 digits": (with_header(head(shape=f"({'9' * 1000},)")), "comma|character"),
    "deep nesting": (with_header(head(shape="(" * 1000 + ")" * 1000)), "nested too deep"),
    "deep nesting of dicts": (with_header("{'a':" * 1000 + "1" + "}" * 1000), "nested too deep"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers_are_refused(what: str) -> None:
    data, said = HOSTILE[what]
    with pytest.raises(FileFormatError, match=said):
        plan_bytes(data, "a.npy")
    with pytest.raises(FileFormatError, match=said):
        plan_bytes(make_zip({"a.npy": data}), "a.npz")
    with pytest.raises((ValueError, OverflowError)):
        np.load(io.BytesIO(data))


def test_truncated_files_are_refused_at_every_length() -> None:
    data = npy(np.arange(3))
    for length in range(len(data)):
        assert plan_or_refuse(data[:length], "a.npy") is None
    archive = make_zip({"a.npy": data})
    for length in range(len(archive)):
        assert plan_or_refuse(archive[:length], "a.npz") is None


LITERALS: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.none() | st.integers(-(10**18), 10**18) | st.text("ab<4é ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=10,
)


@given(LITERALS)
def test_parse_literal_reads_what_repr_writes(value: object) -> None:
    assert parse_literal(repr(value)) == value
    assert parse_literal(repr({"a": value, "b": 1})) == LiteralDict((("a", value), ("b", 1)))


@given(st.text("'\"{}[]():,0123L TrueFalsN-\\\n", max_size=30))
@example("01")
@example("(-07,)")
def test_parse_literal_reads_no_more_than_python(text: str) -> None:
    try:
        value = parse_literal(text)
    except LiteralError:
        return
    if "L" not in text and "{" not in text:
        assert value == ast.literal_eval(text.strip())


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=4))
def test_names_have_what_numpy_loads(name: str, shape: list[int]) -> None:
    array = np.zeros(shape, numpy_dtype(name))
    data = npy(array)
    found = named(plan_bytes(data, "a.npy"), data)
    if name == "bf16":
        assert found == {}
    else:
        loaded = np.load(io.BytesIO(data))
        assert found == {"array": (dtype_name(loaded.dtype), loaded.shape, loaded.tobytes())}
