"""Evidence: what convicts the author of one run by their own signatures, as a value and as a file.

A file is the line ``samebits evidence 1\\n``, the length of the head (4 bytes, big endian), the head (canonical
msgpack), and the bytes of blobs and rows, whose lengths the head says. README.md has the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from samebits.cas import CasError, Digest
from samebits.cas.encoding import Value, decode, encode
from samebits.exec.dispute.objects import BlobPart, Objects
from samebits.exec.dispute.signed import CommitProof, LeafProof
from samebits.exec.errors import EvidenceError

MAGIC: Final = b"samebits evidence 1\n"
MAX_HEAD_SIZE_BYTES: Final = 8 << 20
MAX_SIZE_BYTES: Final = 1 << 30
_LENGTH_SIZE_BYTES: Final = 4
_MAX_PROOF_LENGTH: Final = 64
_FIELDS: Final = frozenset(
    ("kind", "run", "segment", "trace", "before", "after", "leaf", "leaves", "steps", "nodes", "blobs", "parts")
)

# What is wrong: a leaf of a trace; the number of its leaves; its end, which is not what was signed before; the state
# that a run starts from; that in which a segment says it ends; the step that a commit names; what some steps gave.
EvidenceKind = Literal["leaf", "leaves", "end", "state_in", "state_out", "number", "replay"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a check needs. Nothing in it is believed but signatures, hashes and our own arithmetic."""

    kind: EvidenceKind
    run: bytes  # entry
    objects: Objects
    segment: bytes | None = None  # entry
    trace: bytes | None = None  # entry
    before: CommitProof | None = None  # of the step before
    after: CommitProof | None = None
    leaf: int | None = None
    leaves: Mapping[int, LeafProof] = field(default_factory=dict)
    steps: tuple[int, int] | None = None  # those to be computed again, half-open; (0, 0): the initial state


def encode_evidence(evidence: Evidence) -> bytes:
    """Return the bytes of an evidence file; raises EvidenceError if it would be too large."""
    objects = evidence.objects
    blobs = [objects.blobs[address] for address in sorted(objects.blobs)]
    parts = sorted(objects.parts.items())
    rows = [part.rows[index] for _, part in parts for index in sorted(part.rows)]
    head: dict[str, Value] = {
        "kind": evidence.kind,
        "run": evidence.run,
        "segment": evidence.segment,
        "trace": evidence.trace,
        "before": _commit_value(evidence.before),
        "after": _commit_value(evidence.after),
        "leaf": evidence.leaf,
        "leaves": [[index, one.leaf, list(one.proof)] for index, one in sorted(evidence.leaves.items())],
        "steps": None if evidence.steps is None else list(evidence.steps),
        "nodes": [objects.nodes[address] for address in sorted(objects.nodes)],
        "blobs": [len(blob) for blob in blobs],
        "parts": [_part_value(address, part) for address, part in parts],
    }
    encoded = encode(head)
    if len(encoded) > MAX_HEAD_SIZE_BYTES:
        found, most = len(encoded), MAX_HEAD_SIZE_BYTES
        raise EvidenceError(f"the head of the evidence would have {found} bytes; the most is {most}")
    size_bytes = len(MAGIC) + _LENGTH_SIZE_BYTES + len(encoded) + sum(map(len, (*blobs, *rows)))
    if size_bytes > MAX_SIZE_BYTES:
        raise EvidenceError(f"the evidence would have {size_bytes} bytes; the most is {MAX_SIZE_BYTES}")
    return b"".join((MAGIC, len(encoded).to_bytes(_LENGTH_SIZE_BYTES, "big"), encoded, *blobs, *rows))


def decode_evidence(data: bytes) -> Evidence:
    """Read an evidence file: its form, and that every part has its hash; raises EvidenceError."""
    if not data.startswith(MAGIC):
        raise EvidenceError("not an evidence file")
    if len(data) > MAX_SIZE_BYTES:
        raise EvidenceError(f"an evidence file of {len(data)} bytes; the most is {MAX_SIZE_BYTES}")
    start = len(MAGIC) + _LENGTH_SIZE_BYTES
    size_bytes = int.from_bytes(data[len(MAGIC) : start], "big")
    if size_bytes > min(MAX_HEAD_SIZE_BYTES, len(data) - start):
        raise EvidenceError("the head of the evidence file is longer than it may be, or than the file")
    try:
        evidence = _read(decode(data[start : start + size_bytes]), data, start + size_bytes)
        if encode_evidence(evidence) != data:
            raise EvidenceError("the evidence file is not in its canonical form")
    except CasError as error:
        raise EvidenceError(f"the evidence file: {error}") from error
    return evidence


def _read(head: Value, data: bytes, offset: int) -> Evidence:
    if not isinstance(head, dict) or head.keys() != _FIELDS:
        raise EvidenceError("the head of an evidence file has the fields " + ", ".join(sorted(_FIELDS)))
    fields: dict[str, Any] = head
    cursor = _Cursor(data, offset)
    objects = Objects()
    for node in _list(fields["nodes"]):
        objects.add_node(_bytes(node))
    for size in _list(fields["blobs"]):
        objects.add_blob(cursor.take(size))
    for item in _list(fields["parts"]):
        _add_part(objects, item, cursor)
    if cursor.offset != len(data):
        raise EvidenceError("the evidence file goes on behind its end")
    if fields["kind"] not in get_args(EvidenceKind):
        raise EvidenceError("the evidence is of an unknown kind")
    return Evidence(
        fields["kind"],
        _bytes(fields["run"]),
        objects,
        _optional_bytes(fields["segment"]),
        _optional_bytes(fields["trace"]),
        _read_commit(fields["before"]),
        _read_commit(fields["after"]),
        None if fields["leaf"] is None else _number(fields["leaf"]),
        dict(_read_leaf(item) for item in _list(fields["leaves"])),
        _read_steps(fields["steps"]),
    )


class _Cursor:
    """Cuts lengths of bytes off a file."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self.offset = offset

    def take(self, size_bytes: object) -> bytes:
        stop = self.offset + _number(size_bytes)
        if stop > len(self._data):
            raise EvidenceError("the evidence file is shorter than its head says")
        cut = self._data[self.offset : stop]
        self.offset = stop
        return cut


def _add_part(objects: Objects, item: Value, cursor: _Cursor) -> None:
    match item:
        case [Digest() as address, size, bytes() as values, [*rows]] if len(values) % 32 == 0:
            found: dict[int, bytes] = {}
            for row in rows:
                match row:
                    case [index, length]:
                        found[_number(index)] = cursor.take(length)
                    case _:
                        raise EvidenceError("a row of the evidence is not [index, length]")
            joined = tuple(values[at : at + 32] for at in range(0, len(values), 32))
            try:
                objects.add_part(address, BlobPart(_number(size), joined, found))
            except ValueError as error:
                raise EvidenceError(f"part of a blob in the evidence: {error}") from error
        case _:
            raise EvidenceError("a part of the evidence is not [address, size, values, rows]")


def _part_value(address: Digest, part: BlobPart) -> Value:
    rows: list[Value] = [[index, len(part.rows[index])] for index in sorted(part.rows)]
    return [address, part.size_bytes, b"".join(part.values), rows]


def _commit_value(proof: CommitProof | None) -> Value:
    return None if proof is None else [proof.entry, proof.commit, list(proof.proof)]


def _read_commit(value: Value) -> CommitProof | None:
    match value:
        case None:
            return None
        case [bytes() as entry, bytes() as commit, [*proof]]:
            return CommitProof(entry, commit, _read_proof(proof))
        case _:
            raise EvidenceError("a commit of the evidence is not [entry, commit, proof]")


def _read_leaf(value: Value) -> tuple[int, LeafProof]:
    match value:
        case [index, bytes() as leaf, [*proof]]:
            return _number(index), LeafProof(leaf, _read_proof(proof))
        case _:
            raise EvidenceError("a leaf of the evidence is not [number, leaf, proof]")


def _read_proof(proof: list[Value]) -> tuple[bytes, ...]:
    if len(proof) > _MAX_PROOF_LENGTH:
        raise EvidenceError(f"a proof of the evidence has more than {_MAX_PROOF_LENGTH} hashes")
    return tuple(map(_bytes, proof))


def _read_steps(value: Value) -> tuple[int, int] | None:
    match value:
        case None:
            return None
        case [first, stop]:
            return _number(first), _number(stop)
        case _:
            raise EvidenceError("the steps of the evidence are not [first, stop]")


def _list(value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise EvidenceError("the evidence file has no list where it should")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise EvidenceError("the evidence file has no bytes where it should")
    return value


def _optional_bytes(value: object) -> bytes | None:
    return None if value is None else _bytes(value)


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise EvidenceError("the evidence file has no number where it should")
    return value
