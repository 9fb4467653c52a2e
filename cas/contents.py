"""What an object holds by name: entries of trees and directories, tensors of weight files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

from samebits.cas.digest import Digest
from samebits.cas.directories import DIRECTORY_KIND, read_directory
from samebits.cas.errors import NodeError
from samebits.cas.formats import WEIGHTS_KIND, weights_parts
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.tensor import TENSOR_KIND, tensor_info
from samebits.cas.tree import TREE_KIND, read_tree

MAX_NAMES: Final = 1_000_000  # a few small trees that hold each other many times have names without end
MAX_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Content:
    """What a name stands for.

    `size_bytes`: of a tensor its elements, of a file its bytes, of a tree or a directory all that it holds (what it
    holds twice counts twice), of any other node its encoding.
    """

    digest: Digest
    kind: str  # "blob", or the kind of the node
    size_bytes: int
    parts: tuple[Digest, ...]  # the objects that hold its bytes; none for a tree or a directory
    dtype: str | None = None  # of a tensor
    shape: tuple[int, ...] | None = None

    @property
    def elements(self) -> int:
        """How many elements a tensor has; 0 for anything else."""
        return 0 if self.shape is None else prod(self.shape)


def describe(store: Store, digest: Digest) -> Content:
    """Return what an object is; raises NodeError, and what reads raise."""
    node = node_or_none(store, digest)
    if node is None:
        return Content(digest, "blob", store.stat(digest).size_bytes, (digest,))
    if node.kind == TENSOR_KIND:
        info = tensor_info(node)
        return Content(digest, TENSOR_KIND, info.size_bytes, (info.blob,), info.dtype, info.shape)
    if node.kind == WEIGHTS_KIND:
        return _file_content(store, digest, weights_parts(node))
    if node.kind in (TREE_KIND, DIRECTORY_KIND):
        return Content(digest, node.kind, sum(leaf.size_bytes for leaf in leaves(store, digest).values()), ())
    return Content(digest, node.kind, store.stat(digest).size_bytes, (digest,))


def entries(store: Store, digest: Digest) -> dict[str, Digest] | None:
    """Return what an object holds by name: a tree, a directory, a weights file its tensors; None for all others."""
    node = node_or_none(store, digest)
    return None if node is None else _entries(store, node)


def leaves(store: Store, digest: Digest) -> dict[str, Content]:
    """Return everything under an object that holds nothing by name itself, with names joined by slashes.

    The object itself has the name "". A weights file gives its tensors, and under its own name a Content of the kind
    `weights_file` with what is in none of them: its header, types that samebits has no name for. Raises NodeError for
    names that occur twice, that are more than a million, or nested deeper than 64.
    """
    found: dict[str, Content] = {}
    seen = 0
    pending: list[tuple[str, Digest, int]] = [("", digest, 0)]  # what the end holds is looked at next
    while pending:
        name, one, depth = pending.pop()
        node = node_or_none(store, one)
        inner = None if node is None else _entries(store, node)
        if inner is not None:
            seen += len(inner)
            if depth == MAX_DEPTH or seen > MAX_NAMES:
                raise NodeError(f"{digest} has more than {MAX_NAMES} names, or nested deeper than {MAX_DEPTH}")
            prefix = f"{name}/" if name else ""
            pending.extend((prefix + entry, held, depth + 1) for entry, held in inner.items())
        if node is not None and node.kind == WEIGHTS_KIND:
            _add(found, name, _rest_of_file(store, one, node, list((inner or {}).values())))
        elif inner is None:
            _add(found, name, describe(store, one))
    return dict(sorted(found.items(), key=lambda entry: entry[0].encode()))


def tensor_rows(store: Store, tensor: Content) -> Iterator[bytes]:
    """Yield the elements of a tensor in rows of whole elements, verified; raises NodeError if they do not fit it."""
    size_bytes = store.stat(tensor.parts[0]).size_bytes
    if size_bytes != tensor.size_bytes:
        described = f"{tensor.dtype}{list(tensor.shape or ())}"
        raise NodeError(f"tensor {tensor.digest}: {described} has {tensor.size_bytes} bytes, its blob {size_bytes}")
    for row in store.read_rows(tensor.parts[0]):
        if tensor.dtype == "bool" and row.translate(None, b"\0\1"):
            raise NodeError(f"tensor {tensor.digest}: a bool is byte 0 or 1")
        yield row


def node_or_none(store: Store, digest: Digest) -> Node | None:
    """Return a node, or None for a blob."""
    return None if store.stat(digest).kind == "blob" else store.get_node(digest)


def _entries(store: Store, node: Node) -> dict[str, Digest] | None:
    if node.kind == DIRECTORY_KIND:
        return read_directory(node)
    if node.kind == WEIGHTS_KIND:
        weights_parts(node)  # checks its fields
        tensors = node.body["tensors"]
        if not isinstance(tensors, Digest):
            raise NodeError("the tensors of a weights file are not an address")
        return read_tree(store.get_node(tensors))
    return read_tree(node) if node.kind == TREE_KIND else None


def _rest_of_file(store: Store, digest: Digest, node: Node, tensors: list[Digest]) -> Content:
    """Return what of a weights file is in none of its tensors; the header comes first."""
    blobs = {tensor_info(store.get_node(tensor)).blob for tensor in tensors}
    header, *order = weights_parts(node)
    return _file_content(store, digest, [header, *(part for part in order if part not in blobs)])


def _file_content(store: Store, digest: Digest, parts: list[Digest]) -> Content:
    return Content(digest, WEIGHTS_KIND, sum(store.stat(part).size_bytes for part in parts), tuple(parts))


def _add(found: dict[str, Content], name: str, content: Content) -> None:
    if name in found:
        raise NodeError(f"the name {name!r} stands for two things")
    found[name] = content
