"""Garbage collection: what nothing needs goes, and nothing that anybody is about to use.

Kept is everything reachable from a pin, from a root that the caller names (the ledger's entries), from what a living
process has claimed (`Store.holding`), from what was put since the oldest living process that writes began, and from
what was put within the grace time. Collection runs beside readers and writers:

1. *Mark* what is reachable, without any lock. From before that on, what is put or pinned is noted in ``touches``.
2. *Sweep* in slices of some milliseconds, each of them alone with the database (locks.py): first what was touched
   since the last slice is marked with all that it refers to, then some objects, later some rows, are deleted. Nodes go
   first, each before those that it refers to (sweep_order.py): whatever is still there is whole.

A collection that is killed leaves a store that lacks some garbage. Memory: 32 bytes and some overhead for each object
and each row that stays, about 100 MB per TB.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from samebits.cas.digest import Digest, hash_node
from samebits.cas.encoding import decode
from samebits.cas.environment import (
    COLLECTING_KEY,
    LEASES,
    META,
    OBJECTS,
    ROWS,
    TOUCHES,
    UNFINISHED,
    Environment,
)
from samebits.cas.errors import CasError, DamagedObjectError, DigestMismatchError, EncodingError, StoreError
from samebits.cas.locks import alone, living_leases, only_collector
from samebits.cas.node import decode_node, references
from samebits.cas.pins import read_pins
from samebits.cas.reads import list_records, object_key
from samebits.cas.records import ObjectRecord, decode_record
from samebits.cas.row_values import forget_row
from samebits.cas.store import Store
from samebits.cas.sweep_order import parents_first
from samebits.cas.transaction import Transaction

GRACE_S: Final = 24 * 3600.0
WAIT_S: Final = 60.0  # how long a slice waits for open batches
_MARK_OBJECTS: Final = 1000  # in one read transaction
_SLICE_OBJECTS: Final = 2000
_SLICE_ROWS: Final = 256  # deleting a row frees 257 pages

R = TypeVar("R")
Progress = Callable[[str, int, int], None]  # what is swept, how many so far, of how many


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection removed, or would remove."""

    objects: int = 0
    rows: int = 0
    size_bytes: int = 0  # of rows, and of objects that lay in their records
    kept_objects: int = 0

    def __add__(self, other: GcReport) -> GcReport:
        return GcReport(
            self.objects + other.objects,
            self.rows + other.rows,
            self.size_bytes + other.size_bytes,
            self.kept_objects + other.kept_objects,
        )


def collect_garbage(
    store: Store,
    roots: Iterable[Digest] = (),
    *,
    grace_s: float = GRACE_S,
    dry_run: bool = False,
    wait_s: float = WAIT_S,
    progress: Progress | None = None,
) -> GcReport:
    """Delete what nothing needs; `roots` (what the ledger refers to) stay with all that they refer to, beside pins.

    What this process put itself is only protected by the grace time. With `dry_run` nothing is deleted. The space is
    used again by later puts; `compact` gives it back to the file system. Raises StoreBusyError if a collection runs
    already or somebody keeps a batch open for longer than `wait_s`, DamagedObjectError if a node that is needed is
    damaged, so that what it refers to isn't known: `fsck` says more.
    """
    environment = store.environment
    if store.has_batch:
        raise StoreError(store.path, "a batch is open in this thread; garbage is collected outside of it")
    if dry_run:
        marks = _Marks(_keep_since(environment, grace_s))
        _mark(environment, marks, roots)
        found = _slices(environment, partial(_look, environment, marks))
        return sum(found, GcReport(kept_objects=len(marks.objects)))
    environment.check_writable()
    with only_collector(environment.path, environment.directory):
        with alone(environment.path, environment.directory, wait_s):
            living = living_leases(environment.directory)
            environment.write(lambda transaction: _begin(transaction, living), frees=True)
            marks = _Marks(_keep_since(environment, grace_s))
        try:
            _mark(environment, marks, roots)
            swept = sum(_sweep_nodes(environment, marks, wait_s, progress), GcReport())
            swept += sum(_slices(environment, partial(_sweep, environment, marks, wait_s), progress), GcReport())
            return swept + GcReport(kept_objects=len(marks.objects))
        finally:
            environment.write(_end, frees=True)


@dataclass(slots=True)
class _Marks:
    """What stays: objects with their rows, and rows of unfinished objects that are younger than `keep_since_s`."""

    keep_since_s: int
    objects: set[bytes] = field(default_factory=set)
    rows: set[bytes] = field(default_factory=set)

    def follow(self, transaction: Transaction, pending: list[Digest], limit: int | None = None) -> None:
        """Mark objects and what they refer to, as far as the store has it, until none (or `limit`) are left."""
        while pending and limit != 0:
            digest = pending.pop()
            if digest.raw in self.objects:
                continue
            data = transaction.get(OBJECTS, digest.raw)
            if data is None:
                continue  # fsck says what lacks what
            record = decode_record(digest, bytes(data))
            self.objects.add(digest.raw)
            self.rows.update(record.row_keys)
            if record.kind == "node":
                pending.extend(references(decode_node(_read_node(transaction, digest, record))))
            limit = None if limit is None else limit - 1


def _begin(transaction: Transaction, living: dict[str, int]) -> None:
    """Have every put noted from now on, and forget the claims of dead processes."""
    for key in list(transaction.keys(LEASES)):
        if _owner(key) not in living:
            transaction.delete(LEASES, key)
    transaction.clear(TOUCHES)
    transaction.put(META, COLLECTING_KEY, b"1")


def _end(transaction: Transaction) -> None:
    transaction.delete(META, COLLECTING_KEY)
    transaction.clear(TOUCHES)


def _keep_since(environment: Environment, grace_s: float) -> int:
    """Return since when all that was put stays: the grace time, or the begin of a living process that writes.

    For what this process itself has put the caller answers, but for batches that other threads have open.
    """
    own = environment.lease_identity()
    began = [began for name, began in living_leases(environment.directory).items() if name != own]
    open_since = environment.gate().open_since_s()
    return min([int(time.time() - grace_s), *began, *([] if open_since is None else [open_since])])


def _mark(environment: Environment, marks: _Marks, roots: Iterable[Digest]) -> None:
    """Mark everything that stays, in short transactions."""
    pending = list(roots)
    with environment.reading() as transaction:
        pending += read_pins(transaction, environment.path).values()
        living = living_leases(environment.directory)
        for key, value in transaction.walk(LEASES):
            if _owner(key) in living:
                pending += _claimed(environment, key, value)
    for digest, encoded in list_records(environment):
        if decode_record(digest, encoded).touched_s >= marks.keep_since_s:
            pending.append(digest)
    while pending:
        with environment.reading() as transaction:
            marks.follow(transaction, pending, _MARK_OBJECTS)


def _owner(key: bytes) -> str:
    """Return the identity of the lease that an entry of ``leases`` belongs to."""
    return key.partition(b"/")[0].decode(errors="replace")


def _claimed(environment: Environment, key: bytes, value: bytes) -> list[Digest]:
    """Return the addresses in an entry of ``leases``; raises StoreError for one that is damaged."""
    try:
        found = decode(value)
    except EncodingError:
        found = None
    digests = [item for item in found if isinstance(item, Digest)] if isinstance(found, list) else []
    if not isinstance(found, list) or len(digests) < len(found):
        reason = f"is damaged: the claim {_owner(key)} of a living process; try again when that has ended"
        raise StoreError(environment.path, reason)
    return digests


def _slices(
    environment: Environment,
    act: Callable[[str, bytes], tuple[GcReport, bytes | None]],
    progress: Progress | None = None,
) -> Iterator[GcReport]:
    """Go through objects, then rows, then marks of unfinished objects."""
    for table in (OBJECTS, ROWS, UNFINISHED):
        with environment.reading() as transaction:
            total = transaction.entries(table)
        done = 0
        after: bytes | None = b""
        while after is not None:
            found, after = act(table, after)
            yield found
            done = min(total, done + _slice_size(table))
            if progress is not None:
                progress(table, done, total)


def _sweep_nodes(
    environment: Environment, marks: _Marks, wait_s: float, progress: Progress | None
) -> Iterator[GcReport]:
    """Delete the nodes that nothing needs, slice by slice, each node before those that it refers to."""
    order = parents_first(_unmarked_nodes(environment, marks))
    for start in range(0, len(order), _SLICE_OBJECTS):
        some = order[start : start + _SLICE_OBJECTS]
        yield _act_alone(environment, marks, wait_s, partial(_delete_objects, marks, some))
        if progress is not None:
            progress("nodes", start + len(some), len(order))


def _unmarked_nodes(environment: Environment, marks: _Marks) -> dict[bytes, list[bytes]]:
    """Return what the nodes that nothing needs refer to; nothing is known of damaged ones."""
    found: dict[bytes, list[bytes]] = {}
    after: bytes | None = b""
    while after is not None:
        with environment.reading() as transaction:
            keys = list(islice(transaction.walk(OBJECTS, after), _MARK_OBJECTS))
            for key, value in keys:
                if key not in marks.objects and (record := decode_record(Digest(key), value)).kind == "node":
                    try:
                        node = decode_node(_read_node(transaction, Digest(key), record))
                    except CasError:
                        found[key] = []
                    else:
                        found[key] = [child.raw for child in references(node)]
        after = keys[-1][0] + b"\0" if len(keys) == _MARK_OBJECTS else None
    return found


def _delete_objects(marks: _Marks, keys: list[bytes], transaction: Transaction) -> GcReport:
    """Delete those of some objects that nothing needs."""
    found = GcReport()
    for key in keys:
        record = transaction.get(OBJECTS, key)
        if record is not None and key not in marks.objects:
            found += GcReport(objects=1, size_bytes=len(record))
            transaction.delete(OBJECTS, key)
    return found


def _sweep(
    environment: Environment, marks: _Marks, wait_s: float, table: str, after: bytes
) -> tuple[GcReport, bytes | None]:
    """Delete the garbage of one slice; return what it was, and where the next slice begins."""

    def delete(transaction: Transaction) -> tuple[GcReport, bytes | None]:
        found, garbage, following = _garbage(transaction, marks, table, after)
        for key in garbage:
            if table == ROWS:
                forget_row(transaction, key)
            else:
                transaction.delete(table, key)
        return found, following

    return _act_alone(environment, marks, wait_s, delete)


def _act_alone(environment: Environment, marks: _Marks, wait_s: float, delete: Callable[[Transaction], R]) -> R:
    """Do one slice of a sweep, when what was touched since the last one is marked."""

    def act(transaction: Transaction) -> R:
        touched = [object_key(environment, key) for key in transaction.keys(TOUCHES)]
        marks.objects.difference_update(digest.raw for digest in touched)  # a record may have been mended
        marks.follow(transaction, touched)
        transaction.clear(TOUCHES)
        return delete(transaction)

    with alone(environment.path, environment.directory, wait_s):
        return environment.write(act, frees=True)


def _look(environment: Environment, marks: _Marks, table: str, after: bytes) -> tuple[GcReport, bytes | None]:
    """Return what the garbage of one slice is, and where the next slice begins."""
    with environment.reading() as transaction:
        found, _, following = _garbage(transaction, marks, table, after)
        return found, following


def _garbage(
    transaction: Transaction, marks: _Marks, table: str, after: bytes
) -> tuple[GcReport, list[bytes], bytes | None]:
    """Return the keys of one slice that nothing needs, and where the next slice begins."""
    keys = list(islice(transaction.keys(table, after), _slice_size(table)))
    following = keys[-1] + b"\0" if len(keys) == _slice_size(table) else None
    if table == OBJECTS:
        garbage = [key for key in keys if key not in marks.objects]
        sizes = sum(len(transaction.get(OBJECTS, key) or b"") for key in garbage)
        return GcReport(objects=len(garbage), size_bytes=sizes), garbage, following
    if table == ROWS:
        garbage = [key for key in keys if key not in marks.rows and not _is_unfinished(transaction, marks, key)]
        sizes = sum(len(transaction.get(ROWS, key) or b"") for key in garbage)
        return GcReport(rows=len(garbage), size_bytes=sizes), garbage, following
    garbage = [key for key in keys if not _is_unfinished(transaction, marks, key)]
    return GcReport(), garbage, following


def _is_unfinished(transaction: Transaction, marks: _Marks, key: bytes) -> bool:
    """Return whether a row was put for an object that may still become whole."""
    marked = transaction.get(UNFINISHED, key)
    return marked is not None and int.from_bytes(marked, "big") >= marks.keep_since_s


def _slice_size(table: str) -> int:
    return _SLICE_ROWS if table == ROWS else _SLICE_OBJECTS


def _read_node(transaction: Transaction, digest: Digest, record: ObjectRecord) -> bytes:
    """Return a node's verified bytes: a damaged one might not say what it refers to."""
    encoded = record.inline
    if encoded is None:
        rows = [transaction.get(ROWS, key) for key in record.row_keys]
        if any(row is None for row in rows):
            raise DamagedObjectError(digest, "a row is missing")
        encoded = b"".join(row for row in rows if row is not None)
    if hash_node(encoded) != digest:
        raise DigestMismatchError(digest, hash_node(encoded))
    return encoded
