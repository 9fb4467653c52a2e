"""Signed notes: a text, and after a blank line one signature a line.

A note of one signature, where ``\\u2014`` is the em dash::

    If you think cryptography is the answer to your problem,
    then you don't know what your problem is.

    \\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=

Source: https://c2sp.org/signed-note (v1.0.0)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from samebits.ledger.errors import NoteFormatError, SignatureError
from samebits.ledger.keys import SigningKey, decode_base64, encode_base64, is_key_name

MAX_SIGNATURES: Final = 100
MAX_NOTE_SIZE_BYTES: Final = 1_000_000
_PREFIX: Final = "\u2014 "
_KEY_ID_SIZE_BYTES: Final = 4


class NoteVerifier(Protocol):
    """A public key that signatures of notes are checked with: `VerifierKey`, `WitnessVerifierKey`."""

    @property
    def name(self) -> str:
        """The name it goes by."""
        ...

    @property
    def key_id(self) -> bytes:
        """4 bytes."""
        ...

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a signature over a note's text; raises SignatureError."""
        ...


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line of a note."""

    name: str
    key_id: bytes  # 4 bytes
    signature: bytes  # at least 1 byte; its form depends on the key's type


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose known signatures verify."""

    text: str  # ends with a newline
    verified: tuple[NoteSignature, ...]  # at least one, in the note's order
    unknown: tuple[NoteSignature, ...]  # by keys the reader was not given: they prove nothing


def sign_note(text: str, keys: Iterable[SigningKey]) -> str:
    """Return the note of `text`, which ends with a newline, signed by every key; raises ValueError otherwise."""
    if not text.endswith("\n") or (problem := _text_problem(text)):
        raise ValueError(
            f"this text cannot be signed: {problem if text.endswith(chr(10)) else 'no newline at its end'}"
        )
    lines = [format_signature(key.name, key.key_id + key.sign(text.encode())) for key in keys]
    if not 1 <= len(lines) <= MAX_SIGNATURES:
        raise ValueError(f"a note has 1 to {MAX_SIGNATURES} signatures")
    return text + "\n" + "".join(lines)


def format_signature(name: str, payload: bytes) -> str:
    """Return a signature line; the payload is the key ID and the signature."""
    return f"{_PREFIX}{name} {encode_base64(payload)}\n"


def add_signatures(note: str, lines: str) -> str:
    """Return the note with more signature lines; of two by one key, the later in `lines` stays.

    Raises NoteFormatError for malformed ones, and for more than a note may have. Nothing is verified.
    """
    text, found = parse_note(note.encode())
    _, more = parse_note(f"{text}\n{lines}".encode())
    latest = {(signature.name, signature.key_id): signature for signature in (*found, *more)}
    if len(latest) > MAX_SIGNATURES:
        raise NoteFormatError("note", f"more than {MAX_SIGNATURES} signatures")
    return text + "\n" + "".join(format_signature(s.name, s.key_id + s.signature) for s in latest.values())


def parse_note(note: bytes) -> tuple[str, tuple[NoteSignature, ...]]:
    """Return the text and the signature lines, none of them verified; raises NoteFormatError."""
    if len(note) > MAX_NOTE_SIZE_BYTES:
        raise NoteFormatError("note", f"longer than {MAX_NOTE_SIZE_BYTES} bytes")
    try:
        message = note.decode()
    except UnicodeDecodeError as error:
        raise NoteFormatError("note", "not UTF-8") from error
    if problem := _text_problem(message):
        raise NoteFormatError("note", problem)
    head, separator, tail = message.rpartition("\n\n")
    if not separator:
        raise NoteFormatError("note", "no blank line before the signatures")
    if not tail.endswith("\n"):
        raise NoteFormatError("note", "no newline after the signatures")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteFormatError("note", f"more than {MAX_SIGNATURES} signatures")
    return head + "\n", tuple(_parse_signature(line) for line in lines)


def open_note(note: bytes, verifiers: Iterable[NoteVerifier]) -> Note:
    """Return the note with its signatures verified.

    Signatures by other keys are set aside. Raises NoteFormatError for a malformed note, SignatureError if a signature
    by a known key does not verify or there is none.
    """
    text, signatures = parse_note(note)
    known = {(key.name, key.key_id): key for key in verifiers}
    verified: dict[tuple[str, bytes], NoteSignature] = {}
    unknown: dict[NoteSignature, None] = {}
    for signature in signatures:
        identity = (signature.name, signature.key_id)
        key = known.get(identity)
        if key is None:
            unknown[signature] = None
        elif identity not in verified:
            try:
                key.verify(signature.signature, text.encode())
            except SignatureError:
                raise SignatureError(f"the note's signature by {signature.name} does not verify") from None
            verified[identity] = signature
    if not verified:
        names = ", ".join(sorted({name for name, _ in known})) or "any key"
        raise SignatureError(f"the note has no signature by {names}")
    return Note(text, tuple(verified.values()), tuple(unknown))


def _parse_signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_PREFIX).partition(" ")
    if not line.startswith(_PREFIX) or not is_key_name(name):
        raise NoteFormatError("note", f"not a signature line: {line[:80]!r}")
    payload = decode_base64(encoded)
    if payload is None or len(payload) <= _KEY_ID_SIZE_BYTES:
        raise NoteFormatError("note", f"not a signature line: {line[:80]!r}")
    return NoteSignature(name, payload[:_KEY_ID_SIZE_BYTES], payload[_KEY_ID_SIZE_BYTES:])


def _text_problem(text: str) -> str:
    """Return what keeps this text out of a note, or nothing."""
    for char in text:
        if char < " " and char != "\n":
            return f"control character {ord(char)}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "not valid Unicode"
    return ""
