"""An independent oracle for conv_general_dilated: its definition in exact rational arithmetic and plain loops.

Elements are bits, in dictionaries by index; nothing is padded, dilated or reshaped: each window asks where it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

from tests.kernels import oracle_exact as exact

Index = tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """Attributes, one number for each spatial axis."""

    strides: Index
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: Index
    rhs_dilation: Index
    feature_groups: int = 1
    batch_groups: int = 1
    precision: str = "highest"

    def attributes(self) -> dict[str, Any]:
        """Return them by their names in the op table."""
        return {
            "window_strides": self.strides,
            "padding": self.padding,
            "lhs_dilation": self.lhs_dilation,
            "rhs_dilation": self.rhs_dilation,
            "feature_group_count": self.feature_groups,
            "batch_group_count": self.batch_groups,
            "precision": self.precision,
        }

    def out(self, spatial: Sequence[int], window: Sequence[int]) -> Index:
        """Return the sizes of the result's spatial axes."""
        sizes = []
        for axis, (n, k) in enumerate(zip(spatial, window, strict=True)):
            dilated = (n - 1) * self.lhs_dilation[axis] + 1 if n else 0
            span = (k - 1) * self.rhs_dilation[axis] + 1 if k else 0
            room = dilated + sum(self.padding[axis]) - span
            sizes.append(0 if room < 0 else room // self.strides[axis] + 1)
        return tuple(sizes)

    def read(self, axis: int, position: int, offset: int, size: int) -> int | None:
        """Return the element of an axis that a window at `position` reads at `offset`; None: a zero."""
        place = position * self.strides[axis] + offset * self.rhs_dilation[axis] - self.padding[axis][0]
        element, between = divmod(place, self.lhs_dilation[axis])
        return element if not between and 0 <= element < size else None


def convolve(lhs: Any, rhs: Any, name: str, how: Convolution) -> tuple[list[int], Index]:
    """Return the bits of the result in C order, and its shape. lhs, rhs: NumPy arrays of bits."""
    n, channels, *spatial = lhs.shape
    filters, depth, *window = rhs.shape
    samples, groups = n // how.batch_groups, how.feature_groups * how.batch_groups
    p = min({"highest": 22, "high": 15}[how.precision], (62 - exact.clog2(max(1, depth * prod(window)))) // 2)
    out = how.out(spatial, window)
    result: list[int] = []
    for sample, o in product(range(samples), range(filters)):
        group = o // max(1, filters // groups)
        first = group * depth if how.feature_groups > 1 else 0
        source = lhs[group * samples + sample if how.batch_groups > 1 else sample, first : first + depth]
        x, ex = _grid(source, name, p)
        w, ew = _grid(rhs[o], name, p)
        for position in product(*map(range, out)):
            total = 0
            for offset in product(*map(range, window)):
                place = tuple(how.read(i, position[i], offset[i], size) for i, size in enumerate(spatial))
                if None not in place:
                    total += sum(x[c, *place] * w[c, *offset] for c in range(depth))
            assert abs(total) < 2**63
            bad = depth * prod(window) and (ex is None or ew is None)
            result.append(exact.NAN[name] if bad else _rounded(total, ex, ew, p, name))
    return result, (samples, filters, *out)


def _rounded(total: int, ex: int | None, ew: int | None, p: int, name: str) -> int:
    return exact.rn(Fraction(total) * exact.two_to((ex or 0) + (ew or 0) - 2 * p), name)


def _grid(bits: Any, name: str, p: int) -> tuple[dict[Any, int], int | None]:
    """Return the whole numbers of a group by index, and its exponent; None if it holds a NaN or an infinity."""
    given = {index: int(bits[index]) for index in product(*map(range, bits.shape))}
    values = {i: exact.value(v, name) if exact.is_finite(v, name) else Fraction(0) for i, v in given.items()}
    m = max((abs(v) for v in values.values()), default=Fraction(0))
    e = exact.grid_exponent(m) if m else 0
    whole = {i: exact.rn_int(v * exact.two_to(p - e)) for i, v in values.items()}
    return whole, e if all(exact.is_finite(v, name) for v in given.values()) else None
