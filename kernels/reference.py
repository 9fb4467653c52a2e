"""The arithmetic contract in executable form: every operation of the op table on NumPy arrays.

Each operation returns the correctly rounded result of a mathematical definition (README.md states them). Nothing here
depends on an order of evaluation, so nothing depends on the machine, its BLAS, its vector width or its threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from samebits.cas.dtype import dtype_name, numpy_dtype
from samebits.kernels import arithmetic, convolution, dot, extremes, functions, integers, movement, random, sums
from samebits.kernels.convert import convert
from samebits.kernels.convolution_shape import conv_shape
from samebits.kernels.errors import OpError
from samebits.kernels.inference import dot_dimensions
from samebits.kernels.optable import FUNCTIONS, FUNCTIONS_OF_TWO, OPS, find_op
from samebits.kernels.rounding import widen
from samebits.kernels.types import Attributes, TensorType

Array = NDArray[Any]
Implementation = Callable[[Sequence[Array], Any], Array]


def evaluate(name: str, operands: Sequence[Array], attributes: Attributes) -> Array:
    """Return the result of one operation on arrays whose types were checked by the op table."""
    return _IMPLEMENTATIONS[name](operands, attributes)


def apply(name: str, *operands: Array, **attributes: Any) -> Array:
    """Check operands and attributes against the op table and evaluate; raises OpError or UnknownOpError."""
    op = find_op(name)
    checked = op.check_attributes(attributes)
    result_type = op.infer([type_of(operand) for operand in operands], checked)
    result = np.asarray(evaluate(name, operands, checked))
    if type_of(result) != result_type:
        raise AssertionError(f"{name} gave {type_of(result)}, its rule says {result_type}")
    return result


def type_of(array: Array) -> TensorType:
    """Return the tensor type of an array; raises TypeError for an element type that has no name here."""
    return TensorType(dtype_name(array.dtype), tuple(array.shape))


def _elementwise(function: Callable[..., Array]) -> Implementation:
    return lambda operands, attributes: function(*operands)


def _function(name: str) -> Implementation:
    def run(operands: Sequence[Array], attributes: Attributes) -> Array:
        (x,) = operands
        return functions.evaluate(name, widen(x), dtype_name(x.dtype))

    return run


def _function_of_two(name: str) -> Implementation:
    def run(operands: Sequence[Array], attributes: Attributes) -> Array:
        x, y = operands
        return functions.evaluate2(name, widen(x), widen(y), dtype_name(x.dtype))

    return run


def _is_finite(operands: Sequence[Array], attributes: Attributes) -> Array:
    with np.errstate(all="ignore"):  # a signalling NaN raises a flag
        return np.isfinite(operands[0])


def _sqrt(operands: Sequence[Array], attributes: Attributes) -> Array:
    (x,) = operands
    if x.dtype == np.float64:
        return arithmetic.sqrt_f64(x)
    return functions.evaluate("sqrt", widen(x), dtype_name(x.dtype))


def _select_n(operands: Sequence[Array], attributes: Attributes) -> Array:
    which, if_false, if_true = operands
    return np.where(which, if_true, if_false)


def _slice(operands: Sequence[Array], attributes: Attributes) -> Array:
    bounds = (attributes[name] for name in ("start_indices", "limit_indices", "strides"))
    return operands[0][tuple(slice(*bound) for bound in zip(*cast(Any, bounds), strict=True))]


def _iota(operands: Sequence[Array], attributes: Any) -> Array:
    shape, dimension = attributes["shape"], attributes["dimension"]
    count = np.arange(shape[dimension], dtype=np.int64)
    along = [1] * len(shape)
    along[dimension] = -1
    return np.broadcast_to(convert(count, attributes["dtype"]).reshape(along), shape)


def _constant(operands: Sequence[Array], attributes: Any) -> Array:
    return np.frombuffer(attributes["value"], numpy_dtype(attributes["dtype"])).reshape(attributes["shape"])


def _dot_general(operands: Sequence[Array], attributes: Any) -> Array:
    lhs, rhs = operands
    dimensions = dot_dimensions("dot_general", [type_of(lhs), type_of(rhs)], attributes)
    return dot.dot_general(
        lhs, rhs, dimension_numbers=dimensions, precision=attributes["precision"], grid=attributes["grid"]
    )


def _conv_general_dilated(operands: Sequence[Array], attributes: Any) -> Array:
    lhs, rhs = operands
    shape = conv_shape("conv_general_dilated", [type_of(lhs), type_of(rhs)], attributes)
    return convolution.conv_general_dilated(lhs, rhs, shape, attributes["precision"])


def _scatter_add(operands: Sequence[Array], attributes: Attributes) -> Array:
    try:
        return sums.scatter_add(*operands)
    except ValueError as error:
        raise OpError("scatter_add", str(error)) from error


def _implementations() -> dict[str, Implementation]:
    table: dict[str, Implementation] = {name: _function(name) for name in FUNCTIONS}
    table |= {name: _function_of_two(name) for name in FUNCTIONS_OF_TWO}
    elementwise: dict[str, Callable[..., Array]] = {
        "add": arithmetic.add,
        "sub": arithmetic.sub,
        "mul": arithmetic.mul,
        "div": arithmetic.div,
        "max": arithmetic.maximum,
        "min": arithmetic.minimum,
        "neg": arithmetic.neg,
        "abs": arithmetic.abs_,
        "sign": arithmetic.sign,
        "fma": arithmetic.fma,
        "clamp": arithmetic.clamp,
        "floor": arithmetic.floor,
        "ceil": arithmetic.ceil,
        "round": arithmetic.round_,
        "eq": arithmetic.eq,
        "ne": arithmetic.ne,
        "lt": arithmetic.lt,
        "le": arithmetic.le,
        "gt": arithmetic.gt,
        "ge": arithmetic.ge,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
        "not": np.invert,
        "rem": integers.rem,
        "shift_left": integers.shift_left,
        "shift_right_logical": integers.shift_right_logical,
        "shift_right_arithmetic": integers.shift_right_arithmetic,
        "gather": movement.gather,
        "philox4x32": random.philox4x32,
        "threefry2x32": random.threefry2x32,
    }
    for name, function in elementwise.items():
        table[name] = _elementwise(function)
    table |= {
        "is_finite": _is_finite,
        "sqrt": _sqrt,
        "select_n": _select_n,
        "convert_element_type": lambda o, a: convert(o[0], a["new_dtype"]),
        "bitcast_convert_type": lambda o, a: (
            np.ascontiguousarray(o[0]).view(numpy_dtype(a["new_dtype"])).reshape(o[0].shape)
        ),
        "reduce_sum": lambda o, a: sums.reduce_sum(o[0], a["axes"]),
        "reduce_max": lambda o, a: extremes.reduce_max(o[0], a["axes"]),
        "reduce_min": lambda o, a: extremes.reduce_min(o[0], a["axes"]),
        "reduce_and": lambda o, a: extremes.reduce_and(o[0], a["axes"]),
        "reduce_or": lambda o, a: extremes.reduce_or(o[0], a["axes"]),
        "argmax": lambda o, a: extremes.argmax(o[0], a["axis"]),
        "argmin": lambda o, a: extremes.argmin(o[0], a["axis"]),
        "cumsum": lambda o, a: sums.cumsum(o[0], a["axis"]),
        "dot_general": _dot_general,
        "conv_general_dilated": _conv_general_dilated,
        "broadcast_in_dim": lambda o, a: movement.broadcast_in_dim(o[0], a["shape"], a["broadcast_dimensions"]),
        "reshape": lambda o, a: o[0].reshape(a["new_sizes"]),
        "transpose": lambda o, a: o[0].transpose(a["permutation"]),
        "rev": lambda o, a: np.flip(o[0], a["axis"]),
        "slice": _slice,
        "pad": lambda o, a: movement.pad(o[0], o[1], a["low"], a["high"]),
        "concatenate": lambda o, a: np.concatenate(o, a["dimension"]),
        "scatter_add": _scatter_add,
        "argsort": lambda o, a: movement.argsort(o[0], a["axis"], a["descending"]),
        "sort": lambda o, a: movement.sort(o[0], a["axis"], a["descending"]),
        "scatter": lambda o, a: movement.scatter(*o),
        "iota": _iota,
        "constant": _constant,
    }
    return table


_IMPLEMENTATIONS: Final = _implementations()
if set(_IMPLEMENTATIONS) != set(OPS):
    raise AssertionError(f"op table and reference differ: {sorted(set(OPS) ^ set(_IMPLEMENTATIONS))}")
