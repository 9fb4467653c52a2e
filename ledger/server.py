"""A log over HTTP, as C2SP tlog-tiles says: routes for an ASGI application, over a log's directory.

    GET  /checkpoint                     the signed note; text/plain, asked for anew each time
    GET  /tile/<L>/<N>[.p/<W>]           hashes; application/octet-stream, never changes
    GET  /tile/entries/<N>[.p/<W>]       entries; the same
    GET  /log.pub                        the verifier key

Nothing beyond the published checkpoint is given out: what a crash may have left there was never signed.
Source: https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from samebits.ledger.checkpoint import parse_checkpoint
from samebits.ledger.errors import LedgerError, NoteFormatError, TileError
from samebits.ledger.logkey import PUBLIC_NAME
from samebits.ledger.merkle import HASH_SIZE_BYTES
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES, parse_note
from samebits.ledger.tile_source import CHECKPOINT_PATH, DirectorySource, read_tile_file
from samebits.ledger.tiles import (
    ENTRIES_LEVEL,
    ROOT_FOLDER,
    Tile,
    decode_bundle,
    encode_bundle,
    parse_tile_path,
    tile_at,
)

_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_SHORT: Final = "no-cache"
_BYTES: Final = "application/octet-stream"
_MAX_KEY_SIZE_BYTES: Final = 4096


def log_routes(directory: Path) -> list[Route]:
    """Return the routes that publish the log of a directory, which may be made later: until then they answer 404."""
    server = _LogServer(directory)
    return [
        Route(f"/{CHECKPOINT_PATH}", server.checkpoint),
        Route(f"/{PUBLIC_NAME}", server.key),
        Route(f"/{ROOT_FOLDER}/{{name:path}}", server.tile),
    ]


class _LogServer:
    """The endpoints."""

    def __init__(self, directory: Path) -> None:
        self._source = DirectorySource(directory)

    async def checkpoint(self, request: Request) -> Response:
        """Answer /checkpoint."""
        return await run_in_threadpool(self._text, CHECKPOINT_PATH, MAX_NOTE_SIZE_BYTES)

    async def key(self, request: Request) -> Response:
        """Answer /log.pub."""
        return await run_in_threadpool(self._text, PUBLIC_NAME, _MAX_KEY_SIZE_BYTES)

    async def tile(self, request: Request) -> Response:
        """Answer /tile/..."""
        try:
            tile = parse_tile_path(f"{ROOT_FOLDER}/{request.path_params['name']}")
        except TileError:
            return _missing("no tile has this path")
        return await run_in_threadpool(self._tile, tile)

    def _text(self, path: str, limit_bytes: int) -> Response:
        try:
            data = self._source.read(path, limit_bytes)
        except TileError:
            return _unreadable()
        if data is None:
            return _missing("there is no log here")
        return Response(data, media_type="text/plain; charset=utf-8", headers={"cache-control": _SHORT})

    def _tile(self, tile: Tile) -> Response:
        try:
            signed = tile_at(tile.level, tile.index, self._size())
            if signed is None or signed.width < tile.width:
                return _missing("the log has no such tile")
            data = self._cut(signed, tile)
        except LedgerError:
            return _unreadable()
        return Response(data, media_type=_BYTES, headers={"cache-control": _IMMUTABLE})

    def _size(self) -> int:
        """Return the size of the published checkpoint, 0 if there is none that is one; raises TileError."""
        note = self._source.read(CHECKPOINT_PATH, MAX_NOTE_SIZE_BYTES)
        try:
            return 0 if note is None else parse_checkpoint(parse_note(note)[0]).tree_size
        except NoteFormatError:
            return 0

    def _cut(self, signed: Tile, tile: Tile) -> bytes:
        """Return a tile out of the one under the checkpoint: a file of its own may be left over from a crash."""
        read, data = read_tile_file(self._source, signed)
        if read.width == tile.width:
            return data
        if tile.level == ENTRIES_LEVEL:
            return encode_bundle(decode_bundle(read, data)[: tile.width])
        return data[: tile.width * HASH_SIZE_BYTES]


def _missing(line: str) -> Response:
    return PlainTextResponse(line + "\n", 404, headers={"cache-control": _SHORT})


def _unreadable() -> Response:
    return PlainTextResponse("the log can't be read\n", 500, headers={"cache-control": _SHORT})
