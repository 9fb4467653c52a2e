"""The add-checkpoint request of tlog-witness: what a log sends to a witness.

Example: the size that the witness cosigned last, the consistency proof from there, a blank line and the checkpoint::

    old 20852014
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
    jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=

    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    \\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+...

Source: https://c2sp.org/tlog-witness (v1.0.0)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from samebits.ledger.errors import NoteFormatError
from samebits.ledger.keys import decode_base64, encode_base64
from samebits.ledger.merkle import HASH_SIZE_BYTES

ADD_CHECKPOINT_PATH: Final = "add-checkpoint"
SIZE_CONTENT_TYPE: Final = "text/x.tlog.size"  # of the body of a 409 that says which size the witness knows
MAX_PROOF_HASHES: Final = 63
MAX_REQUEST_SIZE_BYTES: Final = 64 << 10
MAX_ANSWER_SIZE_BYTES: Final = 64 << 10
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)
_MAX_SIZE: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign a checkpoint."""

    old_size: int  # of the tree that the proof starts from; 0: none
    proof: tuple[bytes, ...]  # consistency proof, at most 63 hashes of 32 bytes
    note: bytes  # the checkpoint in its signed note; not looked at here


def format_request(request: AddCheckpoint) -> bytes:
    """Return the body of a request."""
    lines = [f"old {request.old_size}", *map(encode_base64, request.proof)]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + request.note


def parse_request(body: bytes) -> AddCheckpoint:
    """Read the body of a request; raises NoteFormatError for anything that `format_request` would not write."""
    head, separator, note = body.partition(b"\n\n")
    if not separator:
        raise NoteFormatError("request", "no blank line before the checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise NoteFormatError("request", "not ASCII before the checkpoint") from None
    old_size = parse_size(lines[0].removeprefix("old ")) if lines[0].startswith("old ") else None
    if old_size is None:
        raise NoteFormatError("request", "the first line is not `old` and a tree size")
    if len(lines) - 1 > MAX_PROOF_HASHES:
        raise NoteFormatError("request", f"more than {MAX_PROOF_HASHES} hashes in the proof")
    hashes = [decode_base64(line) for line in lines[1:]]
    proof = tuple(item for item in hashes if item is not None and len(item) == HASH_SIZE_BYTES)
    if len(proof) != len(hashes):
        raise NoteFormatError("request", f"a line of the proof is not base64 of {HASH_SIZE_BYTES} bytes")
    return AddCheckpoint(old_size, proof, note)


def parse_size(text: str) -> int | None:
    """Return the tree size of a decimal number without leading zeros, None for anything else."""
    return int(text) if _SIZE.match(text) and int(text) <= _MAX_SIZE else None


def hash_origin(origin: str) -> str:
    """Return the name under which a witness gives out what it cosigned of a log: hex of SHA-256(origin)."""
    return sha256(origin.encode()).hexdigest()
