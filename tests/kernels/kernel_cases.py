"""Cases that compare generated kernels with the reference, bit for bit, on every element type and strided views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samebits.cas.dtype import FLOATS, dtype_name, numpy_dtype
from samebits.kernels.codegen.program import Layout
from samebits.kernels.codegen.view import View
from samebits.kernels.reference import evaluate
from samebits.kernels.types import Attributes, TensorType
from tests.kernels.float_samples import sample
from tests.kernels.run_program import Case, Lowering, run_cases

Array = npt.NDArray[Any]
Changed = Callable[[Sequence[View]], Sequence[View]]


def random_elements(name: str, shape: tuple[int, ...], seed: int, kind: str = "any") -> Array:
    """Return random elements: floats of a kind of float_samples, integers of any bits; `few`: of five values."""
    rng = np.random.default_rng(seed)
    if kind == "few":
        few = random_elements(name, (5,), seed)
        return np.asarray(few[rng.integers(0, 5, shape)])
    if name in FLOATS:
        return sample(kind, shape, name, seed)
    if name == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    size = int(np.prod(shape)) * numpy_dtype(name).itemsize
    return np.frombuffer(rng.bytes(size), numpy_dtype(name)).reshape(shape).copy()


def strided(x: Array, style: str) -> tuple[Array, Changed | None, Array]:
    """Return what to store, how to view it, and the same elements for the reference.

    style: plain, transposed (axes in reverse order), reversed (each axis), stepped (every second element of each axis).
    """
    axes = range(x.ndim)
    if style == "transposed":
        return x, lambda views: [views[0].transpose(tuple(reversed(axes))), *views[1:]], np.transpose(x)
    if style == "reversed":

        def reverse(views: Sequence[View]) -> Sequence[View]:
            first = views[0]
            for axis in axes:
                first = first.reverse(axis)
            return [first, *views[1:]]

        return x, reverse, np.flip(x)
    if style == "stepped":
        starts = tuple(min(1, n) for n in x.shape)

        def step(views: Sequence[View]) -> Sequence[View]:
            return [views[0].slice(starts, x.shape, (2,) * x.ndim), *views[1:]]

        return x, step, x[tuple(slice(a, None, 2) for a in starts)]
    return x, None, x


class Comparison:
    """Collects cases of one layout, runs them as one program and compares every bit with the reference."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._cases: list[Case] = []
        self._wanted: list[tuple[str, Array]] = []

    def add(
        self,
        lowering: Lowering,
        op: str,
        operands: Sequence[Array],
        attributes: Attributes,
        style: str = "plain",
    ) -> None:
        """Add an operation; its first operand is viewed in a style of `strided`."""
        stored_first, changed, first = strided(np.asarray(operands[0]), style)
        with np.errstate(invalid="ignore"):  # signalling NaN
            wanted = np.asarray(evaluate(op, [first, *operands[1:]], attributes))
        result = TensorType(dtype_name(wanted.dtype), tuple(wanted.shape))
        self._cases.append(Case(lowering, [stored_first, *operands[1:]], result, changed))
        self._wanted.append(
            (f"{op} {first.dtype}{list(first.shape)} {dict(attributes)} {style} {self._layout}", wanted)
        )

    def check(self) -> None:
        """Run all and assert that the bits are those of the reference."""
        for got, (label, wanted) in zip(run_cases(self._cases, self._layout), self._wanted, strict=True):
            assert got.tobytes() == np.ascontiguousarray(wanted).tobytes(), label
