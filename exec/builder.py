"""Build graphs by calling operations on values; equal expressions give the same value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samebits.cas import Digest
from samebits.cas.dtype import numpy_dtype
from samebits.exec.canonical import canonicalize
from samebits.exec.errors import GraphError
from samebits.exec.graph import CALL, Graph, GraphLibrary, GraphNode, check_graph
from samebits.kernels.optable import find_op
from samebits.kernels.reference import type_of
from samebits.kernels.rounding import round_to
from samebits.kernels.types import TensorType


@dataclass(frozen=True, slots=True)
class ValueRef:
    """A value of the graph under construction."""

    key: tuple[str, int] | tuple[int, int]  # ("input", i) or (node, result)
    type: TensorType


class GraphBuilder:
    """Collects inputs, nodes and outputs; `build` returns the canonical graph."""

    def __init__(self, library: GraphLibrary | None = None) -> None:
        self._library = dict(library or {})
        self._inputs: dict[str, ValueRef] = {}
        self._nodes: list[tuple[str, tuple[ValueRef, ...], tuple[tuple[str, Any], ...], Digest | None, int]] = []
        self._shared: dict[Any, int] = {}
        self._outputs: dict[str, ValueRef] = {}

    def input(self, name: str, tensor: TensorType) -> ValueRef:
        """Declare an input."""
        if name in self._inputs:
            raise GraphError(f"input {name!r} occurs twice")
        self._inputs[name] = ValueRef(("input", len(self._inputs)), tensor)
        return self._inputs[name]

    def op(self, name: str, *operands: ValueRef, **attributes: Any) -> ValueRef:
        """Append an operation of the op table; raises OpError if operands or attributes do not fit."""
        op = find_op(name)
        checked = op.check_attributes(attributes)
        result = op.infer([operand.type for operand in operands], checked)
        node = self._append(name, operands, tuple(sorted(checked.items())), None, 1)
        return ValueRef((node, 0), result)

    def call(self, address: Digest, callee: Graph, operands: Sequence[ValueRef]) -> dict[str, ValueRef]:
        """Append a call of another graph; operands follow its inputs. Returns its outputs by name."""
        self._library[address] = callee
        outputs = check_graph(callee, self._library).outputs
        node = self._append(CALL, tuple(operands), (), address, len(outputs))
        return {name: ValueRef((node, i), tensor) for i, (name, tensor) in enumerate(outputs.items())}

    def top_k(self, x: ValueRef, k: int) -> tuple[ValueRef, ValueRef]:
        """Return the k greatest elements along the last axis, greatest first, and their positions (i64).

        NaN counts as greatest; equal elements keep their order. Raises OpError for more than there are.
        """
        axis = len(x.type.shape) - 1
        found = (self.op(name, x, axis=axis, descending=True) for name in ("sort", "argsort"))
        starts, ones = (0,) * (axis + 1), (1,) * (axis + 1)
        limits = (*x.type.shape[:-1], k)
        first, second = (self.op("slice", v, start_indices=starts, limit_indices=limits, strides=ones) for v in found)
        return first, second

    def scalar(self, value: float | int | bool, dtype: str) -> ValueRef:
        """Append a constant of no dimensions, rounded once to `dtype`."""
        return self.constant(_round_scalar(value, dtype))

    def constant(self, array: np.ndarray[Any, Any]) -> ValueRef:
        """Append a constant with the bits of `array`."""
        tensor = type_of(array)
        little = np.ascontiguousarray(array, numpy_dtype(tensor.dtype))
        return self.op("constant", dtype=tensor.dtype, shape=tensor.shape, value=little.tobytes())

    def producer(self, value: ValueRef) -> tuple[str, tuple[ValueRef, ...]]:
        """Return the operation that gives a value and its operands; ("input", ()) for an input."""
        where, _ = value.key
        return (where, ()) if isinstance(where, str) else self._nodes[where][:2]

    def output(self, name: str, value: ValueRef) -> None:
        """Declare an output."""
        if name in self._outputs:
            raise GraphError(f"output {name!r} occurs twice")
        self._outputs[name] = value

    def build(self) -> Graph:
        """Return the canonical graph of what was declared."""
        names = sorted(self._inputs, key=str.encode)
        number: dict[Any, int] = {self._inputs[name].key: i for i, name in enumerate(names)}
        nodes = []
        for position, (op, operands, attributes, callee, results) in enumerate(self._nodes):
            values = tuple(number[operand.key] for operand in operands)
            nodes.append(GraphNode(op, values, attributes, callee, results))
            first = len(number)
            number |= {(position, i): first + i for i in range(results)}
        outputs = tuple((name, number[self._outputs[name].key]) for name in sorted(self._outputs, key=str.encode))
        graph = Graph(tuple((name, self._inputs[name].type) for name in names), tuple(nodes), outputs)
        return canonicalize(graph, self._library)

    def _append(
        self,
        op: str,
        operands: tuple[ValueRef, ...],
        attributes: tuple[tuple[str, Any], ...],
        callee: Digest | None,
        n: int,
    ) -> int:
        key = (op, operands, attributes, callee)
        if key not in self._shared:
            self._shared[key] = len(self._nodes)
            self._nodes.append((*key, n))
        return self._shared[key]


def _round_scalar(value: float | int | bool, dtype: str) -> np.ndarray[Any, Any]:
    """Return a 0-d array holding `value` rounded once to `dtype`; raises GraphError if an integer does not fit."""
    if dtype in ("f16", "bf16", "f32", "f64"):
        exact = np.asarray(value, np.float64)
        if isinstance(value, int) and int(exact) != value:
            raise GraphError(f"the constant {value} is not exact in f64")
        return np.asarray(round_to(exact, dtype))
    if isinstance(value, float) and value != int(value):
        raise GraphError(f"the constant {value} is not an integer, but {dtype} is wanted")
    try:
        return np.array(int(value), numpy_dtype(dtype))
    except OverflowError:
        raise GraphError(f"the constant {value} does not fit {dtype}") from None
