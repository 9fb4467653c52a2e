"""What the author of a run has signed: its entries, and what is proved to be under a root in one of them."""

from __future__ import annotations

from dataclasses import dataclass

from samebits.cas import Digest, decode_node
from samebits.exec.commits import Commit, commit_steps
from samebits.exec.errors import RunError
from samebits.exec.trace import decode_leaf, encode_leaf
from samebits.ledger import (
    Entry,
    RunBody,
    SegmentBody,
    TraceBody,
    check_entry_signature,
    decode_entry,
    entry_address,
)
from samebits.ledger.merkle import check_inclusion, leaf_hash

Proof = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SignedRun:
    """A run entry, its signature verified."""

    address: Digest
    entry: Entry
    body: RunBody

    @property
    def author(self) -> bytes:
        """The public key that signs all of this run."""
        return self.entry.author


@dataclass(frozen=True, slots=True)
class LeafProof:
    """A leaf's bytes, and the siblings on the way to the root."""

    leaf: bytes
    proof: Proof


@dataclass(frozen=True, slots=True)
class CommitProof:
    """The commit of a step, with the entry that signs it: a segment, or a trace of the level `steps`."""

    entry: bytes
    commit: bytes  # encoded node
    proof: Proof


def read_run(data: bytes) -> SignedRun:
    """Read a run entry; raises LedgerError, also for a signature that does not verify, or RunError."""
    entry = decode_entry(data)
    check_entry_signature(entry)
    if not isinstance(entry.body, RunBody):
        raise RunError(f"a {entry.kind} entry stands where the run's is wanted")
    return SignedRun(entry_address(entry), entry, entry.body)


def read_entry(run: SignedRun, data: bytes) -> Entry:
    """Read a segment or trace of a run, signed by its author; raises LedgerError or RunError."""
    entry = decode_entry(data)
    check_entry_signature(entry)
    body = entry.body
    if not isinstance(body, SegmentBody | TraceBody) or body.run != run.address:
        raise RunError(f"a {entry.kind} entry is no segment or trace of run {run.address}")
    if (entry.author, entry.origin) != (run.author, run.entry.origin):
        raise RunError(f"a {entry.kind} is not signed by the run's author for the run's log")
    if not run.body.first_step <= body.first_step < body.stop_step <= run.body.steps:
        raise RunError(f"a {entry.kind} of steps {body.first_step}:{body.stop_step}, outside the run")
    return entry


def read_segment(run: SignedRun, data: bytes) -> SegmentBody:
    """Read a segment of a run; raises LedgerError or RunError."""
    body = read_entry(run, data).body
    if not isinstance(body, SegmentBody):
        raise RunError(f"a {body.KIND} stands where a segment is wanted")
    return body


def read_trace(run: SignedRun, data: bytes) -> TraceBody:
    """Read a trace of a run; raises LedgerError or RunError."""
    body = read_entry(run, data).body
    if not isinstance(body, TraceBody):
        raise RunError(f"a {body.KIND} stands where a trace is wanted")
    if body.level != "steps" and body.stop_step != body.first_step + 1:
        raise RunError(f"a trace of the level {body.level} is of one step")
    return body


def check_leaf(trace: TraceBody, index: int, proof: LeafProof) -> tuple[str, Digest]:
    """Return place and address of a leaf that is in a signed trace; raises ProofError, or RunError for no leaf."""
    check_inclusion(index, trace.leaves, leaf_hash(proof.leaf), proof.proof, trace.root)
    return decode_leaf(proof.leaf)


def check_commit(run: SignedRun, proof: CommitProof, step: int) -> Commit:
    """Return the commit that the author signed as that of `step`; raises ProofError, LedgerError or RunError.

    Which step the commit itself names is not looked at.
    """
    node = decode_node(proof.commit)
    commit = Commit.from_node(node)
    address = commit.address()
    body = read_entry(run, proof.entry).body
    if isinstance(body, SegmentBody):
        index, size = commit_index(run.body, body, step)
        check_inclusion(index, size, leaf_hash(address.raw), proof.proof, body.commits_root)
        return commit
    trace = read_trace(run, proof.entry)
    if trace.level != "steps" or not trace.first_step <= step < trace.stop_step:
        raise RunError(f"a trace of steps {trace.first_step}:{trace.stop_step} ({trace.level}) has no commit of {step}")
    index, layout_size = step - trace.first_step, trace.stop_step - trace.first_step
    if trace.leaves != layout_size:
        raise RunError(f"a trace of {layout_size} steps has {trace.leaves} leaves")
    leaf = encode_leaf(f"step/{step}", address)
    check_inclusion(index, trace.leaves, leaf_hash(leaf), proof.proof, trace.root)
    return commit


def commit_index(run: RunBody, segment: SegmentBody, step: int) -> tuple[int, int]:
    """Return which commit of a segment that of a step is, and how many it has; raises RunError if it has none of it."""
    listed = commit_steps(segment.first_step, segment.stop_step, run.commit_every)
    if step not in listed:
        raise RunError(f"step {step} has no commit in segment {segment.first_step}:{segment.stop_step}")
    return len(commit_steps(segment.first_step, step + 1, run.commit_every)) - 1, len(listed)
