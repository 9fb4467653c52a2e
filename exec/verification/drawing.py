"""Draw a sample of a run's segments: announce it in a log, read the run's checkpoint anew, and only then draw.

How a draw follows from a nonce, a beacon and a checkpoint is said in `sampling.py`.
"""

from __future__ import annotations

import os

from samebits.cas import Store
from samebits.exec.errors import RunError
from samebits.exec.places.run_places import RunPlace
from samebits.exec.verification.sampling import draw_segments, hash_nonce
from samebits.exec.verification.selection import SampleRequest
from samebits.exec.verification.verdict import Drawn
from samebits.exec.verification.verdict_log import VerdictLog
from samebits.ledger import DrawBody, LedgerError, RunChain, Sample, VerifierKey
from samebits.ledger.bodies import SAMPLE_NONCE_SIZE_BYTES
from samebits.ledger.checkpoint import open_checkpoint
from samebits.ledger.note import format_signature, parse_note
from samebits.ledger.run_proof import check_run_proof


def draw(request: SampleRequest, chain: RunChain, place: RunPlace, signer: VerdictLog | None, store: Store) -> Drawn:
    """Return the segments to compute again, drawn by a beacon or by a nonce that the log hears of before.

    The checkpoint goes into the store as a blob, so that the draw can be computed again. Raises RunError for a sample
    that the run is too short for, or if the run is another one by now; and LedgerError.
    """
    total = len(chain.segments)
    size, altered = request.count(total)
    nonce, announced = b"", None
    if not request.beacon:
        if signer is None:
            raise AssertionError("a draw by a nonce is announced in a log")
        nonce = os.urandom(SAMPLE_NONCE_SIZE_BYTES)
        body = DrawBody(chain.run_address, hash_nonce(chain.run_address, nonce), total, size)
        announced = signer.append(chain.head, body)
    proof = place.prove(chain.run_address)
    try:
        again = check_run_proof(proof, chain.run_address).chain
    except LedgerError as error:
        raise RunError(f"{place.name}: {error}") from error
    if again.segments[:total] != chain.segments:
        raise RunError(f"run {chain.run_address} is another one than before the draw")
    numbers = draw_segments(
        chain.run_address,
        chain.head,
        total,
        size,
        nonce=nonce,
        beacon=request.beacon,
        checkpoint=signed_checkpoint(proof.checkpoint.encode(), proof.log_key),
    )
    sample = Sample(announced, nonce, request.beacon, store.put_blob(proof.checkpoint.encode()), numbers)
    return Drawn(sample, total, altered, request.fraud)


def signed_checkpoint(note: bytes, log_key: VerifierKey) -> str:
    """Return a log's signed note with the log's own signature alone; raises NoteFormatError, SignatureError."""
    open_checkpoint(note, log_key)
    text, signatures = parse_note(note)
    own = next(one for one in signatures if (one.name, one.key_id) == (log_key.name, log_key.key_id))
    return f"{text}\n{format_signature(own.name, own.key_id + own.signature)}"
