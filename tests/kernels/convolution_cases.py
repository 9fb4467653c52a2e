"""Convolutions for tests: cases by hand that reach every attribute, and random ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.kernels.float_samples import KINDS, sample
from tests.kernels.oracle_convolution import Convolution, Index

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """Shapes of the operands and attributes."""

    lhs: Index
    rhs: Index
    how: Convolution


def case(
    lhs: Index,
    rhs: Index,
    strides: Index | None = None,
    padding: tuple[tuple[int, int], ...] | None = None,
    lhs_dilation: Index | None = None,
    rhs_dilation: Index | None = None,
    **options: Any,
) -> Case:
    """Return a case; what is not given is 1, padding 0."""
    ones = (1,) * (len(lhs) - 2)
    how = Convolution(
        strides or ones, padding or ((0, 0),) * len(ones), lhs_dilation or ones, rhs_dilation or ones, **options
    )
    return Case(lhs, rhs, how)


BY_HAND = {
    "plain": case((2, 3, 5, 4), (4, 3, 3, 2)),
    "padded": case((1, 2, 4, 4), (3, 2, 3, 3), padding=((1, 1), (2, 0))),
    "strides": case((2, 2, 7, 6), (3, 2, 3, 3), (2, 3), ((1, 1), (1, 1))),
    "cropped": case((2, 2, 6, 7), (2, 2, 2, 2), (1, 2), ((-1, -2), (-2, 1))),
    "rhs dilation": case((1, 2, 7, 8), (3, 2, 2, 3), None, ((2, 1), (0, 3)), None, (3, 2)),
    "lhs dilation": case((2, 2, 3, 4), (2, 2, 3, 2), None, ((2, 2), (1, 3)), (2, 3)),
    "everything": case((2, 4, 5, 4), (6, 2, 2, 3), (2, 1), ((3, -2), (-1, 4)), (3, 2), (2, 3), feature_groups=2),
    "feature groups": case((2, 6, 4, 3), (4, 3, 2, 2), None, ((1, 0), (0, 1)), feature_groups=2),
    "depthwise": case((2, 3, 5, 4), (6, 1, 3, 3), None, ((1, 1), (1, 1)), feature_groups=3),
    "batch groups": case((6, 2, 4, 3), (6, 2, 2, 2), None, ((1, 0), (0, 0)), batch_groups=3),
    "one axis": case((3, 2, 9), (4, 2, 3), (2,), ((2, 1),)),
    "three axes": case((2, 2, 3, 4, 3), (3, 2, 2, 1, 2), (1, 2, 1), ((0, 1), (1, 1), (-1, 2)), None, (1, 1, 2)),
    "high": case((2, 3, 4, 4), (3, 3, 3, 3), None, ((1, 1), (1, 1)), precision="high"),
    "one window": case((3, 2, 4, 4), (5, 2, 4, 4)),
    "nothing but padding": case((2, 2, 0), (2, 2, 2), None, ((2, 1),)),
    "no window fits": case((2, 2, 3), (2, 2, 4)),
    "no terms": case((2, 0, 3), (2, 0, 2), None, ((1, 1),)),
    "far away": case((1, 2, 3), (2, 2, 2), None, ((5, -6),)),
}


def random_case(rng: np.random.Generator) -> Case:
    """Return a case of small sizes."""
    axes = int(rng.integers(1, 4))
    most = (7, 4, 3)[axes - 1]

    def sizes(low: int, high: int) -> Index:
        return tuple(int(n) for n in rng.integers(low, high + 1, axes))

    groups = int(rng.integers(1, 4))
    features, batches = [(groups, 1), (1, groups)][int(rng.integers(2))]
    samples, channels, filters = (int(n) for n in rng.integers(1, 4, 3))
    how = Convolution(
        sizes(1, 3),
        tuple((int(low), int(high)) for low, high in rng.integers(-2, 4, (axes, 2))),
        sizes(1, 2),
        sizes(1, 2),
        features,
        batches,
        str(rng.choice(["highest", "high"])),
    )
    return Case(
        (samples * batches, channels * features, *sizes(1, most)), (filters * groups, channels, *sizes(1, 3)), how
    )


def contents(which: Case, name: str, rng: np.random.Generator, kind: str = "") -> tuple[Array, Array]:
    """Return operands of one kind, some filters and channels zero, now and then a special value."""
    seed = int(rng.integers(1 << 30))
    lhs, rhs = (
        sample(kind or str(rng.choice(KINDS)), shape, name, seed + i) for i, shape in enumerate((which.lhs, which.rhs))
    )
    for x in (lhs, rhs):
        if x.size and rng.integers(3) == 0:
            x[int(rng.integers(len(x)))] = -0.0
        if x.size and rng.integers(3) == 0:
            place = tuple(int(rng.integers(size)) for size in x.shape)
            x[place] = rng.choice(np.array([np.inf, -np.inf, np.nan, 2.0**-24], np.float32)).astype(x.dtype)
    return lhs, rhs
