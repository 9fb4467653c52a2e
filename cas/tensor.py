"""Tensors: element type, shape and the address of the elements (C order, little endian).

Example: ``["tensor", {"blob": <address of 8 bytes>, "dtype": "f32", "shape": [2]}]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.dtype import dtype_name, numpy_dtype
from samebits.cas.encoding import Value
from samebits.cas.errors import NodeError
from samebits.cas.node import Node, node_address
from samebits.cas.store import Store

TENSOR_KIND: Final = "tensor"
MAX_RANK: Final = 64  # NumPy's
MAX_TENSOR_SIZE_BYTES: Final = (1 << 63) - 1

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The fields of a tensor node."""

    dtype: str  # one of dtype.DTYPES
    shape: tuple[int, ...]
    blob: Digest
    size_bytes: int  # what the blob must have


def tensor_node(array: Array) -> tuple[Node, memoryview]:
    """Return the node of an array and its elements' bytes; raises TypeError for an unsupported element type."""
    name = dtype_name(array.dtype)
    shape: list[Value] = list(array.shape)
    flat = np.ascontiguousarray(array, dtype=numpy_dtype(name)).reshape(-1).view(np.uint8)
    if name == "bool" and flat.size and flat.max() > 1:
        flat = (flat != 0).view(np.uint8)  # NumPy takes any byte but 0 for true
    data = flat.data
    return Node(TENSOR_KIND, {"dtype": name, "shape": shape, "blob": hash_blob(data)}), data


def tensor_address(array: Array) -> Digest:
    """Return the address of an array's tensor node, without storing anything."""
    return node_address(tensor_node(array)[0])


def put_tensor(store: Store, array: Array) -> Digest:
    """Store an array; returns the address of its tensor node."""
    node, data = tensor_node(array)
    with store.batch(join=True):
        store.put_blob(data)
        return store.put_node(node)


def tensor_info(node: Node) -> TensorInfo:
    """Return the fields of a tensor node; raises NodeError naming the field that is wrong."""
    if node.kind != TENSOR_KIND:
        raise NodeError(f"not a tensor but a {node.kind}")
    if set(node.body) != {"dtype", "shape", "blob"}:
        raise NodeError("a tensor has the fields dtype, shape and blob")
    dtype, shape, blob = (node.body[name] for name in ("dtype", "shape", "blob"))
    if not isinstance(dtype, str):
        raise NodeError("the dtype of a tensor is not text")
    itemsize = numpy_dtype(dtype).itemsize
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise NodeError(f"the shape of a tensor is not a list of at most {MAX_RANK} sizes")
    sizes = []
    for size in shape:
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise NodeError(f"the shape of a tensor has the size {size!r}")
        sizes.append(size)
    if prod(size for size in sizes if size) * itemsize > MAX_TENSOR_SIZE_BYTES:
        raise NodeError(f"the shape of a tensor, {dtype}{sizes}, is beyond 2^63 bytes")
    if not isinstance(blob, Digest):
        raise NodeError("the blob of a tensor is not an address")
    return TensorInfo(dtype, tuple(sizes), blob, prod(sizes) * itemsize)


def get_tensor(store: Store, digest: Digest) -> Array:
    """Return a stored tensor as a read-only array, verified; raises NodeError if its bytes do not fit its shape."""
    info = tensor_info(store.get_node(digest))
    size_bytes = store.stat(info.blob).size_bytes
    if size_bytes != info.size_bytes:
        described = f"{info.dtype}{list(info.shape)}"
        raise NodeError(f"tensor {digest}: {described} has {info.size_bytes} bytes, its blob {size_bytes}")
    data = np.empty(size_bytes, np.uint8)
    store.read_into(info.blob, data.data)
    if info.dtype == "bool" and data.size and data.max() > 1:
        raise NodeError(f"tensor {digest}: a bool is byte 0 or 1")
    array: Array = data.view(numpy_dtype(info.dtype)).reshape(info.shape)
    array.setflags(write=False)
    return array
