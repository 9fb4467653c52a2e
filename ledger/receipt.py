"""Receipts: a tlog-proof file of an entry that also carries the entry, so that it is checked with the log's key alone.

The file's `extra` data is a bundle as in tlog-tiles, each entry with its length before it (2 bytes, big endian): the
entry that the proof is of and, if it is a segment or a verdict and the log has its run, the run's entry, which says
what job it is. Nothing of that is believed as it stands: the proof leads from the first entry's hash to the checkpoint,
and the first entry names the run's by its address.
"""

from __future__ import annotations

from dataclasses import dataclass

from samebits.cas.digest import Digest, hash_node
from samebits.ledger.bodies import RunBody, SegmentBody
from samebits.ledger.checkpoint import open_checkpoint
from samebits.ledger.cosigned import CosignedCheckpoint, open_cosigned
from samebits.ledger.entry import Entry, check_entry_signature, decode_entry, encode_entry, run_address
from samebits.ledger.errors import (
    ChainError,
    EntryError,
    EntryNotFoundError,
    NoteFormatError,
    ProofError,
    SignatureError,
)
from samebits.ledger.keys import VerifierKey
from samebits.ledger.log import Log
from samebits.ledger.merkle import check_inclusion, leaf_hash
from samebits.ledger.policy import Policy
from samebits.ledger.proof_file import TlogProof
from samebits.ledger.tiles import encode_bundle, entry_at


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a checked receipt shows: this entry is in this log, as far as the policy can tell."""

    entry: Entry  # signature by its author verified
    address: Digest
    index: int
    run: Entry | None  # the run's entry, signature verified; None for a verdict on a run of another log
    cosigned: CosignedCheckpoint


def make_receipt(log: Log, address: Digest) -> TlogProof:
    """Return the receipt of an entry under the log's checkpoint of this moment.

    Raises EntryNotFoundError, and ChainError for an entry, or its run's, whose signature does not verify.
    """
    index, entry = _find_signed(log, address)
    note = log.checkpoint()
    checkpoint = open_checkpoint(note.encode(), log.verifier)
    entries = [entry]
    if not isinstance(entry.body, RunBody):
        try:
            entries.append(_find_signed(log, entry.body.run)[1])
        except EntryNotFoundError:
            if isinstance(entry.body, SegmentBody):
                raise
    extra = encode_bundle([encode_entry(item) for item in entries])
    return TlogProof(index, log.inclusion_proof(index, checkpoint.tree_size), note, extra)


def _find_signed(log: Log, address: Digest) -> tuple[int, Entry]:
    index, entry = log.find(address)
    try:
        check_entry_signature(entry)
    except SignatureError as error:
        raise ChainError(index, address, str(error)) from None
    return index, entry


def check_receipt(proof: TlogProof, policy: Policy, log_key: VerifierKey | None = None) -> Receipt:
    """Check a receipt against a policy, and the log's key where it is known, without the log.

    Raises NoteFormatError and EntryError for a malformed one, SignatureError for another log's or a bad signature,
    QuorumError for missing cosignatures, ProofError if the entry is not the one in the log.
    """
    found = _unframed(proof.extra)
    entry = decode_entry(found[0])
    cosigned = open_cosigned(proof.checkpoint.encode(), policy, log_key)
    checkpoint = cosigned.checkpoint
    check_inclusion(proof.index, checkpoint.tree_size, leaf_hash(found[0]), proof.inclusion_proof, checkpoint.root_hash)
    check_entry_signature(entry)
    if entry.origin != checkpoint.origin:
        raise EntryError("origin", f"the entry was made for log {entry.origin}, but it is in {checkpoint.origin}")
    return Receipt(entry, hash_node(found[0]), proof.index, _read_run(entry, found), cosigned)


def _read_run(entry: Entry, found: list[bytes]) -> Entry | None:
    """Return the run's entry after checking that it is the one that `entry` is about."""
    if isinstance(entry.body, RunBody):
        if len(found) > 1:
            raise NoteFormatError("receipt", "it carries an entry that nothing refers to")
        return entry
    if len(found) == 1:
        if isinstance(entry.body, SegmentBody):
            raise NoteFormatError("receipt", "the entry of the segment's run is missing")
        return None
    run = decode_entry(found[1])
    if not isinstance(run.body, RunBody) or hash_node(found[1]) != entry.body.run:
        raise ProofError(f"the second entry of the receipt is not run {run_address(entry)}")
    check_entry_signature(run)
    if run.origin != entry.origin:
        raise ProofError(f"the run was made for log {run.origin}, but the {entry.kind} for {entry.origin}")
    if isinstance(entry.body, SegmentBody):
        if run.author != entry.author:
            raise ProofError(f"the segment is by {entry.author.hex()}, but the run is by {run.author.hex()}")
        _check_segment(entry, entry.body, run.body)
    return run


def _check_segment(entry: Entry, segment: SegmentBody, run: RunBody) -> None:
    """Check those rules of a run that two entries show; raises ProofError."""
    if segment.stop_step > run.steps:
        raise ProofError(f"the segment stops at step {segment.stop_step}, but the run has {run.steps} steps")
    if (segment.first_step == run.first_step) != (entry.prev == segment.run):
        follows = "the run's own entry" if entry.prev == segment.run else f"entry {entry.prev}"
        raise ProofError(f"the segment starts at step {segment.first_step}, but follows {follows}")


def _unframed(extra: bytes) -> list[bytes]:
    """Return the one or two entries of a receipt's extra data; raises NoteFormatError."""
    entries, at = [], 0
    while at < len(extra):
        one = entry_at(extra, at)
        if one is None:
            raise NoteFormatError("receipt", "the entry that it carries is cut short")
        entry, at = one
        entries.append(entry)
    if not 1 <= len(entries) <= 2:
        found = len(entries) or "no"
        raise NoteFormatError("receipt", f"it carries {found} entries instead of one, or one and its run")
    return entries
