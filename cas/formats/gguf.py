"""GGUF files, versions 2 and 3, little endian.

    "GGUF", u32 version, u64 tensors, u64 fields, the fields (key, u32 type, value),
    for each tensor: name, u32 axes, u64 sizes (fastest axis first), u32 type, u64 offset; padding; the data

A text is a u64 length and its bytes. Offsets count from the start of the data and are aligned to `general.alignment`
(32). A quantised tensor is a section without a name: samebits does not compute with its type. Source:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, ggml.h (enum ggml_type).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.errors import FileFormatError
from samebits.cas.formats.bounded_reader import BoundedReader
from samebits.cas.formats.plan import MAX_SECTIONS, FilePlan, Section, TensorName, cover_file, shown

GGUF_MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
MAX_HEADER_SIZE_BYTES: Final = 200_000_000
MAX_FIELDS: Final = 100_000
MAX_TEXTS: Final = 4_000_000  # in all arrays together; a vocabulary has some 100,000
MAX_ARRAY_DEPTH: Final = 8
MAX_AXES: Final = 4  # GGML_MAX_DIMS
MAX_NAME_SIZE_BYTES: Final = 65535
DEFAULT_ALIGNMENT: Final = 32
ALIGNMENT_KEY: Final = "general.alignment"

_U32, _BOOL, _STRING, _ARRAY = 4, 7, 8, 9
# type of a field -> bytes of its value: u8, i8, u16, i16, u32, i32, f32, bool, u64, i64, f64
_VALUE_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# ggml's type -> (ours or None, elements a block, bytes a block)
TENSOR_TYPES: Final[dict[int, tuple[str | None, int, int]]] = {
    0: ("f32", 1, 4),
    1: ("f16", 1, 2),
    2: (None, 32, 18),  # Q4_0
    3: (None, 32, 20),  # Q4_1
    6: (None, 32, 22),  # Q5_0
    7: (None, 32, 24),  # Q5_1
    8: (None, 32, 34),  # Q8_0
    9: (None, 32, 36),  # Q8_1; gguf-py says 40, which leaves a gap of bytes that nothing names
    10: (None, 256, 84),  # Q2_K
    11: (None, 256, 110),  # Q3_K
    12: (None, 256, 144),  # Q4_K
    13: (None, 256, 176),  # Q5_K
    14: (None, 256, 210),  # Q6_K
    15: (None, 256, 292),  # Q8_K
    16: (None, 256, 66),  # IQ2_XXS
    17: (None, 256, 74),  # IQ2_XS
    18: (None, 256, 98),  # IQ3_XXS
    19: (None, 256, 50),  # IQ1_S
    20: (None, 32, 18),  # IQ4_NL
    21: (None, 256, 110),  # IQ3_S
    22: (None, 256, 82),  # IQ2_S
    23: (None, 256, 136),  # IQ4_XS
    24: ("i8", 1, 1),
    25: ("i16", 1, 2),
    26: ("i32", 1, 4),
    27: ("i64", 1, 8),
    28: ("f64", 1, 8),
    29: (None, 256, 56),  # IQ1_M
    30: ("bf16", 1, 2),
    34: (None, 256, 54),  # TQ1_0
    35: (None, 256, 66),  # TQ2_0
    39: (None, 32, 17),  # MXFP4
    40: (None, 64, 36),  # NVFP4
    41: (None, 128, 18),  # Q1_0
}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of a file."""

    name: str
    kind: int  # ggml's type
    shape: tuple[int, ...]  # slowest axis first
    start: int  # bytes [start, stop) of the data
    stop: int


@dataclass(slots=True)
class _Budget:
    texts: int = MAX_TEXTS


def plan_gguf(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan:
    """Return the plan of a GGUF file, a section for every tensor; raises FileFormatError."""
    reader = BoundedReader(stream, 0, min(size_bytes, MAX_HEADER_SIZE_BYTES), path, "GGUF header")
    count, field_count = _read_start(reader, path)
    alignment = _read_fields(reader, field_count)
    tensors = [_read_tensor(reader, alignment) for _ in range(count)]
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise reader.error("names two tensors alike")
    data_start = reader.position + -reader.position % alignment
    spans = [_section(tensor, data_start) for tensor in tensors]
    _check_order(spans, tensors, size_bytes, path)
    return FilePlan("gguf", cover_file(size_bytes, spans))


def _read_start(reader: BoundedReader, path: Path) -> tuple[int, int]:
    """Return the number of tensors and of fields."""
    magic, version = reader.read(4), reader.read(4)
    if magic != GGUF_MAGIC:
        raise FileFormatError(path, "does not start with GGUF")
    if int.from_bytes(version, "big") in (1, *VERSIONS):
        raise FileFormatError(path, "is a big-endian GGUF file; convert it to little endian")
    if int.from_bytes(version, "little") not in VERSIONS:
        number = int.from_bytes(version, "little")
        raise FileFormatError(path, f"is a GGUF file of version {number}; versions 2 and 3 are known, convert it")
    count, field_count = reader.read_unsigned(8), reader.read_unsigned(8)
    if count > MAX_SECTIONS // 2 or field_count > MAX_FIELDS:
        raise reader.error(f"claims {count} tensors and {field_count} fields")
    return count, field_count


def _read_fields(reader: BoundedReader, count: int) -> int:
    """Go past the fields; returns the alignment."""
    alignment = DEFAULT_ALIGNMENT
    keys: set[str] = set()
    budget = _Budget()
    for _ in range(count):
        key = _read_name(reader)
        if key in keys:
            raise reader.error(f"has the field {shown(key)} twice")
        keys.add(key)
        kind = reader.read_unsigned(4)
        if key != ALIGNMENT_KEY:
            _skip_value(reader, kind, 0, budget)
            continue
        alignment = reader.read_unsigned(4) if kind == _U32 else 0
        if alignment < 8 or alignment & (alignment - 1):
            raise reader.error(f"has an {ALIGNMENT_KEY} that is no u32, or not a power of two of at least 8")
    return alignment


def _skip_value(reader: BoundedReader, kind: int, depth: int, budget: _Budget) -> None:
    if kind == _STRING:
        reader.skip(reader.read_unsigned(8))
    elif kind == _ARRAY:
        _skip_array(reader, depth, budget)
    elif kind == _BOOL:
        _check_booleans(reader, 1)
    elif kind in _VALUE_SIZES:
        reader.skip(_VALUE_SIZES[kind])
    else:
        raise reader.error(f"has a field of the unknown type {kind}")


def _skip_array(reader: BoundedReader, depth: int, budget: _Budget) -> None:
    kind, count = reader.read_unsigned(4), reader.read_unsigned(8)
    if depth >= MAX_ARRAY_DEPTH:
        raise reader.error(f"has arrays nested deeper than {MAX_ARRAY_DEPTH}")
    if kind == _BOOL:
        _check_booleans(reader, count)
    elif kind in _VALUE_SIZES:
        reader.skip(count * _VALUE_SIZES[kind])
    elif kind in (_STRING, _ARRAY):
        budget.texts -= count
        if budget.texts < 0:
            raise reader.error(f"has arrays with more than {MAX_TEXTS} texts")
        for _ in range(count):
            _skip_value(reader, kind, depth + 1, budget)
    else:
        raise reader.error(f"has an array of the unknown type {kind}")


def _check_booleans(reader: BoundedReader, count: int) -> None:
    if reader.read(count).translate(None, b"\0\1"):
        raise reader.error("has a bool that is neither 0 nor 1")


def _read_name(reader: BoundedReader) -> str:
    length = reader.read_unsigned(8)
    if not 0 < length <= MAX_NAME_SIZE_BYTES:
        raise reader.error(f"has a name of {length} bytes")
    try:
        return reader.read(length).decode()
    except UnicodeDecodeError:
        raise reader.error("has a name that is not UTF-8") from None


def _read_tensor(reader: BoundedReader, alignment: int) -> GgufTensor:
    name = _read_name(reader)
    axes = reader.read_unsigned(4)
    if axes > MAX_AXES:
        raise reader.error(f"gives tensor {shown(name)} {axes} axes, the most is {MAX_AXES}")
    sizes = [reader.read_unsigned(8) for _ in range(axes)]
    kind, start = reader.read_unsigned(4), reader.read_unsigned(8)
    if any(size >= 1 << 63 for size in sizes):
        raise reader.error(f"gives tensor {shown(name)} a size of 2^63 or more")
    if kind not in TENSOR_TYPES:
        hint = "a type that ggml removed, or one of a later version"
        raise reader.error(f"gives tensor {shown(name)} the unknown ggml type {kind}: {hint}")
    _, block, block_size_bytes = TENSOR_TYPES[kind]
    if (sizes[0] if sizes else 1) % block:
        raise reader.error(f"gives tensor {shown(name)} rows of {sizes[:1]} elements, its type has blocks of {block}")
    if start % alignment:
        raise reader.error(f"puts tensor {shown(name)} at {start}, which is not a multiple of {alignment}")
    return GgufTensor(name, kind, tuple(reversed(sizes)), start, start + prod(sizes) // block * block_size_bytes)


def _section(tensor: GgufTensor, data_start: int) -> Section:
    dtype, _, _ = TENSOR_TYPES[tensor.kind]
    named = () if dtype is None else (TensorName(tensor.name, dtype, tensor.shape),)
    return Section(data_start + tensor.start, data_start + tensor.stop, named)


def _check_order(spans: list[Section], tensors: list[GgufTensor], size_bytes: int, path: Path) -> None:
    """Check that tensors lie in the file and not on each other."""
    end = 0
    by_start = sorted(zip(spans, tensors, strict=True), key=lambda pair: (pair[0].start, pair[0].stop))
    for span, tensor in by_start:
        if span.start < end:
            raise FileFormatError(path, f"its tensor {shown(tensor.name)} overlaps another one")
        if span.stop > size_bytes:
            raise FileFormatError(
                path, f"its tensor {shown(tensor.name)} ends at {span.stop}, the file at {size_bytes}"
            )
        end = span.stop
