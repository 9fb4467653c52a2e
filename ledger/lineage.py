"""Lineage: which runs made a state, from what, back to what no run of the log made.

The steps of a run up to `stop`, which its segments chain, turn the state before its first step into the state at
`stop`. They come from the run's job, the kernels that ran, and that first state, which may be what another run, earlier
in the log, came to; and so on. A run that goes on from a state of another run names that one, its parent, which may be
in another log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile

from samebits.cas.digest import Digest
from samebits.ledger.bodies import RunBody, SegmentBody
from samebits.ledger.chain import RunChain
from samebits.ledger.entry import Entry
from samebits.ledger.errors import ArtifactNotFoundError
from samebits.ledger.index import LogIndex
from samebits.ledger.search import runs_of_job
from samebits.ledger.search_rows import ARTIFACTS, name_roles, scan_indexes

ReadEntries = Callable[[list[int]], list[tuple[int, Digest, Entry]]]
ReadChain = Callable[[Digest], RunChain]


@dataclass(frozen=True, slots=True)
class RunOfJob:
    """A run and where it stands."""

    run: Digest
    index: int  # of its run entry
    next_step: int  # the first that no segment covers
    state: Digest | None  # at next_step; None before the first segment


@dataclass(frozen=True, slots=True)
class Parent:
    """A run that another one says to go on from."""

    run: Digest
    index: int | None  # of its run entry; None: it is not in this log
    reached: Digest | None  # its state at that step, if a segment of it in this log ends or begins there


@dataclass(frozen=True, slots=True)
class RunPart:
    """The first steps of one run, which made a state."""

    run: Digest
    run_index: int
    job: Digest
    author: bytes
    time: int | None  # of the last segment, as the author claims
    steps: int  # of the whole run
    stop_step: int
    segments: tuple[Digest, ...]  # entries, in their order
    first_index: int  # of the first of them
    last_index: int  # of the last of them
    devices: tuple[str, ...]
    kernels: tuple[Digest, ...]
    state_in: Digest  # before first_step
    state_out: Digest  # at stop_step
    first_step: int = 0
    parent: Parent | None = None  # the run that it says to go on from at first_step


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where something comes from."""

    address: Digest  # what was asked for
    made_by: tuple[RunPart, ...]  # more than one: several runs came to the same state; none: nothing here made it
    used_by: tuple[int, ...]  # entries that name the address as something they took: job, state_in, kernel
    states: Mapping[Digest, tuple[RunPart, ...]]  # the parts that made each state on the way
    runs: Mapping[Digest, tuple[RunOfJob, ...]]  # all runs of each job on the way
    starts: Mapping[Digest, tuple[Digest, ...]]  # all runs, of any job, that start from each state on the way

    def makers(self, part: RunPart, most: int | None = None) -> tuple[RunPart, ...]:
        """Return what made the state that a part started from, earlier in the log; nothing for a root.

        The first so many: a state may have as many makers as anyone appends.
        """
        made = self.states[part.state_in]  # in the log's order
        return tuple(islice(takewhile(lambda one: one.last_index < part.first_index, made), most))

    def other_runs(self, part: RunPart, most: int | None = None) -> tuple[RunOfJob, ...]:
        """Return the other runs of the part's job, the first so many."""
        return tuple(islice((run for run in self.runs[part.job] if run.run != part.run), most))

    def branches(self, part: RunPart, most: int | None = None) -> tuple[Digest, ...]:
        """Return the other runs that start from the same state, the first so many."""
        return tuple(islice((run for run in self.starts[part.state_in] if run != part.run), most))


class LineageWalk:
    """Walks from a result back to its origins, through one log."""

    def __init__(self, index: LogIndex, read: ReadEntries, chain: ReadChain) -> None:
        """`read` returns entries by their indexes, `chain` a run's chain with everything checked."""
        self._index = index
        self._read = read
        self._chain = chain

    def trace(self, address: Digest) -> Lineage:
        """Return the lineage of a state, or of the state that an entry stands for.

        Raises ArtifactNotFoundError if the log does not know the address, and ChainError.
        """
        rows = list(scan_indexes(self._index.rows, ARTIFACTS + address.raw))
        used = tuple(i for i, value in rows if {"job", "state_in", "kernel"}.intersection(name_roles(value)))
        place = self._index.find(address.raw)
        if place is None and not rows:
            raise ArtifactNotFoundError(address)
        made_by = self._makers(address) if place is None else self._part_of_entry(place)
        states: dict[Digest, tuple[RunPart, ...]] = {}
        waiting, jobs = list(made_by), {part.job for part in made_by}
        while waiting:
            state = waiting.pop().state_in
            if state not in states:
                states[state] = self._makers(state)
                waiting.extend(states[state])
                jobs.update(part.job for part in states[state])
        runs = {job: self._runs_of(job) for job in jobs}
        return Lineage(address, made_by, used, states, runs, {state: self._starts(state) for state in states})

    def _makers(self, state: Digest) -> tuple[RunPart, ...]:
        """Return the parts of runs that made a state, one of each run."""
        rows = scan_indexes(self._index.rows, ARTIFACTS + state.raw)
        found: dict[Digest, RunPart] = {}
        for _, address, entry in self._read([index for index, value in rows if "state_out" in name_roles(value)]):
            if isinstance(entry.body, SegmentBody) and entry.body.run not in found:
                found[entry.body.run] = self._part(self._chain(entry.body.run), address)
        return tuple(found.values())

    def _part_of_entry(self, place: int) -> tuple[RunPart, ...]:
        """Return the steps that an entry stands for; nothing where there are none in this log."""
        ((_, address, entry),) = self._read([place])
        if isinstance(entry.body, SegmentBody):
            return (self._part(self._chain(entry.body.run), address),)
        run = address if isinstance(entry.body, RunBody) else entry.body.run
        if self._index.head(run.raw) is None:
            return ()
        chain = self._chain(run)
        if not chain.segments:
            return ()
        checked = chain.head if entry.prev is None else entry.prev
        return (self._part(chain, checked),)

    def _part(self, chain: RunChain, last: Digest) -> RunPart:
        """Return the steps of a run up to and with one of its segments."""
        count = next(place for place, segment in enumerate(chain.segments, 1) if segment.address == last)
        segments = chain.segments[:count]
        end = segments[-1]
        return RunPart(
            run=chain.run_address,
            run_index=chain.run_index,
            job=chain.job,
            author=chain.author,
            time=end.entry.time,
            steps=chain.body.steps,
            stop_step=end.body.stop_step,
            segments=tuple(segment.address for segment in segments),
            first_index=segments[0].index,
            last_index=end.index,
            devices=tuple(dict.fromkeys(segment.body.device for segment in segments)),
            kernels=tuple(dict.fromkeys(kernel for segment in segments for kernel in segment.body.kernels)),
            state_in=segments[0].body.state_in,
            state_out=end.body.state_out,
            first_step=chain.body.first_step,
            parent=self._parent(chain.body),
        )

    def _parent(self, body: RunBody) -> Parent | None:
        if body.parent is None:
            return None
        head = self._index.head(body.parent.raw)
        if head is None:
            return Parent(body.parent, None, None)
        states: dict[int, Digest] = {}
        for segment in self._chain(body.parent).segments:
            states[segment.body.first_step] = segment.body.state_in
            states[segment.body.stop_step] = segment.body.state_out
        return Parent(body.parent, head.index, states.get(body.first_step))

    def _runs_of(self, job: Digest) -> tuple[RunOfJob, ...]:
        found = []
        for index, address, _ in self._read(runs_of_job(self._index.rows, job)):
            head = self._index.head(address.raw)
            if head is not None:
                state = Digest(head.state) if head.state else None
                found.append(RunOfJob(address, index, head.next_step, state))
        return tuple(found)

    def _starts(self, state: Digest) -> tuple[Digest, ...]:
        rows = scan_indexes(self._index.rows, ARTIFACTS + state.raw)
        found: dict[Digest, None] = {}
        for _, _, entry in self._read([index for index, value in rows if "state_in" in name_roles(value)]):
            if isinstance(entry.body, SegmentBody) and entry.prev == entry.body.run:
                found[entry.body.run] = None
        return tuple(found)
