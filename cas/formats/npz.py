"""NumPy's `.npz` files: zip archives of `.npy` members.

A stored member `weight.npy` is the tensor `weight`. A compressed member is a section without a name: it comes back
as it is, and nothing decompresses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.formats.npy import npy_section
from samebits.cas.formats.plan import FilePlan, Section, cover_file
from samebits.cas.formats.zip_sections import read_zip

_SUFFIX: Final = ".npy"


def plan_npz(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan:
    """Return the plan of an `.npz` file; raises FileFormatError."""
    spans: list[Section] = []
    for member in read_zip(stream, size_bytes, path):
        if member.is_plain and member.name.endswith(_SUFFIX):
            name = member.name.removesuffix(_SUFFIX)
            spans.append(npy_section(stream, member.start, member.stop, path, name))
        elif member.stop > member.start:
            spans.append(Section(member.start, member.stop))
    return FilePlan("npz", cover_file(size_bytes, spans))
