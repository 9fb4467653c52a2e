"""The full check of a log from its stored bytes: every entry, every run, the tree and the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from samebits.cas.digest import Digest, hash_node
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
from samebits.ledger.entry import check_entry_signature, decode_entry, run_address
from samebits.ledger.errors import AuditError, ChainError, LedgerError, MissingEntryError
from samebits.ledger.index import LogIndex
from samebits.ledger.keys import VerifierKey
from samebits.ledger.links import link_entry
from samebits.ledger.merkle import CompactRange, leaf_hash
from samebits.ledger.storage import LogStorage

_BATCH: Final = 256  # entries read in one view


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One thing that is wrong with a log. Example: ``entry 17 (run ab12cd34ef56ab78): signature by ... does not
    verify``."""

    index: int | None  # the entry, or None for the checkpoint
    run: Digest | None  # the run that the entry is about, where its bytes still say so
    problem: str

    def __str__(self) -> str:
        if self.index is None:
            return f"checkpoint: {self.problem}"
        run = f" (run {str(self.run)[:16]})" if self.run is not None else ""
        return f"entry {self.index}{run}: {self.problem}"


@dataclass(frozen=True, slots=True)
class LogAudit:
    """What an audit found; `check` raises unless everything is in order."""

    origin: str
    tree_size: int  # entries in the storage
    root_hash: bytes | None  # rebuilt from the entries; None if one is missing
    runs: int
    segments: int
    verdicts: int
    problems: tuple[AuditProblem, ...]  # in the log's order, those of the checkpoint last

    @property
    def is_ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def check(self) -> None:
        """Raise AuditError, which carries every problem, unless there is none."""
        if self.problems:
            raise AuditError([str(problem) for problem in self.problems])


class _Auditor:
    """Goes through the entries once and remembers what is wrong."""

    def __init__(self, origin: str) -> None:
        self.index = LogIndex(origin)
        self.tree: CompactRange | None = CompactRange()  # None: an entry is missing, so there is no root hash
        self.counts = {"run": 0, "segment": 0, "verdict": 0}
        self.problems: list[AuditProblem] = []

    def add(self, index: int, data: bytes | None) -> None:
        """Check entry `index`, None if it is missing."""
        if data is None:
            self.tree = None
            self.problems.append(AuditProblem(index, None, "missing"))
            return
        if self.tree is not None:
            self.tree = self.tree.extended(leaf_hash(data))
        run: Digest | None = None
        try:
            entry = decode_entry(data)
            self.counts[entry.kind] += 1
            run = run_address(entry)
            check_entry_signature(entry)
            self.index.add(index, link_entry(hash_node(data), entry))
        except ChainError as error:
            self.problems.append(AuditProblem(index, run, error.problem))
        except LedgerError as error:
            self.problems.append(AuditProblem(index, run, str(error)))

    def check_checkpoint(self, note: bytes | None, size: int, log_key: VerifierKey) -> None:
        """Check the stored checkpoint against the entries."""
        try:
            if note is None:
                raise LedgerError("missing")
            problem = self._contradiction(open_checkpoint(note, log_key), size)
        except LedgerError as error:
            problem = str(error)
        if problem:
            self.problems.append(AuditProblem(None, None, problem))

    def _contradiction(self, checkpoint: Checkpoint, size: int) -> str:
        if checkpoint.tree_size != size:
            return f"says {checkpoint.tree_size} entries, but there are {size}"
        if self.tree is not None and self.tree.root_hash() != checkpoint.root_hash:
            found = self.tree.root_hash().hex()
            return f"says root hash {checkpoint.root_hash.hex()}, but the entries give {found}"
        return ""


def audit_log(storage: LogStorage, log_key: VerifierKey) -> LogAudit:
    """Check every entry and the checkpoint of a log; raises StorageError only where nothing can be read at all.

    Finds any change of an entry's bytes, of its place or of the checkpoint. Cannot find that a whole log went back to
    an older, correctly signed state: compare with a checkpoint kept elsewhere for that.
    """
    auditor = _Auditor(log_key.name)
    with storage.reading() as view:
        note, size = view.checkpoint(), view.size()
    for index, data in _stored(storage, size):
        auditor.add(index, data)
    auditor.check_checkpoint(note, size, log_key)
    return LogAudit(
        origin=log_key.name,
        tree_size=size,
        root_hash=None if auditor.tree is None else auditor.tree.root_hash(),
        runs=auditor.counts["run"],
        segments=auditor.counts["segment"],
        verdicts=auditor.counts["verdict"],
        problems=tuple(auditor.problems),
    )


def _stored(storage: LogStorage, size: int) -> Iterator[tuple[int, bytes | None]]:
    """Read every entry, None where one is missing."""
    start = 0
    while start < size:
        stop = min(start + _BATCH, size)
        with storage.reading() as view:
            try:
                batch: list[bytes | None] = [*view.entries(start, stop)]
            except MissingEntryError as error:
                batch = [*view.entries(start, error.index), None]
        yield from enumerate(batch, start)
        start += len(batch)
