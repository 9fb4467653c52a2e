"""Proofs of runs: what somebody who has not the log needs to know that these entries of a run are in it.

The run's entry and its segments, each with its index and its RFC 6962 inclusion proof under one signed checkpoint of
the log. It does not show that the log has nothing else of this run: a second segment that contradicts one of these
would break the rules of a run, but only who reads the whole log (`Log.audit`) finds it.

The format is said in README.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from samebits.cas.digest import Digest, hash_node
from samebits.cas.encoding import decode, encode
from samebits.cas.errors import EncodingError
from samebits.ledger.bodies import RunBody, SegmentBody
from samebits.ledger.chain import ChainBuilder, RunChain, check_chain_signatures
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
from samebits.ledger.entry import Entry, decode_entry, encode_entry
from samebits.ledger.errors import ChainError, EntryError, NoteFormatError, ProofError, RunNotFoundError
from samebits.ledger.keys import VerifierKey
from samebits.ledger.log import Log
from samebits.ledger.logkey import log_origin
from samebits.ledger.merkle import HASH_SIZE_BYTES, check_inclusion, leaf_hash
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES
from samebits.ledger.tile_reader import TileReader

MAX_RUN_PROOF_SIZE_BYTES: Final = 32 << 20  # a run of some 60,000 segments
MAX_ITEMS: Final = 1 << 17  # of one list: entries, or the places of hashes
VERSION: Final = 1
_WHAT: Final = "run proof"
_FIELDS: Final = 5
_PLACE_SIZE_BYTES: Final = 4
_MAX_PATH_LENGTH: Final = 63


@dataclass(frozen=True, slots=True)
class ProvedEntry:
    """The bytes of an entry, where it is in the log, and the siblings on the way from there to the root."""

    index: int
    data: bytes
    inclusion_proof: tuple[bytes, ...]  # 32 bytes each


@dataclass(frozen=True, slots=True)
class RunProof:
    """The entries of a run and their proofs; nothing of it is believed before `check_run_proof`."""

    log_key: VerifierKey
    checkpoint: str  # the signed note
    entries: tuple[ProvedEntry, ...]  # the run's own, then its segments, in the log's order


@dataclass(frozen=True, slots=True)
class ProvedRun:
    """What a checked proof shows: every rule and signature of this chain holds, and its entries are in this log."""

    chain: RunChain
    checkpoint: Checkpoint
    log_key: VerifierKey


def make_run_proof(log: Log, run: Digest) -> RunProof:
    """Return the proof of a run under the log's checkpoint of now; raises RunNotFoundError, ChainError, TileError."""
    chain = log.chain(run)
    note = log.checkpoint()  # read later than the chain, so it has all of it
    return prove_chain(chain, note, log.verifier, log.tiles())


def prove_chain(chain: RunChain, note: str, log_key: VerifierKey, tiles: TileReader) -> RunProof:
    """Return the proof of a chain's entries under a signed checkpoint; `tiles` are those of this or a later one."""
    size = open_checkpoint(note.encode(), log_key).tree_size
    entries = [(chain.run_index, chain.run), *((link.index, link.entry) for link in chain.segments)]
    proved = [ProvedEntry(index, encode_entry(entry), tiles.inclusion_proof(index, size)) for index, entry in entries]
    return RunProof(log_key, note, tuple(proved))


def check_run_proof(proof: RunProof, run: Digest, log_key: VerifierKey | None = None) -> ProvedRun:
    """Check a proof of a run: key, checkpoint, inclusion, signatures and every rule of the chain.

    `log_key` is the key that the log must have; without one that in the proof is taken at its word. Raises ProofError,
    NoteFormatError, EntryError, SignatureError, ChainError, and RunNotFoundError for the proof of another run.
    """
    check_log_key(proof.log_key, log_key)
    checkpoint = open_checkpoint(proof.checkpoint.encode(), proof.log_key)
    builder: ChainBuilder | None = None
    last = -1
    for proved in proof.entries:
        if proved.index <= last:
            raise ProofError(f"the entries of the {_WHAT} are not in the log's order")
        last = proved.index
        leaf = leaf_hash(proved.data)
        check_inclusion(proved.index, checkpoint.tree_size, leaf, proved.inclusion_proof, checkpoint.root_hash)
        entry, address = decode_entry(proved.data), hash_node(proved.data)
        if builder is None:
            _check_run_entry(entry, address, run, checkpoint)
            builder = ChainBuilder(proved.index, address, entry)
        elif not isinstance(entry.body, SegmentBody):
            raise ChainError(proved.index, address, f"a {entry.kind} is no part of the {_WHAT}")
        else:
            builder.add(proved.index, address, entry)
    if builder is None:
        raise RunNotFoundError(run)
    chain = builder.build()
    check_chain_signatures(chain)
    return ProvedRun(chain, checkpoint, proof.log_key)


def check_log_key(found: VerifierKey, wanted: VerifierKey | None) -> None:
    """Raise ProofError unless the key of a log is the one that it must be (None: any that has its log's name)."""
    if wanted is not None and found != wanted:
        raise ProofError(f"it is in the log {found.vkey}, not in {wanted.vkey}")
    if found.name != log_origin(found.public):
        raise ProofError(f"{found.name} is not the origin of a log with the key {found.vkey}")


def encode_run_proof(proof: RunProof) -> bytes:
    """Return the one encoding of a proof."""
    known: dict[bytes, int] = {}
    paths = []
    for proved in proof.entries:
        path = (known.setdefault(sibling, len(known)) for sibling in proved.inclusion_proof)
        paths.append(b"".join(place.to_bytes(_PLACE_SIZE_BYTES, "big") for place in path))
    return encode(
        {
            "version": VERSION,
            "log": proof.log_key.vkey,
            "checkpoint": proof.checkpoint,
            "hashes": b"".join(known),
            "entries": [[one.index, one.data, path] for one, path in zip(proof.entries, paths, strict=True)],
        }
    )


def decode_run_proof(data: bytes) -> RunProof:
    """Read a proof, of which nothing is checked but the form; raises NoteFormatError."""
    if len(data) > MAX_RUN_PROOF_SIZE_BYTES:
        raise NoteFormatError(_WHAT, f"more than {MAX_RUN_PROOF_SIZE_BYTES} bytes")
    try:
        value = decode(data, MAX_ITEMS)
    except EncodingError as error:
        raise NoteFormatError(_WHAT, str(error)) from error
    match value if isinstance(value, dict) and len(value) == _FIELDS else None:
        case {
            "version": int() as version,
            "log": str() as log,
            "checkpoint": str() as checkpoint,
            "hashes": bytes() as hashes,
            "entries": list() as entries,
        } if len(checkpoint) <= MAX_NOTE_SIZE_BYTES:
            if isinstance(version, bool) or version != VERSION:
                raise NoteFormatError(_WHAT, f"version {version}; this one knows version {VERSION}")
            proof = RunProof(VerifierKey.parse(log), checkpoint, tuple(_read_entries(entries, hashes)))
        case _:
            raise NoteFormatError(_WHAT, "want the fields version, log, checkpoint, hashes and entries")
    if encode_run_proof(proof) != data:
        raise NoteFormatError(_WHAT, "its hashes are not in the order of their first use, or repeat")
    return proof


def find_run(tiles: TileReader, run: Digest, most: int) -> RunChain:
    """Return the chain of a run from all the entries of a log, without verdicts; signatures are checked.

    Raises RunNotFoundError, ChainError, TileError, and ProofError for a log of more than `most` entries or a run of
    more bytes than a proof may have.
    """
    if tiles.tree_size > most:
        raise ProofError(f"the log has {tiles.tree_size} entries, more than the {most} that are searched for a run")
    builder: ChainBuilder | None = None
    size_bytes = 0
    for index, data in enumerate(tiles.entries()):
        address = hash_node(data)
        if builder is None:
            if address == run:
                builder = ChainBuilder(index, address, decode_entry(data))
            continue
        try:
            entry = decode_entry(data)
        except EntryError:
            continue  # not one of this run: that would be the log's damage, and nobody's statement
        if isinstance(entry.body, SegmentBody) and entry.body.run == run:
            size_bytes += len(data)
            if size_bytes > MAX_RUN_PROOF_SIZE_BYTES:
                raise ProofError(f"the run has segments of more than the {MAX_RUN_PROOF_SIZE_BYTES} bytes of a {_WHAT}")
            builder.add(index, address, entry)
    if builder is None:
        raise RunNotFoundError(run)
    chain = builder.build()
    check_chain_signatures(chain)
    return chain


def _check_run_entry(entry: Entry, address: Digest, run: Digest, checkpoint: Checkpoint) -> None:
    if address != run or not isinstance(entry.body, RunBody):
        raise ProofError(f"the {_WHAT} is that of {entry.kind} {address}, not of run {run}")
    if entry.origin != checkpoint.origin:
        raise ProofError(f"the run was made for log {entry.origin}, but it is in {checkpoint.origin}")


def _read_entries(entries: list[object], hashes: bytes) -> Iterator[ProvedEntry]:
    if len(hashes) % HASH_SIZE_BYTES:
        raise NoteFormatError(_WHAT, f"a hash has {HASH_SIZE_BYTES} bytes")
    known = [hashes[at : at + HASH_SIZE_BYTES] for at in range(0, len(hashes), HASH_SIZE_BYTES)]
    for entry in entries:
        match entry:
            case [int() as index, bytes() as data, bytes() as path] if (
                not isinstance(index, bool) and len(path) <= _MAX_PATH_LENGTH * _PLACE_SIZE_BYTES
            ):
                yield ProvedEntry(index, data, tuple(_read_path(path, known)))
            case _:
                raise NoteFormatError(_WHAT, "an entry is [index, bytes, places of its hashes]")


def _read_path(path: bytes, known: list[bytes]) -> Iterator[bytes]:
    if len(path) % _PLACE_SIZE_BYTES:
        raise NoteFormatError(_WHAT, f"the place of a hash has {_PLACE_SIZE_BYTES} bytes")
    for at in range(0, len(path), _PLACE_SIZE_BYTES):
        place = int.from_bytes(path[at : at + _PLACE_SIZE_BYTES], "big")
        if place >= len(known):
            raise NoteFormatError(_WHAT, f"it has no hash {place}")
        yield known[place]
