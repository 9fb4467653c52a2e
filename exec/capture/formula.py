"""Write a rule as a formula: values with Python's operators, numbers and smaller shapes broadcast by NumPy's rule.

Example: ``xhat = (x - mean) * rstd`` for terms x (n, c), mean (n, 1), rstd (n, 1). Half precision is widened to f32
where a term is made and rounded once where a formula ends, so that a formula rounds as PyTorch's own kernels do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import Lowering, type_of
from samebits.kernels.types import TensorType

HALVES = ("f16", "bf16")
FLOATS = ("f16", "bf16", "f32", "f64")


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A value in a formula; operands of one operation have one element type, numbers take it."""

    low: Lowering
    value: ValueRef

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape."""
        return self.value.type.shape

    @property
    def dtype(self) -> str:
        """Return the element type."""
        return self.value.type.dtype

    def op(self, name: str, *others: Operand) -> Term:
        """Apply an element-wise operation of the op table to this term and others."""
        terms = [self, *(self.like(other) for other in others)]
        shape = np.broadcast_shapes(*(term.shape for term in terms))
        return Term(self.low, self.low.op(name, *(self.low.broadcast(term.value, shape) for term in terms)))

    def like(self, number: Operand) -> Term:
        """Return a number as a scalar term of this element type; a term as it is."""
        return number if isinstance(number, Term) else Term(self.low, self.low.builder.scalar(number, self.dtype))

    def to(self, dtype: str) -> Term:
        """Convert the element type."""
        return Term(self.low, self.low.cast(self.value, dtype))

    def reshape(self, *shape: int) -> Term:
        """Reshape."""
        return Term(self.low, self.low.reshape(self.value, shape))

    def broadcast(self, shape: Sequence[int]) -> Term:
        """Broadcast to a shape."""
        return Term(self.low, self.low.broadcast(self.value, shape))

    def reduce(self, name: str, axes: Sequence[int], keep: bool = True) -> Term:
        """Apply a reduction of the op table over axes, which stay with size 1 if `keep`."""
        return Term(self.low, self.low.reduce(name, self.value, axes, keep))

    def sum(self, axes: Sequence[int], keep: bool = True) -> Term:
        """Return the exact sum over axes, rounded once."""
        return self.reduce("reduce_sum", axes, keep)

    def mean(self, axes: Sequence[int], keep: bool = True) -> Term:
        """Return sum / count."""
        total = self.sum(axes, keep)
        return total / (self.value.type.size // max(1, total.value.type.size))

    def pick(self, yes: Operand, no: Operand) -> Term:
        """Return `yes` where this (bool) term holds, else `no`; at least one of them is a term."""
        typed = next(one for one in (yes, no) if isinstance(one, Term))
        terms = (self, typed.like(no), typed.like(yes))
        shape = np.broadcast_shapes(*(term.shape for term in terms))
        return Term(self.low, self.low.op("select_n", *(self.low.broadcast(term.value, shape) for term in terms)))

    def __add__(self, other: Operand) -> Term:
        return self.op("add", other)

    def __sub__(self, other: Operand) -> Term:
        return self.op("sub", other)

    def __mul__(self, other: Operand) -> Term:
        return self.op("mul", other)

    def __truediv__(self, other: Operand) -> Term:
        return self.op("div", other)

    def __radd__(self, other: Operand) -> Term:
        return self.like(other).op("add", self)

    def __rsub__(self, other: Operand) -> Term:
        return self.like(other).op("sub", self)

    def __rmul__(self, other: Operand) -> Term:
        return self.like(other).op("mul", self)

    def __rtruediv__(self, other: Operand) -> Term:
        return self.like(other).op("div", self)

    def __neg__(self) -> Term:
        return self.op("neg")

    def __lt__(self, other: Operand) -> Term:
        return self.op("lt", other)

    def __le__(self, other: Operand) -> Term:
        return self.op("le", other)

    def __gt__(self, other: Operand) -> Term:
        return self.op("gt", other)

    def __ge__(self, other: Operand) -> Term:
        return self.op("ge", other)

    def __and__(self, other: Operand) -> Term:
        return self.op("and", other)

    def __or__(self, other: Operand) -> Term:
        return self.op("or", other)

    def __xor__(self, other: Operand) -> Term:
        return self.op("xor", other)

    def __invert__(self) -> Term:
        return self.op("not")


Operand: TypeAlias = Term | float | int | bool


def term(low: Lowering, value: ValueRef) -> Term:
    """Return a value as a term, half precision widened to f32."""
    return Term(low, low.cast(value, "f32") if value.type.dtype in HALVES else value)


def operands(low: Lowering, *values: ValueRef | float | int | bool) -> list[Term]:
    """Return arguments as terms of the type to which torch promotes the first two, half precision widened to f32."""
    dtype = low.operand_dtype()
    wide = "f32" if dtype in HALVES else dtype
    return [Term(low, low.tensor(v, wide, v.type.shape if isinstance(v, ValueRef) else ())) for v in values]


def done(low: Lowering, formula: Term, expected: TensorType | None = None) -> ValueRef:
    """Return a formula's value, rounded once to the type that torch gives the result at hand (or to `expected`)."""
    expected = expected or low.result
    return low.broadcast(low.cast(formula.value, expected.dtype), expected.shape)


def iota(low: Lowering, shape: Sequence[int], axis: int, dtype: str = "i64") -> Term:
    """Return the positions 0, 1, ... along `axis` of `shape`."""
    return Term(low, low.op("iota", dtype=dtype, shape=tuple(shape), dimension=axis))


def results(low: Lowering) -> list[TensorType | None]:
    """Return the types that torch gives the results of the node at hand; None for one that it leaves out."""
    values: Any = low.node.meta["val"]
    return [type_of(value) if isinstance(value, torch.Tensor) else None for value in values]
