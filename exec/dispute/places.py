"""Where the sides of a dispute are: in a store on this machine, at a server that answers, or anywhere a run is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from samebits.cas import Store
from samebits.cas.remotes import StoreRemote
from samebits.exec.author import own_key
from samebits.exec.dispute.http import open_http_prover
from samebits.exec.dispute.local import LocalProver
from samebits.exec.dispute.prover import Prover, StoredProver
from samebits.exec.places.place_opening import open_run_place
from samebits.exec.places.run_places import StorePlace
from samebits.exec.places.run_reference import RunReference
from samebits.ledger import SigningKey


@contextmanager
def open_prover(
    reference: RunReference,
    own: Store,
    *,
    key: SigningKey | None = None,
    device: str = "numpy",
    timeout_s: float = 30.0,
) -> Iterator[Prover]:
    """Open the side that a reference names; `own` is the store that is meant where it names no place.

    A store on this machine answers with `key`, or with its author's. Any other place, but a server that answers, only
    holds the run. Raises CasError, LedgerError or ExecError.
    """
    place, run = reference.place, reference.run
    if place is not None and place.startswith(("http://", "https://")):
        answering = open_http_prover(place, run, timeout_s=timeout_s)
        if answering is not None:
            with closing(answering):
                yield answering
            return
    with open_run_place(place, own, timeout_s=timeout_s) as opened:
        chain = opened.find(run).chain
        if isinstance(opened, StorePlace):
            yield LocalProver(opened.store, chain, key or own_key(Path(opened.store.path)), device=device)
        else:
            yield StoredProver(opened.name, chain, opened.remote or StoreRemote(own))
