"""A witness over HTTP.

    POST /add-checkpoint     200 cosignature line(s); 400, 403, 404, 409, 422 as tlog-witness says, 413 a body too long
    GET  /<hex>/checkpoint   the note cosigned last of the log with SHA-256(origin) = hex; 404 if there is none

A 409 because of the old size has the size of the latest cosigned tree as its body, ``text/x.tlog.size``; every other
refusal is one line of text. Source: https://c2sp.org/tlog-witness (v1.0.0)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from samebits.ledger.errors import LedgerError, WitnessRefusalError
from samebits.ledger.witness import Witness
from samebits.ledger.witness_protocol import ADD_CHECKPOINT_PATH, MAX_REQUEST_SIZE_BYTES, SIZE_CONTENT_TYPE

Report = Callable[[LedgerError], None]
_NO_CACHE: Final = {"cache-control": "no-cache"}


def make_witness_app(witness: Witness, report: Report = lambda _: None) -> Starlette:
    """Return the ASGI application of a witness; `report` is told why it can't use its state (the client is not)."""

    async def add_checkpoint(request: Request) -> Response:
        body = await _read_body(request)
        if body is None:
            return PlainTextResponse(f"the body has more than {MAX_REQUEST_SIZE_BYTES} bytes\n", 413)
        return await run_in_threadpool(_answer, witness, body, report)

    async def checkpoint(request: Request) -> Response:
        try:
            note = await run_in_threadpool(witness.checkpoint, request.path_params["origin_hash"])
        except LedgerError as error:
            report(error)
            return _out_of_order()
        if note is None:
            return PlainTextResponse("nothing of such a log was cosigned here\n", 404)
        return PlainTextResponse(note, headers=_NO_CACHE)

    routes = [
        Route(f"/{ADD_CHECKPOINT_PATH}", add_checkpoint, methods=["POST"]),
        Route("/{origin_hash}/checkpoint", checkpoint),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


def _answer(witness: Witness, body: bytes, report: Report) -> Response:
    try:
        return PlainTextResponse(witness.add_checkpoint(body))
    except WitnessRefusalError as refusal:
        if refusal.known_size is not None:
            headers = {"content-type": SIZE_CONTENT_TYPE}
            return Response(f"{refusal.known_size}\n", refusal.status, headers)
        return PlainTextResponse(" ".join(str(refusal).split()) + "\n", refusal.status)
    except LedgerError as error:
        report(error)
        return _out_of_order()


def _out_of_order() -> Response:
    """Answer that nothing can be said; no path of this machine gets out."""
    return PlainTextResponse("this witness can't use its state\n", 500)


async def _read_body(request: Request) -> bytes | None:
    """Return the body, None if it is longer than any request may be."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_REQUEST_SIZE_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)
