"""The objects that came along with evidence, each found by the hash of its bytes and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebits.cas import Digest, Node, decode_node, hash_blob, tensor_info
from samebits.cas.digest import hash_node
from samebits.cas.dtype import numpy_dtype
from samebits.cas.errors import ObjectNotFoundError
from samebits.cas.ranges import RangeChecker
from samebits.cas.records import ROW_SIZE_BYTES
from samebits.cas.tensor import TensorInfo
from samebits.exec.errors import RunError

Array = NDArray[Any]
WHERE = "what came with the evidence"


@dataclass(frozen=True, slots=True)
class BlobPart:
    """Some rows of 1 MiB of a longer blob, with the BLAKE3 values of all of its rows."""

    size_bytes: int
    values: tuple[bytes, ...]  # 32 bytes each
    rows: Mapping[int, bytes]

    def check(self, digest: Digest) -> None:
        """Raise CasError unless every row is that of this blob."""
        checker = RangeChecker(digest, self.size_bytes, self.values)
        for index, row in self.rows.items():
            checker.check(index, row)


@dataclass(slots=True)
class Objects:
    """Encoded nodes, blobs, and parts of blobs."""

    nodes: dict[Digest, bytes] = field(default_factory=dict, repr=False)
    blobs: dict[Digest, bytes] = field(default_factory=dict, repr=False)
    parts: dict[Digest, BlobPart] = field(default_factory=dict, repr=False)

    def copy(self) -> Objects:
        """Return a copy to which more can be added."""
        return Objects(dict(self.nodes), dict(self.blobs), dict(self.parts))

    def add_node(self, encoded: bytes) -> Digest:
        """Keep a node; returns its address."""
        address = hash_node(encoded)
        self.nodes[address] = encoded
        return address

    def add_blob(self, data: bytes) -> Digest:
        """Keep a blob; returns its address."""
        address = hash_blob(data)
        self.blobs[address] = data
        return address

    def add_part(self, digest: Digest, part: BlobPart) -> None:
        """Keep rows of a blob; raises CasError if one is not a row of it."""
        part.check(digest)
        self.parts[digest] = part

    def get_node(self, digest: Digest) -> Node:
        """Return a node; raises ObjectNotFoundError, or another CasError if it is none."""
        if digest not in self.nodes:
            raise ObjectNotFoundError(digest, WHERE)
        return decode_node(self.nodes[digest])

    def info(self, tensor: Digest) -> TensorInfo:
        """Return type and shape of a tensor; raises CasError."""
        return tensor_info(self.get_node(tensor))

    def tensor(self, digest: Digest) -> Array:
        """Return a tensor; raises CasError if it is not here, RunError if its bytes are none of its type."""
        info = self.info(digest)
        if info.blob not in self.blobs:
            raise ObjectNotFoundError(info.blob, WHERE)
        return _as_array(info, info.shape, self.blobs[info.blob])

    def tensor_rows(self, digest: Digest, numbers: NDArray[np.int64]) -> Array:
        """Return rows of a tensor, of which no more than the rows of 1 MiB that they lie in has to be here."""
        info = self.info(digest)
        if info.blob in self.blobs:
            return self.tensor(digest)[numbers]
        if info.blob not in self.parts:
            raise ObjectNotFoundError(info.blob, WHERE)
        part = self.parts[info.blob]
        if part.size_bytes != info.size_bytes:
            raise RunError(f"tensor {digest} has {info.size_bytes} bytes, its blob {part.size_bytes}")
        row_bytes = row_size_bytes(info)
        data = bytearray()
        for number in numbers.tolist():
            data += _cut(info.blob, part, number * row_bytes, (number + 1) * row_bytes)
        return _as_array(info, (len(numbers), *info.shape[1:]), bytes(data))


def row_size_bytes(info: TensorInfo) -> int:
    """Return the size of a row of a tensor with rows."""
    return prod(info.shape[1:]) * numpy_dtype(info.dtype).itemsize


def _cut(blob: Digest, part: BlobPart, start: int, stop: int) -> bytes:
    data = b""
    for index in range(start // ROW_SIZE_BYTES, -(-stop // ROW_SIZE_BYTES)):
        if index not in part.rows:
            raise ObjectNotFoundError(blob, f"{WHERE}: row {index} is missing")
        first = index * ROW_SIZE_BYTES
        data += part.rows[index][max(start - first, 0) : stop - first]
    return data


def _as_array(info: TensorInfo, shape: tuple[int, ...], data: bytes) -> Array:
    dtype = numpy_dtype(info.dtype)
    if len(data) != prod(shape) * dtype.itemsize:
        raise RunError(f"a tensor {info.dtype}{list(shape)} of {len(data)} bytes")
    flat = np.frombuffer(data, np.uint8)
    if info.dtype == "bool" and flat.size and flat.max() > 1:
        raise RunError("a bool is byte 0 or 1")
    return flat.view(dtype).reshape(shape)
