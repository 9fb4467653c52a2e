"""Store a weights file by its plan: every section a blob, every named tensor a node."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from samebits.cas.digest import Digest
from samebits.cas.encoding import Value
from samebits.cas.errors import FileFormatError, NodeError
from samebits.cas.formats.plan import FilePlan, Section, TensorName
from samebits.cas.formats.weights_node import weights_node
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.tensor import TENSOR_KIND, tensor_info
from samebits.cas.tree import check_name, put_tree


@dataclass(frozen=True, slots=True)
class StoredSection:
    """A section's blob, and whether all its bytes are 0 or 1 (only looked at where a tensor of bool is named)."""

    blob: Digest
    is_boolean: bool


def put_planned(store: Store, path: Path, plan: FilePlan) -> Digest:
    """Store a file section by section, in bounded memory; returns the address of its `weights_file` node.

    Left out of the tree are tensors of bool with bytes other than 0 and 1, and names that a tree can't have.
    Raises FileFormatError for a file that is shorter or longer than its plan; then at most some sections are stored.
    """
    sections: list[Digest] = []
    entries: dict[str, Digest] = {}
    with path.open("rb") as stream, store.batch(join=True):
        for section in plan.sections:
            stored = _put_section(store, stream, section, path)
            sections.append(stored.blob)
            for tensor in section.tensors:
                node = _tensor_node(tensor, stored)
                if node is not None:
                    entries[tensor.name] = store.put_node(node)
        if os.fstat(stream.fileno()).st_size != plan.sections[-1].stop:
            raise FileFormatError(path, "became longer while it was read")
        try:
            return store.put_node(weights_node(plan.format, sections, put_tree(store, entries)))
        except NodeError as error:
            raise FileFormatError(path, f"has too many or too long names: {error}") from error


def _put_section(store: Store, stream: BinaryIO, section: Section, path: Path) -> StoredSection:
    """Store a section of a file; the one place where a file's bytes become blobs."""
    if any(tensor.dtype == "bool" for tensor in section.tensors):
        reader = _SectionReader(stream, section, path)
        return StoredSection(store.put_pieces(iter(reader.read, b"")), reader.is_boolean)
    try:
        return StoredSection(store.put_section(stream.fileno(), section.start, section.stop), is_boolean=False)
    except EOFError:
        raise FileFormatError(path, "became shorter while it was read") from None


class _SectionReader:
    """A section of a stream, read in pieces."""

    def __init__(self, stream: BinaryIO, section: Section, path: Path) -> None:
        self._stream, self._left_bytes, self._path = stream, section.stop - section.start, path
        stream.seek(section.start)
        self.is_boolean = True  # whether all bytes so far were 0 or 1

    def read(self) -> bytes:
        """Return the next piece, and nothing at the end of the section."""
        data = self._stream.read(min(1 << 20, self._left_bytes))
        self._left_bytes -= len(data)
        if not data and self._left_bytes:
            raise FileFormatError(self._path, "became shorter while it was read")
        self.is_boolean = self.is_boolean and not data.translate(None, b"\0\1")
        return data


def _tensor_node(tensor: TensorName, stored: StoredSection) -> Node | None:
    """Return the tensor's node, or None for one that has none."""
    if tensor.dtype == "bool" and not stored.is_boolean:
        return None
    shape: list[Value] = list(tensor.shape)
    node = Node(TENSOR_KIND, {"dtype": tensor.dtype, "shape": shape, "blob": stored.blob})
    try:
        tensor_info(node)
        check_name(tensor.name)
    except NodeError:
        return None
    return node
