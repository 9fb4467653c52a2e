"""NumPy's `.npy` files: one array behind a header that is a Python literal.

    \\x93NUMPY, version (1, 0), u16le length, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" and spaces

Versions 2 and 3 have a length of 4 bytes. Source: numpy.lib.format, NEP 1. An array in Fortran order, or of a type that
samebits does not compute with (big endian, text, structures), is a section without a name; an array of objects is a
pickle, which nobody reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.dtype import DTYPES, numpy_dtype
from samebits.cas.formats.bounded_reader import BoundedReader
from samebits.cas.formats.literal import LiteralDict, LiteralError, parse_literal
from samebits.cas.formats.plan import FilePlan, Section, TensorName, cover_file

NPY_MAGIC: Final = b"\x93NUMPY"
ARRAY_NAME: Final = "array"  # of the tensor in an .npy file
MAX_HEADER_SIZE_BYTES: Final = 1_000_000
MAX_RANK: Final = 64
_DESCR: Final = re.compile(r"[<>|=][a-zA-Z?][0-9]{0,18}(\[[^\]\[]{1,20}\])?\Z")
_SIZED: Final = re.compile(r"[<>|]([biufcSV])([0-9]{1,9})\Z")
_NAMES: Final = {numpy_dtype(name).str: name for name in DTYPES if name != "bf16"}  # "<f4" -> "f32"


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """A checked header."""

    dtype: str | None  # ours; None for one that we lack or that is not little endian
    item_size_bytes: int | None  # None where only NumPy knows it
    is_fortran: bool
    shape: tuple[int, ...]
    data_start: int  # where in the file the array's bytes begin

    @property
    def size_bytes(self) -> int | None:
        """The size of the array's bytes, if it is known."""
        return None if self.item_size_bytes is None else self.item_size_bytes * prod(self.shape)


def plan_npy(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan:
    """Return the plan of an `.npy` file, its tensor named "array"; raises FileFormatError."""
    return FilePlan("npy", cover_file(size_bytes, [npy_section(stream, 0, size_bytes, path, ARRAY_NAME)]))


def npy_section(stream: BinaryIO, start: int, stop: int, path: Path, name: str) -> Section:
    """Return the section of the array in the `.npy` at bytes [start, stop) of a stream, with a name if it can have one.

    Bytes may follow the array, as NumPy allows; raises FileFormatError.
    """
    header = read_npy_header(stream, start, stop, path)
    found, size_bytes = stop - header.data_start, header.size_bytes
    if size_bytes is None:
        return Section(header.data_start, stop)
    if size_bytes > found:
        reader = BoundedReader(stream, header.data_start, stop, path, "npy array")
        raise reader.error(f"should have {size_bytes} bytes, there are {found}")
    named = header.dtype is not None and not header.is_fortran
    tensors = (TensorName(name, header.dtype or "", header.shape),) if named else ()
    return Section(header.data_start, header.data_start + size_bytes, tensors)


def read_npy_header(stream: BinaryIO, start: int, stop: int, path: Path) -> NpyHeader:
    """Read and check the header of the `.npy` at bytes [start, stop) of a stream; raises FileFormatError."""
    reader = BoundedReader(stream, start, stop, path, "npy header")
    magic, major, minor = reader.read(6), reader.read_unsigned(1), reader.read_unsigned(1)
    if magic != NPY_MAGIC or major not in (1, 2, 3) or minor != 0:
        raise reader.error(f"is not of a known version (1.0, 2.0, 3.0) but {major}.{minor}")
    length = reader.read_unsigned(2 if major == 1 else 4)
    if length > MAX_HEADER_SIZE_BYTES:
        raise reader.error(f"has {length} bytes, the most is {MAX_HEADER_SIZE_BYTES}")
    data = reader.read(length)
    try:
        fields = parse_literal(data.decode("utf-8" if major == 3 else "latin-1"))
    except (LiteralError, UnicodeDecodeError) as error:
        raise reader.error(f"is not a literal as NumPy writes it: {error}") from error
    return _read_fields(fields, reader)


def _read_fields(fields: object, reader: BoundedReader) -> NpyHeader:
    """Return the header that a literal describes."""
    values: dict[str, object] = {}
    for key, value in fields.pairs if isinstance(fields, LiteralDict) else ():
        if not isinstance(key, str) or key in values:
            raise reader.error("has a key that is no text, or occurs twice")
        values[key] = value
    match values:
        case {"descr": str() | [*_] as descr, "fortran_order": bool() as is_fortran, "shape": tuple() as sizes}:
            pass
        case _:
            raise reader.error("is not {descr, fortran_order, shape}")
    shape = tuple(size for size in sizes if isinstance(size, int) and not isinstance(size, bool) and size >= 0)
    if len(values) != 3 or len(shape) != len(sizes) or len(shape) > MAX_RANK:
        raise reader.error("has a size that is not one, or a field too many")
    if not isinstance(descr, str):
        return NpyHeader(None, None, is_fortran, shape, reader.position)
    if not _DESCR.match(descr):
        raise reader.error(f"has the type {descr[:40]!a}")
    sized = _SIZED.match(descr)
    item_size_bytes = int(sized[2]) if sized else None
    return NpyHeader(_NAMES.get(descr), item_size_bytes, is_fortran, shape, reader.position)
