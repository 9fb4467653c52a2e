"""A run as an object of the store: its proof, and the address of everything that it needs.

``["run", {"objects": [job, states, lists of commits, kernels], "proof": <blob>, "run": 32 bytes}]``: the blob is a
run proof (`ledger/README.md`), the objects are those that its entries name. So a run that was taken home stays, moves
and is checked like any object. It is pinned as ``runs/RUN``.
"""

from __future__ import annotations

from typing import Final

from samebits.cas import CasError, Digest, Node, Store
from samebits.cas.encoding import Value
from samebits.exec.errors import RunError
from samebits.exec.verification.claim import claim_roots
from samebits.ledger import RunChain
from samebits.ledger.run_proof import (
    MAX_RUN_PROOF_SIZE_BYTES,
    RunProof,
    decode_run_proof,
    encode_run_proof,
)

RUN_KIND: Final = "run"


def run_pin(run: Digest) -> str:
    """Return the name under which a run that was taken home is pinned: ``runs/RUN``."""
    return f"runs/{run}"


def put_run_record(store: Store, proof: RunProof, chain: RunChain) -> Digest:
    """Store a run's proof, and the record that names it and the run's objects, which are there already."""
    with store.batch(join=True):
        blob = store.put_blob(encode_run_proof(proof))
        body: dict[str, Value] = {"objects": list(claim_roots(chain)), "proof": blob, "run": chain.run_address.raw}
        return store.put_node(Node(RUN_KIND, body))


def read_run_record(store: Store, run: Digest) -> RunProof | None:
    """Return the proof of a run that was taken home into this store, not checked; None if it was not.

    Raises RunError for a pin of this name that is no record of this run.
    """
    record = store.pins().get(run_pin(run))
    if record is None:
        return None
    try:
        return read_record_proof(store, record, run)
    except (CasError, RunError) as error:
        raise RunError(f"pin {run_pin(run)}: {error}") from error


def read_record_proof(store: Store, record: Digest, run: Digest) -> RunProof:
    """Return the proof in a stored record of a run, not checked; raises RunError, NoteFormatError or CasError."""
    blob = record_proof(store.get_node(record), run)
    if store.stat(blob).size_bytes > MAX_RUN_PROOF_SIZE_BYTES:
        raise RunError(f"its proof has more than {MAX_RUN_PROOF_SIZE_BYTES} bytes")
    return decode_run_proof(store.get_blob(blob))


def record_proof(node: Node, run: Digest) -> Digest:
    """Return the address of the proof in the record of a run; raises RunError for another node."""
    match node:
        case Node("run", {"run": bytes() as raw, "proof": Digest() as proof, "objects": list()}) if len(node.body) == 3:
            if raw != run.raw:
                raise RunError(f"is the record of run {raw.hex()[:64]}, not of {run}")
            return proof
        case _:
            raise RunError(f"is not the record of a run but a {node.kind}")


def recorded_run(node: Node) -> Digest:
    """Return which run a record is of; raises RunError for another node."""
    match node:
        case Node("run", {"run": bytes() as raw}) if len(raw) == 32:
            return Digest(raw)
        case _:
            raise RunError(f"is not the record of a run but a {node.kind}")


def check_same_history(known: RunChain, other: RunChain) -> None:
    """Raise RunError if two chains of one run contradict each other: its author signed two histories."""
    for ours, theirs in zip(known.segments, other.segments, strict=False):
        if ours.address != theirs.address:
            raise RunError(
                f"the author of run {known.run_address} signed two histories: from step {ours.body.first_step} on "
                f"entry {ours.address}, which is known here and is kept, and entry {theirs.address}"
            )
