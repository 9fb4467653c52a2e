"""The ledger: signed entries that chain a run's steps, in a transparency log that anyone can check (see README.md)."""

from samebits.ledger.audit import AuditProblem, LogAudit
from samebits.ledger.bodies import Body, RunBody, SegmentBody, VerdictBody
from samebits.ledger.chain import ChainSegment, ChainVerdict, RunChain, check_chain, read_chain
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
from samebits.ledger.entry import Entry, check_entry_signature, decode_entry, encode_entry, entry_address, sign_entry
from samebits.ledger.errors import (
    AuditError,
    ChainError,
    EntryError,
    EntryNotFoundError,
    KeyFileError,
    LedgerError,
    MissingEntryError,
    NoteFormatError,
    ProofError,
    RunNotFoundError,
    SignatureError,
    StorageError,
    TileError,
)
from samebits.ledger.keyfile import load_key, load_or_create_key
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.log import Log

__all__ = [
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
    "KeyFileError",
    "LedgerError",
    "Log",
    "LogAudit",
    "MissingEntryError",
    "NoteFormatError",
    "ProofError",
    "RunBody",
    "RunChain",
    "RunNotFoundError",
    "SegmentBody",
    "SignatureError",
    "SigningKey",
    "StorageError",
    "TileError",
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
