"""How element types stand in kernels: their C types, literals and conversions."""

from __future__ import annotations

from typing import Final

from samebits.cas.dtype import FLOATS, INTEGERS
from samebits.kernels.codegen.view import COUNT, Splat

# bf16 and f16 live in registers as their bits
C_TYPES: Final = {"f32": "f32", "f64": "f64", "bf16": "u16", "f16": "u16", "bool": "u8"} | {n: n for n in INTEGERS}
SHORT_FLOATS: Final = ("bf16", "f16")


def literal(dtype: str, value: bytes) -> str:
    """Return the C expression of one element given as little-endian bytes."""
    bits = int.from_bytes(value, "little")
    if dtype == "f32":
        return f"from_bits32({bits:#x}u)"
    if dtype == "f64":
        return f"from_bits64({bits:#x}ul)"
    suffix = "ul" if len(value) == 8 else "u"
    return f"(({C_TYPES[dtype]}){bits:#x}{suffix})"


def as_f64(dtype: str, x: str) -> str:
    """Return an element of a float type as f64, exactly."""
    if dtype in SHORT_FLOATS:
        return f"(f64)widen_{dtype}({x})"
    return x if dtype == "f64" else f"(f64){x}"


def as_f32(dtype: str, x: str) -> str:
    """Return an f32, bf16 or f16 as f32, exactly."""
    return f"widen_{dtype}({x})" if dtype in SHORT_FLOATS else x


def converted(source: str, target: str, x: str) -> str:
    """Return x cast from one element type to another: rounded once, saturated or wrapped."""
    if source == target:
        return f"canon_{source}({x})" if source in FLOATS else x
    if target == "bool":
        if source in SHORT_FLOATS:
            return f"(u8)(({x} & 0x7FFF) != 0)"
        return f"(u8)({x} != 0)"
    if source in FLOATS:
        return _from_float(source, target, x)
    if target in INTEGERS:
        return f"({C_TYPES[target]}){x}"
    return _int_to_float(source, target, x)


def _from_float(source: str, target: str, x: str) -> str:
    if target in INTEGERS:
        return f"to_{target}({as_f64(source, x)})"
    if target == "f64":
        return f"canon_f64({as_f64(source, x)})"
    if target == "f32" and source != "f64":
        return f"canon_f32({as_f32(source, x)})"
    return f"round_{target}({as_f64(source, x)})"


def _int_to_float(source: str, target: str, x: str) -> str:
    if target == "f64":
        return f"(f64){x}"
    exact = f"odd_{source}({x})" if source in ("i64", "u64") else f"(f64){x}"
    return f"(f32){exact}" if target == "f32" else f"round_{target}({exact})"


def element(source: object, dtype: str, pointer: str, index: str) -> str:
    """Return the C expression of one element of a view: of its buffer, its splat, or the number of the element."""
    if isinstance(source, Splat):
        return literal(dtype, source.value)
    if source == COUNT:
        return converted("i64", dtype, f"({index})")
    return f"{pointer}[{index}]"
