"""`samebits.apply`: operands, attributes, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import samebits
from samebits.exec.errors import DeviceError, ExecError
from samebits.kernels import KernelError, OpError, UnknownOpError

F32 = np.float32


def test_apply_takes_names_and_attributes_of_the_op_table() -> None:
    a = np.arange(6, dtype=F32).reshape(2, 3)
    assert samebits.apply("dot_general", a, a.T, precision="highest", grid="both").tolist() == [[5, 14], [14, 50]]
    assert samebits.apply("reduce_sum", a, axes=(1,)).tolist() == [3, 12]
    assert samebits.apply("reduce_max", a, axes=1).tolist() == [2, 5]
    assert samebits.apply("cumsum", a, axis=0).tolist() == [[0, 1, 2], [3, 5, 7]]
    updates, rows = np.ones((3, 3), F32), np.array([1, 1, 0])
    assert samebits.apply("scatter_add", a, rows, updates).tolist() == [[1, 2, 3], [5, 6, 7]]
    assert samebits.apply("exp", np.zeros((), F32)).shape == ()


@pytest.mark.parametrize(
    ("operands", "dtype", "value"),
    [
        ((1.5, 2), "float32", 3.5),
        ((1, 2), "int64", 3),
        ((np.float32(1), 2), "float32", 3),
        ((np.ones((), np.float64), 2.5), "float64", 3.5),
        ((np.uint8(250), 10), "uint8", 4),
    ],
)
def test_apply_gives_python_numbers_the_type_of_the_array_beside(operands: Any, dtype: str, value: float) -> None:
    result = samebits.apply("add", *operands)
    assert (result.dtype.name, result.tolist()) == (dtype, value)


@pytest.mark.parametrize("op", ["neg", "exp", "abs", "sqrt"])
def test_apply_takes_arrays_of_the_other_byte_order(op: str) -> None:
    native = np.array([1, 2], F32)
    assert samebits.apply(op, native.astype(">f4")).tobytes() == samebits.apply(op, native).tobytes()


def test_bitcast_keeps_the_shape_of_a_scalar() -> None:
    result = samebits.apply("bitcast_convert_type", np.ones((), F32), new_dtype="u32")
    assert (result.shape, int(result)) == ((), 0x3F800000)


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "error", "message"),
    [
        ("frobnicate", (), {}, UnknownOpError, "unknown operation 'frobnicate'"),
        ("add", (np.zeros(2, F32),), {}, OpError, "add: wants 2 operands, got 1"),
        ("add", (np.zeros(2, F32), np.zeros(3, F32)), {}, OpError, "do not broadcast"),
        ("add", (np.zeros(2, F32), np.zeros(2)), {}, OpError, "operands differ: f32.2. and f64.2."),
        ("exp", (np.zeros(2),), {}, OpError, "exp: not defined for f64"),
        ("exp", (np.zeros(2, complex),), {}, TypeError, "complex128 are not supported"),
        ("reduce_sum", (np.zeros(2, F32),), {}, OpError, "'axes' is missing"),
        ("reduce_sum", (np.zeros(2, F32),), {"axes": (1,)}, OpError, "axis 1 is outside 0..0"),
        ("reduce_sum", (np.zeros(2, F32),), {"axes": np.array([0.5])}, OpError, "attribute 'axes'"),
        ("dot_general", (np.zeros((2, 3), F32),) * 2, {}, OpError, "differ in size"),
        ("dot_general", (np.zeros((2, 2), F32),) * 2, {"grid": "cells"}, OpError, "want one of both, columns, rows"),
        (
            "conv_general_dilated",
            (np.zeros((1, 2, 3), F32),) * 2,
            {"padding": ()},
            OpError,
            "'window_strides' is missing",
        ),
        ("gather", (np.zeros(2, F32), np.array([2])), {}, ExecError, "index 2 is outside 0..1"),
        ("argmax", (np.zeros((2, 0), F32),), {"axis": 1}, OpError, "no extreme"),
    ],
)
def test_apply_says_in_one_line_what_does_not_fit(
    op: str, operands: Any, attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        samebits.apply(op, *operands, **attributes)
    assert "\n" not in str(raised.value)


def test_apply_refuses_unknown_devices() -> None:
    with pytest.raises((DeviceError, KernelError), match="unknown device"):
        samebits.apply("neg", 1.0, device="abacus")
