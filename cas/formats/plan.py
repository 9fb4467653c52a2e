"""What a weights file consists of: sections that cover it, and the tensors whose bytes they are.

A plan is made from a file's headers alone; storing it is another step. Example: a safetensors file with one f32 tensor
of two elements and a header of 60 bytes is ``FilePlan("safetensors", (Section(0, 68), Section(68, 76,
(TensorName("weight", "f32", (2,)),))))``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

from samebits.cas.dtype import DTYPES, numpy_dtype
from samebits.cas.errors import FileFormatError

MAX_SECTIONS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class TensorName:
    """A tensor that a file names: our dtype, C order, little endian."""

    name: str
    dtype: str  # one of dtype.DTYPES
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Bytes [start, stop) of a file. Each tensor named here has exactly these bytes; tied weights share a section."""

    start: int
    stop: int
    tensors: tuple[TensorName, ...] = ()


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A file as sections without gaps or overlaps; the first one is its header, which may have no bytes."""

    format: str  # one of weights_node.FORMATS
    sections: tuple[Section, ...]


def cover_file(size_bytes: int, spans: Iterable[Section]) -> tuple[Section, ...]:
    """Return the sections of a whole file: a header, the spans in order, and what lies between and behind them."""
    sections: list[Section] = []
    end = 0
    for span in sorted(spans, key=lambda span: (span.start, span.stop)):
        if span.start > end or not sections:
            sections.append(Section(end, span.start))
        sections.append(span)
        end = span.stop
    if end < size_bytes or not sections:
        sections.append(Section(end, size_bytes))
    return tuple(sections)


def check_plan(plan: FilePlan, size_bytes: int, path: Path) -> None:
    """Check that a plan covers the file and that tensors have the sizes of their sections; raises FileFormatError."""
    end = 0
    names: set[str] = set()
    if len(plan.sections) > MAX_SECTIONS:
        raise FileFormatError(path, f"has {len(plan.sections)} sections, the most is {MAX_SECTIONS}")
    for section in plan.sections:
        if section.start != end or section.stop < end:
            where = f"[{section.start}, {section.stop})"
            raise FileFormatError(path, f"its section {where} should start at {end}: gap or overlap")
        end = section.stop
        for tensor in section.tensors:
            _check_tensor(tensor, section, path)
            if tensor.name in names:
                raise FileFormatError(path, f"names two tensors {shown(tensor.name)}")
            names.add(tensor.name)
    if end != size_bytes or not plan.sections:
        raise FileFormatError(path, f"its sections end at {end}, the file has {size_bytes} bytes")
    if plan.sections[0].tensors:
        raise FileFormatError(path, "its header is named as a tensor")


def shown(name: str) -> str:
    """Return a name from a file as one short printable piece of a message."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


def _check_tensor(tensor: TensorName, section: Section, path: Path) -> None:
    if tensor.dtype not in DTYPES:
        raise FileFormatError(path, f"tensor {shown(tensor.name)} has the unknown dtype {shown(tensor.dtype)}")
    if any(size < 0 for size in tensor.shape):
        raise FileFormatError(path, f"tensor {shown(tensor.name)} has a negative size")
    size_bytes = prod(tensor.shape) * numpy_dtype(tensor.dtype).itemsize
    if size_bytes != section.stop - section.start:
        found = f"{section.stop - section.start} bytes"
        raise FileFormatError(path, f"tensor {shown(tensor.name)} should have {size_bytes} bytes, the file has {found}")
