"""The ledger: signed entries that chain a run's steps, in a transparency log that anyone can check (see README.md)."""

from samebits.ledger.audit import AuditProblem, LogAudit
from samebits.ledger.bodies import Body, DrawBody, RunBody, Sample, SegmentBody, TraceBody, VerdictBody
from samebits.ledger.chain import ChainSegment, ChainVerdict, RunChain, check_chain, read_chain
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
from samebits.ledger.cosigned import CosignedCheckpoint, Witnessing, open_cosigned
from samebits.ledger.entry import Entry, check_entry_signature, decode_entry, encode_entry, entry_address, sign_entry
from samebits.ledger.errors import (
    AmbiguousPrefixError,
    ArtifactNotFoundError,
    AuditError,
    ChainError,
    EntryError,
    EntryNotFoundError,
    IndexFileError,
    KeyFileError,
    LedgerError,
    MissingEntryError,
    NoteFormatError,
    PolicyFormatError,
    ProofError,
    QuorumError,
    RunNotFoundError,
    SignatureError,
    StorageError,
    TileError,
    TrustFileError,
    WitnessError,
)
from samebits.ledger.keyfile import load_key, load_or_create_key
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.lineage import Lineage, RunOfJob, RunPart
from samebits.ledger.log import Log
from samebits.ledger.policy import Policy, parse_policy
from samebits.ledger.proof_file import TlogProof, format_proof, parse_proof
from samebits.ledger.receipt import Receipt, check_receipt, make_receipt
from samebits.ledger.search import FoundEntry, Query
from samebits.ledger.trust import Trust, TrustedKey

__all__ = [
    "AmbiguousPrefixError",
    "ArtifactNotFoundError",
    "AuditError",
    "AuditProblem",
    "Body",
    "ChainError",
    "ChainSegment",
    "ChainVerdict",
    "Checkpoint",
    "CosignedCheckpoint",
    "DrawBody",
    "Entry",
    "EntryError",
    "EntryNotFoundError",
    "FoundEntry",
    "IndexFileError",
    "KeyFileError",
    "LedgerError",
    "Lineage",
    "Log",
    "LogAudit",
    "MissingEntryError",
    "NoteFormatError",
    "Policy",
    "PolicyFormatError",
    "ProofError",
    "Query",
    "QuorumError",
    "Receipt",
    "RunBody",
    "RunChain",
    "RunNotFoundError",
    "RunOfJob",
    "RunPart",
    "Sample",
    "SegmentBody",
    "SignatureError",
    "SigningKey",
    "StorageError",
    "TileError",
    "TlogProof",
    "TraceBody",
    "Trust",
    "TrustFileError",
    "TrustedKey",
    "VerdictBody",
    "VerifierKey",
    "WitnessError",
    "Witnessing",
    "check_chain",
    "check_entry_signature",
    "check_receipt",
    "decode_entry",
    "encode_entry",
    "entry_address",
    "format_proof",
    "load_key",
    "load_or_create_key",
    "make_receipt",
    "open_checkpoint",
    "open_cosigned",
    "parse_policy",
    "parse_proof",
    "read_chain",
    "sign_entry",
]
