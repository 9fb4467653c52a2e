"""Readers of the fields of an entry: each checks one field and raises EntryError with its name."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TypeAlias

from samebits.cas.digest import Digest
from samebits.cas.encoding import Value
from samebits.ledger.errors import EntryError

Fields: TypeAlias = "dict[str, Value]"

MAX_TEXT_LENGTH = 255
MAX_STEPS = (1 << 63) - 1


def check_names(where: str, fields: Value, wanted: AbstractSet[str]) -> Fields:
    """Return `fields` as a dict that has exactly the names wanted."""
    if not isinstance(fields, dict):
        raise EntryError(where, "want named fields")
    if fields.keys() == wanted:
        return fields
    for name in sorted(wanted - fields.keys()):
        raise EntryError(name, f"missing in the {where}")
    for name in sorted(fields.keys() - wanted):
        raise EntryError(name, f"unknown field in the {where}")
    return fields


def read_integer(fields: Fields, name: str, low: int, high: int = MAX_STEPS) -> int:
    """Return an integer field of low .. high, both included."""
    value = fields[name]
    if type(value) is not int or not low <= value <= high:
        raise EntryError(name, f"want an integer from {low} to {high}")
    return value


def read_text(fields: Fields, name: str) -> str:
    """Return a text field: 1 to 255 printable characters."""
    value = fields[name]
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT_LENGTH or not value.isprintable():
        raise EntryError(name, f"want 1 to {MAX_TEXT_LENGTH} printable characters")
    return value


def read_bytes(fields: Fields, name: str, size_bytes: int) -> bytes:
    """Return a field of exactly so many bytes."""
    value = fields[name]
    if not isinstance(value, bytes) or len(value) != size_bytes:
        raise EntryError(name, f"want {size_bytes} bytes")
    return value


def read_digest(fields: Fields, name: str) -> Digest:
    """Return a field that is an address."""
    value = fields[name]
    if not isinstance(value, Digest):
        raise EntryError(name, "want an address")
    return value


def read_digests(fields: Fields, name: str) -> tuple[Digest, ...]:
    """Return a field that is a list of addresses."""
    value = fields[name]
    if not isinstance(value, (list, tuple)):
        raise EntryError(name, "want a list of addresses")
    digests = tuple(item for item in value if isinstance(item, Digest))
    if len(digests) != len(value):
        raise EntryError(name, "want a list of addresses")
    return digests


def read_range(fields: Fields) -> tuple[int, int]:
    """Return the half-open range of steps, which is not empty."""
    first = read_integer(fields, "first_step", 0)
    stop = read_integer(fields, "stop_step", 1)
    if first >= stop:
        raise EntryError("stop_step", f"{stop} is not after first_step {first}")
    return first, stop
