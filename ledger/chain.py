"""The chain of a run: its run entry, the segments that follow one another, and what verifiers said about them.

The rules, each of which has its own message in ChainError:

- a segment is signed by the run's author and made for the run's log;
- it names the run's latest entry as the one before it: two segments that name the same one are a fork;
- it starts at the step where that one stops, with the state that came out there, and stops within the run's steps;
- a verdict, by anyone, names the last segment it checked, and a range of steps that ends in this segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from samebits.cas.digest import Digest
from samebits.ledger.bodies import RunBody, SegmentBody, VerdictBody
from samebits.ledger.entry import Entry, check_entry_signature, entry_address
from samebits.ledger.errors import ChainError, RunNotFoundError, SignatureError


@dataclass(frozen=True, slots=True)
class ChainSegment:
    """A segment of a run and where it stands in the log."""

    index: int
    address: Digest
    entry: Entry
    body: SegmentBody


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """A verdict on a run and where it stands in the log."""

    index: int
    address: Digest
    entry: Entry
    body: VerdictBody


@dataclass(frozen=True, slots=True)
class RunChain:
    """A run as the entries of a log tell it; made by `read_chain`, in which every rule of the chain holds."""

    run_index: int
    run_address: Digest
    run: Entry
    body: RunBody
    segments: tuple[ChainSegment, ...] = ()
    verdicts: tuple[ChainVerdict, ...] = ()

    @property
    def job(self) -> Digest:
        """The address of the job that runs."""
        return self.body.job

    @property
    def author(self) -> bytes:
        """The only public key that extends this run."""
        return self.run.author

    @property
    def origin(self) -> str:
        """The log the run was made for."""
        return self.run.origin

    @property
    def head(self) -> Digest:
        """The entry that the next segment names as the one before it."""
        return self.segments[-1].address if self.segments else self.run_address

    @property
    def next_step(self) -> int:
        """The first step that no segment covers."""
        return self.segments[-1].body.stop_step if self.segments else 0

    @property
    def state(self) -> Digest | None:
        """The state before `next_step`; None before the first segment."""
        return self.segments[-1].body.state_out if self.segments else None

    @property
    def is_complete(self) -> bool:
        """Whether every step of the run is covered."""
        return self.next_step == self.body.steps

    def items(self) -> tuple[tuple[int, Digest, Entry], ...]:
        """Return (index, address, entry) of everything in the chain, in the log's order."""
        links: list[ChainSegment | ChainVerdict] = [*self.segments, *self.verdicts]
        later = [(link.index, link.address, link.entry) for link in sorted(links, key=lambda link: link.index)]
        return ((self.run_index, self.run_address, self.run), *later)


def read_chain(entries: Iterable[Entry], run_address: Digest) -> RunChain:
    """Return the chain of a run from the entries of its log, in the log's order; entries of other runs are passed over.

    Checks every rule and every signature of the chain. Raises ChainError naming the first entry that breaks one, and
    RunNotFoundError.
    """
    chain: RunChain | None = None
    for index, entry in enumerate(entries):
        if isinstance(entry.body, RunBody):
            if entry_address(entry) != run_address:
                continue
            if chain is not None:
                raise ChainError(index, run_address, f"repeats entry {chain.run_index}")
            chain = start_chain(index, run_address, entry)
        elif entry.body.run == run_address:
            if chain is not None:
                chain = extend_chain(chain, index, entry_address(entry), entry)
            elif entry.kind == "segment":
                raise ChainError(index, entry_address(entry), f"a segment before its run {str(run_address)[:16]}")
    if chain is None:
        raise RunNotFoundError(run_address)
    check_chain_signatures(chain)
    return chain


def check_chain(chain: RunChain) -> None:
    """Check a chain that somebody else put together: addresses, rules and signatures; raises ChainError."""
    index, address, entry = chain.items()[0]
    _check_address(index, address, entry)
    found = start_chain(index, address, entry)
    for index, address, entry in chain.items()[1:]:
        _check_address(index, address, entry)
        found = extend_chain(found, index, address, entry)
    if found != chain:
        raise ChainError(chain.run_index, chain.run_address, "the chain does not say what its entries say")
    check_chain_signatures(chain)


def check_chain_signatures(chain: RunChain) -> None:
    """Check the signature of every entry of the chain; raises ChainError."""
    for index, address, entry in chain.items():
        try:
            check_entry_signature(entry)
        except SignatureError as error:
            raise ChainError(index, address, str(error)) from None


def start_chain(index: int, address: Digest, entry: Entry) -> RunChain:
    """Return the chain of a run entry; raises ChainError for another kind."""
    body = entry.body
    if not isinstance(body, RunBody):
        raise ChainError(index, address, f"a {entry.kind} is not a run")
    return RunChain(index, address, entry, body)


def extend_chain(chain: RunChain, index: int, address: Digest, entry: Entry) -> RunChain:
    """Return the chain with one more entry of this run; raises ChainError if it breaks a rule. Signatures are not
    looked at."""
    body = entry.body
    if isinstance(body, SegmentBody):
        problem = _segment_problem(chain, address, entry, body)
        if not problem:
            return replace(chain, segments=(*chain.segments, ChainSegment(index, address, entry, body)))
    elif isinstance(body, VerdictBody):
        problem = _verdict_problem(chain, address, entry, body)
        if not problem:
            return replace(chain, verdicts=(*chain.verdicts, ChainVerdict(index, address, entry, body)))
    else:
        problem = "a second run entry"
    raise ChainError(index, address, f"run {str(chain.run_address)[:16]}: {problem}")


def _segment_problem(chain: RunChain, address: Digest, entry: Entry, body: SegmentBody) -> str:
    """Return which rule this segment would break, or nothing."""
    if body.run != chain.run_address:
        return f"a segment of another run, {str(body.run)[:16]}"
    if entry.author != chain.author:
        return f"signed by {entry.author.hex()}, but only {chain.author.hex()} extends this run"
    if entry.origin != chain.origin:
        return f"made for log {entry.origin}, but the run is in log {chain.origin}"
    if entry.prev != chain.head:
        return _prev_problem(chain, address, entry)
    if body.first_step != chain.next_step:
        return f"the segment starts at step {body.first_step}, but the run stands at step {chain.next_step}"
    if body.stop_step > chain.body.steps:
        return f"the segment stops at step {body.stop_step}, but the run has {chain.body.steps} steps"
    if chain.state is not None and body.state_in != chain.state:
        return f"the segment starts from state {str(body.state_in)[:16]}, but step {chain.next_step} was reached with \
{str(chain.state)[:16]}"
    return ""


def _prev_problem(chain: RunChain, address: Digest, entry: Entry) -> str:
    """Say why `prev` is not the chain's head: a repetition, a fork or no entry of this run."""
    before = chain.run_address
    for follower in chain.segments:
        if follower.address == address:
            return f"repeats entry {follower.index}"
        if entry.prev == before:
            where = f"entry {follower.index} ({str(follower.address)[:16]})"
            return f"a fork: {where} already follows {str(before)[:16]}"
        before = follower.address
    return f"names {str(entry.prev)[:16]} as the entry before it, which is not in this run"


def _verdict_problem(chain: RunChain, address: Digest, entry: Entry, body: VerdictBody) -> str:
    """Return which rule this verdict would break, or nothing."""
    if body.run != chain.run_address:
        return f"a verdict on another run, {str(body.run)[:16]}"
    if entry.origin != chain.origin:
        return f"made for log {entry.origin}, but the run is in log {chain.origin}"
    for verdict in chain.verdicts:
        if verdict.address == address:
            return f"repeats entry {verdict.index}"
    for segment in chain.segments:
        if segment.address == entry.prev:
            if not segment.body.first_step < body.stop_step <= segment.body.stop_step:
                checked = f"[{segment.body.first_step}, {segment.body.stop_step})"
                return f"the verdict stops at step {body.stop_step}, outside the last segment it checked, {checked}"
            return ""
    return f"names {str(entry.prev)[:16]} as the segment it checked, which is not in this run"


def _check_address(index: int, address: Digest, entry: Entry) -> None:
    if entry_address(entry) != address:
        raise ChainError(index, address, "the entry has another address")
