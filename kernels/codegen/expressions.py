"""C expressions of the element-wise operations, by element type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from samebits.cas.dtype import FLOATS, numpy_dtype
from samebits.kernels.codegen.ctypes_of import SHORT_FLOATS, as_f32, converted
from samebits.kernels.optable import FUNCTIONS, FUNCTIONS_OF_TWO
from samebits.kernels.types import Attributes

_SYMBOLS: Final = {"add": "+", "sub": "-", "mul": "*"}
_COMPARISONS: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_BITWISE: Final = {"and": "&", "or": "|", "xor": "^"}
_NAMES: Final = {"round": "round_whole"}
_SIMPLE: Final = (
    *("div", "max", "min", "neg", "abs", "sign", "round", "floor", "ceil"),
    *("rem", "shift_left", "shift_right_logical", "shift_right_arithmetic"),
)
ELEMENTWISE: Final = frozenset(
    [
        *(*_SYMBOLS, *_COMPARISONS, *_BITWISE, *_SIMPLE, *FUNCTIONS, *FUNCTIONS_OF_TWO),
        *("sqrt", "fma", "clamp", "not", "is_finite", "select_n", "convert_element_type", "bitcast_convert_type"),
    ]
)
# functions whose straight-line form does not hold everywhere: NAME_rare(x) says where, NAME_rare_f64(x) is right there
WITH_RARE: Final = frozenset({"sin", "cos", "tan", "pow", "atan2"})
# operations that move bits and so must see a NaN in its canonical form
_MOVES_BITS: Final = frozenset({"neg", "abs", "select_n", "bitcast_convert_type"})
# results whose NaN may still be a machine's own; made canonical where bits are moved or stored
_RAW: Final = frozenset({"add", "sub", "mul", "div", "sqrt", "fma", *FUNCTIONS, *FUNCTIONS_OF_TWO})


def moves_bits(op: str) -> bool:
    """Say whether an operation passes bits on, so that its operands must be canonical."""
    return op in _MOVES_BITS


def leaves_raw_nan(op: str, dtype: str) -> bool:
    """Say whether the expression of an operation on this type may give a NaN that is not the canonical one."""
    return op in _RAW and dtype in ("f32", "f64")


def expression(op: str, dtype: str, operands: Sequence[str], attributes: Attributes, *, rare: bool = False) -> str:
    """Return the C expression of an operation on operands of `dtype` (of select_n: the type of the cases).

    `rare`: of the functions in WITH_RARE, the expression that is right for every argument.
    """
    x = operands[0] if operands else ""
    if op in _SYMBOLS and dtype in ("f32", "f64"):
        return f"{operands[0]} {_SYMBOLS[op]} {operands[1]}"
    if op in FUNCTIONS or op in FUNCTIONS_OF_TWO or (op == "sqrt" and dtype not in ("f64", *SHORT_FLOATS)):
        return _function(op, dtype, operands, rare=rare)
    if op in _COMPARISONS:
        a, b = (as_f32(dtype, operand) for operand in operands)
        return f"(u8)({a} {_COMPARISONS[op]} {b})"
    if op in _BITWISE:
        return f"{operands[0]} {_BITWISE[op]} {operands[1]}"
    if op == "not":
        return f"(u8)({x} ^ 1)" if dtype == "bool" else f"~{x}"
    if op == "select_n":
        return f"{operands[0]} ? {operands[2]} : {operands[1]}"
    if op == "convert_element_type":
        return converted(dtype, str(attributes["new_dtype"]), x)
    if op == "bitcast_convert_type":
        return _bitcast(dtype, str(attributes["new_dtype"]), x)
    return _named(op, dtype, operands)


def _named(op: str, dtype: str, operands: Sequence[str]) -> str:
    x = operands[0]
    kind = "u8" if dtype == "bool" else dtype
    if op == "is_finite":
        return {
            "f32": f"(u8)((bits32({x}) & 0x7F800000u) != 0x7F800000u)",
            "f64": f"(u8)((bits64({x}) & 0x7FF0000000000000ul) != 0x7FF0000000000000ul)",
            "bf16": f"(u8)(({x} & 0x7F80) != 0x7F80)",
            "f16": f"(u8)(({x} & 0x7C00) != 0x7C00)",
        }[dtype]
    if op == "clamp":  # low, x, high
        low, value, high = operands
        return f"min_{kind}(max_{kind}({value}, {low}), {high})"
    if op == "sqrt" and dtype == "f64":
        return f"sqrt64({x})"
    if op == "div" and dtype == "f64":
        return f"{operands[0]} / {operands[1]}"
    if op == "fma" and dtype == "f32":
        return "(f32)fma_odd(" + ", ".join(f"(f64){operand}" for operand in operands) + ")"
    return f"{_NAMES.get(op, op)}_{kind}({', '.join(operands)})"


def _function(op: str, dtype: str, operands: Sequence[str], *, rare: bool) -> str:
    arguments = ", ".join(as_f32(dtype, operand) for operand in operands)
    value = f"{op}_f64({arguments})"
    if rare and op in WITH_RARE:
        value = f"({op}_rare({arguments}) ? {op}_rare_f64({arguments}) : {value})"
    return f"(f32){value}" if dtype == "f32" else f"round_{dtype}({value})"


def rare_test(op: str, dtype: str, operands: Sequence[str]) -> str:
    """Return the C expression that is not zero where an argument is beyond a function's straight-line form."""
    return f"{op}_rare({', '.join(as_f32(dtype, operand) for operand in operands)})"


def _bitcast(source: str, target: str, x: str) -> str:
    if source == target:
        return x
    width = numpy_dtype(source).itemsize
    if width <= 2:
        return f"({'u16' if target in SHORT_FLOATS else target}){x}"
    bits = f"bits{8 * width}({x})" if source in FLOATS else x
    return f"from_bits{8 * width}({bits})" if target in FLOATS else f"({target}){bits}"
