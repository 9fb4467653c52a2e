"""A place over HTTP: a store, its ledger, and the proofs of its runs.

`GET /runs/RUN` gives the proof of a run in the store's ledger, or of one that was taken home: an encoded run proof
(`ledger/README.md`), or one line of text with status 404 or 500.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from samebits.cas import CasError, Digest, DigestFormatError, Store
from samebits.cas.server import make_app
from samebits.exec.errors import ExecError
from samebits.exec.ledger_folder import log_directory
from samebits.exec.places.remote_places import RUNS_PATH
from samebits.exec.places.run_places import StorePlace
from samebits.ledger import LedgerError, RunNotFoundError
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES
from samebits.ledger.run_proof import encode_run_proof
from samebits.ledger.server import log_routes
from samebits.ledger.tile_source import CHECKPOINT_PATH, DirectorySource

_CACHE_SIZE_BYTES: Final = 64 << 20
_HEADERS: Final = {"cache-control": "no-cache"}


def make_place_app(store: Store, *, writable: bool = False, more: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the ASGI application that gives out a store with its ledger, which may be made later, and its runs.

    `more`: routes beside these.
    """
    runs = Route(f"/{RUNS_PATH}/{{run}}", _RunServer(store).answer)
    return make_app(store, writable=writable, more=[*log_routes(log_directory(store)), runs, *more])


class _RunServer:
    """The endpoint. Proofs are made one at a time, and kept as long as the log's checkpoint is the same."""

    def __init__(self, store: Store) -> None:
        self._place = StorePlace(store, is_own=True)
        self._log = DirectorySource(log_directory(store))
        self._lock = threading.Lock()
        self._note: bytes | None = None
        self._made: OrderedDict[Digest, bytes] = OrderedDict()

    async def answer(self, request: Request) -> Response:
        """Answer /runs/RUN."""
        return await run_in_threadpool(self._answer, request.path_params["run"])

    def _answer(self, text: str) -> Response:
        try:
            run = Digest.parse(text)
            return Response(self._proof(run), media_type="application/octet-stream", headers=_HEADERS)
        except RunNotFoundError:
            return PlainTextResponse(f"there is no run {run}\n", 404, _HEADERS)
        except DigestFormatError:
            return PlainTextResponse("want the address of a run\n", 404, _HEADERS)
        except (CasError, LedgerError, ExecError):  # its text may have paths of this machine
            return PlainTextResponse("the run can't be read\n", 500, _HEADERS)

    def _proof(self, run: Digest) -> bytes:
        with self._lock:
            note = self._log.read(CHECKPOINT_PATH, MAX_NOTE_SIZE_BYTES)
            if note != self._note:
                self._made.clear()
                self._note = note
            found = self._made.pop(run, None)
            if found is None:
                proof = self._place.look_up(run)
                if proof is None:
                    raise RunNotFoundError(run)
                found = encode_run_proof(proof)
            self._made[run] = found
            while len(self._made) > 1 and sum(map(len, self._made.values())) > _CACHE_SIZE_BYTES:
                self._made.popitem(last=False)
            return found
