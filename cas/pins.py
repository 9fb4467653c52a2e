"""Pins and claims: what keeps objects in the store.

Database ``pins``, names that a store's user gives to objects: name in UTF-8 -> 32-byte address. Database ``leases``,
what a living process needs: identity of its lease, a slash and a number -> canonical msgpack of a list of addresses.
"""

from __future__ import annotations

import shlex
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from samebits.cas.digest import DIGEST_SIZE_BYTES, Digest
from samebits.cas.encoding import encode
from samebits.cas.environment import COLLECTING_KEY, LEASES, META, OBJECTS, PINS, TOUCHES
from samebits.cas.errors import ObjectNotFoundError, StoreError
from samebits.cas.transaction import Transaction

MAX_NAME_SIZE_BYTES: Final = 400  # LMDB's keys have at most 511
_SCAN_PINS: Final = 1000


def kept_name(digest: Digest) -> str:
    """Return the pin under which commands keep what a user puts, pulls or pushes without naming it."""
    return f"kept/{digest}"


def pin_key(name: str) -> bytes:
    """Return the key of a pin's name; raises ValueError for one that is empty, too long or has control characters."""
    if not name or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ValueError(f"pin name {name!r} is empty or has control characters")
    key = name.encode()
    if len(key) > MAX_NAME_SIZE_BYTES:
        raise ValueError(f"pin name of {len(key)} bytes; the most is {MAX_NAME_SIZE_BYTES}")
    return key


def write_pin(transaction: Transaction, key: bytes, digest: Digest) -> None:
    """Give an object a name; raises ObjectNotFoundError if it is not there."""
    if not transaction.has(OBJECTS, digest.raw):
        raise ObjectNotFoundError(digest)
    transaction.put(PINS, key, digest.raw)
    if transaction.has(META, COLLECTING_KEY):
        transaction.put(TOUCHES, digest.raw, b"")


def write_claim(transaction: Transaction, key: bytes, digests: list[Digest]) -> None:
    """Claim objects for the process whose lease the key names; raises ObjectNotFoundError."""
    collecting = transaction.has(META, COLLECTING_KEY)
    for digest in digests:
        if not transaction.has(OBJECTS, digest.raw):
            raise ObjectNotFoundError(digest)
        if collecting:
            transaction.put(TOUCHES, digest.raw, b"")
    transaction.put(LEASES, key, encode(list(digests)))


@dataclass(frozen=True, slots=True)
class MalformedPin:
    """A pin that damage has left: it may have kept anything, so nothing is collected as long as it is there."""

    key: bytes
    name: str  # what of the key can't be printed, or is not UTF-8, stands there as \x1b, \n, \xff
    reason: str

    def __str__(self) -> str:
        quoted = shlex.quote(self.name)
        option_end = "-- " if quoted.startswith("-") else ""
        return f"pin {quoted} {self.reason} (`samebits cas unpin {option_end}{quoted}` removes it)"


@dataclass(slots=True)
class Pins:
    """All pins of a store, in the order of names."""

    whole: dict[str, Digest] = field(default_factory=dict)
    malformed: dict[str, MalformedPin] = field(default_factory=dict)


def read_pins(transaction: Transaction, path: Path) -> dict[str, Digest]:
    """Return all pins of the store `path` in the order of names; raises StoreError for one that is malformed."""
    pins = scan_pins(transaction)
    for malformed in pins.malformed.values():
        raise StoreError(path, f"is damaged: its {malformed}")
    return pins.whole


def scan_pins(transaction: Transaction) -> Pins:
    """Return all pins, those that are malformed apart."""
    pins = Pins()
    last: bytes | None = None
    while True:
        found = transaction.scan(PINS, last, _SCAN_PINS)
        for key, value in found:
            name, reason = key.decode(errors="backslashreplace"), ""
            if name.encode() != key:
                reason = "has a name that is not UTF-8"
            elif len(value) != DIGEST_SIZE_BYTES:
                reason = "names no address"
            if reason:
                name = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
                pins.malformed[name] = MalformedPin(key, name, reason)
            else:
                pins.whole[name] = Digest(value)
        if len(found) < _SCAN_PINS:
            return pins
        last = found[-1][0]


def delete_pin(transaction: Transaction, name: str) -> bool:
    """Take a name away, a malformed pin's too; return whether it was there."""
    pins = scan_pins(transaction)
    if name in pins.malformed:
        return transaction.delete(PINS, pins.malformed[name].key)
    return name in pins.whole and transaction.delete(PINS, name.encode())
