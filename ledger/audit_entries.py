"""The part of an audit that looks at each entry alone: form, address, signature, leaf hash. Worker processes do it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Final, NamedTuple

from samebits.cas.digest import hash_node
from samebits.ledger.entry import check_entry_signature, decode_entry
from samebits.ledger.errors import LedgerError
from samebits.ledger.links import Link, link_entry
from samebits.ledger.merkle import leaf_hash


class Missing(NamedTuple):
    """Stands for entries that follow one another and can't be read."""

    reason: str  # may be empty
    width: int = 1


Slice = Sequence[bytes | Missing]  # entries that follow one another
_WAITING_PER_WORKER: Final = 3  # slices: enough that none waits for work, few enough to hold


class CheckedEntry(NamedTuple):
    """What an entry is by itself."""

    leaf: bytes | None  # leaf hash; None: the entry is missing
    link: Link | None  # None: not an entry
    problem: str  # empty: form and signature are good
    width: int = 1  # entries; more than one only of missing ones


def check_entries(entries: Slice) -> list[CheckedEntry]:
    """Check entries, each by itself; no signature is taken on trust, nor any address."""
    return [_check_entry(data) for data in entries]


def check_slices(slices: Iterable[Slice], workers: int) -> Iterator[list[CheckedEntry]]:
    """Check slices of entries in their order; with more than one worker, in as many processes of their own.

    The processes are started by spawning: a program that asks for them must guard its main module as multiprocessing
    says. Where they cannot be had, or die, this process does the work.
    """
    if workers <= 1:
        yield from map(check_entries, slices)
        return
    waiting: deque[tuple[Slice, Future[list[CheckedEntry]]]] = deque()
    pool: ProcessPoolExecutor | None = None
    try:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    except (OSError, ImportError):  # no semaphores here
        yield from map(check_entries, slices)
        return
    with pool:
        for entries in slices:
            waiting.append((entries, _submit(pool, entries)))
            if len(waiting) > workers * _WAITING_PER_WORKER:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())


def _submit(pool: ProcessPoolExecutor, entries: Slice) -> Future[list[CheckedEntry]]:
    if all(isinstance(data, Missing) for data in entries):  # no work, and no reason to start processes
        done: Future[list[CheckedEntry]] = Future()
        done.set_result(check_entries(entries))
        return done
    try:
        return pool.submit(check_entries, entries)
    except (BrokenProcessPool, OSError) as error:
        failed: Future[list[CheckedEntry]] = Future()
        failed.set_exception(BrokenProcessPool(str(error)))
        return failed


def _result(entries: Slice, checked: Future[list[CheckedEntry]]) -> list[CheckedEntry]:
    try:
        return checked.result()
    except BrokenProcessPool:
        return check_entries(entries)


def _check_entry(data: bytes | Missing) -> CheckedEntry:
    if isinstance(data, Missing):
        return CheckedEntry(None, None, f"missing ({data.reason})" if data.reason else "missing", data.width)
    leaf = leaf_hash(data)
    try:
        entry = decode_entry(data)
    except LedgerError as error:
        return CheckedEntry(leaf, None, str(error))
    link = link_entry(hash_node(data), entry)
    try:
        check_entry_signature(entry)
    except LedgerError as error:
        return CheckedEntry(leaf, link, str(error))
    return CheckedEntry(leaf, link, "")
