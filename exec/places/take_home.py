"""Take a run home: everything that it needs, with the proof that it is in its log, kept in the user's own store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from samebits.cas import Digest, Store
from samebits.cas.tally import Progress
from samebits.exec.places.run_objects import check_steps, pull_objects
from samebits.exec.places.run_places import RunPlace, StorePlace
from samebits.exec.places.run_record import check_same_history, put_run_record, run_pin
from samebits.exec.verification.claim import claim_roots, read_claim
from samebits.ledger import RunChain, VerifierKey
from samebits.ledger.run_proof import check_run_proof


@dataclass(frozen=True, slots=True)
class TakenRun:
    """What taking a run home brought."""

    chain: RunChain
    log_key: VerifierKey  # as the place says, unless it was opened for this key
    news: Literal["new", "grew", "known"]  # "known": the store has as much of the run, or more
    objects: int  # that the store had not
    rows: int
    bytes_fetched: int


def take_home(place: RunPlace, run: Digest, store: Store, *, progress: Progress | None = None) -> TakenRun:
    """Fetch a run with all that it needs into a store, and pin it there; what was interrupted goes on where it was.

    A run that is there already and went on replaces the older one; one that contradicts it is refused. Raises RunError,
    JobError, LedgerError or CasError; nothing is pinned then.
    """
    proof = place.prove(run)
    chain = check_run_proof(proof, run).chain
    _known_history(store, chain)
    check_steps(place, store, chain.body)
    roots = claim_roots(chain)
    report = pull_objects(place, store, roots, progress)
    with store.holding(roots):
        if chain.segments:
            read_claim(store, chain)  # the commits are those that were signed
        known = _known_history(store, chain)  # another process may have brought more, or another history, meanwhile
        if known is None or len(known.segments) < len(chain.segments):
            store.pin(run_pin(run), put_run_record(store, proof, chain))
    news: Literal["new", "grew", "known"] = "new"
    if known is not None:
        news = "grew" if len(known.segments) < len(chain.segments) else "known"
    return TakenRun(chain, proof.log_key, news, report.objects, report.rows, report.size_bytes)


def _known_history(store: Store, chain: RunChain) -> RunChain | None:
    """Return the chain of the same run that a store has; raises RunError for one that contradicts this one."""
    known = known_chain(store, chain.run_address)
    if known is not None:
        check_same_history(known, chain)
    return known


def known_chain(store: Store, run: Digest) -> RunChain | None:
    """Return the chain of a run that a store has, in its ledger or taken home; None if it has none."""
    proof = StorePlace(store, is_own=True).look_up(run)
    return None if proof is None else check_run_proof(proof, run).chain
