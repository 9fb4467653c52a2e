"""The objects of a job while it is made: nodes and blobs by address, and the arrays that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samebits.cas import Digest, Node, node_address, tensor_node, tree_node
from samebits.cas.dtype import dtype_name
from samebits.exec.canonical import graph_node
from samebits.exec.capture.tensors import to_numpy
from samebits.exec.errors import JobError
from samebits.exec.folding import fold
from samebits.exec.graph import Graph

Array = NDArray[Any]


class Collection:
    """The objects of a job while it is made."""

    def __init__(self) -> None:
        self.nodes: dict[Digest, Node] = {}
        self.blobs: dict[Digest, bytes] = {}

    def add(self, node: Node) -> Digest:
        """Add a node."""
        address = node_address(node)
        self.nodes[address] = node
        return address

    def add_graph(self, graph: Graph) -> Digest:
        """Add a graph, its repeated structure folded into graphs that it calls."""
        folded, called = fold(graph)
        for callee in called.values():
            self.add(graph_node(callee))
        return self.add(graph_node(folded))

    def add_tree(self, arrays: Mapping[str, Array]) -> Digest:
        """Add a tree of tensors."""
        entries = {}
        for name, array in arrays.items():
            node, data = tensor_node(array)
            entries[name] = self.add(node)
            blob = node.body["blob"]
            if not isinstance(blob, Digest):
                raise AssertionError("a tensor node names its blob")
            self.blobs[blob] = bytes(data)
        return self.add(tree_node(entries))


def rows_of(what: str, given: Any) -> dict[str, Array]:
    """Return tensors as NumPy arrays by name; raises JobError if they aren't rows of one number."""
    if not isinstance(given, Mapping) or not given:
        raise JobError(f"{what} is not a dictionary of tensors" if given else f"{what} is empty")
    arrays: dict[str, Array] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise JobError(f"{what} name {name!r} can't be an argument of the step")
        array = to_numpy(value) if isinstance(value, torch.Tensor) else np.asarray(value)
        try:
            dtype_name(array.dtype)
        except TypeError as error:
            raise JobError(f"{what} {name!r}: {error}") from error
        if array.ndim == 0:
            raise JobError(f"{what} {name!r} is a scalar; want rows along the first axis")
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    rows = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise JobError(f"{what} differ in their numbers of rows: {rows}")
    return arrays
