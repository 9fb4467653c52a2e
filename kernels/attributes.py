"""Attributes of operations: each has one canonical form, which `check` returns or refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from samebits.cas.dtype import DTYPES
from samebits.kernels.types import MAX_RANK, AttributeValue

REQUIRED: Final = object()


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an operation; `check` returns the canonical value, or raises ValueError with what is wanted."""

    name: str
    check: Callable[[Any], AttributeValue]
    default: Any = REQUIRED


def integer(value: Any) -> int:
    """Accept an integer that is not a bool."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"want an integer, got {value!r}")
    return int(value.__index__())


def integers(value: Any) -> tuple[int, ...]:
    """Accept a sequence of integers (or one integer, for a sequence of one)."""
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return (integer(value),)
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise ValueError(f"want a list of integers, got {value!r}")
    items = tuple(integer(item) for item in value)
    if len(items) > 4 * MAX_RANK:
        raise ValueError(f"want at most {4 * MAX_RANK} integers, got {len(items)}")
    return items


def optional_integers(value: Any) -> tuple[int, ...] | None:
    """Accept None or a sequence of integers."""
    return None if value is None else integers(value)


def pairs(value: Any) -> tuple[tuple[int, int], ...]:
    """Accept a sequence of pairs of integers."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise ValueError(f"want a list of pairs of integers, got {value!r}")
    items = tuple(integers(item) for item in value)
    if len(items) > MAX_RANK or any(len(item) != 2 for item in items):
        raise ValueError(f"want at most {MAX_RANK} pairs of integers, got {value!r}")
    return tuple((low, high) for low, high in items)


def boolean(value: Any) -> bool:
    """Accept True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"want true or false, got {value!r}")
    return value


def raw_bytes(value: Any) -> bytes:
    """Accept bytes."""
    if not isinstance(value, bytes):
        raise ValueError(f"want bytes, got {value!r}")
    return value


def dtype(value: Any) -> str:
    """Accept the name of an element type."""
    if not isinstance(value, str) or value not in DTYPES:
        raise ValueError(f"want one of {', '.join(DTYPES)}, got {value!r}")
    return value


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return a check that accepts one of `choices`."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"want one of {', '.join(choices)}, got {value!r}")
        return value

    return check


def dimension_numbers(value: Any) -> AttributeValue:
    """Accept ((lhs contracting, rhs contracting), (lhs batch, rhs batch)), or None for a matrix product."""
    if value is None:
        return None
    try:
        (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = value
    except (TypeError, ValueError):
        raise ValueError(f"want ((lhs contract, rhs contract), (lhs batch, rhs batch)), got {value!r}") from None
    return (
        (integers(lhs_contract), integers(rhs_contract)),
        (integers(lhs_batch), integers(rhs_batch)),
    )
