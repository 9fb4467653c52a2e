"""Checkpoints under a policy: signed by a log that it names, cosigned by the witnesses that it requires."""

from __future__ import annotations

from dataclasses import dataclass

from samebits.ledger.checkpoint import Checkpoint, parse_checkpoint
from samebits.ledger.cosignature import find_cosignature
from samebits.ledger.errors import QuorumError, SignatureError
from samebits.ledger.keys import VerifierKey
from samebits.ledger.note import open_note, parse_note
from samebits.ledger.policy import Policy


@dataclass(frozen=True, slots=True)
class Witnessing:
    """That a witness cosigned a checkpoint."""

    witness: str  # its name in the policy
    time_s: int  # POSIX seconds, by the witness's clock; of its latest cosignature


@dataclass(frozen=True, slots=True)
class CosignedCheckpoint:
    """A checkpoint that a policy lets pass."""

    checkpoint: Checkpoint
    log_key: VerifierKey
    witnessings: tuple[Witnessing, ...]  # by the policy's witnesses, required or not; in its order
    unknown: int  # signature lines by keys that the policy does not name


def open_cosigned(note: bytes, policy: Policy, log_key: VerifierKey | None = None) -> CosignedCheckpoint:
    """Return the checkpoint of a note that meets the policy.

    `log_key` is the log's, where it is known; else it is one of the policy's. Raises NoteFormatError for a malformed
    note, SignatureError for one of another log, or with a signature by the log or one of the policy's witnesses that
    does not verify, and QuorumError naming the witnesses that are missing.
    """
    text, signatures = parse_note(note)
    checkpoint = parse_checkpoint(text)
    keys = _log_keys(checkpoint.origin, policy, log_key)
    signer = open_note(note, keys).verified[0]
    key = next(key for key in keys if key.key_id == signer.key_id)
    witnessings = []
    known = {(key.name, key.key_id) for key in keys}
    for witness in policy.witnesses:
        cosignature = find_cosignature(witness.key, text, signatures)
        known.add((witness.key.name, witness.key.key_id))
        if cosignature is not None:
            witnessings.append(Witnessing(witness.name, cosignature.time_s))
    if unmet := policy.unmet(witnessing.witness for witnessing in witnessings):
        size = checkpoint.tree_size
        raise QuorumError(f"the checkpoint of {size} entries of {checkpoint.origin} lacks cosignatures: {unmet}")
    unknown = sum((signature.name, signature.key_id) not in known for signature in signatures)
    return CosignedCheckpoint(checkpoint, key, tuple(witnessings), unknown)


def _log_keys(origin: str, policy: Policy, log_key: VerifierKey | None) -> list[VerifierKey]:
    """Return the keys of this origin, one of which must have signed; raises SignatureError if there is none."""
    keys = [log.key for log in policy.logs]
    if log_key is not None:
        if keys and log_key not in keys:
            raise SignatureError(f"the policy does not name log {log_key.name} (or another key of it)")
        keys = [log_key]
    if found := [key for key in keys if key.name == origin]:
        return found
    names = ", ".join(key.name for key in keys) or "no log"
    raise SignatureError(f"it is of log {origin}, but {names} is wanted")
