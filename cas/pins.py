"""Pins: names that a store's user gives to objects. Database ``pins``: key = name in UTF-8, value = 32-byte address."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Final

from samebits.cas.digest import DIGEST_SIZE_BYTES, Digest
from samebits.cas.environment import PINS, Transaction
from samebits.cas.errors import StoreError

MAX_NAME_SIZE_BYTES: Final = 400  # LMDB's keys have at most 511
_SCAN_PINS: Final = 1000


def pin_key(name: str) -> bytes:
    """Return the key of a pin's name; raises ValueError for one that is empty, too long or has control characters."""
    if not name or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ValueError(f"pin name {name!r} is empty or has control characters")
    key = name.encode()
    if len(key) > MAX_NAME_SIZE_BYTES:
        raise ValueError(f"pin name of {len(key)} bytes; the most is {MAX_NAME_SIZE_BYTES}")
    return key


def read_pins(transaction: Transaction, path: Path) -> dict[str, Digest]:
    """Return all pins of the store `path` in the order of names; raises StoreError for one that is malformed."""
    pins: dict[str, Digest] = {}
    last: bytes | None = None
    while True:
        found = transaction.scan(PINS, last, _SCAN_PINS)
        for key, value in found:
            try:
                name = key.decode()
            except UnicodeDecodeError as error:
                raise StoreError(path, f"is damaged: it has the pin {key!r}") from error
            if len(value) != DIGEST_SIZE_BYTES:
                raise StoreError(path, f"is damaged: its pin {name!r} names no address")
            pins[name] = Digest(value)
        if len(found) < _SCAN_PINS:
            return pins
        last = found[-1][0]
