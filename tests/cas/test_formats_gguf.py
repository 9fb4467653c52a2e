"""GGUF files, written by the gguf package, come back byte for byte; hostile ones are refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cas.weight_files import named, plan_bytes, plan_or_refuse, put_and_compare

from samebits.cas.errors import FileFormatError
from samebits.cas.files import put_file
from samebits.cas.formats import gguf as gguf_format
from samebits.cas.store import Store
from samebits.cas.tensor import tensor_address

gguf = pytest.importorskip("gguf")

TYPES = [np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64]


def fields(writer: Any) -> None:
    """Add a field of every kind."""
    writer.add_uint8("a.u8", 1)
    writer.add_int8("a.i8", -1)
    writer.add_uint64("a.u64", 1 << 40)
    writer.add_float32("a.f32", 1.5)
    writer.add_float64("a.f64", 1.5)
    writer.add_bool("a.bool", True)
    writer.add_string("a.text", "é" * 100)
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.texts", ["a", "", "bcd"])
    writer.add_array("a.truths", [True, False])
    writer.add_array("a.nested", [[1, 2], [3]])


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
@pytest.mark.parametrize("big", [False, True])
def test_put_file_keeps_every_type(store: Store, tmp_path: Path, alignment: int | None, big: bool) -> None:
    source = np.random.default_rng(0)
    arrays = {f"blk.0.{np.dtype(one).name}": source.integers(0, 9, (2, 3, 5)).astype(one) for one in TYPES}
    arrays |= {"scalar": np.array([1.5], np.float32), "one.axis": source.normal(size=5).astype(np.float32)}
    arrays |= {"large": source.normal(size=(600, 900))} if big else {}
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    fields(writer)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    quantized = gguf.quants.quantize(source.normal(size=(4, 256)).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("quantized", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tree = put_and_compare(store, tmp_path / "m.gguf", "gguf")
    assert tree == {name: tensor_address(array) for name, array in arrays.items()}
    data = (tmp_path / "m.gguf").read_bytes()
    plan = plan_bytes(data, "m.gguf")
    assert plan is not None
    assert quantized.tobytes() in [data[section.start : section.stop] for section in plan.sections]


def test_type_table_is_that_of_the_gguf_package() -> None:
    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items() if kind.name != "Q8_1"}
    ours = {kind: (block, size) for kind, (_, block, size) in gguf_format.TENSOR_TYPES.items() if kind != 9}
    assert {kind: ours.get(kind) for kind in sizes} == sizes
    for kind, (dtype, _, _) in gguf_format.TENSOR_TYPES.items():
        name = gguf.GGMLQuantizationType(kind).name.lower()
        assert dtype in (name, None)
        assert (dtype is None) == (name[0] not in "fbi" or name.startswith("iq"))


def string(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def field(key: str | bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor(name: str | bytes, sizes: tuple[int, ...], kind: int = 0, start: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, start)


def make_file(
    tensors: list[bytes],
    data: bytes = b"",
    added: list[bytes] | None = None,
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    added = added or []
    found = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(added))))
    header = found + b"".join(added) + b"".join(tensors)
    return header + bytes(-len(header) % alignment if tensors else 0) + data


ONE = tensor("a", (2,))
TWO = tensor("b", (1,), start=32)
NUMBERS = struct.pack("<IQ", 9, 1)  # an array of one array of ...


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_are_read_and_axes_are_reversed(version: int) -> None:
    data = make_file([tensor("a", (3, 2)), tensor("b", (1, 1), start=32)], bytes(range(36)), version=version)
    assert named(plan_bytes(data, "m.gguf"), data) == {
        "a": ("f32", (2, 3), bytes(range(24))),
        "b": ("f32", (1, 1), bytes(range(32, 36))),
    }


FAITHFUL = {
    "no tensor": make_file([]),
    "no tensor but bytes": make_file([], b"abc"),
    "a tensor of no axes": make_file([tensor("a", ())], bytes(4)),
    "a tensor of no elements": make_file([tensor("a", (0, 3))]),
    "two of no elements": make_file([tensor("a", (0,)), tensor("b", (0,))]),
    "a gap": make_file([ONE, tensor("b", (1,), start=64)], bytes(68)),
    "another order": make_file([tensor("b", (1,), start=32), ONE], bytes(36)),
    "padding at the end": make_file([ONE], bytes(32)),
    "names that a tree can't have": make_file([tensor("../a", (1,)), tensor("a\nb", (1,), start=32)], bytes(36)),
    "arrays of arrays": make_file([], added=[field("a", 9, NUMBERS * 7 + struct.pack("<IQB", 0, 1, 7))]),
}


@pytest.mark.parametrize("what", FAITHFUL)
def test_odd_but_valid_files_come_back(store: Store, tmp_path: Path, what: str) -> None:
    (tmp_path / "m.gguf").write_bytes(FAITHFUL[what])
    put_and_compare(store, tmp_path / "m.gguf", "gguf")


BIG = (1 << 63) - 1
HOSTILE = {
    "nothing": (b"", "ends early"),
    "another magic": (b"GGML" + bytes(20), "does not start with GGUF"),
    "version 1": (make_file([], version=1), "version 1; versions 2 and 3"),
    "version 4": (make_file([], version=4), "version 4; versions 2 and 3"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "2^64-1 tensors": (make_file([], counts=((1 << 64) - 1, 0)), "claims"),
    "2^63 fields": (make_file([], counts=(0, 1 << 63)), "claims"),
    "a tensor too few": (make_file([ONE], counts=(2, 0)), "."),
    "a key of 2^63 bytes": (make_file([], b"\0" * 7 + b"\x80", counts=(0, 1)), "a name of"),
    "an empty key": (make_file([], added=[field("", 0, b"\1")]), "a name of 0"),
    "a key that is not UTF-8": (make_file([], added=[field(b"\xff", 0, b"\1")]), "not UTF-8"),
    "a key twice": (make_file([], added=[field("a", 0, b"\1")] * 2), "'a' twice"),
    "an unknown type": (make_file([], added=[field("a", 13, b"\1")]), "unknown type 13"),
    "a bool that is 2": (make_file([], added=[field("a", 7, b"\2")]), "neither 0 nor 1"),
    "an array of a bool that is 2": (
        make_file([], added=[field("a", 9, struct.pack("<IQ", 7, 2) + b"\1\2")]),
        "neither",
    ),
    "a text of 2^64-1 bytes": (make_file([], added=[field("a", 8, b"\xff" * 8)]), "ends early"),
    "an array of 2^63 numbers": (make_file([], added=[field("a", 9, struct.pack("<IQ", 4, 1 << 63))]), "ends early"),
    "an array of 2^63 texts": (make_file([], added=[field("a", 9, struct.pack("<IQ", 8, 1 << 63))]), "more than"),
    "an array of 2^63 bools": (make_file([], added=[field("a", 9, struct.pack("<IQ", 7, 1 << 63))]), "ends early"),
    "an array of an unknown type": (make_file([], added=[field("a", 9, struct.pack("<IQ", 13, 1))]), "unknown type"),
    "deep arrays": (make_file([], added=[field("a", 9, NUMBERS * 5000)]), "nested deeper"),
    "alignment 0": (make_file([], added=[field("general.alignment", 4, bytes(4))]), "power of two"),
    "alignment 4": (make_file([], added=[field("general.alignment", 4, b"\4\0\0\0")]), "power of two"),
    "alignment 24": (make_file([], added=[field("general.alignment", 4, b"\x18\0\0\0")]), "power of two"),
    "alignment a u64": (make_file([], added=[field("general.alignment", 10, b"\x20" + bytes(7))]), "no u32"),
    "an alignment beyond the file": (
        make_file([ONE], bytes(8), [field("general.alignment", 4, b"\0\0\0\x80")]),
        "ends at 2147483656",
    ),
    "two tensors alike": (make_file([ONE, tensor("a", (1,), start=32)], bytes(36)), "names two tensors"),
    "a tensor without a name": (make_file([tensor("", (1,))], bytes(4)), "a name of 0"),
    "five axes": (make_file([tensor("a", (1,) * 5)], bytes(4)), "5 axes"),
    "2^32-1 axes": (make_file([string("a") + b"\xff" * 4], bytes(400)), "4294967295 axes"),
    "a size of 2^63": (make_file([tensor("a", (1 << 63, 0))]), "2\\^63"),
    "sizes that overflow": (make_file([tensor("a", (BIG, BIG, BIG, BIG))], bytes(4)), "ends at"),
    "a removed type": (make_file([tensor("a", (32,), 4)], bytes(64)), "unknown ggml type 4"),
    "a type of the future": (make_file([tensor("a", (32,), 1000)], bytes(64)), "unknown ggml type 1000"),
    "half a block": (make_file([tensor("a", (16,), 2)], bytes(64)), "blocks of 32"),
    "a block of no axes": (make_file([tensor("a", (), 2)], bytes(64)), "blocks of 32"),
    "an odd place": (make_file([tensor("a", (1,), start=4)], bytes(8)), "not a multiple of 32"),
    "a place of 2^64-32": (make_file([tensor("a", (1,), start=(1 << 64) - 32)], bytes(8)), "ends at"),
    "an overlap": (make_file([tensor("a", (9,)), TWO], bytes(36)), "overlaps"),
    "the same place": (make_file([ONE, tensor("b", (2,))], bytes(8)), "overlaps"),
    "data cut short": (make_file([ONE], bytes(7)), "ends at"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_put_file_refuses_hostile_files_and_names_them(store: Store, tmp_path: Path, what: str) -> None:
    data, said = HOSTILE[what]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=rf"{said}.*raw=True"):
        put_file(store, path)
    assert list(store.objects()) == []
    assert plan_or_refuse(data, "m.gguf") is None


def test_truncated_file_is_refused_at_every_length() -> None:
    added = [field("a", 8, string("text")), field("b", 9, struct.pack("<IQ", 8, 2) + string("x") * 2)]
    data = make_file([ONE, TWO], bytes(36), added)
    assert plan_or_refuse(data, "m.gguf") is not None
    for length in range(len(data)):
        assert plan_or_refuse(data[:length], "m.gguf") is None
