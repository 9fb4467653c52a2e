"""The ledger: signed entries that chain a run's steps, in a transparency log that anyone can check (see README.md)."""

from samebits.ledger.audit import AuditProblem, LogAudit
from samebits.ledger.bodies import Body, RunBody, SegmentBody, VerdictBody
from samebits.ledger.chain import ChainSegment, ChainVerdict, RunChain, check_chain, read_chain
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
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
    ProofError,
    RunNotFoundError,
    SignatureError,
    StorageError,
)
from samebits.ledger.keyfile import load_key, load_or_create_key
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.lineage import Lineage, RunOfJob, RunPart
from samebits.ledger.log import Log
from samebits.ledger.search import FoundEntry, Query

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
    "ProofError",
    "Query",
    "RunBody",
    "RunChain",
    "RunNotFoundError",
    "RunOfJob",
    "RunPart",
    "SegmentBody",
    "SignatureError",
    "SigningKey",
    "StorageError",
    "VerdictBody",
    "VerifierKey",
    "check_chain",
    "check_entry_signature",
    "decode_entry",
    "encode_entry",
    "entry_address",
    "load_key",
    "load_or_create_key",
    "open_checkpoint",
    "read_chain",
    "sign_entry",
]
