"""Checking a store, in three levels, and mending it from another.

``index``: every record, pin and value is well-formed. ``presence``: also every row is there with its size, and every
object that a node, a pin or a root refers to. ``full``: also every row and every object is rehashed.

Mending takes what is damaged out of the store, into the folder ``quarantine`` beside the database, and has it fetched
again. Rows of a damaged object that are intact stay for the grace time, so only what is damaged is fetched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from samebits.cas.damage import take_out
from samebits.cas.digest import DIGEST_SIZE_BYTES, Digest
from samebits.cas.environment import OBJECTS, ROWS, SUBTREES
from samebits.cas.errors import CasError, DamagedObjectError, ObjectNotFoundError
from samebits.cas.files import errors_named
from samebits.cas.node import decode_node, references
from samebits.cas.reads import list_records
from samebits.cas.records import ObjectRecord, decode_record, row_key
from samebits.cas.row_values import subtree_entry
from samebits.cas.store import Store

Level: TypeAlias = Literal["index", "presence", "full"]
LEVELS: Final[tuple[Level, ...]] = ("index", "presence", "full")
QUARANTINE: Final = "quarantine"

_FUTURE_S: Final = 24 * 3600  # a record put later than this from now has a damaged time
_SCAN_ROWS: Final = 64

Progress = Callable[[int, int], None]  # objects checked, of how many


@dataclass(frozen=True, slots=True)
class Problem:
    """An object that is damaged or missing, and who needs it: nodes by address, pins and roots by name."""

    digest: Digest
    reason: str
    is_missing: bool
    referred_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FsckReport:
    """What a check found."""

    level: Level
    objects: int
    rows: int
    size_bytes: int  # of all objects
    problems: tuple[Problem, ...]
    malformed_pins: tuple[str, ...]  # what is wrong with each, and how to remove it
    loose: tuple[str, ...]  # damage that no object suffers from: values to be computed anew, rows that nothing needs


@dataclass(slots=True)
class _Findings:
    """What a check has found so far."""

    level: Level
    objects: int = 0
    size_bytes: int = 0
    damaged: dict[Digest, str] = field(default_factory=dict)
    missing: set[Digest] = field(default_factory=set)
    loose: list[str] = field(default_factory=list)


def fsck(
    store: Store,
    level: Level = "full",
    roots: Iterable[tuple[str, Digest]] = (),
    progress: Progress | None = None,
) -> FsckReport:
    """Check a store; `roots` are names and addresses that must be there beside the pins (entries of the ledger)."""
    if level not in LEVELS:
        raise ValueError(f"level {level!r} is none of {', '.join(LEVELS)}")
    found = _Findings(level)
    pins = store.scan_pins()
    named = [*((f"pin {name}", digest) for name, digest in pins.whole.items()), *roots]
    with store.environment.reading() as transaction:
        total, rows = transaction.entries(OBJECTS), transaction.entries(ROWS)
    for digest, encoded in list_records(store.environment):
        found.objects += 1
        try:
            record = decode_record(digest, encoded)
            found.size_bytes += record.size_bytes
            _check_object(store, found, digest, record)
        except DamagedObjectError as error:
            found.damaged[digest] = error.reason
        except ObjectNotFoundError:
            if store.has(digest):
                raise
            found.objects -= 1  # collected since its record was read
        except CasError as error:
            found.damaged[digest] = str(error)
        if progress is not None:
            progress(found.objects, total)
    if level != "index":
        found.missing.update(digest for _, digest in named if not store.has(digest))
    _check_values(store, found)
    if level == "full":
        _check_loose_rows(store, found)
    problems = tuple(_problems(store, found, named))
    malformed = tuple(str(pin) for pin in pins.malformed.values())
    return FsckReport(level, found.objects, rows, found.size_bytes, problems, malformed, tuple(found.loose))


def quarantine(store: Store, problems: Sequence[Problem]) -> list[Digest]:
    """Take what is damaged out of the store, into its folder ``quarantine``; return what has to be fetched again.

    What was mended since it was found stays. Raises FileError if the folder can't be written: nothing is lost.
    """
    folder = store.environment.directory / QUARANTINE

    def keep(name: str, data: bytes) -> None:
        with errors_named(folder / name), (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    with errors_named(folder):
        folder.mkdir(exist_ok=True)
    return [
        problem.digest
        for problem in problems
        if problem.is_missing or take_out(store.environment, problem.digest, keep) or not store.has(problem.digest)
    ]


def _check_object(store: Store, found: _Findings, digest: Digest, record: ObjectRecord) -> None:
    """Check one object as far as the level goes; raises CasError."""
    if record.touched_s > time.time() + _FUTURE_S:
        raise DamagedObjectError(digest, "its record says that it was put in the future")
    if found.level == "index":
        return
    for index in range(len(record.row_keys)):
        store.reader.visit_row(digest, record, index, len)
    if record.kind == "node":
        node = decode_node(store.reader.read_bytes(digest, record))
        found.missing.update(child for child in references(node) if not store.has(child))
    elif found.level == "full":
        for _ in store.read_rows(digest):
            pass


def _check_values(store: Store, found: _Findings) -> None:
    """Check the entries of ``subtrees``; what is wrong there is computed anew when it is needed."""
    with store.environment.reading() as transaction:
        for place, entry in transaction.walk(SUBTREES):
            key, index = place[:DIGEST_SIZE_BYTES], int.from_bytes(place[DIGEST_SIZE_BYTES:], "big")
            if len(place) != DIGEST_SIZE_BYTES + 8 or subtree_entry(key, index, entry[:DIGEST_SIZE_BYTES])[1] != entry:
                found.loose.append(f"the value of row {key.hex()} at {index} is damaged (it is not used)")


def _check_loose_rows(store: Store, found: _Findings) -> None:
    """Rehash the rows that no intact object has."""
    last: bytes | None = b""
    known: set[bytes] = set()
    for digest, encoded in list_records(store.environment):
        if digest not in found.damaged:
            known.update(decode_record(digest, encoded).row_keys)
    while last is not None:
        with store.environment.reading() as transaction:
            keys = [key for key, _ in zip(transaction.keys(ROWS, last), range(_SCAN_ROWS), strict=False)]
            for key in keys:
                row = transaction.get(ROWS, key) if key not in known else None
                if row is not None and row_key(row) != key:
                    found.loose.append(f"row {key.hex()} does not have its hash")
        last = keys[-1] + b"\0" if len(keys) == _SCAN_ROWS else None


def _problems(store: Store, found: _Findings, named: list[tuple[str, Digest]]) -> Iterator[Problem]:
    """Yield what is wrong, with who needs it."""
    wrong = {**dict.fromkeys(sorted(found.missing), "it is not in the store"), **found.damaged}
    if not wrong:
        return
    needed: dict[Digest, list[str]] = {digest: [] for digest in wrong}
    for name, digest in named:
        if digest in needed:
            needed[digest].append(name)
    for digest, encoded in list_records(store.environment):
        if digest in found.damaged:
            continue
        record = decode_record(digest, encoded)
        if record.kind == "node":
            try:
                children = references(decode_node(store.reader.read_bytes(digest, record)))
            except CasError:
                continue  # damaged in a way that this level doesn't look for, or collected meanwhile
            for child in children:
                if child in needed:
                    needed[child].append(str(digest))
    for digest, reason in wrong.items():
        if digest in found.missing and not needed[digest]:
            continue  # so is what needed it: both were collected meanwhile
        yield Problem(digest, reason, digest not in found.damaged, tuple(needed[digest]))
