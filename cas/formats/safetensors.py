"""Safetensors files: a strict reader of the header, and the file as a tree of tensors that gives it back byte for byte.

Format: u64le length of the header, the header (JSON: name -> {dtype, shape, data_offsets}, and `__metadata__`; spaces
may follow), then the tensors' bytes without gaps. Source: https://github.com/huggingface/safetensors#format

A tensor whose type samebits does not compute with (F8_E4M3, C64, ...) is a section without a name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

from samebits.cas.errors import FileFormatError
from samebits.cas.formats.plan import FilePlan, Section, TensorName

MAX_HEADER_SIZE_BYTES: Final = 100_000_000
METADATA: Final = "__metadata__"
# safetensors' name -> (ours, or None where we compute with no such type; bits an element)
DTYPES: Final[dict[str, tuple[str | None, int]]] = {
    "BOOL": ("bool", 8),
    "U8": ("u8", 8),
    "I8": ("i8", 8),
    "I16": ("i16", 16),
    "U16": ("u16", 16),
    "F16": ("f16", 16),
    "BF16": ("bf16", 16),
    "I32": ("i32", 32),
    "U32": ("u32", 32),
    "F32": ("f32", 32),
    "F64": ("f64", 64),
    "I64": ("i64", 64),
    "U64": ("u64", 64),
    "F8_E4M3": (None, 8),
    "F8_E5M2": (None, 8),
    "F8_E8M0": (None, 8),
    "F8_E4M3FNUZ": (None, 8),
    "F8_E5M2FNUZ": (None, 8),
    "C64": (None, 64),
    "F6_E2M3": (None, 6),
    "F6_E3M2": (None, 6),
    "F4": (None, 4),
}
_UNKNOWN_DTYPE = re.compile(r"[A-Z][A-Z0-9_]{0,31}\Z")  # types of later versions: kept, their size is not checked


@dataclass(frozen=True, slots=True)
class SafeTensor:
    """One tensor of a file: where its bytes lie after the header."""

    name: str
    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    start: int  # bytes [start, stop) behind the header
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: its exact bytes (with the 8 of the length), and the tensors in the order of their bytes."""

    raw: bytes
    tensors: tuple[SafeTensor, ...]


def read_header(stream: BinaryIO, size_bytes: int, path: Path) -> Header:
    """Read and check the header of the file `path` of `size_bytes`; raises FileFormatError naming what is wrong."""
    prefix = stream.read(8)
    if len(prefix) < 8:
        raise FileFormatError(path, "is shorter than a safetensors header")
    length = int.from_bytes(prefix, "little")
    if length > min(MAX_HEADER_SIZE_BYTES, size_bytes - 8):
        raise FileFormatError(path, f"its header claims {length} bytes, the file has {size_bytes}")
    text = stream.read(length)
    if len(text) != length:
        raise FileFormatError(path, "became shorter while it was read")
    header = _parse_json(text, path)
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError(path, f"its {METADATA} is not a map of texts")
    tensors = [_read_tensor(name, value, path) for name, value in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.stop))
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            raise FileFormatError(path, f"tensor {tensor.name!r} starts at {tensor.start}, want {end}: gap or overlap")
        end = tensor.stop
    left = size_bytes - 8 - length
    if end != left:
        raise FileFormatError(path, f"its tensors have {end} bytes, behind the header there are {left}")
    return Header(prefix + text, tuple(tensors))


def plan_safetensors(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan:
    """Return the plan of a safetensors file, a section for every tensor; raises FileFormatError."""
    header = read_header(stream, size_bytes, path)
    start = len(header.raw)
    sections = [Section(0, start)]
    for tensor in header.tensors:
        dtype, _ = DTYPES.get(tensor.dtype, (None, 0))
        named = () if dtype is None else (TensorName(tensor.name, dtype, tensor.shape),)
        sections.append(Section(start + tensor.start, start + tensor.stop, named))
    return FilePlan("safetensors", tuple(sections))


def _parse_json(text: bytes, path: Path) -> dict[str, Any]:
    if not text.startswith(b"{") or not text.rstrip(b" ").endswith(b"}"):
        raise FileFormatError(path, "its header is not a JSON object")
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_refuse)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, f"its header is not JSON as safetensors wants it: {error}") from error
    if not isinstance(header, dict):
        raise FileFormatError(path, "its header is not a JSON object")
    return header


def _read_tensor(name: str, value: Any, path: Path) -> SafeTensor:
    match value:
        case {"dtype": str() as dtype, "shape": [*shape], "data_offsets": [start, stop]} if len(value) == 3:
            sizes = (*shape, start, stop)
            if any(isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 63 for size in sizes):
                raise FileFormatError(path, f"tensor {name!r} has a size or an offset that is not one")
        case _:
            raise FileFormatError(path, f"tensor {name!r} is not {{dtype, shape, data_offsets}}")
    if start > stop:
        raise FileFormatError(path, f"tensor {name!r} ends before it starts")
    if dtype in DTYPES:
        bits = prod(shape) * DTYPES[dtype][1]
        if bits != (stop - start) * 8:
            wanted = f"{dtype}{shape} has {bits} bits"
            raise FileFormatError(path, f"tensor {name!r}: {wanted}, its offsets span {stop - start} bytes")
    elif not _UNKNOWN_DTYPE.match(dtype):
        raise FileFormatError(path, f"tensor {name!r} has the dtype {dtype[:40]!r}")
    return SafeTensor(name, dtype, tuple(shape), start, stop)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text[:20]} is not an integer")
