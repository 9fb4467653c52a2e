"""A side of a dispute over HTTP: a server that answers (`samebits serve --answer`), or one that only holds the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from samebits.cas import CasError, Digest
from samebits.cas.encoding import Value, decode, encode
from samebits.cas.errors import RemoteError
from samebits.cas.remotes import Remote
from samebits.cas.remotes.http import open_http
from samebits.cas.remotes.http_client import HttpClient
from samebits.exec.dispute.prover import Prover
from samebits.exec.dispute.questions import (
    FOLDER,
    MAX_SMALL_ANSWER_SIZE_BYTES,
    MAX_VALUES_SIZE_BYTES,
    NO_SIGNER,
)
from samebits.exec.dispute.signed import LeafProof, Proof
from samebits.exec.errors import BadAnswerError, CannotTraceError, NoAnswerError
from samebits.ledger import RunChain, decode_entry, read_chain
from samebits.ledger.bodies import TraceLevel

_NOT_FOUND: Final = 404
_MAX_LINE_BYTES: Final = 200


def open_http_prover(url: str, run: Digest, *, timeout_s: float = 30.0) -> Prover | None:
    """Return the side of a run at a URL, None if nobody there answers questions; raises CasError or ExecError."""
    prover = HttpProver(url, run, open_http(url, timeout_s=timeout_s), timeout_s)
    if prover.has_answers():
        return prover
    prover.close()
    return None


class HttpProver:
    """Asks a server; raises NoAnswerError, BadAnswerError and CannotTraceError."""

    def __init__(self, url: str, run: Digest, remote: Remote, timeout_s: float) -> None:
        self._name, self._run, self._remote = url, run, remote
        self._client = HttpClient(url, timeout_s=timeout_s)
        self._chain: RunChain | None = None

    @property
    def name(self) -> str:
        """What messages call the place."""
        return self._name

    @property
    def chain(self) -> RunChain:
        """The run's entries; every rule and signature holds."""
        if self._chain is None:
            match self._ask("chain", []):
                case [*entries]:
                    self._chain = read_chain([decode_entry(_bytes(entry)) for entry in entries], self._run)
                case _:
                    raise BadAnswerError(f"{self._name}: the chain is no list of entries")
        return self._chain

    @property
    def remote(self) -> Remote:
        """Where objects come from, by hash."""
        return self._remote

    def has_answers(self) -> bool:
        """Say whether the server answers questions about the run."""
        try:
            return bool(self.chain)
        except CannotTraceError:
            return False

    def commit(self, step: int, trace: Digest | None = None) -> tuple[bytes, Proof]:
        """Return the encoded commit of a step, and its proof in a segment or a trace of the level `steps`."""
        return _with_proof(self._ask("commit", [step, trace]))

    def state(self, step: int) -> bytes:
        """Return the encoded tree of the state before a step."""
        return _bytes(self._ask("state", [step]))

    def trace(self, level: TraceLevel, first: int, stop: int) -> bytes:
        """Return a trace entry."""
        return _bytes(self._ask("trace", [level, first, stop]))

    def children(self, trace: Digest, first: int, stop: int) -> tuple[bytes, bytes]:
        """Return the two hashes below the one over the leaves [first, stop) of a trace."""
        match self._ask("children", [trace, first, stop]):
            case [bytes() as left, bytes() as right]:
                return left, right
            case _:
                raise BadAnswerError("the answer is not two hashes")

    def leaf(self, trace: Digest, index: int) -> LeafProof:
        """Return a leaf of a trace."""
        return LeafProof(*_with_proof(self._ask("leaf", [trace, index])))

    def values(self, trace: Digest, indexes: Sequence[int]) -> list[bytes]:
        """Return the elements of tensors that leaves of a trace name."""
        match self._ask("values", [trace, list(indexes)], MAX_VALUES_SIZE_BYTES):
            case [*values] if len(values) == len(indexes):
                return [_bytes(value) for value in values]
            case _:
                raise BadAnswerError("the answer is not as many values as were asked for")

    def close(self) -> None:
        """Close every connection."""
        self._client.close()
        self._remote.close()

    def _ask(self, question: str, arguments: list[Value], limit_bytes: int = MAX_SMALL_ANSWER_SIZE_BYTES) -> Any:
        path = f"{FOLDER}/{self._run}/{question}"
        try:
            answer = self._client.request("POST", path, limit_bytes, encode(arguments))
        except RemoteError as error:
            raise NoAnswerError(str(error)) from error
        line = answer.data[:_MAX_LINE_BYTES].decode("utf-8", "replace").partition("\n")[0]
        if answer.status == NO_SIGNER or (question == "chain" and answer.status in (_NOT_FOUND, 405)):
            raise CannotTraceError(f"{self._name}: {line}")
        if answer.status != 200:
            raise NoAnswerError(f"{self._name} answers {question} with status {answer.status}: {line}")
        if len(answer.data) > limit_bytes:
            raise BadAnswerError(f"{self._name} answers {question} with more than {limit_bytes} bytes")
        try:
            return decode(answer.data)
        except CasError as error:
            raise BadAnswerError(f"{self._name} answers {question} with something else: {error}") from error


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise BadAnswerError("the answer has no bytes where it should")
    return value


def _with_proof(value: object) -> tuple[bytes, Proof]:
    match value:
        case [bytes() as data, [*proof]]:
            return data, tuple(map(_bytes, proof))
        case _:
            raise BadAnswerError("the answer is not bytes and a proof")
