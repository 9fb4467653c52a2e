"""The op table: every primitive operation with its operands, attributes and type rule.

Names are those of JAX primitives, as `jax.make_jaxpr` prints them. An operation is a pure function of its operands
and attributes; what it computes is stated in README.md and executed by `reference.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from samebits.cas.dtype import DTYPES, FLOATS, INTEGERS
from samebits.kernels import attributes as attr
from samebits.kernels import inference as rules
from samebits.kernels.attributes import REQUIRED, Attribute
from samebits.kernels.convolution_shape import conv_general_dilated
from samebits.kernels.errors import OpError, UnknownOpError
from samebits.kernels.types import Attributes, AttributeValue, TensorType

COMPUTE = rules.COMPUTE_FLOATS
NUMBERS = (*FLOATS, *INTEGERS)
LOGICAL = ("bool", *INTEGERS)

# Correctly rounded functions of one real variable.
FUNCTIONS: Final = (
    *("exp", "exp2", "expm1", "log", "log2", "log1p", "rsqrt", "reciprocal", "sin", "cos", "tan", "tanh"),
    *("erf", "erfc", "logistic", "sinh", "cosh", "asin", "acos", "atan"),
)
FUNCTIONS_OF_TWO: Final = ("pow", "atan2")  # of two


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: how many operands it takes (None: one or more), its attributes and its type rule."""

    name: str
    arity: int | None
    attributes: tuple[Attribute, ...]
    rule: rules.Rule
    group: str  # heading in the documentation

    def infer(self, types: rules.Types, attributes: Attributes) -> TensorType:
        """Return the result type; raises OpError for operands that do not fit."""
        if self.arity is None and not types:
            raise OpError(self.name, "wants at least one operand")
        if self.arity is not None and len(types) != self.arity:
            raise OpError(self.name, f"wants {self.arity} operands, got {len(types)}")
        return self.rule(self.name, types, attributes)

    def check_attributes(self, given: Mapping[str, Any]) -> dict[str, AttributeValue]:
        """Return the canonical attributes, defaults filled in; raises OpError naming the attribute that is wrong."""
        known = {attribute.name for attribute in self.attributes}
        for name in given:
            if name not in known:
                wanted = f"it has {', '.join(sorted(known))}" if known else "it has none"
                raise OpError(self.name, f"unknown attribute {name!r} ({wanted})")
        checked: dict[str, AttributeValue] = {}
        for attribute in self.attributes:
            value = given.get(attribute.name, attribute.default)
            if value is REQUIRED:
                raise OpError(self.name, f"attribute {attribute.name!r} is missing")
            try:
                checked[attribute.name] = attribute.check(value)
            except (ValueError, TypeError) as error:
                raise OpError(self.name, f"attribute {attribute.name!r}: {error}") from None
        return checked


def _table() -> dict[str, Op]:
    table: dict[str, Op] = {}

    def define(group: str, names: str, arity: int | None, rule: rules.Rule, *attributes: Attribute) -> None:
        for name in names.split():
            table[name] = Op(name, arity, attributes, rule, group)

    axes = Attribute("axes", attr.integers)
    axis = Attribute("axis", attr.integer)
    shape = Attribute("shape", attr.integers)
    dtype = Attribute("dtype", attr.dtype)

    define("arithmetic", "add sub mul div max min", 2, rules.elementwise(NUMBERS))
    define("arithmetic", "neg abs sign", 1, rules.elementwise((*FLOATS, *rules.SIGNED)))
    define("arithmetic", "sqrt", 1, rules.elementwise(FLOATS))
    define("arithmetic", "fma", 3, rules.elementwise(COMPUTE))
    define("arithmetic", "clamp", 3, rules.elementwise(NUMBERS))
    define("arithmetic", "floor ceil round", 1, rules.elementwise(FLOATS))
    define("functions", " ".join(FUNCTIONS), 1, rules.elementwise(COMPUTE))
    define("functions", " ".join(FUNCTIONS_OF_TWO), 2, rules.elementwise(COMPUTE))
    define("integers", "rem shift_left shift_right_logical shift_right_arithmetic", 2, rules.elementwise(INTEGERS))
    define("logic", "and or xor", 2, rules.elementwise(LOGICAL))
    define("logic", "not", 1, rules.elementwise(LOGICAL))
    define("logic", "eq ne lt le gt ge", 2, rules.comparison(DTYPES))
    define("logic", "is_finite", 1, rules.comparison(FLOATS))
    define("logic", "select_n", 3, rules.select_n)
    define("types", "convert_element_type", 1, rules.convert_element_type, Attribute("new_dtype", attr.dtype))
    define("types", "bitcast_convert_type", 1, rules.bitcast, Attribute("new_dtype", attr.dtype))

    define("reductions", "reduce_sum", 1, rules.reduction((*COMPUTE, *INTEGERS)), axes)
    define("reductions", "reduce_max reduce_min", 1, rules.reduction(NUMBERS), axes)
    define("reductions", "reduce_and reduce_or", 1, rules.reduction(("bool",)), axes)
    define("reductions", "argmax argmin", 1, rules.arg_reduction, axis)
    define("reductions", "cumsum", 1, rules.along_axis((*COMPUTE, *INTEGERS)), axis)
    precision = Attribute("precision", attr.one_of("highest", "high"), "highest")
    define(
        *("products", "dot_general", 2, rules.dot_general),
        Attribute("dimension_numbers", attr.dimension_numbers, None),
        precision,
        Attribute("grid", attr.one_of("both", "columns", "rows"), "both"),
    )
    define(
        *("products", "conv_general_dilated", 2, conv_general_dilated),
        Attribute("window_strides", attr.integers),
        Attribute("padding", attr.pairs),
        Attribute("lhs_dilation", attr.optional_integers, None),
        Attribute("rhs_dilation", attr.optional_integers, None),
        Attribute("feature_group_count", attr.integer, 1),
        Attribute("batch_group_count", attr.integer, 1),
        precision,
    )

    define(
        "movement",
        "broadcast_in_dim",
        1,
        rules.broadcast_in_dim,
        shape,
        Attribute("broadcast_dimensions", attr.integers),
    )
    define("movement", "reshape", 1, rules.reshape, Attribute("new_sizes", attr.integers))
    define("movement", "transpose", 1, rules.transpose, Attribute("permutation", attr.integers))
    define("movement", "rev", 1, rules.along_axis(DTYPES), axis)
    slice_attributes = (Attribute(name, attr.integers) for name in ("start_indices", "limit_indices", "strides"))
    define("movement", "slice", 1, rules.slice_, *slice_attributes)
    define("movement", "pad", 2, rules.pad, Attribute("low", attr.integers), Attribute("high", attr.integers))
    define("movement", "concatenate", None, rules.concatenate, Attribute("dimension", attr.integer))
    define("movement", "gather", 2, rules.gather)
    define("movement", "scatter_add", 3, rules.scatter((*COMPUTE, *INTEGERS)))
    define("movement", "scatter", 3, rules.scatter(DTYPES))
    descending = Attribute("descending", attr.boolean, False)
    define("movement", "argsort", 1, rules.argsort, axis, descending)
    define("movement", "sort", 1, rules.along_axis(DTYPES), axis, descending)
    define("sources", "iota", 0, rules.iota, dtype, shape, Attribute("dimension", attr.integer))
    define("sources", "constant", 0, rules.constant, dtype, shape, Attribute("value", attr.raw_bytes))
    define("random", "philox4x32", 2, rules.counter_random(4))
    define("random", "threefry2x32", 2, rules.counter_random(2))
    return table


OPS: Final[Mapping[str, Op]] = _table()


def find_op(name: object) -> Op:
    """Return the operation of this name; raises UnknownOpError."""
    if not isinstance(name, str) or name not in OPS:
        raise UnknownOpError(name)
    return OPS[name]
