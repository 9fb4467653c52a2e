"""The chain of a run: its run entry, the segments that follow one another, and what verifiers said about them.

The rules, which say what may follow, are those of `index.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from samebits.cas.digest import Digest
from samebits.ledger.bodies import RunBody, SegmentBody, VerdictBody
from samebits.ledger.entry import Entry, check_entry_signature, entry_address
from samebits.ledger.errors import ChainError, RunNotFoundError, SignatureError
from samebits.ledger.index import LogIndex
from samebits.ledger.links import link_entry


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
        return self.segments[-1].body.stop_step if self.segments else self.body.first_step

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


class ChainBuilder:
    """Puts the chain of one run together, entry by entry in the log's order; every rule of `index.py` is checked."""

    def __init__(self, index: int, address: Digest, entry: Entry) -> None:
        """Begin with the run entry; raises ChainError for another kind."""
        if not isinstance(entry.body, RunBody):
            raise ChainError(index, address, f"a {entry.kind} is not a run")
        self._run = (index, address, entry, entry.body)
        self._rules = LogIndex(entry.origin)
        self._rules.add(index, link_entry(address, entry))
        self._segments: list[ChainSegment] = []
        self._verdicts: list[ChainVerdict] = []

    def add(self, index: int, address: Digest, entry: Entry) -> None:
        """Add an entry of this run; raises ChainError if it breaks a rule. Signatures are not looked at.

        Draws and traces keep the rules and are no part of the chain.
        """
        body = entry.body
        if not isinstance(body, RunBody) and body.run != self._run[1]:
            raise ChainError(index, address, f"a {entry.kind} of another run, {str(body.run)[:16]}")
        self._rules.add(index, link_entry(address, entry))
        if isinstance(body, SegmentBody):
            self._segments.append(ChainSegment(index, address, entry, body))
        elif isinstance(body, VerdictBody):
            self._verdicts.append(ChainVerdict(index, address, entry, body))
        elif isinstance(body, RunBody):
            raise ChainError(index, address, f"another run in the chain of run {str(self._run[1])[:16]}")

    def build(self) -> RunChain:
        """Return the chain of what was added so far."""
        return RunChain(*self._run, tuple(self._segments), tuple(self._verdicts))


def read_chain(entries: Iterable[Entry], run_address: Digest) -> RunChain:
    """Return the chain of a run from the entries of its log, in the log's order; entries of other runs are passed over.

    Checks every rule and every signature of the chain. Raises ChainError naming the first entry that breaks one, and
    RunNotFoundError.
    """
    builder: ChainBuilder | None = None
    for index, entry in enumerate(entries):
        if isinstance(entry.body, RunBody):
            if entry_address(entry) != run_address:
                continue
            if builder is None:
                builder = ChainBuilder(index, run_address, entry)
            else:
                builder.add(index, run_address, entry)
        elif entry.body.run == run_address:
            if builder is not None:
                builder.add(index, entry_address(entry), entry)
            elif entry.kind == "segment":
                raise ChainError(index, entry_address(entry), f"a segment before its run {str(run_address)[:16]}")
    if builder is None:
        raise RunNotFoundError(run_address)
    chain = builder.build()
    check_chain_signatures(chain)
    return chain


def check_chain(chain: RunChain) -> None:
    """Check a chain that somebody else put together: addresses, rules and signatures; raises ChainError."""
    index, address, entry = chain.items()[0]
    _check_address(index, address, entry)
    builder = ChainBuilder(index, address, entry)
    for index, address, entry in chain.items()[1:]:
        _check_address(index, address, entry)
        builder.add(index, address, entry)
    if builder.build() != chain:
        raise ChainError(chain.run_index, chain.run_address, "the chain does not say what its entries say")
    check_chain_signatures(chain)


def check_chain_signatures(chain: RunChain) -> None:
    """Check the signature of every entry of the chain; raises ChainError."""
    for index, address, entry in chain.items():
        try:
            check_entry_signature(entry)
        except SignatureError as error:
            raise ChainError(index, address, str(error)) from None


def _check_address(index: int, address: Digest, entry: Entry) -> None:
    if entry_address(entry) != address:
        raise ChainError(index, address, "the entry has another address")
