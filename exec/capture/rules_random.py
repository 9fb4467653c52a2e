"""Lowering rules: draws from the key of a step, and the weighing of attention's values."""

from __future__ import annotations

from collections.abc import Sequence

from samebits.exec import draws
from samebits.exec.builder import ValueRef
from samebits.exec.capture.lowering import Lowering, rule


@rule("samebits.uniform")
def _uniform(low: Lowering, key: ValueRef, site: str, size: Sequence[int]) -> ValueRef:
    return draws.uniform(low.builder, key, site, size)


@rule("samebits.normal")
def _normal(low: Lowering, key: ValueRef, site: str, size: Sequence[int]) -> ValueRef:
    return draws.normal(low.builder, key, site, size)


@rule("samebits.integers")
def _integers(low: Lowering, key: ValueRef, site: str, span: int, size: Sequence[int]) -> ValueRef:
    return draws.integers(low.builder, key, site, span, size)


@rule("samebits.weigh_values")
def _weigh_values(low: Lowering, p: ValueRef, v: ValueRef) -> ValueRef:
    dimensions = (((2,), (1,)), ((0,), (0,)))
    return low.op("dot_general", p, v, dimension_numbers=dimensions, precision=low.precision, grid="rows")
