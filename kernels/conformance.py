"""Conformance vectors: operations with operands and the bits that the contract demands.

They were computed in exact rational arithmetic and by multiple-precision libraries, not by this package
(tests/kernels/make_vectors.py). The file is canonical msgpack: ``[[op, {attributes}, [operand, ...], result], ...]``,
an array being ``[dtype, [shape], bytes]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.cas.dtype import numpy_dtype
from samebits.cas.encoding import Value, decode
from samebits.cas.errors import CasError
from samebits.kernels.errors import VectorsError

VECTORS_FILE: Final = Path(__file__).parent / "vectors" / "conformance.msgpack"

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Vector:
    """One operation on given operands and its only right result."""

    op: str
    attributes: dict[str, Any]
    operands: tuple[Array, ...]
    result: Array


@cache
def read_vectors_file() -> bytes:
    """Return the bytes of the file of vectors; raises VectorsError if it is missing."""
    try:
        return VECTORS_FILE.read_bytes()
    except OSError as error:
        raise VectorsError(f"the conformance vectors are missing: {VECTORS_FILE.name}") from error


@cache
def load_vectors() -> tuple[Vector, ...]:
    """Return the vectors; raises VectorsError if the file is damaged."""
    try:
        listed = decode(read_vectors_file())
        if not isinstance(listed, list):
            raise VectorsError("the conformance vectors are not a list")
        return tuple(_read_vector(item) for item in listed)
    except (CasError, ValueError) as error:
        raise VectorsError(f"the conformance vectors are damaged: {error}") from error


def array_value(array: Array, dtype: str) -> Value:
    """Return an array as it stands in the file."""
    return [dtype, list(array.shape), np.ascontiguousarray(array).tobytes()]


def _read_vector(item: Value) -> Vector:
    match item:
        case [str() as op, dict() as attributes, [*operands], result]:
            frozen = {name: _tuples(value) for name, value in attributes.items()}
            return Vector(op, frozen, tuple(_read_array(operand) for operand in operands), _read_array(result))
        case _:
            raise VectorsError("a conformance vector is not [op, attributes, operands, result]")


def _read_array(value: Value) -> Array:
    match value:
        case [str() as dtype, [*shape], bytes() as data]:
            return np.frombuffer(data, numpy_dtype(dtype)).reshape([int(str(size)) for size in shape])
        case _:
            raise VectorsError("an array of a conformance vector is not [dtype, shape, bytes]")


def _tuples(value: Value) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
