"""Publish a run in a remote: its record with all that it needs, pinned there as it is where a run was taken home."""

from __future__ import annotations

from samebits.cas import Digest, Store
from samebits.cas.remotes import Remote
from samebits.cas.tally import Progress
from samebits.cas.transfer import TransferReport, push
from samebits.exec.places.remote_places import recorded_proof
from samebits.exec.places.run_places import StorePlace
from samebits.exec.places.run_record import check_same_history, put_run_record, run_pin
from samebits.ledger.run_proof import check_run_proof


def push_run(run: Digest, store: Store, remote: Remote, *, progress: Progress | None = None) -> TransferReport:
    """Copy a run of a store, of its ledger or taken home, to a remote that lacks it, and pin it there.

    A longer part of the same run that is there stays; a record of another history is refused. Raises LedgerError,
    RunError or CasError.
    """
    proof = StorePlace(store, is_own=True).prove(run)
    chain = check_run_proof(proof, run).chain
    there = recorded_proof(remote, run)
    longer = False
    if there is not None:
        theirs = check_run_proof(there, run).chain
        check_same_history(chain, theirs)
        longer = len(theirs.segments) > len(chain.segments)
    record = put_run_record(store, proof, chain)
    report = push(store, remote, [record], progress=progress)
    if not longer:
        remote.write_pin(run_pin(run), record)
    return report
