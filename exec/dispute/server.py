"""Answers to a dispute as an ASGI route, over a store with its author's key: `samebits serve --answer`.

What may be asked costs at most one step, or the steps up to the next commit, computed from the last checkpoint. One
question computes at a time; the last few traces of a run are kept, and those computed are limited in number.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from samebits.cas import CasError, Digest, Store
from samebits.cas.encoding import Value, decode, encode
from samebits.exec.dispute.local import LocalProver
from samebits.exec.dispute.questions import FOLDER, MAX_QUESTION_SIZE_BYTES, MAX_VALUES_SIZE_BYTES, NO_SIGNER
from samebits.exec.errors import CannotTraceError, ExecError, RunError
from samebits.exec.ledger_folder import log_directory
from samebits.kernels.errors import KernelError
from samebits.ledger import LedgerError, Log, RunNotFoundError, SigningKey, encode_entry

_KEPT_PROVERS: Final = 4
_WAITING: Final = 8  # questions at once; more are told to come again


class _RefusedError(Exception):
    def __init__(self, status: int, line: str) -> None:
        self.status = status
        super().__init__(line)


def dispute_routes(store: Store, key: SigningKey, *, device: str = "numpy") -> list[Route]:
    """Return the routes that answer for the runs of a store that this key made."""
    server = _DisputeServer(store, key, device)
    return [Route(f"/{FOLDER}/{{run}}/{{question}}", server.answer, methods=["POST"])]


class _DisputeServer:
    def __init__(self, store: Store, key: SigningKey, device: str) -> None:
        self._store, self._key, self._device = store, key, device
        self._provers: OrderedDict[Digest, LocalProver] = OrderedDict()
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_WAITING)

    async def answer(self, request: Request) -> Response:
        """Answer a question, or say in one line why not."""
        try:
            body = await _read_body(request)
            data = await run_in_threadpool(self._answer, request.path_params, body)
        except Exception as error:
            status, line = _describe(error)
            return PlainTextResponse(line + "\n", status)
        return Response(data, media_type="application/octet-stream", headers={"cache-control": "no-store"})

    def _answer(self, path: dict[str, str], body: bytes) -> bytes:
        arguments = decode(body)
        if not isinstance(arguments, list):
            raise _RefusedError(400, "want a list of arguments")
        if not self._places.acquire(blocking=False):
            raise _RefusedError(503, "too many questions at once")
        try:
            return encode(_ask(self._prover(Digest.parse(path["run"])), path["question"], arguments))
        finally:
            self._places.release()

    def _prover(self, run: Digest) -> LocalProver:
        with self._lock:
            if run not in self._provers:
                with Log.open(log_directory(self._store), read_only=True) as log:
                    chain = log.chain(run)
                self._provers[run] = LocalProver(self._store, chain, self._key, device=self._device)
                if len(self._provers) > _KEPT_PROVERS:
                    self._provers.popitem(last=False)
            self._provers.move_to_end(run)
            return self._provers[run]


def _ask(prover: LocalProver, question: str, arguments: list[Value]) -> Value:
    """Put a question whose arguments came from anybody; raises _RefusedError for what is none."""
    match question, arguments:
        case "chain", []:
            return [encode_entry(entry) for _, _, entry in prover.chain.items()]
        case "commit", [int() as step, None | Digest() as trace]:
            commit, proof = prover.commit(step, trace)
            return [commit, list(proof)]
        case "state", [int() as step]:
            return prover.state(step)
        case "trace", ["init" | "steps" | "nodes" as level, int() as first, int() as stop]:
            return prover.trace(level, first, stop)
        case "children", [Digest() as trace, int() as first, int() as stop]:
            return list(prover.children(trace, first, stop))
        case "leaf", [Digest() as trace, int() as index]:
            leaf = prover.leaf(trace, index)
            return [leaf.leaf, list(leaf.proof)]
        case "values", [Digest() as trace, [*indexes]]:
            values: list[Any] = prover.values(trace, [_integer(index) for index in indexes])
            if sum(map(len, values)) > MAX_VALUES_SIZE_BYTES:
                raise _RefusedError(400, f"the values have more than {MAX_VALUES_SIZE_BYTES} bytes")
            return values
        case _:
            raise _RefusedError(400, "there is no such question")


def _integer(value: Value) -> int:
    if type(value) is not int:
        raise _RefusedError(400, "want the numbers of leaves")
    return value


async def _read_body(request: Request) -> bytes:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_QUESTION_SIZE_BYTES:
            raise _RefusedError(413, f"a question has up to {MAX_QUESTION_SIZE_BYTES} bytes")
    return data


def _describe(error: Exception) -> tuple[int, str]:
    """Return the status and the line for an error; no path of this machine gets out."""
    match error:
        case _RefusedError():
            return error.status, str(error)
        case RunNotFoundError():
            return 404, "there is no such run"
        case CannotTraceError():
            return NO_SIGNER, "nobody here signs for this run"
        case RunError():
            return 400, " ".join(str(error).split())
        case CasError():
            return 400, "the question is malformed, or an object of the run is not here"
        case LedgerError() | ExecError() | KernelError():
            return 500, "the run can't be read or computed here"
    return 500, "internal error"
