"""The full check of a log from its stored bytes: every entry, every run, the tree and the checkpoints.

Nothing is believed that was computed before: not the index, and no address or leaf hash. The entries are checked one by
one in `audit_entries`; here they are put together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from samebits.cas.digest import Digest
from samebits.ledger.audit_entries import CheckedEntry, Missing, Slice, check_slices
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
from samebits.ledger.errors import AuditError, ChainError, LedgerError, MissingEntryError
from samebits.ledger.index import KINDS, LogIndex
from samebits.ledger.keys import VerifierKey
from samebits.ledger.merkle import CompactRange
from samebits.ledger.storage import LogStorage
from samebits.ledger.tile_audit import tile_problems
from samebits.ledger.tiles import TILE_WIDTH

_BATCH: Final = 512  # entries read in one view, and checked by one worker at once
_MAX_PROBLEMS: Final = 1_000  # of entries; a log may claim any size and lack everything

MIN_SHARED_ENTRIES: Final = 5_000  # starting processes takes as long as checking some thousands of entries


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One thing that is wrong with a log. Example: ``entry 17 (run ab12cd34ef56ab78): signature by ... does not
    verify``."""

    index: int | None  # the (first) entry, or None for a file of the log or a checkpoint that was given
    run: Digest | None  # the run that the entry is about, where its bytes still say so
    problem: str
    source: str = ""  # of a checkpoint that was given: where it is from
    notes: tuple[bytes, ...] = ()  # signed checkpoints that contradict each other: they prove the problem to anybody
    file: str = "checkpoint"
    count: int = 1  # entries that it is about; more than one only where a bundle can't be read

    def __str__(self) -> str:
        if self.index is None:
            return f"{self.file}{self.source and ' '}{self.source}: {self.problem}"
        run = f" (run {str(self.run)[:16]})" if self.run is not None else ""
        if self.count > 1:
            return f"entries {self.index} to {self.index + self.count - 1}: {self.problem}"
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
    draws: int
    traces: int
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
    """Goes through the checked entries once and remembers what is wrong."""

    def __init__(self, origin: str, sizes: set[int]) -> None:
        """Remember the root hashes of the trees of these sizes."""
        self.index = LogIndex(origin)
        self.tree: CompactRange | None = CompactRange()  # None: an entry is missing, so there is no root hash
        self.counts = dict.fromkeys(KINDS, 0)
        self.problems: list[AuditProblem] = []
        self.sizes = sizes
        self.roots = {0: CompactRange().root_hash()}

    def add(self, index: int, checked: CheckedEntry) -> None:
        """Add entry `index`."""
        if checked.leaf is None:
            self.tree = None
        elif self.tree is not None:
            self.tree = self.tree.extended(checked.leaf)
            if index + 1 in self.sizes:
                self.roots[index + 1] = self.tree.root_hash()
        link, problem = checked.link, checked.problem
        if link is not None:
            self.counts[link.kind] += 1
            if not problem:
                try:
                    self.index.add(index, link)
                except ChainError as error:
                    problem = error.problem
        if problem:
            run = None if link is None else Digest(link.run)
            self.problems.append(AuditProblem(index, run, problem, count=checked.width))

    def stop(self, index: int, size: int) -> None:
        """Leave out the entries [index, size)."""
        self.tree = None
        said = f"and more: not checked, after {_MAX_PROBLEMS} problems"
        self.problems.append(AuditProblem(index, None, said, count=size - index))

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

    def check_known(self, source: str, known: bytes, note: bytes | None, size: int, log_key: VerifierKey) -> None:
        """Check that the tree of a checkpoint that was kept elsewhere is a prefix of the log now."""
        try:
            checkpoint = open_checkpoint(known, log_key)
        except LedgerError as error:
            self.problems.append(AuditProblem(None, None, str(error), source))
            return
        old, notes = checkpoint.tree_size, (known, *([] if note is None else [note]))
        if old > size:
            problem = f"has {old} entries, but the log has only {size}: it was rolled back, or is another branch"
        elif old not in self.roots or self.roots[old] == checkpoint.root_hash:
            return
        elif old == size:
            problem = f"a fork: the log's key signed two different heads of {old} entries"
        else:
            problem = f"a fork: the first {old} entries of the log are not those that its key signed here"
        self.problems.append(AuditProblem(None, None, problem, source, notes))

    def _contradiction(self, checkpoint: Checkpoint, size: int) -> str:
        if checkpoint.tree_size != size:
            return f"says {checkpoint.tree_size} entries, but there are {size}"
        if self.tree is not None and self.tree.root_hash() != checkpoint.root_hash:
            found = self.tree.root_hash().hex()
            return f"says root hash {checkpoint.root_hash.hex()}, but the entries give {found}"
        return ""


def audit_log(
    storage: LogStorage, log_key: VerifierKey, *, workers: int = 1, against: Mapping[str, bytes] | None = None
) -> LogAudit:
    """Check every entry and the checkpoint of a log; raises StorageError only where nothing can be read at all.

    Finds any change of an entry's bytes, of its place, of the checkpoint, and, where these are right, of a tile. That a
    whole log went back to an older, correctly signed state, or is a fork of another, is found with checkpoints kept
    elsewhere: `against` has their signed notes by where they are from. `workers` are processes that share the work of a
    large log, see `check_slices`.
    """
    with storage.reading() as view:
        note, size = view.checkpoint(), view.size()
    audit = audit_slices(_stored(storage, size), size, note, log_key, workers=workers, against=against)
    if audit.problems:
        return audit
    wrong = tile_problems(storage.path, size)
    return replace(audit, problems=tuple(AuditProblem(None, None, one.problem, file=one.path) for one in wrong))


def audit_slices(
    slices: Iterable[Slice],
    size: int,
    note: bytes | None,
    log_key: VerifierKey,
    *,
    workers: int = 1,
    against: Mapping[str, bytes] | None = None,
) -> LogAudit:
    """Check all `size` entries of a log, wherever they come from, and its checkpoint; see `audit_log`."""
    known = against or {}
    auditor = _Auditor(log_key.name, _sizes(known, log_key))
    index = 0
    processes = workers if size >= MIN_SHARED_ENTRIES else 1
    for entry in chain.from_iterable(check_slices(slices, processes)):
        if len(auditor.problems) == _MAX_PROBLEMS:
            auditor.stop(index, size)
            break
        auditor.add(index, entry)
        index += entry.width
    auditor.check_checkpoint(note, size, log_key)
    for source, old in known.items():
        auditor.check_known(source, old, note, size, log_key)
    return LogAudit(
        origin=log_key.name,
        tree_size=size,
        root_hash=None if auditor.tree is None else auditor.tree.root_hash(),
        runs=auditor.counts["run"],
        segments=auditor.counts["segment"],
        verdicts=auditor.counts["verdict"],
        draws=auditor.counts["draw"],
        traces=auditor.counts["trace"],
        problems=tuple(auditor.problems),
    )


def _sizes(known: Mapping[str, bytes], log_key: VerifierKey) -> set[int]:
    """Return the sizes of the checkpoints that can be opened."""
    sizes = set()
    for note in known.values():
        try:
            sizes.add(open_checkpoint(note, log_key).tree_size)
        except LedgerError:
            continue  # named when it is checked
    return sizes


def _stored(storage: LogStorage, size: int) -> Iterator[Slice]:
    """Read every entry in slices, or why one can't be read."""
    start = 0
    while start < size:
        stop = min(start + _BATCH, size)
        with storage.reading() as view:
            try:
                batch: list[bytes | Missing] = [*view.entries(start, stop)]
            except MissingEntryError as error:
                gone = min(stop, (error.index | TILE_WIDTH - 1) + 1) - error.index  # the rest of its bundle
                batch = [*view.entries(start, error.index), Missing(error.reason, gone)]
                stop = error.index + gone
        yield batch
        start = stop
