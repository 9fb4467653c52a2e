"""A store over HTTP: the layout of a remote, questions about many objects at once, and blobs for any HTTP client.

    GET  /samebits-remote  /objects/ab/...  /rows/ab/...  /pins/NAME  /pins.json (also /pins/)
    GET  /blobs/ADDRESS                     the bytes of a blob; HEAD and Range too
    POST /missing  /missing-rows            32-byte addresses joined; the answer: those that are not there
    POST /records                           32-byte addresses joined; the answer: records (remotes/framing.py)
    PUT  /rows/ab/...  /objects/ab/...  /pins/NAME     if `writable`; else 405

Errors are one line of text.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from samebits.cas.digest import DIGEST_SIZE_BYTES, Digest
from samebits.cas.errors import CasError, DamagedObjectError, ObjectNotFoundError, StoreError, StoreFullError
from samebits.cas.ranges import read_range
from samebits.cas.records import ROW_SIZE_BYTES
from samebits.cas.remotes.framing import MAX_ASKED, write_frames
from samebits.cas.remotes.http import SERVER_HEADER
from samebits.cas.remotes.layout import (
    MARKER,
    MARKER_PATH,
    PINS_FOLDER,
    PINS_PATH,
    format_address,
    format_pins,
    parse_address,
    parse_pin_name,
)
from samebits.cas.remotes.protocol import parse_record, read_record
from samebits.cas.remotes.store_remote import StoreRemote
from samebits.cas.store import Store
from samebits.cas.wire import MAX_WIRE_SIZE_BYTES, encode_wire

IMMUTABLE: Final = "public, max-age=31536000, immutable"
_HEX_PATH = re.compile(r"[0-9a-f]{2}/[0-9a-f]{62}\Z")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z", re.ASCII)
_BYTES: Final = "application/octet-stream"

Endpoint = Callable[[Request], Awaitable[Response]]


class _BadRequestError(Exception):
    """A request that can't be answered; `status` and one line say why."""

    def __init__(self, status: int, line: str) -> None:
        self.status = status
        super().__init__(line)


def make_app(store: Store, *, writable: bool = False, more: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the ASGI application that gives out a store, and takes objects if `writable`.

    `more`: routes beside its own.
    """
    server = _Server(store, writable)
    both = ["GET", "HEAD", "PUT"]
    routes = [
        *more,
        Route(f"/{MARKER_PATH}", server.endpoint(server.marker)),
        Route("/objects/{address:path}", server.endpoint(server.objects), methods=both),
        Route("/rows/{address:path}", server.endpoint(server.rows), methods=both),
        Route(f"/{PINS_PATH}", server.endpoint(server.all_pins)),
        Route(f"/{PINS_FOLDER}/", server.endpoint(server.all_pins)),
        Route(f"/{PINS_FOLDER}/{{name}}", server.endpoint(server.pins), methods=both),
        Route("/blobs/{address}", server.endpoint(server.blobs)),
        Route("/missing", server.endpoint(server.missing), methods=["POST"]),
        Route("/missing-rows", server.endpoint(server.missing_rows), methods=["POST"]),
        Route("/records", server.endpoint(server.records), methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, for uvicorn to serve on; raises OSError. Port 0 takes a free one."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(address[:2], family=family, backlog=128)
    # asyncio does not set this on what such a socket accepts; without it small answers took 40 ms
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Server:
    """The endpoints, over a store."""

    def __init__(self, store: Store, writable: bool) -> None:
        self._store = store
        self._remote = StoreRemote(store, "this server")
        self._writable = writable

    def endpoint(self, answer: Callable[[Request, bytes], Response]) -> Endpoint:
        """Return an endpoint that reads the body, answers in a thread, and turns errors into one line."""

        async def respond(request: Request) -> Response:
            try:
                refused = request.method == "PUT" and not self._writable
                body = await _read_body(request, _body_limit(request), keep=not refused)
                if refused:
                    raise _BadRequestError(405, "this server is read-only")
                response = await run_in_threadpool(answer, request, body)
            except Exception as error:
                status, line = _describe(error)
                response = PlainTextResponse(line + "\n", status)
            response.headers[SERVER_HEADER] = "1"
            return response

        return respond

    def marker(self, request: Request, body: bytes) -> Response:
        """Answer /samebits-remote."""
        return PlainTextResponse(MARKER)

    def objects(self, request: Request, body: bytes) -> Response:
        """Answer /objects/ab/..., or take a record."""
        digest = Digest(_path_key(request))
        if request.method == "PUT":
            self._remote.write_record(digest, parse_record("sender", digest, body))
            return Response(status_code=204)
        return _immutable(encode_wire(read_record(self._remote, digest)))

    def rows(self, request: Request, body: bytes) -> Response:
        """Answer /rows/ab/..., or take a row."""
        key = _path_key(request)
        if request.method == "PUT":
            self._remote.write_row(key, body)
            return Response(status_code=204)
        row = self._store.row(key)
        if row is None:
            raise _BadRequestError(404, f"there is no row {key.hex()}")
        return _immutable(row)

    def all_pins(self, request: Request, body: bytes) -> Response:
        """Answer /pins.json."""
        headers = {"cache-control": "no-cache"}
        return Response(format_pins(self._store.pins()), media_type="application/json", headers=headers)

    def pins(self, request: Request, body: bytes) -> Response:
        """Answer /pins/NAME, or take a pin."""
        name = parse_pin_name(request.path_params["name"])
        if name is None:
            raise _BadRequestError(404, "there is no such pin, and none can have this name")
        if request.method == "PUT":
            self._remote.write_pin(name, parse_address("sender", name, body))
            return Response(status_code=204)
        digest = self._store.pins().get(name)
        if digest is None:
            raise _BadRequestError(404, "there is no such pin")
        return PlainTextResponse(format_address(digest), headers={"cache-control": "no-cache"})

    def blobs(self, request: Request, body: bytes) -> Response:
        """Answer /blobs/ADDRESS."""
        digest = Digest.parse(request.path_params["address"])
        info = self._store.stat(digest)
        if info.kind != "blob":
            raise _BadRequestError(404, f"object {digest} is a node, not a blob")
        start, stop, status = _parse_range(request.headers.get("range"), info.size_bytes)
        headers = {"cache-control": IMMUTABLE, "accept-ranges": "bytes", "etag": f'"{digest}"'}
        if status == 416:
            headers["content-range"] = f"bytes */{info.size_bytes}"
            return PlainTextResponse("no such range\n", 416, headers)
        headers["content-length"] = str(stop - start)
        if status == 206:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{info.size_bytes}"
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=_BYTES)
        # what is damaged is found out on the way: the connection ends, and the answer is short of its length
        pieces: Iterator[bytes] = read_range(self._store, digest, start, stop)
        return StreamingResponse(pieces, status, headers, _BYTES)

    def missing(self, request: Request, body: bytes) -> Response:
        """Answer /missing."""
        absent = self._remote.missing([Digest(key) for key in _keys(body)])
        return Response(b"".join(digest.raw for digest in absent), media_type=_BYTES)

    def missing_rows(self, request: Request, body: bytes) -> Response:
        """Answer /missing-rows."""
        return Response(b"".join(self._remote.missing_rows(_keys(body))), media_type=_BYTES)

    def records(self, request: Request, body: bytes) -> Response:
        """Answer /records."""
        return Response(write_frames(map(self._encoded_record, _keys(body))), media_type=_BYTES)

    def _encoded_record(self, key: bytes) -> bytes:
        try:
            return encode_wire(read_record(self._remote, Digest(key)))
        except ObjectNotFoundError:
            return b""


def _body_limit(request: Request) -> int:
    """Return the most bytes that the body of a request may have."""
    if request.method == "POST":
        return MAX_ASKED * DIGEST_SIZE_BYTES
    if request.method == "PUT":
        return MAX_WIRE_SIZE_BYTES if request.url.path.startswith("/objects/") else ROW_SIZE_BYTES
    return 0


async def _read_body(request: Request, limit_bytes: int, *, keep: bool) -> bytes:
    """Read the body to its end, and return it if `keep`; raises _BadRequestError for one that is too long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise _BadRequestError(413, f"the body has more than {limit_bytes} bytes")
        if keep:
            parts.append(part)
    return b"".join(parts)


def _describe(error: Exception) -> tuple[int, str]:
    """Return the status and the line for an error; no path of this machine gets out."""
    match error:
        case _BadRequestError():
            return error.status, str(error)
        case ObjectNotFoundError():
            return 404, f"there is no object {error.digest}"
        case DamagedObjectError():
            return 500, str(error)
        case StoreFullError():
            return 507, "the store is full"
        case StoreError():
            return 500, "the store can't be used"
        case CasError() | ValueError():
            return 400, " ".join(str(error).split())
    return 500, "internal error"


def _path_key(request: Request) -> bytes:
    path = request.path_params["address"]
    if not _HEX_PATH.match(path):
        raise _BadRequestError(404, "want two and 62 lower-case hexadecimal characters, with a slash between")
    return bytes.fromhex(path.replace("/", ""))


def _keys(body: bytes) -> list[bytes]:
    if len(body) % DIGEST_SIZE_BYTES:
        raise _BadRequestError(400, f"want addresses of {DIGEST_SIZE_BYTES} bytes, joined, not {len(body)} bytes")
    return [body[at : at + DIGEST_SIZE_BYTES] for at in range(0, len(body), DIGEST_SIZE_BYTES)]


def _parse_range(header: str | None, size_bytes: int) -> tuple[int, int, int]:
    """Return start, stop and status of what a Range header asks for; one that is not a single range is ignored."""
    found = _RANGE.match(header) if header is not None else None
    if found is None or found.group(1) == found.group(2) == "":
        return 0, size_bytes, 200
    first, last = found.groups()
    if first and last and int(first) > int(last):
        return 0, size_bytes, 200
    start = int(first) if first else max(0, size_bytes - int(last))
    stop = min(size_bytes, int(last) + 1) if first and last else size_bytes
    return (start, stop, 206) if start < stop else (0, 0, 416)


def _immutable(data: bytes) -> Response:
    return Response(data, media_type=_BYTES, headers={"cache-control": IMMUTABLE})
