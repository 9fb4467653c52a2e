"""What must be known of a log to judge the next entry: where each entry is, and the chain of each run."""

from __future__ import annotations

from dataclasses import dataclass, field

from samebits.cas.digest import Digest
from samebits.ledger.bodies import RunBody, SegmentBody, VerdictBody
from samebits.ledger.chain import RunChain, extend_chain, start_chain
from samebits.ledger.entry import Entry
from samebits.ledger.errors import ChainError


@dataclass(slots=True)
class LogIndex:
    """An index over the entries of one log, filled in their order by `add`."""

    origin: str
    positions: dict[Digest, int] = field(default_factory=dict)  # address -> index
    chains: dict[Digest, RunChain] = field(default_factory=dict)  # runs in this log, oldest first
    verdicts: dict[Digest, tuple[int, ...]] = field(default_factory=dict)  # run, of this log or not -> indexes
    _runs: dict[tuple[bytes, Digest, bytes], int] = field(default_factory=dict)  # author, job, nonce -> index

    def copy(self) -> LogIndex:
        """Return an index that can go on without changing this one."""
        return LogIndex(self.origin, self.positions.copy(), self.chains.copy(), self.verdicts.copy(), self._runs.copy())

    def add(self, index: int, address: Digest, entry: Entry) -> None:
        """Add entry `index`; raises ChainError, and leaves the index as it was, if it breaks a rule of log or chain.

        Signatures are not looked at.
        """
        if entry.origin != self.origin:
            raise ChainError(index, address, f"made for log {entry.origin}, but this is log {self.origin}")
        if address in self.positions:
            raise ChainError(index, address, f"repeats entry {self.positions[address]}")
        body = entry.body
        if isinstance(body, RunBody):
            identity = (entry.author, body.job, body.nonce)
            if identity in self._runs:
                same = f"the job, author and nonce of entry {self._runs[identity]}"
                raise ChainError(index, address, f"a second run with {same}")
            self.chains[address] = start_chain(index, address, entry)
            self._runs[identity] = index
        elif body.run in self.chains:
            self.chains[body.run] = extend_chain(self.chains[body.run], index, address, entry)
        elif isinstance(body, SegmentBody):
            raise ChainError(index, address, f"a segment of run {str(body.run)[:16]}, which is not in this log")
        if isinstance(body, VerdictBody):
            self.verdicts[body.run] = (*self.verdicts.get(body.run, ()), index)
        self.positions[address] = index
