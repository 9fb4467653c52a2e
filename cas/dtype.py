"""Names of element types, and their NumPy counterparts (bf16 comes from ml_dtypes)."""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

from samebits.cas.errors import NodeError

# name -> NumPy dtype, all little endian
_NUMPY: Final[dict[str, np.dtype[Any]]] = {
    "bool": np.dtype(np.bool_),
    "i8": np.dtype("<i1"),
    "i16": np.dtype("<i2"),
    "i32": np.dtype("<i4"),
    "i64": np.dtype("<i8"),
    "u8": np.dtype("<u1"),
    "u16": np.dtype("<u2"),
    "u32": np.dtype("<u4"),
    "u64": np.dtype("<u8"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype("<f4"),
    "f64": np.dtype("<f8"),
}
_NAMES: Final = {dtype: name for name, dtype in _NUMPY.items()}

DTYPES: Final = tuple(_NUMPY)
FLOATS: Final = ("f16", "bf16", "f32", "f64")
INTEGERS: Final = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of an element type; raises NodeError for an unknown name."""
    try:
        return _NUMPY[name]
    except (KeyError, TypeError):
        raise NodeError(f"unknown dtype {name!r} (known: {', '.join(DTYPES)})") from None


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the element type's name of a NumPy dtype; raises TypeError for one that has none (complex, ...)."""
    try:
        return _NAMES[dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(f"arrays of {dtype} are not supported (supported: {', '.join(DTYPES)})") from None
