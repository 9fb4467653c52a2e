"""The rows of a log's index that searches read: by run, by artifact, by author, by time.

Keys begin with the letter of their table and end with the entry's index; numbers have 8 bytes, big endian. Values:
the kind of the entry, for ``x`` what the artifact is to it (the bits of `ROLES`).

- ``l`` run, index: the run entry, its segments, and every verdict on the run, which may be in another log
- ``x`` artifact, index: a job, state, list of commits or kernel that the entry names
- ``u`` author, index
- ``t`` time, index: entries of version 2
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from samebits.cas.digest import Digest
from samebits.ledger.bodies import RunBody, SegmentBody
from samebits.ledger.entry import Entry
from samebits.ledger.index import KINDS, RUNS
from samebits.ledger.links import Link
from samebits.ledger.rows import Rows, RowSource

RUN_ENTRIES: Final = b"l"
ARTIFACTS: Final = b"x"
AUTHORS: Final = b"u"
TIMES: Final = b"t"
ROLES: Final = ("job", "state_in", "state_out", "commits", "kernel")
_BITS: Final = {role: 1 << place for place, role in enumerate(ROLES)}
_INDEX_SIZE_BYTES: Final = 8


def add_search_rows(rows: Rows, index: int, link: Link, entry: Entry) -> None:
    """Write the rows of entry `index`."""
    place, kind = index.to_bytes(_INDEX_SIZE_BYTES, "big"), KINDS[link.kind]
    rows.put(RUN_ENTRIES + link.run + place, kind)
    rows.put(AUTHORS + link.author + place, kind)
    if entry.time is not None:
        rows.put(TIMES + entry.time.to_bytes(8, "big") + place, kind)
    roles: dict[bytes, int] = {}
    for role, address in _artifacts(entry):
        roles[address] = roles.get(address, 0) | _BITS[role]
    for address, bits in roles.items():
        rows.put(ARTIFACTS + address + place, bytes([bits]))


def scan_indexes(rows: RowSource, prefix: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (index, value) of the rows under a whole key: a table's letter and all before the index."""
    for key, value in rows.scan(prefix):
        yield int.from_bytes(key[len(prefix) :], "big"), value


def list_runs(rows: RowSource) -> list[Digest]:
    """Return the addresses of all runs, oldest first."""
    found = sorted((value[:_INDEX_SIZE_BYTES], key[len(RUNS) :]) for key, value in rows.scan(RUNS))
    return [Digest(address) for _, address in found]


def list_artifacts(rows: RowSource) -> list[Digest]:
    """Return every address that an entry names, in their order."""
    return [Digest(address) for address in dict.fromkeys(key[1:-_INDEX_SIZE_BYTES] for key, _ in rows.scan(ARTIFACTS))]


def neighbours(indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges [start, stop) of a sorted list of indexes."""
    start = 0
    for place in range(1, len(indexes) + 1):
        if place == len(indexes) or indexes[place] != indexes[place - 1] + 1:
            yield indexes[start], indexes[place - 1] + 1
            start = place


def name_roles(value: bytes) -> tuple[str, ...]:
    """Return what an artifact is to an entry, from the value of its row."""
    return tuple(role for role in ROLES if value[0] & _BITS[role])


def _artifacts(entry: Entry) -> Iterator[tuple[str, bytes]]:
    body = entry.body
    if isinstance(body, RunBody):
        yield "job", body.job.raw
    elif isinstance(body, SegmentBody):
        yield "state_in", body.state_in.raw
        yield "state_out", body.state_out.raw
        yield "commits", body.commits.raw
        for kernel in body.kernels:
            yield "kernel", kernel.raw
