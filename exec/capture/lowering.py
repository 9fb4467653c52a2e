"""Lower a traced ATen graph to our own graph, one rule per ATen op.

The rules stand in the `rules_*` files beside this one, each under the name of its ATen op (without overload). They
are ours and versioned with the package: torch's own decompositions change between releases, and with them the bits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import torch
from torch.fx import Node as FxNode

from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.capture.subject import GRADIENT
from samebits.exec.capture.tensors import to_numpy
from samebits.exec.capture.traced import VALUE_FREE, Trace
from samebits.exec.capture.watch import functional_name_of
from samebits.exec.errors import CaptureError, ExecError
from samebits.exec.graph import Graph
from samebits.exec.job import KEY, RATE
from samebits.kernels.errors import KernelError
from samebits.kernels.types import TensorType

Rule = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=Rule)
RULES: Final[dict[str, Rule]] = {}
REFUSED: Final[dict[str, str]] = {}  # ATen ops that are refused -> what to do instead
_MOVES: Final = frozenset({"aten.copy", "aten.clone", "aten.detach"})
UNINITIALISED: Final = object()  # what torch.empty gives: it may be overwritten, not read

DTYPE_NAMES: Final[Mapping[torch.dtype, str]] = {
    torch.bool: "bool",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
    torch.uint16: "u16",
    torch.uint32: "u32",
    torch.uint64: "u64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
}


def rule(*names: str) -> Callable[[AnyRule], AnyRule]:
    """Register a lowering rule for ATen ops, as in ``@rule("mm")``, or for ops of ours, with their namespace."""

    def register(function: AnyRule) -> AnyRule:
        for name in names:
            full = name if name.startswith("samebits.") else f"aten.{name}"
            if full in RULES:
                raise AssertionError(f"two rules for {full}")
            RULES[full] = function
        return function

    return register


def refuse(name: str, way_around: str) -> None:
    """Register an ATen op that is refused, with what to do instead."""
    REFUSED[f"aten.{name}"] = way_around

    @rule(name)
    def lower_refused(low: Lowering, *arguments: Any, **options: Any) -> Any:
        raise CaptureError(f"aten.{name} has no rule: {way_around}")


def dtype_of(dtype: torch.dtype) -> str:
    """Return our name of a torch dtype; raises CaptureError for one that has none."""
    if dtype not in DTYPE_NAMES:
        raise CaptureError(f"{dtype} is not supported")
    return DTYPE_NAMES[dtype]


def type_of(tensor: torch.Tensor) -> TensorType:
    """Return our type of a torch tensor."""
    return TensorType(dtype_of(tensor.dtype), tuple(int(size) for size in tensor.shape))


class Lowering:
    """What a rule works with: the graph under construction and the ATen node at hand."""

    def __init__(self, builder: GraphBuilder, precision: str) -> None:
        self.builder = builder
        self.precision = precision
        self.node: FxNode

    def op(self, name: str, *operands: ValueRef, **attributes: Any) -> ValueRef:
        """Append an operation of the op table."""
        return self.builder.op(name, *operands, **attributes)

    @property
    def result(self) -> TensorType:
        """Return the type that torch gives the result of the node at hand."""
        return type_of(self.node.meta["val"])

    def operand_dtype(self) -> str:
        """Return the dtype to which torch promotes the first two arguments of the node at hand."""
        values: list[Any] = [a.meta["val"] if isinstance(a, FxNode) else a for a in self.node.args[:2]]
        return dtype_of(torch.result_type(*values))

    def cast(self, value: ValueRef, dtype: str) -> ValueRef:
        """Convert to `dtype` where it isn't that already."""
        return value if value.type.dtype == dtype else self.op("convert_element_type", value, new_dtype=dtype)

    def full(self, value: float | int | bool, dtype: str, shape: Sequence[int]) -> ValueRef:
        """Return a tensor filled with a scalar, rounded once to `dtype`."""
        return self.broadcast(self.builder.scalar(value, dtype), shape)

    def broadcast(self, value: ValueRef, shape: Sequence[int]) -> ValueRef:
        """Broadcast by NumPy's rule: axes align at the end."""
        if value.type.shape == tuple(shape):
            return value
        first = len(shape) - value.type.rank
        return self.op("broadcast_in_dim", value, shape=tuple(shape), broadcast_dimensions=range(first, len(shape)))

    def tensor(self, value: ValueRef | float | int | bool, dtype: str, shape: Sequence[int]) -> ValueRef:
        """Return an argument, tensor or number, as a tensor of this type."""
        if isinstance(value, ValueRef):
            return self.broadcast(self.cast(value, dtype), shape)
        return self.full(value, dtype, shape)

    def reshape(self, value: ValueRef, shape: Sequence[int]) -> ValueRef:
        """Reshape where the shape isn't that already."""
        return value if value.type.shape == tuple(shape) else self.op("reshape", value, new_sizes=tuple(shape))

    def transpose(self, value: ValueRef, permutation: Sequence[int]) -> ValueRef:
        """Permute axes, leaving out the identity."""
        if tuple(permutation) == tuple(range(value.type.rank)):
            return value
        return self.op("transpose", value, permutation=tuple(permutation))

    def reduce(self, name: str, value: ValueRef, axes: Sequence[int], keep: bool = False) -> ValueRef:
        """Reduce over axes (negative ones count from the end); `keep` leaves them with size 1."""
        rank = value.type.rank
        positive = sorted({axis % rank for axis in axes}) if rank else []
        reduced = self.op(name, value, axes=tuple(positive)) if positive else value
        kept = tuple(1 if i in positive else n for i, n in enumerate(value.type.shape))
        return self.reshape(reduced, kept) if keep else reduced

    def along(self, value: ValueRef) -> ValueRef:
        """Broadcast a reduced value (its axes kept with size 1) back to the shape of the result at hand."""
        return self.broadcast(value, self.result.shape)


def lower(trace: Trace, precision: str) -> Graph:
    """Return the canonical graph of a trace; raises CaptureError naming the op that has no rule."""
    builder = GraphBuilder()
    lowering = Lowering(builder, precision)
    values: dict[FxNode, Any] = {}
    names = iter(trace.inputs)
    for node in trace.module.graph.nodes:
        if node.op == "placeholder":
            name = next(names)
            unused = name.startswith((KEY, RATE)) and not node.users  # a graph takes only what it uses of these
            left_out = unused or name.startswith(GRADIENT)
            values[node] = UNINITIALISED if left_out else builder.input(name, type_of(node.meta["val"]))
        elif node.op == "get_attr":
            values[node] = _constant(builder, getattr(trace.module, node.target))
        elif node.op == "call_function":
            values[node] = _lower_call(lowering, node, values, trace.lines)
        elif node.op == "output":
            results: Any = node.args[0]
            for name, value in zip(trace.outputs, results, strict=True):
                builder.output(name, values[value])
    return builder.build()


def _lower_call(
    lowering: Lowering, node: FxNode, values: Mapping[FxNode, Any], lines: Mapping[str, Collection[str]]
) -> Any:
    lowering.node = node
    args: Any = torch.fx.node.map_arg(node.args, values.__getitem__)
    kwargs: Any = torch.fx.node.map_arg(node.kwargs, values.__getitem__)
    if node.target is operator.getitem:
        return args[0][args[1]]
    name = functional_name_of(node)
    if "profiler" in name:
        return None
    called_at = lines.get(name, ())
    where = next(iter(called_at)) if len(called_at) == 1 else None
    if name not in RULES:
        raise CaptureError(f"{name} has no lowering rule", where)
    if any(value is UNINITIALISED for value in _flat(args)) and name not in VALUE_FREE | _MOVES:
        raise CaptureError(f"{name} reads memory that nothing has written", where)
    try:
        result = RULES[name](lowering, *args, **kwargs)
        _check_types(name, result, node.meta["val"])
        return result
    except CaptureError as error:
        raise CaptureError(error.reason, error.where or where) from error
    except (KernelError, ExecError) as error:
        raise CaptureError(f"{node.target}: {error}", where) from error
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise CaptureError(f"{node.target} has arguments that its rule doesn't know ({error})", where) from error


def _check_types(name: str, result: Any, expected: Any) -> None:
    """Raise CaptureError if a rule gives other types than torch says; a rule must not change a dtype or a shape."""
    if isinstance(result, ValueRef) and isinstance(expected, torch.Tensor):
        if result.type != type_of(expected):
            raise CaptureError(f"{name} gives {result.type} here, torch {type_of(expected)}")
    elif isinstance(result, list | tuple) and isinstance(expected, list | tuple):
        for one, other in zip(result, expected, strict=False):
            _check_types(name, one, other)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _constant(builder: GraphBuilder, tensor: torch.Tensor) -> ValueRef:
    if tensor.numel() > 4096:
        raise CaptureError(f"the step makes a constant of {tensor.numel()} elements; pass it as data or as a buffer")
    return builder.constant(to_numpy(tensor))
