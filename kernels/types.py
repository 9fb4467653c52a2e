"""The type of a tensor value: element type and static shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from samebits.cas.dtype import numpy_dtype

# What an attribute of an operation may be; the canonical encoding of a graph stores it as it is.
AttributeValue: TypeAlias = "bool | int | str | bytes | tuple[AttributeValue, ...] | None"
Attributes: TypeAlias = Mapping[str, AttributeValue]

MAX_RANK = 16
MAX_SIZE_BYTES = 1 << 48
MAX_DIMENSION = (1 << 40) - 1  # elements along one axis, also of a tensor that has none


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape, as in ``f32[64,10]``."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Return the size of the elements in bytes."""
        return self.size * numpy_dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"
