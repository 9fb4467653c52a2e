"""Searches in the index of a log: entries by job, run, artifact, author and time; addresses by their beginning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from samebits.cas.digest import Digest
from samebits.ledger.entry import Entry
from samebits.ledger.errors import AmbiguousPrefixError, LedgerError
from samebits.ledger.index import PLACES
from samebits.ledger.rows import RowSource
from samebits.ledger.search_rows import ARTIFACTS, AUTHORS, RUN_ENTRIES, TIMES, name_roles, scan_indexes

MIN_PREFIX_LENGTH: Final = 4  # hex characters
MAX_TIME: Final = (1 << 63) - 1
_HEX = re.compile(r"[0-9a-f]{1,64}\Z")
_SHOWN_MATCHES: Final = 3

# what an address names: an entry, something that entries name, or an author's public key
Named: TypeAlias = Literal["entry", "artifact", "author"]
_TABLES: Final[dict[Named, bytes]] = {"entry": PLACES, "artifact": ARTIFACTS, "author": AUTHORS}


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; an entry is found if everything that is given holds for it."""

    job: Digest | None = None  # entries of the runs of this job
    run: Digest | None = None  # its run entry, its segments and the verdicts on it
    artifact: Digest | None = None  # named by the entry: job, state, list of commits or kernel
    author: bytes | None = None  # public key, 32 bytes
    since: int | None = None  # Unix seconds, as the authors claim; entries without a time are not found then
    until: int | None = None  # the first second that is not meant

    def __post_init__(self) -> None:
        """Check the range of the times; raises ValueError."""
        for time in (self.since, self.until):
            if time is not None and not 0 <= time <= MAX_TIME:
                raise ValueError(f"a time is from 0 to {MAX_TIME} s, not {time}")


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that a search found."""

    index: int
    address: Digest
    entry: Entry
    roles: tuple[str, ...]  # what the artifact of the query is to it: job, state_in, state_out, commits, kernel


def search_indexes(rows: RowSource, query: Query, runs: Iterable[Digest] = ()) -> dict[int, tuple[str, ...]]:
    """Return the indexes of the entries that a query means, in order, each with the roles of its artifact.

    `runs` are those of the query's job.
    """
    sets: list[set[int]] = []
    roles: dict[int, tuple[str, ...]] = {}
    if query.job is not None:
        sets.append({index for run in runs for index, _ in scan_indexes(rows, RUN_ENTRIES + run.raw)})
    if query.run is not None:
        sets.append({index for index, _ in scan_indexes(rows, RUN_ENTRIES + query.run.raw)})
    if query.author is not None:
        sets.append({index for index, _ in scan_indexes(rows, AUTHORS + query.author)})
    if query.artifact is not None:
        roles = {index: name_roles(value) for index, value in scan_indexes(rows, ARTIFACTS + query.artifact.raw)}
        sets.append(set(roles))
    if query.since is not None or query.until is not None:
        sets.append(set(_entries_at(rows, query.since or 0, MAX_TIME if query.until is None else query.until)))
    if not sets:
        raise ValueError("a query without anything to look for")
    return {index: roles.get(index, ()) for index in sorted(set.intersection(*sets))}


def runs_of_job(rows: RowSource, job: Digest) -> list[int]:
    """Return the indexes of the run entries of a job."""
    return [index for index, value in scan_indexes(rows, ARTIFACTS + job.raw) if "job" in name_roles(value)]


def find_address(rows: RowSource, text: str, names: tuple[Named, ...]) -> Digest | None:
    """Return the address, or key, that the text or its beginning names; None if there is none.

    A whole address need not be in the log. Raises AmbiguousPrefixError, and LedgerError for a text that is not hex.
    """
    if not _HEX.match(text) or len(text) < MIN_PREFIX_LENGTH:
        raise LedgerError(
            f"{text[:80]!r} is not an address, or the first {MIN_PREFIX_LENGTH} or more characters of one"
        )
    if len(text) == 64:
        return Digest.parse(text)
    found: set[bytes] = set()
    for name in names:
        for address in _addresses(rows, _TABLES[name], text):
            found.add(address)
            if len(found) > _SHOWN_MATCHES:
                break
    if len(found) > 1:
        raise AmbiguousPrefixError(text, [address.hex() for address in sorted(found)[:_SHOWN_MATCHES]])
    return Digest(found.pop()) if found else None


def _addresses(rows: RowSource, table: bytes, text: str) -> Iterator[bytes]:
    """Yield the different addresses in a table that start with a hex text."""
    prefix = table + bytes.fromhex(text[: len(text) // 2 * 2])
    first = b""
    while (row := next(iter(rows.scan(prefix, first)), None)) is not None:
        address = row[0][1:33]
        if address.hex().startswith(text):
            yield address
        first = table + address + b"\xff" * 9  # behind every index


def _entries_at(rows: RowSource, since: int, until: int) -> Iterator[int]:
    for key, _ in rows.scan(TIMES, TIMES + since.to_bytes(8, "big")):
        if int.from_bytes(key[1:9], "big") >= until:
            return
        yield int.from_bytes(key[9:], "big")
