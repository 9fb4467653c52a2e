"""Where the files of a log are read from: a directory, or a URL. Nothing that comes out of here is believed yet."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Final, Protocol

from samebits.cas.errors import RemoteError
from samebits.cas.remotes.http_client import HttpClient
from samebits.ledger.errors import TileError
from samebits.ledger.regular_file import read_regular
from samebits.ledger.tiles import Tile, decode_bundle, decode_hashes

CHECKPOINT_PATH: Final = "checkpoint"
_REFUSAL_SIZE_BYTES: Final = 4096
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
_GZIP_SPARE_BYTES: Final = 512  # what can't be compressed gets a little longer


class TileSource(Protocol):
    """The files of one log, usable from several threads at once."""

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file, or None if there is none; raises TileError if it can't be read or is longer than the limit."""
        ...


class DirectorySource:
    """The files in a log's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file, or None if there is none; raises TileError if it can't be read or is longer than the limit."""
        try:
            return _limited(path, read_regular(self._directory / path, limit_bytes)[0], limit_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise TileError(path, error.strerror or str(error)) from error


class HttpSource:
    """The files below a URL, where a log is published as C2SP tlog-tiles."""

    def __init__(self, url: str, *, timeout_s: float = 30.0, total_s: float = math.inf) -> None:
        """`total_s` is how long all files together may take. Raises TileError for a URL that can't be asked."""
        self._url = url.rstrip("/")
        try:
            self._client = HttpClient(self._url, timeout_s=timeout_s, total_s=total_s)
        except RemoteError as error:
            raise TileError(url, error.reason) from error

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file, or None if there is none; raises TileError if it can't be read or is longer than the limit."""
        where = f"{self._url}/{path}"
        most = max(_GZIP_SPARE_BYTES + limit_bytes + limit_bytes // 1000, _REFUSAL_SIZE_BYTES)
        try:
            answer = self._client.request("GET", path, most)
        except RemoteError as error:
            raise TileError(where, error.reason) from error
        if answer.status in (404, 410):
            return None
        if answer.status != 200:
            raise TileError(where, f"the server answers with status {answer.status}")
        data, encoding = answer.data, answer.headers.get("content-encoding", "identity")
        if encoding == "gzip" and len(data) <= most:  # a log may send it unasked
            data = _decompress(where, data, limit_bytes)
        elif encoding not in ("identity", "gzip"):
            raise TileError(where, "the server sends it in an encoding that was not asked for")
        return _limited(where, data, limit_bytes)

    def close(self) -> None:
        """Close every connection."""
        self._client.close()


def read_hashes(source: TileSource, tile: Tile) -> list[bytes]:
    """Return the hashes of a tile, out of the full one where a partial one is gone; raises TileError."""
    read, data = read_tile_file(source, tile)
    return decode_hashes(read, data)[: tile.width]


def read_bundle(source: TileSource, tile: Tile) -> list[bytes]:
    """Return the entries of a bundle, out of the full one where a partial one is gone; raises TileError."""
    read, data = read_tile_file(source, tile)
    return decode_bundle(read, data)[: tile.width]


def read_tile_file(source: TileSource, tile: Tile) -> tuple[Tile, bytes]:
    """Return the file of a tile, or of the full tile where a partial one is gone, and which it is; raises TileError."""
    for tried in (tile,) if tile.is_full else (tile, tile.full):
        data = source.read(tried.path, tried.limit_bytes)
        if data is not None:
            return tried, data
    raise TileError(tile.path, "missing")


def _limited(path: str, data: bytes, limit_bytes: int) -> bytes:
    if len(data) > limit_bytes:
        raise TileError(path, f"has more than {limit_bytes} bytes")
    return data


def _decompress(path: str, data: bytes, limit_bytes: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP_WBITS)
    try:
        plain = inflater.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise TileError(path, f"not gzip: {error}") from error
    if len(plain) <= limit_bytes and (not inflater.eof or inflater.unused_data):
        raise TileError(path, "its gzip form ends early, or goes on behind its end")
    return plain
