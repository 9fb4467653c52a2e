"""`apply`: one operation of the op table on NumPy arrays, on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samebits.cas.dtype import dtype_name
from samebits.exec.conformance import apply_on
from samebits.exec.devices.registry import open_device
from samebits.kernels.errors import OpError
from samebits.kernels.optable import find_op

_BROADCASTING = ("arithmetic", "integers", "logic", "functions")

Array = NDArray[Any]


def apply(op: str, *operands: ArrayLike, device: str = "numpy", **attributes: Any) -> Array:
    """Return the result of one operation, named as in the op table (`samebits.kernels.OPS`).

    Operands are arrays. A Python number takes the element type of the first array beside it; without one, numbers and
    lists of them are f32 if any is a float, else i64. Operands of element-wise operations broadcast as in NumPy.
    Raises UnknownOpError; OpError for operands or attributes that do not fit; TypeError for arrays of a type that
    has no name here (complex, object); RunError for an index outside an operand; DeviceError.

    Example: ``apply("dot_general", a, b, precision="highest", grid="both")`` for matrices a (m, k) and b (k, n).
    """
    found = find_op(op)
    opened = open_device(device, check=device != "numpy")
    arrays = _as_arrays(operands)
    if found.group in _BROADCASTING and len(arrays) > 1:
        try:
            arrays = [np.asarray(array) for array in np.broadcast_arrays(*arrays)]
        except ValueError:
            shapes = " and ".join(str(list(array.shape)) for array in arrays)
            raise OpError(op, f"shapes {shapes} do not broadcast") from None
    return np.asarray(apply_on(opened, op, tuple(arrays), attributes))


def _as_arrays(operands: Sequence[ArrayLike]) -> list[Array]:
    """Return the operands as arrays of named element types in native byte order."""
    given = [isinstance(operand, np.ndarray | np.generic) for operand in operands]
    arrays = [np.asarray(operand) for operand in operands]
    beside = next((array.dtype for array, is_array in zip(arrays, given, strict=True) if is_array), None)
    if beside is None:
        beside = np.dtype(np.float32 if any(array.dtype.kind == "f" for array in arrays) else np.int64)
    result = []
    for array, is_array in zip(arrays, given, strict=True):
        plain = not is_array and array.dtype.kind in "fi" and (array.dtype.kind == "i" or beside.kind not in "iub")
        typed = array.astype(beside if array.ndim == 0 or not any(given) else _own(array)) if plain else array
        dtype_name(typed.dtype)
        if typed.dtype == np.bool_:
            typed = typed.view(np.uint8) != 0  # a bool is byte 0 or 1, whatever it was made from
        result.append(typed.astype(typed.dtype.newbyteorder("="), copy=False))
    return result


def _own(array: Array) -> np.dtype[Any]:
    """Return the element type of a list beside an array: f32 for floats, i64 for integers."""
    return np.dtype(np.float32 if array.dtype.kind == "f" else np.int64)
