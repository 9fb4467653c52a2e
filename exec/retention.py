"""What garbage collection must keep because the ledger tells of it."""

from __future__ import annotations

from collections.abc import Iterator

from samebits.cas import Digest, GcReport, Store, collect_garbage
from samebits.cas.gc import GRACE_S, Progress
from samebits.exec.ledger_folder import log_directory
from samebits.ledger import Log, Sample, VerdictBody, entry_address
from samebits.ledger.bodies import RunBody, SegmentBody
from samebits.ledger.logkey import PRIVATE_NAME


def ledger_roots(store: Store) -> Iterator[tuple[str, Digest]]:
    """Yield what the entries of a store's ledger refer to, each with the name of its entry; raises LedgerError."""
    directory = log_directory(store)
    if not directory.exists():
        return
    with Log.open(directory, read_only=True) as log:
        for index, entry in enumerate(log.entries()):
            name = f"ledger entry {index} ({entry_address(entry)})"
            match entry.body:
                case RunBody(job=job):
                    yield name, job
                case SegmentBody() as segment:
                    for digest in (segment.state_in, segment.state_out, segment.commits, *segment.kernels):
                        yield name, digest
                case VerdictBody(sample=Sample(checkpoint=checkpoint)) if store.has(checkpoint):
                    yield name, checkpoint  # an entry from another store's verifier may name one that was never here


def collect_store(
    store: Store, *, grace_s: float = GRACE_S, dry_run: bool = False, progress: Progress | None = None
) -> GcReport:
    """Collect the garbage of a store with its ledger; arguments and errors as of `collect_garbage`, and LedgerError."""
    directory = log_directory(store)
    if (directory / PRIVATE_NAME).exists():
        Log.open(directory).close()  # what a crash left signed but not published counts too
    roots = (digest for _, digest in ledger_roots(store))  # read when marking begins: what is appended later is young
    return collect_garbage(store, roots, grace_s=grace_s, dry_run=dry_run, progress=progress)
