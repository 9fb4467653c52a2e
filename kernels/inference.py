"""Type rules: the result type of each operation, or an OpError that says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias, cast

from samebits.cas.dtype import INTEGERS, numpy_dtype
from samebits.kernels.errors import OpError
from samebits.kernels.types import MAX_DIMENSION, MAX_RANK, MAX_SIZE_BYTES, Attributes, TensorType

Types: TypeAlias = Sequence[TensorType]
Rule: TypeAlias = Callable[[str, Types, Attributes], TensorType]

COMPUTE_FLOATS = ("f16", "bf16", "f32")
SIGNED = tuple(name for name in INTEGERS if name.startswith("i"))


def check_type(op: str, tensor: TensorType) -> TensorType:
    """Return `tensor`, or raise OpError if its shape is negative, too deep or too large to address.

    A tensor without elements is measured by its other axes: NumPy's strides grow with them all the same.
    """
    if any(size < 0 for size in tensor.shape):
        raise OpError(op, f"negative size in shape {list(tensor.shape)}")
    if tensor.rank > MAX_RANK:
        raise OpError(op, f"{tensor.rank} dimensions; at most {MAX_RANK} are supported")
    if max(tensor.shape, default=0) > MAX_DIMENSION:
        raise OpError(op, f"{tensor} has an axis of 2^40 elements or more")
    if prod(size for size in tensor.shape if size) * numpy_dtype(tensor.dtype).itemsize > MAX_SIZE_BYTES:
        raise OpError(op, f"{tensor} has axes for more than 2^48 bytes")
    return tensor


def check_dtype(op: str, tensor: TensorType, allowed: Sequence[str]) -> None:
    """Raise OpError unless the element type is one of `allowed`."""
    if tensor.dtype not in allowed:
        raise OpError(op, f"not defined for {tensor.dtype} (defined for {', '.join(allowed)})")


def check_axis(op: str, axis: int, rank: int) -> int:
    """Return `axis` if 0 <= axis < rank, else raise OpError."""
    if not 0 <= axis < rank:
        raise OpError(op, f"axis {axis} is outside 0..{rank - 1}" if rank else "a scalar has no axes")
    return axis


def check_axes(op: str, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return distinct axes within the rank, else raise OpError."""
    for axis in axes:
        check_axis(op, axis, rank)
    if len(set(axes)) != len(axes):
        raise OpError(op, f"axes {list(axes)} name one axis twice")
    return tuple(axes)


def _same(op: str, types: Types) -> TensorType:
    first = types[0]
    for other in types[1:]:
        if other != first:
            raise OpError(op, f"operands differ: {' and '.join(map(str, types))} (broadcast or convert first)")
    return first


def elementwise(allowed: Sequence[str]) -> Rule:
    """Return the rule of an operation whose operands and result have one type."""

    def rule(op: str, types: Types, attributes: Attributes) -> TensorType:
        result = _same(op, types)
        check_dtype(op, result, allowed)
        return result

    return rule


def comparison(allowed: Sequence[str]) -> Rule:
    """Return the rule of an operation that takes equal types and gives bool."""

    def rule(op: str, types: Types, attributes: Attributes) -> TensorType:
        operand = _same(op, types)
        check_dtype(op, operand, allowed)
        return TensorType("bool", operand.shape)

    return rule


def select_n(op: str, types: Types, attributes: Attributes) -> TensorType:
    """which (bool), case false, case true: JAX's order."""
    which, *cases = types
    result = _same(op, cases)
    check_dtype(op, which, ("bool",))
    if which.shape != result.shape:
        raise OpError(op, f"predicate {which} and cases {result} differ in shape")
    return result


def convert_element_type(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Same shape, new element type."""
    return check_type(op, TensorType(cast(str, attributes["new_dtype"]), types[0].shape))


def reduction(allowed: Sequence[str]) -> Rule:
    """Return the rule of a reduction over `axes`, which are then gone; the element type stays."""

    def rule(op: str, types: Types, attributes: Attributes) -> TensorType:
        (operand,) = types
        check_dtype(op, operand, allowed)
        axes = check_axes(op, cast("tuple[int, ...]", attributes["axes"]), operand.rank)
        if list(axes) != sorted(axes):
            raise OpError(op, f"axes {list(axes)} are not in ascending order")
        return TensorType(operand.dtype, tuple(n for i, n in enumerate(operand.shape) if i not in axes))

    return rule


def arg_reduction(op: str, types: Types, attributes: Attributes) -> TensorType:
    """argmax, argmin over one axis; the result holds int64 indices."""
    (operand,) = types
    axis = check_axis(op, cast(int, attributes["axis"]), operand.rank)
    if operand.shape[axis] == 0:
        raise OpError(op, "an empty axis has no extreme")
    return check_type(op, TensorType("i64", operand.shape[:axis] + operand.shape[axis + 1 :]))


def along_axis(allowed: Sequence[str]) -> Rule:
    """Return the rule of an operation along `axis` that keeps the type (cumsum, rev, ...)."""

    def rule(op: str, types: Types, attributes: Attributes) -> TensorType:
        (operand,) = types
        check_dtype(op, operand, allowed)
        check_axis(op, cast(int, attributes["axis"]), operand.rank)
        return operand

    return rule


def argsort(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Positions that sort along one axis, as int64."""
    (operand,) = types
    check_axis(op, cast(int, attributes["axis"]), operand.rank)
    return check_type(op, TensorType("i64", operand.shape))


def broadcast_in_dim(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Operand axis i becomes result axis broadcast_dimensions[i]; sizes are equal or 1."""
    (operand,) = types
    result = check_type(op, TensorType(operand.dtype, cast("tuple[int, ...]", attributes["shape"])))
    dims = check_axes(op, cast("tuple[int, ...]", attributes["broadcast_dimensions"]), result.rank)
    if len(dims) != operand.rank or list(dims) != sorted(dims):
        raise OpError(op, f"broadcast_dimensions {list(dims)} do not place the axes of {operand} in order")
    for size, dim in zip(operand.shape, dims, strict=True):
        if size not in (1, result.shape[dim]):
            raise OpError(op, f"cannot broadcast {operand} to {result}")
    return result


def reshape(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Same elements in C order, new shape."""
    (operand,) = types
    result = check_type(op, TensorType(operand.dtype, cast("tuple[int, ...]", attributes["new_sizes"])))
    if result.size != operand.size:
        raise OpError(op, f"{operand} has {operand.size} elements, {result} has {result.size}")
    return result


def transpose(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Result axis i is operand axis permutation[i]."""
    (operand,) = types
    permutation = check_axes(op, cast("tuple[int, ...]", attributes["permutation"]), operand.rank)
    if len(permutation) != operand.rank:
        raise OpError(op, f"permutation {list(permutation)} does not name every axis of {operand}")
    return TensorType(operand.dtype, tuple(operand.shape[axis] for axis in permutation))


def slice_(op: str, types: Types, attributes: Attributes) -> TensorType:
    """operand[start:limit:stride] on every axis."""
    (operand,) = types
    names = ("start_indices", "limit_indices", "strides")
    starts, limits, strides = (cast("tuple[int, ...]", attributes[name]) for name in names)
    if not len(starts) == len(limits) == len(strides) == operand.rank:
        raise OpError(op, f"wants a start, a limit and a stride for each axis of {operand}")
    sizes = []
    for size, start, limit, stride in zip(operand.shape, starts, limits, strides, strict=True):
        if not (0 <= start <= limit <= size and stride >= 1):
            raise OpError(op, f"range {start}:{limit}:{stride} does not lie in an axis of size {size}")
        sizes.append(-(-(limit - start) // stride))
    return TensorType(operand.dtype, tuple(sizes))


def pad(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Operand and scalar padding value; `low` and `high` elements are added to each axis."""
    operand, value = types
    low, high = (cast("tuple[int, ...]", attributes[name]) for name in ("low", "high"))
    if value != TensorType(operand.dtype, ()):
        raise OpError(op, f"the padding value is {value}, want {operand.dtype}[]")
    if not len(low) == len(high) == operand.rank or min((*low, *high, 0)) < 0:
        raise OpError(op, f"wants two non-negative widths for each axis of {operand}")
    shape = tuple(a + n + b for a, n, b in zip(low, operand.shape, high, strict=True))
    return check_type(op, TensorType(operand.dtype, shape))


def concatenate(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Operands one after another along `dimension`."""
    first = types[0]
    axis = check_axis(op, cast(int, attributes["dimension"]), first.rank)
    for other in types[1:]:
        fits = other.rank == first.rank and other.dtype == first.dtype
        if not fits or other.shape[:axis] + other.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]:
            raise OpError(op, f"{first} and {other} do not fit along axis {axis}")
    total = sum(operand.shape[axis] for operand in types)
    return check_type(op, TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :])))


def iota(op: str, types: Types, attributes: Attributes) -> TensorType:
    """0, 1, 2, ... along `dimension`."""
    result = check_type(op, TensorType(cast(str, attributes["dtype"]), cast("tuple[int, ...]", attributes["shape"])))
    check_dtype(op, result, (*INTEGERS, "f32", "f64"))
    check_axis(op, cast(int, attributes["dimension"]), result.rank)
    return result


def constant(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Elements given as little-endian bytes in C order."""
    result = check_type(op, TensorType(cast(str, attributes["dtype"]), cast("tuple[int, ...]", attributes["shape"])))
    value = cast(bytes, attributes["value"])
    if len(value) != result.size_bytes:
        raise OpError(op, f"{result} has {result.size_bytes} bytes, got {len(value)}")
    if result.dtype == "bool" and max(value, default=0) > 1:
        raise OpError(op, "a bool is byte 0 or 1")
    return result


def gather(op: str, types: Types, attributes: Attributes) -> TensorType:
    """operand (n, *rest), indices (*s) int -> (*s, *rest): row indices[s] of the operand."""
    operand, indices = types
    check_dtype(op, indices, INTEGERS)
    if operand.rank == 0:
        raise OpError(op, "a scalar has no rows")
    return check_type(op, TensorType(operand.dtype, indices.shape + operand.shape[1:]))


def scatter(allowed: Sequence[str]) -> Rule:
    """Return the rule of scatter, scatter_add: operand (n, *rest), indices (*s), updates (*s, *rest) -> operand."""

    def rule(op: str, types: Types, attributes: Attributes) -> TensorType:
        operand, indices, updates = types
        check_dtype(op, operand, allowed)
        if updates != gather(op, (operand, indices), attributes):
            raise OpError(op, f"updates are {updates}, want {gather(op, (operand, indices), attributes)}")
        return operand

    return rule


def dot_general(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Result axes: batch, free axes of the left operand, free axes of the right one."""
    lhs, rhs = types
    check_dtype(op, lhs, (*COMPUTE_FLOATS, *INTEGERS))
    if lhs.dtype != rhs.dtype:
        raise OpError(op, f"operands differ in type: {lhs} and {rhs} (convert first)")
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dot_dimensions(op, types, attributes)
    for a, b in (*zip(lhs_contract, rhs_contract, strict=True), *zip(lhs_batch, rhs_batch, strict=True)):
        if lhs.shape[a] != rhs.shape[b]:
            raise OpError(op, f"axis {a} of {lhs} and axis {b} of {rhs} differ in size")
    batch = tuple(lhs.shape[axis] for axis in lhs_batch)
    free = [n for i, n in enumerate(lhs.shape) if i not in lhs_contract and i not in lhs_batch]
    free += [n for i, n in enumerate(rhs.shape) if i not in rhs_contract and i not in rhs_batch]
    return check_type(op, TensorType(lhs.dtype, (*batch, *free)))


def dot_dimensions(op: str, types: Types, attributes: Attributes) -> Any:
    """Return checked dimension numbers; None stands for a matrix product with equal leading batch axes."""
    lhs, rhs = types
    given = attributes["dimension_numbers"]
    if given is None:
        if lhs.rank < 2 or rhs.rank != lhs.rank:
            raise OpError(op, f"{lhs} and {rhs} are not matrices: give dimension_numbers")
        batch = tuple(range(lhs.rank - 2))
        return ((lhs.rank - 1,), (rhs.rank - 2,)), (batch, batch)
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = cast(Any, given)
    check_axes(op, lhs_contract + lhs_batch, lhs.rank)
    check_axes(op, rhs_contract + rhs_batch, rhs.rank)
    if len(lhs_contract) != len(rhs_contract) or len(lhs_batch) != len(rhs_batch):
        raise OpError(op, "dimension_numbers name different numbers of axes left and right")
    return given


def counter_random(width: int) -> Rule:
    """Return the rule of a counter-based generator: counter u32 (..., width), key u32 (2,) -> as the counter."""

    def rule(op: str, types: Types, attributes: Attributes) -> TensorType:
        counter, key = types
        if counter.dtype != "u32" or counter.rank == 0 or counter.shape[-1] != width:
            raise OpError(op, f"the counter is {counter}, want u32[...,{width}]")
        if key != TensorType("u32", (2,)):
            raise OpError(op, f"the key is {key}, want u32[2]")
        return counter

    return rule


def bitcast(op: str, types: Types, attributes: Attributes) -> TensorType:
    """Same bits, another element type of the same width."""
    (operand,) = types
    result = TensorType(cast(str, attributes["new_dtype"]), operand.shape)
    widths = {numpy_dtype(name).itemsize for name in (operand.dtype, result.dtype)}
    if len(widths) > 1 or "bool" in (operand.dtype, result.dtype):
        raise OpError(op, f"{operand.dtype} and {result.dtype} differ in width or meaning of their bits")
    return result
