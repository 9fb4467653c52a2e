"""Asking witnesses for cosignatures over HTTP, all at once; what one of them does not say stops nobody else.

Source: https://c2sp.org/tlog-witness (v1.0.0)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from samebits.cas.errors import RemoteError
from samebits.cas.remotes.http_client import Answer, HttpClient
from samebits.ledger.checkpoint import open_checkpoint, parse_checkpoint
from samebits.ledger.cosignature import Cosignature, find_cosignature
from samebits.ledger.errors import NoteFormatError, SignatureError, StaleCheckpointError, WitnessError
from samebits.ledger.log import Log
from samebits.ledger.note import format_signature, open_note, parse_note
from samebits.ledger.policy import PolicyWitness
from samebits.ledger.witness_protocol import (
    ADD_CHECKPOINT_PATH,
    MAX_ANSWER_SIZE_BYTES,
    SIZE_CONTENT_TYPE,
    AddCheckpoint,
    format_request,
    parse_size,
)

TIMEOUT_S: Final = 10.0
_MAX_AT_ONCE: Final = 16
_MAX_ROUNDS: Final = 3  # a log that grows meanwhile is tried again
_MAX_ASKED: Final = 3  # requests to one witness: for its size, with the proof, and once more if it moved
_OK: Final = 200
_CONFLICT: Final = 409

Prove = Callable[[int], tuple[bytes, ...]]  # old size -> consistency proof up to the checkpoint


@dataclass(frozen=True, slots=True)
class Cosigning:
    """What came of asking witnesses to cosign a log's checkpoint."""

    note: str  # the checkpoint as it is published now
    cosignatures: tuple[tuple[PolicyWitness, Cosignature], ...]  # in the order of the witnesses
    problems: tuple[WitnessError, ...]


def cosign_log(log: Log, witnesses: Sequence[PolicyWitness], *, timeout_s: float = TIMEOUT_S) -> Cosigning:
    """Have a log's checkpoint cosigned by witnesses and publish it with what they signed.

    Each witness has `timeout_s` seconds in all, and as many again where the log grew meanwhile and one gave none: it
    may have seen more by then. Raises StaleCheckpointError if the log grows all the time, and StorageError.
    """
    for left in reversed(range(_MAX_ROUNDS)):
        size, note = log.size, log.checkpoint()
        found, problems = collect_cosignatures(log, note, witnesses, timeout_s=timeout_s)
        try:
            if found:
                note = log.publish_cosigned(_note_text(note) + "\n" + "".join(item.line for _, item in found))
        except StaleCheckpointError:
            if not left:
                raise
            continue
        if not problems or log.size == size or not left:
            return Cosigning(note, found, problems)
    raise AssertionError("the last round returns or raises")


def collect_cosignatures(
    log: Log, note: str, witnesses: Sequence[PolicyWitness], *, timeout_s: float = TIMEOUT_S
) -> tuple[tuple[tuple[PolicyWitness, Cosignature], ...], tuple[WitnessError, ...]]:
    """Return the cosignatures on a checkpoint of a log, and what is wrong with the witnesses that gave none."""
    size = open_checkpoint(note.encode(), log.verifier).tree_size
    signed = open_note(note.encode(), [log.verifier]).verified[0]
    plain = f"{_note_text(note)}\n{format_signature(signed.name, signed.key_id + signed.signature)}"
    _, signatures = parse_note(note.encode())
    already = {(signature.name, signature.key_id) for signature in signatures}

    def ask(witness: PolicyWitness) -> Cosignature | WitnessError:
        known_size = size if (witness.key.name, witness.key.key_id) in already else 0
        try:
            return request_cosignature(
                witness, plain, lambda old: log.consistency_proof(old, size), known_size=known_size, timeout_s=timeout_s
            )
        except WitnessError as error:
            return error

    with ThreadPoolExecutor(_MAX_AT_ONCE) as pool:
        answers = list(pool.map(ask, witnesses))
    found = tuple((w, answer) for w, answer in zip(witnesses, answers, strict=True) if isinstance(answer, Cosignature))
    return found, tuple(answer for answer in answers if isinstance(answer, WitnessError))


def request_cosignature(
    witness: PolicyWitness, note: str, prove: Prove, *, known_size: int = 0, timeout_s: float = TIMEOUT_S
) -> Cosignature:
    """Return one witness's verified cosignature on a checkpoint; raises WitnessError, after `timeout_s` in all too.

    `known_size` is the size of the tree that it is thought to have cosigned last; it is asked if that is wrong.
    """
    if witness.url is None:
        raise WitnessError(witness.name, "the policy gives no URL for it")
    try:
        client = HttpClient(witness.url, timeout_s=timeout_s)
    except RemoteError as error:
        raise WitnessError(witness.name, str(error)) from error
    late = threading.Event()

    def cut() -> None:
        late.set()
        client.close()

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        with closing(client):
            return _converse(client, witness, note, prove, known_size)
    except (RemoteError, WitnessError) as error:
        if late.is_set():  # what is wrong with an answer that was cut off does not matter
            raise WitnessError(witness.name, f"no cosignature within {timeout_s:g} s") from error
        if isinstance(error, WitnessError):
            raise
        raise WitnessError(witness.name, str(error)) from error
    finally:
        timer.cancel()


def _converse(client: HttpClient, witness: PolicyWitness, note: str, prove: Prove, old_size: int) -> Cosignature:
    """Ask until there is a cosignature; raises WitnessError and RemoteError."""
    tree_size = parse_checkpoint(_note_text(note)).tree_size
    for _ in range(_MAX_ASKED):
        body = format_request(AddCheckpoint(old_size, prove(old_size), note.encode()))
        answer = client.request("POST", ADD_CHECKPOINT_PATH, MAX_ANSWER_SIZE_BYTES, body)
        if answer.status == _OK:
            return _read_cosignature(witness, note, answer)
        if answer.status != _CONFLICT or answer.headers.get("content-type") != SIZE_CONTENT_TYPE:
            raise WitnessError(witness.name, f"answered {answer.status}: {_first_line(answer)}")
        known = parse_size(answer.data.decode("ascii", "replace").removesuffix("\n"))
        if known is None or known == old_size:
            raise WitnessError(witness.name, f"answered 409 to size {old_size}, and: {_first_line(answer)}")
        if known > tree_size:
            problem = f"says that it cosigned {known} entries of this log, which had {tree_size}"
            raise WitnessError(witness.name, f"{problem}; was the log restored from an old copy?")
        old_size = known
    raise WitnessError(witness.name, "names another size each time it is asked")


def _read_cosignature(witness: PolicyWitness, note: str, answer: Answer) -> Cosignature:
    """Return the cosignature of an answer; raises WitnessError if there is none by the witness's key that verifies."""
    text = _note_text(note)
    try:
        if len(answer.data) > MAX_ANSWER_SIZE_BYTES:
            raise NoteFormatError("answer", f"longer than {MAX_ANSWER_SIZE_BYTES} bytes")
        _, signatures = parse_note(text.encode() + b"\n" + answer.data)
        found = find_cosignature(witness.key, text, signatures)
    except (NoteFormatError, SignatureError) as error:
        raise WitnessError(witness.name, str(error)) from None
    if found is None:
        raise WitnessError(witness.name, f"its answer has no cosignature by {witness.key.vkey}")
    return found


def _note_text(note: str) -> str:
    return note.rpartition("\n\n")[0] + "\n"


def _first_line(answer: Answer) -> str:
    """Return the beginning of what a witness says, which may be anything."""
    return repr(answer.data[:200].decode(errors="replace").split("\n")[0])
