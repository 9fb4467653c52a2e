"""What must be known of a log to judge the next entry: where each entry is, and where each run stands.

Rows, keys of which begin with the letter of their table; numbers have 8 bytes, big endian:

- ``a`` address -> index, kind (1 byte), of a segment also its run, first_step, stop_step
- ``f`` address -> address of the segment that names it as `prev`
- ``n`` author, job, nonce -> index of the run entry
- ``r`` run -> its index, steps, next_step, author, head, and the state at next_step if there is a segment

The rules, each of which has its own message in ChainError:

- an entry was made for this log, and nothing is in it twice; a log holds one run of each (author, job, nonce);
- a segment is signed by the run's author, and the run is in the log before it;
- it names the run's latest entry as the one before it: two segments that name the same one are a fork;
- it starts at the step where that one stops, with the state that came out there, and stops within the run's steps;
- a verdict, by anyone, names the last segment it checked, and a range of steps that ends in this segment;
- a draw, by anyone, names the last segment that may be drawn;
- a trace is signed by the run's author, and names the segment that its steps are in.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from samebits.cas.digest import Digest
from samebits.ledger.errors import ChainError
from samebits.ledger.links import Link
from samebits.ledger.rows import Rows

PLACES: Final = b"a"
FOLLOWERS: Final = b"f"
IDENTITIES: Final = b"n"
RUNS: Final = b"r"
KINDS: Final = {"run": b"\0", "segment": b"\1", "verdict": b"\2", "draw": b"\3", "trace": b"\4"}
_PLACE: Final = struct.Struct(">Q1s")
_SEGMENT: Final = struct.Struct(">32sQQ")
_RUN: Final = struct.Struct(">QQQ32s32s")


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """Where a segment stands."""

    index: int
    run: bytes
    first_step: int
    stop_step: int


@dataclass(frozen=True, slots=True)
class RunHead:
    """Where a run stands: what decides whether another entry may follow."""

    index: int  # of the run entry
    steps: int
    next_step: int  # the first that no segment covers
    author: bytes
    head: bytes  # address of the entry that the next segment names
    state: bytes  # address of the state before next_step; empty before the first segment


class LogIndex:
    """The index over the first entries of one log, filled in their order by `add`."""

    def __init__(self, origin: str, rows: Rows | None = None) -> None:
        """Go on from the rows given, which this index then writes to."""
        self.origin = origin
        self.rows = Rows() if rows is None else rows

    def find(self, address: bytes) -> int | None:
        """Return the index of the entry with this address, or None."""
        row = self.rows.get(PLACES + address)
        return None if row is None else int.from_bytes(row[:8], "big")

    def find_segment(self, address: bytes) -> SegmentPlace | None:
        """Return where the segment with this address stands, or None."""
        row = self.rows.get(PLACES + address)
        if row is None or len(row) != _PLACE.size + _SEGMENT.size:
            return None
        return SegmentPlace(int.from_bytes(row[:8], "big"), *_SEGMENT.unpack_from(row, _PLACE.size))

    def head(self, run: bytes) -> RunHead | None:
        """Return where a run stands, or None if it is not in this log."""
        row = self.rows.get(RUNS + run)
        if row is None:
            return None
        index, steps, next_step, author, head = _RUN.unpack_from(row)
        return RunHead(index, steps, next_step, author, head, row[_RUN.size :])

    def add(self, index: int, link: Link) -> None:
        """Add entry `index`; raises ChainError, and leaves the index as it was, if it breaks a rule of log or run.

        Signatures are not looked at.
        """
        if link.origin != self.origin:
            raise _error(index, link, f"made for log {link.origin}, but this is log {self.origin}")
        if (known := self.find(link.address)) is not None:
            raise _error(index, link, f"repeats entry {known}")
        place = _PLACE.pack(index, KINDS[link.kind])
        if link.kind == "run":
            if (same := self.rows.get(IDENTITIES + link.identity)) is not None:
                named = f"the job, author and nonce of entry {int.from_bytes(same, 'big')}"
                raise _error(index, link, f"a second run with {named}")
            self.rows.put(IDENTITIES + link.identity, place[:8])
            self._put_head(link.address, RunHead(index, link.steps, link.first_step, link.author, link.address, b""))
        elif link.kind == "segment":
            head = self.head(link.run)
            if head is None:
                raise _error(index, link, f"a segment of run {_short(link.run)}, which is not in this log")
            if problem := self._segment_problem(head, link):
                raise _error(index, link, f"run {_short(link.run)}: {problem}")
            place += _SEGMENT.pack(link.run, link.first_step, link.stop_step)
            self.rows.put(FOLLOWERS + link.prev, link.address)
            grown = RunHead(head.index, head.steps, link.stop_step, head.author, link.address, link.state_out)
            self._put_head(link.run, grown)
        elif (head := self.head(link.run)) is not None and (problem := self._statement_problem(head, link)):
            raise _error(index, link, f"run {_short(link.run)}: {problem}")
        self.rows.put(PLACES + link.address, place)

    def _put_head(self, run: bytes, head: RunHead) -> None:
        packed = _RUN.pack(head.index, head.steps, head.next_step, head.author, head.head)
        self.rows.put(RUNS + run, packed + head.state)

    def _segment_problem(self, head: RunHead, link: Link) -> str:
        """Return which rule this segment would break, or nothing."""
        if link.author != head.author:
            return f"signed by {link.author.hex()}, but only {head.author.hex()} extends this run"
        if link.prev != head.head:
            return self._prev_problem(link)
        if link.first_step != head.next_step:
            return f"the segment starts at step {link.first_step}, but the run stands at step {head.next_step}"
        if link.stop_step > head.steps:
            return f"the segment stops at step {link.stop_step}, but the run has {head.steps} steps"
        if head.state and link.state_in != head.state:
            reached = f"step {head.next_step} was reached with {_short(head.state)}"
            return f"the segment starts from state {_short(link.state_in)}, but {reached}"
        return ""

    def _prev_problem(self, link: Link) -> str:
        """Say why `prev` is not the run's head: a fork, or no entry of this run."""
        before = self.find_segment(link.prev)
        follower = self.rows.get(FOLLOWERS + link.prev)
        if follower is None or not (link.prev == link.run or (before is not None and before.run == link.run)):
            return f"names {_short(link.prev)} as the entry before it, which is not in this run"
        return f"a fork: entry {self.find(follower)} ({_short(follower)}) already follows {_short(link.prev)}"

    def _statement_problem(self, head: RunHead, link: Link) -> str:
        """Return which rule this verdict, draw or trace would break, or nothing."""
        named = self.find_segment(link.prev)
        if named is None or named.run != link.run:
            what = "as the segment it checked" if link.kind == "verdict" else "as a segment"
            return f"names {_short(link.prev)} {what}, which is not in this run"
        where = f"[{named.first_step}, {named.stop_step})"
        if link.kind == "verdict" and not named.first_step < link.stop_step <= named.stop_step:
            return f"the verdict stops at step {link.stop_step}, outside the last segment it checked, {where}"
        if link.kind == "trace":
            if link.author != head.author:
                return f"traced by {link.author.hex()}, but only {head.author.hex()} traces this run"
            if not named.first_step <= link.first_step < link.stop_step <= named.stop_step:
                return f"the trace of steps [{link.first_step}, {link.stop_step}) is outside its segment, {where}"
        return ""


def _error(index: int, link: Link, problem: str) -> ChainError:
    return ChainError(index, Digest(link.address), problem)


def _short(address: bytes) -> str:
    return address.hex()[:16]
