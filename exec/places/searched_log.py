"""The log that is searched for a run: anybody may have published it, so only so much of it is read, in bounded time."""

from __future__ import annotations

import time
from typing import Final

from samebits.exec.errors import RunError
from samebits.exec.planner import size_text
from samebits.ledger import TileError
from samebits.ledger.tile_source import HttpSource

MAX_SEARCH_S: Final = 120.0
MAX_SEARCHED_SIZE_BYTES: Final = 256_000_000
_WAY_OUT: Final = "whoever publishes it can put the run's own record there (`samebits push`), or use `samebits serve`"


class SearchedLog:
    """The files of a log below a URL (a TileSource), until a search has taken too long or read too much: RunError."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Raises TileError for a URL that can't be asked."""
        self._url = url
        self._end = time.monotonic() + MAX_SEARCH_S
        self._source = HttpSource(url, timeout_s=timeout_s, total_s=MAX_SEARCH_S)
        self._size_bytes = 0

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file, or None if there is none; raises TileError, and RunError at the bounds."""
        try:
            data = self._source.read(path, limit_bytes)
        except TileError as error:
            self._check_time(error)
            raise
        self._check_time()
        self._size_bytes += len(data or b"")
        if self._size_bytes > MAX_SEARCHED_SIZE_BYTES:
            raise self._given_up(f"read {size_text(MAX_SEARCHED_SIZE_BYTES)}")
        return data

    def close(self) -> None:
        """Close every connection."""
        self._source.close()

    def _check_time(self, cause: TileError | None = None) -> None:
        if time.monotonic() >= self._end:
            raise self._given_up(f"took {MAX_SEARCH_S:g} s") from cause

    def _given_up(self, why: str) -> RunError:
        what = f"the search for the run in the entries of the log {why} and was given up"
        return RunError(f"{self._url}: {what}; {_WAY_OUT}")
