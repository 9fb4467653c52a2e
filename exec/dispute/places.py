"""Where the sides of a dispute are: the runs of a store on this machine, or of a server."""

from __future__ import annotations

from pathlib import Path

from samebits.cas import Digest, Store
from samebits.exec.author import author_key_path
from samebits.exec.dispute.http import open_http_prover
from samebits.exec.dispute.local import LocalProver
from samebits.exec.dispute.prover import Prover
from samebits.exec.run_reference import RunReference
from samebits.exec.runner import log_directory
from samebits.ledger import KeyFileError, Log, RunChain, SigningKey
from samebits.ledger.keyfile import find_key


def open_prover(
    reference: RunReference, own: Path, *, key: SigningKey | None = None, device: str = "numpy", timeout_s: float = 30.0
) -> Prover:
    """Return the side that a reference names; `own` is the store that is meant where it names no place.

    A store on this machine answers with `key`, or with its author's. Raises CasError, LedgerError or ExecError.
    """
    place = reference.place
    if place is not None and place.startswith(("http://", "https://")):
        return open_http_prover(place, reference.run, timeout_s=timeout_s)
    store = Store(own if place is None else Path(place), read_only=True)
    try:
        return LocalProver(store, _chain(store, reference.run), key or _own_key(store), device=device)
    except BaseException:
        store.close()
        raise


def _chain(store: Store, run: Digest) -> RunChain:
    with Log.open(log_directory(store), read_only=True) as log:
        return log.chain(run)


def _own_key(store: Store) -> SigningKey | None:
    try:
        return find_key(author_key_path(Path(store.path)))
    except KeyFileError:
        return None  # without a key it still holds the run
