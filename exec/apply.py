"""`apply`: one operation of the op table on NumPy arrays, on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samebits.exec.conformance import apply_on
from samebits.exec.devices.registry import open_device
from samebits.kernels.optable import find_op

_BROADCASTING = ("arithmetic", "integers", "logic", "functions")


def apply(op: str, *operands: ArrayLike, device: str = "numpy", **attributes: Any) -> NDArray[Any]:
    """Return the result of one operation, named as in the op table (`samebits.kernels.OPS`).

    Operands are arrays; Python floats become f32, integers i64. Operands of element-wise operations broadcast as
    in NumPy. Raises UnknownOpError, OpError for operands or attributes that do not fit, DeviceError.

    Example: ``apply("dot_general", a, b, precision="highest", grid="both")`` for matrices a (m, k) and b (k, n).
    """
    found = find_op(op)
    opened = open_device(device, check=device != "numpy")
    arrays = [_as_array(operand) for operand in operands]
    if found.group in _BROADCASTING and len(arrays) > 1:
        arrays = [np.asarray(array) for array in np.broadcast_arrays(*arrays)]
    return np.asarray(apply_on(opened, op, tuple(arrays), attributes))


def _as_array(operand: ArrayLike) -> NDArray[Any]:
    array = np.asarray(operand)
    if not isinstance(operand, np.ndarray | np.generic) and array.dtype == np.float64:
        return array.astype(np.float32)
    return array
