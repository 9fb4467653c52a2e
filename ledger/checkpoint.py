"""Checkpoints: what a log signs to say how many entries it has and what they are.

Example of the text, which a signed note carries (the tree of one empty entry)::

    samebits.local/log/0123456789abcdef
    1
    bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=

Source: https://c2sp.org/tlog-checkpoint (v1.0.0). Extension lines are neither written nor accepted: signers in use
disagree about whether a cosignature covers them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from samebits.ledger.errors import NoteFormatError
from samebits.ledger.keys import SigningKey, VerifierKey, decode_base64, encode_base64, is_key_name
from samebits.ledger.merkle import EMPTY_ROOT, HASH_SIZE_BYTES
from samebits.ledger.note import open_note, sign_note

_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\Z")
_MAX_TREE_SIZE: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: its name, how many entries it has and their root hash."""

    origin: str
    tree_size: int  # 0 .. 2^63-1
    root_hash: bytes  # 32 bytes, SHA-256

    def __post_init__(self) -> None:
        if not is_key_name(self.origin):
            raise ValueError(f"{self.origin!r} cannot be a log's origin: no space, no plus, not empty")
        if not 0 <= self.tree_size <= _MAX_TREE_SIZE or len(self.root_hash) != HASH_SIZE_BYTES:
            raise ValueError("a checkpoint has a size from 0 to 2^63-1 and a root hash of 32 bytes")


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """Return the text of a checkpoint: three lines."""
    return f"{checkpoint.origin}\n{checkpoint.tree_size}\n{encode_base64(checkpoint.root_hash)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint; raises NoteFormatError for anything `format_checkpoint` would not write."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise NoteFormatError("checkpoint", "want three lines (origin, size, root hash) and no extension")
    origin, size, encoded_root = lines[:3]
    if not is_key_name(origin):
        raise NoteFormatError("checkpoint", "the origin is empty or has a space, plus or control character in it")
    if not _SIZE.match(size) or int(size) > _MAX_TREE_SIZE:
        raise NoteFormatError("checkpoint", f"not a tree size: {size[:40]!r}")
    root = decode_base64(encoded_root)
    if root is None or len(root) != HASH_SIZE_BYTES:
        raise NoteFormatError("checkpoint", "the root hash is not base64 of 32 bytes")
    if size == "0" and root != EMPTY_ROOT:
        raise NoteFormatError("checkpoint", "the root hash is not that of an empty tree")
    return Checkpoint(origin, int(size), root)


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Return the signed note of a checkpoint; the key goes by the log's origin."""
    if key.name != checkpoint.origin:
        raise ValueError(f"key {key.name} cannot sign for log {checkpoint.origin}")
    return sign_note(format_checkpoint(checkpoint), [key])


def open_checkpoint(note: bytes, log_key: VerifierKey) -> Checkpoint:
    """Return the checkpoint of a note that the log's key signed; raises NoteFormatError or SignatureError."""
    checkpoint = parse_checkpoint(open_note(note, [log_key]).text)
    if checkpoint.origin != log_key.name:
        raise NoteFormatError("checkpoint", f"its origin {checkpoint.origin} is not the log {log_key.name}")
    return checkpoint
