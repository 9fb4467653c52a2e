"""Entries of the ledger: signed, canonical records, each a node of kind "entry" and a leaf of the log.

Fields: version (1), kind, origin, prev, body, author (32 bytes), signature (64 bytes). The author signs
``samebits entry v1\\n`` and then the canonical encoding of all fields but the signature. `README.md` shows one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from samebits.cas.digest import Digest, hash_node
from samebits.cas.encoding import Value, encode
from samebits.cas.errors import CasError
from samebits.cas.node import Node, decode_node, encode_node
from samebits.ledger.bodies import Body, EntryKind, RunBody, SegmentBody, VerdictBody, read_body
from samebits.ledger.ed25519 import point_problem
from samebits.ledger.errors import EntryError, SignatureError
from samebits.ledger.fields import Fields, check_names, read_bytes, read_integer, read_text
from samebits.ledger.keys import PUBLIC_SIZE_BYTES, SIGNATURE_SIZE_BYTES, SigningKey, is_key_name, verify

ENTRY_KIND: Final = "entry"
ENTRY_VERSION: Final = 1
ENTRY_CONTEXT: Final = b"samebits entry v1\n"
MAX_ENTRY_SIZE_BYTES: Final = 65_535  # a bundle of entries gives each a uint16 length
_NAMES: Final = ("version", "kind", "origin", "prev", "body", "author", "signature")


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed statement in a log. Made by `sign_entry` or `decode_entry`, which check that the fields fit together."""

    origin: str  # the log this entry was made for
    prev: Digest | None  # run: None; segment: the run's entry before it; verdict: the last segment checked
    body: Body
    author: bytes  # 32 bytes, Ed25519 public key
    signature: bytes  # 64 bytes, Ed25519

    @property
    def kind(self) -> EntryKind:
        """What the body is: run, segment or verdict."""
        return self.body.KIND


def sign_entry(origin: str, prev: Digest | None, body: Body, key: SigningKey) -> Entry:
    """Return a signed entry for the log `origin`; raises EntryError for a prev or an origin that it cannot have."""
    unsigned = Entry(origin, prev, body, key.public, bytes(SIGNATURE_SIZE_BYTES))
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
    try:
        encoded = encode_node(Node(ENTRY_KIND, {**_signed_fields(entry), "signature": entry.signature}))
    except CasError as error:
        raise EntryError("entry", str(error)) from error
    if len(encoded) > MAX_ENTRY_SIZE_BYTES:
        raise EntryError("entry", f"{len(encoded)} bytes are more than {MAX_ENTRY_SIZE_BYTES}")
    return encoded


def decode_entry(data: bytes) -> Entry:
    """Read the bytes of an entry, its body too, but not its signature; raises EntryError."""
    if len(data) > MAX_ENTRY_SIZE_BYTES:
        raise EntryError("entry", f"{len(data)} bytes are more than {MAX_ENTRY_SIZE_BYTES}")
    try:
        node = decode_node(data)
    except CasError as error:
        raise EntryError("entry", str(error)) from error
    if node.kind != ENTRY_KIND:
        raise EntryError("entry", f"a node of kind {node.kind!r} is not an entry")
    fields = check_names("entry", node.body, _NAMES)
    read_integer(fields, "version", ENTRY_VERSION, ENTRY_VERSION)
    origin = read_text(fields, "origin")
    if not is_key_name(origin):
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
    )


def entry_address(entry: Entry) -> Digest:
    """Return the address of an entry: that of its node."""
    return hash_node(encode_entry(entry))


def run_address(entry: Entry) -> Digest:
    """Return the address of the run that an entry is about; a run entry is about itself."""
    return entry_address(entry) if isinstance(entry.body, RunBody) else entry.body.run


def _read_prev(body: Body, prev: Value) -> Digest | None:
    match body:
        case RunBody():
            if prev is not None:
                raise EntryError("prev", "a run has no entry before it")
            return None
        case SegmentBody() | VerdictBody():
            if not isinstance(prev, Digest):
                raise EntryError("prev", f"a {body.KIND} names an entry before it")
            return prev


def _signed_fields(entry: Entry) -> Fields:
    return {
        "version": ENTRY_VERSION,
        "kind": entry.kind,
        "origin": entry.origin,
        "prev": entry.prev,
        "body": entry.body.to_body(),
        "author": entry.author,
    }


def _signed_message(entry: Entry) -> bytes:
    try:
        return ENTRY_CONTEXT + encode(_signed_fields(entry))
    except CasError as error:
        raise EntryError("entry", str(error)) from error
