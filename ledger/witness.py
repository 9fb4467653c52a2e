"""A witness: cosigns a log's checkpoint only if every checkpoint of that log it cosigned before is a prefix of it.

Source: https://c2sp.org/tlog-witness (v1.0.0), whose order of checks this is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from samebits.ledger.checkpoint import Checkpoint, parse_checkpoint
from samebits.ledger.cosignature import WitnessSigningKey
from samebits.ledger.errors import LedgerError, NoteFormatError, ProofError, SignatureError, WitnessRefusalError
from samebits.ledger.keys import VerifierKey
from samebits.ledger.merkle import EMPTY_ROOT, check_consistency
from samebits.ledger.note import NoteSignature, format_signature, open_note, parse_note
from samebits.ledger.witness_protocol import AddCheckpoint, hash_origin, parse_request
from samebits.ledger.witness_state import WitnessState

BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 400, 403, 404, 409, 422


class Witness:
    """Answers requests to cosign, for the logs that it knows. May be shared by threads."""

    def __init__(
        self,
        state: WitnessState,
        key: WitnessSigningKey,
        logs: Iterable[VerifierKey],
        *,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        """`logs` are the keys of known logs, whose names are the logs' origins; `clock_s` gives POSIX seconds."""
        self._state = state
        self._key = key
        self._clock_s = clock_s
        self._logs: dict[str, list[VerifierKey]] = {}
        for log in logs:
            self._logs.setdefault(log.name, []).append(log)

    def add_checkpoint(self, body: bytes) -> str:
        """Return the cosignature line for the checkpoint of a request, which is remembered, durably, by then.

        Raises WitnessRefusalError with the status that the request gets, and StorageError, for which nothing was said.
        """
        request, checkpoint, text, by_log = self._open_request(body)
        origin = checkpoint.origin
        with self._state.locked():
            latest = self._latest(origin)
            if request.old_size != latest.tree_size:
                problem = f"the latest tree cosigned has {latest.tree_size} entries, not {request.old_size}"
                raise WitnessRefusalError(CONFLICT, problem, known_size=latest.tree_size)
            self._check_extends(latest, checkpoint, request)
            line = self._key.cosign(text, int(self._clock_s()))
            self._state.write(origin, f"{text}\n{by_log}{line}")
        return line

    def checkpoint(self, origin_hash: str) -> bytes | None:
        """Return the note that was cosigned last of a known log, by hex of SHA-256(origin); None if there is none."""
        known = {hash_origin(origin) for origin in self._logs}
        return self._state.read(origin_hash) if origin_hash in known else None

    def _open_request(self, body: bytes) -> tuple[AddCheckpoint, Checkpoint, str, str]:
        """Return a request, its checkpoint, the checkpoint's text, and the log's signature lines."""
        try:
            request = parse_request(body)
            text, _ = parse_note(request.note)
            checkpoint = parse_checkpoint(text)
        except NoteFormatError as error:
            raise WitnessRefusalError(BAD_REQUEST, str(error)) from None
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            raise WitnessRefusalError(NOT_FOUND, "this log is not known here")
        try:
            note = open_note(request.note, keys)
        except SignatureError as error:
            raise WitnessRefusalError(FORBIDDEN, str(error)) from None
        if request.old_size > checkpoint.tree_size:
            problem = f"the old size {request.old_size} is larger than the checkpoint's, {checkpoint.tree_size}"
            raise WitnessRefusalError(BAD_REQUEST, problem)
        return request, checkpoint, text, "".join(map(_line, note.verified))

    def _latest(self, origin: str) -> Checkpoint:
        """Return the checkpoint of a log that was cosigned last; raises LedgerError if the file is damaged."""
        note = self._state.read(hash_origin(origin))
        if note is None:
            return Checkpoint(origin, 0, EMPTY_ROOT)
        latest = parse_checkpoint(open_note(note, [self._key.verifier]).text)
        if latest.origin != origin:
            raise LedgerError(f"the state of {origin} is that of {latest.origin}")
        return latest

    def _check_extends(self, latest: Checkpoint, checkpoint: Checkpoint, request: AddCheckpoint) -> None:
        """Check that the latest tree is a prefix of the new one; keeps a note that proves that the log forked."""
        if latest.tree_size == checkpoint.tree_size and latest.root_hash != checkpoint.root_hash:
            self._state.write_fork(checkpoint.origin, checkpoint.tree_size, request.note)
            problem = f"another tree of {latest.tree_size} entries was cosigned: this log has forked"
            raise WitnessRefusalError(CONFLICT, problem)
        try:
            check_consistency(
                latest.tree_size, checkpoint.tree_size, latest.root_hash, checkpoint.root_hash, request.proof
            )
        except ProofError as error:
            raise WitnessRefusalError(UNPROCESSABLE, str(error)) from None


def _line(signature: NoteSignature) -> str:
    return format_signature(signature.name, signature.key_id + signature.signature)
