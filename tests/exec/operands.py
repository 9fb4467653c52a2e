"""Operands for every operation of the op table: all element types, sizes at borders, special values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.kernels.convolution_cases import random_case
from tests.kernels.float_samples import KINDS, corner_bits, from_bits, sample

from samebits.cas.dtype import DTYPES, INTEGERS, dtype_name, numpy_dtype
from samebits.kernels.errors import KernelError
from samebits.kernels.optable import OPS
from samebits.kernels.types import TensorType

Array = npt.NDArray[Any]
SIZES = (0, 1, 2, 63, 64, 65, 129)


@dataclass(frozen=True, slots=True)
class Case:
    """Operands and attributes that fit an operation."""

    operands: tuple[Array, ...]
    attributes: dict[str, Any]


def values(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return elements of any kind, special ones among them."""
    size = int(np.prod(shape))
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype in INTEGERS:
        info = np.iinfo(numpy_dtype(dtype))
        drawn = rng.integers(info.min, info.max, shape, dtype=numpy_dtype(dtype), endpoint=True)
        small = rng.integers(max(-3, info.min), 4, shape).astype(drawn.dtype)
        ends = rng.choice(np.array([info.min, info.max], drawn.dtype), shape)
        return np.where(rng.random(shape) < 0.4, small, np.where(rng.random(shape) < 0.1, ends, drawn))
    drawn = sample(str(rng.choice(KINDS)), shape, dtype, int(rng.integers(1 << 30)))
    corners = from_bits(rng.choice(np.array(corner_bits(dtype), np.uint64), size), dtype).reshape(shape)
    share = rng.choice([0.0, 0.02, 0.3])
    return np.where(rng.random(shape) < share, corners, drawn)


def cases(op: str, seed: int) -> Iterator[Case]:
    """Yield cases of one operation for each element type that it takes."""
    rng = np.random.default_rng(seed)
    for dtype in DTYPES:
        for case in _cases_of(op, dtype, rng):
            try:
                table = OPS[op]
                attributes = table.check_attributes(case.attributes)
                types = [TensorType(dtype_name(x.dtype), x.shape) for x in case.operands]
                table.infer(types, attributes)
            except KernelError:
                continue
            yield Case(case.operands, attributes)


def _shape(rng: np.random.Generator, rank: int, least: int = 0) -> tuple[int, ...]:
    return tuple(int(rng.choice([n for n in SIZES if n >= least])) for _ in range(rank))


def _cases_of(op: str, dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    group = OPS[op].group
    if group in ("arithmetic", "functions", "integers", "logic"):
        arity = OPS[op].arity or 1
        for shape in (_shape(rng, 1, 63), _shape(rng, 2)):
            operands = [values(rng, dtype, shape) for _ in range(arity)]
            if op == "select_n":
                operands[0] = values(rng, "bool", shape)
            if op.startswith("shift") and dtype in INTEGERS:
                operands[1] = np.where(rng.random(shape) < 0.8, operands[1] & operands[1].dtype.type(63), operands[1])
            yield Case(tuple(operands), {})
    elif group == "types":
        for target in DTYPES:
            yield Case((values(rng, dtype, (129,)),), {"new_dtype": target})
    elif group == "reductions":
        shape = _shape(rng, 3, 1 if op.startswith("arg") else 0)
        x = values(rng, dtype, shape)
        if op.startswith("reduce"):
            choices = ((0,), (1,), (2,), (0, 2), (0, 1, 2), ())
            for i in rng.choice(len(choices), 2, replace=False):
                yield Case((x,), {"axes": choices[i]})
        else:
            yield Case((x,), {"axis": int(rng.integers(3))})
    elif op == "dot_general":
        yield from _dots(dtype, rng)
    elif op == "conv_general_dilated":
        yield from _convolutions(dtype, rng)
    else:
        yield from _movement(op, dtype, rng)


def _dots(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    m, k, n = _shape(rng, 3)
    options = {"precision": str(rng.choice(["highest", "high"])), "grid": str(rng.choice(["both", "columns", "rows"]))}
    yield Case((values(rng, dtype, (m, k)), values(rng, dtype, (k, n))), options)
    numbers = (((0,), (2,)), ((2,), (0,)))  # contract and batch axes in other places
    yield Case((values(rng, dtype, (k, m, 3)), values(rng, dtype, (3, n, k))), {"dimension_numbers": numbers})


def _convolutions(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    for _ in range(2):
        drawn = random_case(rng)
        yield Case((values(rng, dtype, drawn.lhs), values(rng, dtype, drawn.rhs)), drawn.how.attributes())


def _movement(op: str, dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    a, b, c = _shape(rng, 3)
    x = values(rng, dtype, (a, b, c))
    match op:
        case "broadcast_in_dim":
            yield Case((values(rng, dtype, (a, 1)),), {"shape": (a, 3, b), "broadcast_dimensions": (0, 2)})
        case "reshape":
            yield Case((x,), {"new_sizes": (b * c, a)})
        case "transpose":
            yield Case((x,), {"permutation": (2, 0, 1)})
        case "rev":
            yield Case((x,), {"axis": int(rng.integers(3))})
        case "argsort" | "sort":
            yield Case((x,), {"axis": int(rng.integers(3)), "descending": bool(rng.integers(2))})
        case "slice":
            limits, starts = (a, b, c), (a // 3, b // 2, 0)
            yield Case((x,), {"start_indices": starts, "limit_indices": limits, "strides": (2, 1, 3)})
        case "pad":
            yield Case((x, values(rng, dtype, ())), {"low": (1, 0, 2), "high": (0, 3, 1)})
        case "concatenate":
            yield Case((x, x[:, : b // 2], x), {"dimension": 1})
        case "gather" | "scatter_add" | "scatter":
            yield from _indexed(op, dtype, rng)
        case "iota":
            yield Case((), {"dtype": dtype, "shape": (a, b, 2), "dimension": int(rng.integers(3))})
        case "constant":
            yield Case((), {"dtype": dtype, "shape": x.shape, "value": np.ascontiguousarray(x).tobytes()})
        case "philox4x32" | "threefry2x32":
            width = 4 if op.startswith("philox") else 2
            if dtype == "u32":
                yield Case((values(rng, "u32", (a, b, width)), values(rng, "u32", (2,))), {})
        case _:
            raise AssertionError(f"no cases for {op}")


def _indexed(op: str, dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    rows, width = _shape(rng, 1, 1)[0], int(rng.choice([1, 5, 64]))
    for index_dtype in ("i64", "u8"):
        shape = _shape(rng, 1) if index_dtype == "i64" else (7, 3)
        if op == "scatter":
            shape = (int(rng.integers(0, rows + 1)),)
            indices = rng.permutation(rows)[: shape[0]].astype(numpy_dtype(index_dtype))
        else:
            indices = rng.integers(0, rows, shape).astype(numpy_dtype(index_dtype))
        operand = values(rng, dtype, (rows, width))
        if op == "gather":
            yield Case((operand, indices), {})
        else:
            yield Case((operand, indices, values(rng, dtype, (*shape, width))), {})
