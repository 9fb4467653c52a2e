"""tlog-proof files: that a log holds an entry, in one text that is checked without the log.

Example, of the second of three entries; after the blank line comes the checkpoint as the log gave it out::

    c2sp.org/tlog-proof@v1
    extra AAJoaQ==
    index 1
    bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=
    lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=

    samebits.local/log/0123456789abcdef
    3
    ...

`extra` is a line that may be absent; nothing vouches for it. Source: https://c2sp.org/tlog-proof (v1)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from samebits.ledger.errors import NoteFormatError
from samebits.ledger.keys import decode_base64, encode_base64
from samebits.ledger.merkle import HASH_SIZE_BYTES
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES, parse_note

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_HASHES: Final = 63
MAX_EXTRA_SIZE_BYTES: Final = 256 << 10
MAX_PROOF_SIZE_BYTES: Final = MAX_NOTE_SIZE_BYTES + 2 * MAX_EXTRA_SIZE_BYTES
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})\Z", re.ASCII)
_MAX_INDEX: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class TlogProof:
    """What a tlog-proof file says; nothing in it is verified."""

    index: int  # of the entry, from 0
    inclusion_proof: tuple[bytes, ...]  # 0 to 63 hashes of 32 bytes, from the leaf up
    checkpoint: str  # a signed note
    extra: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.index <= _MAX_INDEX or len(self.inclusion_proof) > MAX_HASHES:
            raise ValueError(f"a proof has an index below 2^63 and at most {MAX_HASHES} hashes")
        if any(len(item) != HASH_SIZE_BYTES for item in self.inclusion_proof):
            raise ValueError(f"a hash is {HASH_SIZE_BYTES} bytes")
        if len(self.extra) > MAX_EXTRA_SIZE_BYTES:
            raise ValueError(f"more than {MAX_EXTRA_SIZE_BYTES} bytes of extra data")


def format_proof(proof: TlogProof) -> str:
    """Return the text of a tlog-proof file."""
    lines = [HEADER]
    if proof.extra:
        lines.append(f"extra {encode_base64(proof.extra)}")
    lines += [f"index {proof.index}", *map(encode_base64, proof.inclusion_proof)]
    return "\n".join(lines) + "\n\n" + proof.checkpoint


def parse_proof(data: bytes) -> TlogProof:
    """Read a tlog-proof file; raises NoteFormatError for anything that `format_proof` would not write."""
    if len(data) > MAX_PROOF_SIZE_BYTES:
        raise NoteFormatError("proof", f"longer than {MAX_PROOF_SIZE_BYTES} bytes")
    if not data.startswith(HEADER.encode() + b"\n"):
        raise NoteFormatError("proof", f"its first line is not {HEADER}")
    head, separator, checkpoint = data.partition(b"\n\n")
    if not separator:
        raise NoteFormatError("proof", "no blank line before the checkpoint: is the file complete?")
    try:
        lines = head.decode("ascii").split("\n")[1:]
    except UnicodeDecodeError:
        raise NoteFormatError("proof", "not ASCII before the checkpoint") from None
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = _parse_extra(lines.pop(0))
    index = _INDEX.match(lines[0]) if lines else None
    if index is None or int(index.group(1)) > _MAX_INDEX:
        raise NoteFormatError("proof", f"want `index` and a number, not {lines[0][:80]!r}" if lines else "no index")
    hashes = [decode_base64(line) for line in lines[1:]]
    if len(hashes) > MAX_HASHES:
        raise NoteFormatError("proof", f"more than {MAX_HASHES} hashes")
    proof = tuple(item for item in hashes if item is not None and len(item) == HASH_SIZE_BYTES)
    if len(proof) != len(hashes):
        raise NoteFormatError("proof", f"a line after the index is not base64 of {HASH_SIZE_BYTES} bytes")
    parse_note(checkpoint)
    return TlogProof(int(index.group(1)), proof, checkpoint.decode(), extra)


def _parse_extra(line: str) -> bytes:
    extra = decode_base64(line.removeprefix("extra "))
    if not extra:
        raise NoteFormatError("proof", "the extra data is not base64, or empty")
    if len(extra) > MAX_EXTRA_SIZE_BYTES:
        raise NoteFormatError("proof", f"more than {MAX_EXTRA_SIZE_BYTES} bytes of extra data")
    return extra
