"""Entries of the ledger: signed, canonical records, each a node of kind "entry" and a leaf of the log.

Fields: version (2), kind, origin, prev, body, author (32 bytes), time (Unix seconds), signature (64 bytes). The author
signs ``samebits entry v2\\n`` and then the canonical encoding of all fields but the signature. Version 1 has no time,
and is signed as ``samebits entry v1\\n``. `README.md` shows one of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from samebits.cas.digest import Digest, hash_node
from samebits.cas.encoding import NOT_CANONICAL, Value, decode_unchecked, encode_sorted
from samebits.cas.errors import CasError
from samebits.ledger.bodies import Body, EntryKind, RunBody, read_body
from samebits.ledger.ed25519 import point_problem
from samebits.ledger.errors import EntryError, SignatureError
from samebits.ledger.fields import Fields, check_names, read_bytes, read_integer, read_text
from samebits.ledger.keys import PUBLIC_SIZE_BYTES, SIGNATURE_SIZE_BYTES, SigningKey, is_key_name, verify
from samebits.ledger.tiles import MAX_ENTRY_SIZE_BYTES

ENTRY_KIND: Final = "entry"
ENTRY_CONTEXTS: Final = {1: b"samebits entry v1\n", 2: b"samebits entry v2\n"}
_NAMES: Final = frozenset({"version", "kind", "origin", "prev", "body", "author", "signature"})
_NAMES_OF: Final = {1: _NAMES, 2: _NAMES | {"time"}}


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed statement in a log. Made by `sign_entry` or `decode_entry`, which check that the fields fit together."""

    origin: str  # the log this entry was made for
    prev: Digest | None  # run: None; segment: the run's entry before it; others: the (last) segment they are about
    body: Body
    author: bytes  # 32 bytes, Ed25519 public key
    signature: bytes  # 64 bytes, Ed25519
    time: int | None = None  # Unix seconds, 0 .. 2^63-1, as the author claims; None: an entry of version 1

    @property
    def version(self) -> int:
        """The version of the encoding: 2 has a time."""
        return 1 if self.time is None else 2

    @property
    def kind(self) -> EntryKind:
        """What the body is: run, segment, verdict, draw or trace."""
        return self.body.KIND


def sign_entry(origin: str, prev: Digest | None, body: Body, key: SigningKey, *, time: int | None = None) -> Entry:
    """Return a signed entry for the log `origin`, of version 2 if there is a time (Unix seconds).

    Raises EntryError for a prev, an origin or a time that it cannot have.
    """
    unsigned = Entry(origin, prev, body, key.public, bytes(SIGNATURE_SIZE_BYTES), time)
    entry = replace(unsigned, signature=key.sign(_signed_message(unsigned)))
    decode_entry(encode_entry(entry))
    return entry


def check_entry_signature(entry: Entry) -> None:
    """Check that the author signed this entry; raises SignatureError."""
    try:
        verify(entry.author, entry.signature, _signed_message(entry))
    except SignatureError:
        raise SignatureError(f"signature by {entry.author.hex()} does not verify") from None


def encode_entry(entry: Entry) -> bytes:
    """Return the canonical bytes; raises EntryError if they are longer than a log takes."""
    encoded = _encode([ENTRY_KIND, _fields(entry, signed=True)])
    if len(encoded) > MAX_ENTRY_SIZE_BYTES:
        raise EntryError("entry", f"{len(encoded)} bytes are more than {MAX_ENTRY_SIZE_BYTES}")
    return encoded


def decode_entry(data: bytes) -> Entry:
    """Read the bytes of an entry, its body too, but not its signature; raises EntryError."""
    if len(data) > MAX_ENTRY_SIZE_BYTES:
        raise EntryError("entry", f"{len(data)} bytes are more than {MAX_ENTRY_SIZE_BYTES}")
    try:
        node = decode_unchecked(data)
    except CasError as error:
        raise EntryError("entry", str(error)) from error
    match node:
        case [str() as kind, dict() as body]:
            if kind != ENTRY_KIND:
                raise EntryError("entry", f"a node of kind {kind[:80]!r} is not an entry")
        case _:
            raise EntryError("entry", "want a node: a list of a kind (text) and a body (map)")
    entry = _read_fields(body)
    if encode_entry(entry) != data:  # every field was read, so this compares every byte
        raise EntryError("entry", NOT_CANONICAL)
    return entry


def entry_address(entry: Entry) -> Digest:
    """Return the address of an entry: that of its node."""
    return hash_node(encode_entry(entry))


def run_address(entry: Entry) -> Digest:
    """Return the address of the run that an entry is about; a run entry is about itself."""
    return entry_address(entry) if isinstance(entry.body, RunBody) else entry.body.run


def _read_fields(found: Fields) -> Entry:
    if "version" not in found:
        raise EntryError("version", "missing in the entry")
    version = read_integer(found, "version", min(_NAMES_OF), max(_NAMES_OF))
    fields = check_names("entry", found, _NAMES_OF[version])
    origin = read_text(fields, "origin")
    if not _is_origin(origin):
        raise EntryError("origin", "want the name of a log, without space or plus")
    body = read_body(read_text(fields, "kind"), fields["body"])
    author = read_bytes(fields, "author", PUBLIC_SIZE_BYTES)
    if problem := point_problem(author):
        raise EntryError("author", problem)
    return Entry(
        origin=origin,
        prev=_read_prev(body, fields["prev"]),
        body=body,
        author=author,
        signature=read_bytes(fields, "signature", SIGNATURE_SIZE_BYTES),
        time=read_integer(fields, "time", 0) if version > 1 else None,
    )


def _read_prev(body: Body, prev: Value) -> Digest | None:
    match body:
        case RunBody():
            if prev is not None:
                raise EntryError("prev", "a run has no entry before it")
            return None
        case _:
            if not isinstance(prev, Digest):
                raise EntryError("prev", f"a {body.KIND} names an entry before it")
            return prev


@lru_cache(maxsize=64)
def _is_origin(name: str) -> bool:
    return is_key_name(name)


def _fields(entry: Entry, *, signed: bool) -> Fields:
    """Return the fields in their order, with the signature or without."""
    fields: Fields = {
        "author": entry.author,
        "body": entry.body.to_body(),
        "kind": entry.kind,
        "origin": entry.origin,
        "prev": entry.prev,
    }
    if signed:
        fields["signature"] = entry.signature
    if entry.time is not None:
        fields["time"] = entry.time
    fields["version"] = entry.version
    return fields


def _signed_message(entry: Entry) -> bytes:
    return ENTRY_CONTEXTS[entry.version] + _encode(_fields(entry, signed=False))


def _encode(value: Value) -> bytes:
    try:
        return encode_sorted(value)
    except CasError as error:
        raise EntryError("entry", str(error)) from error
