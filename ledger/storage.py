"""Where a log keeps its entries and its checkpoint: the protocol that `Log` works on.

A storage knows bytes only. Its entries are numbered from 0 without gaps and never change; each change adds entries
and replaces the checkpoint, both or neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from samebits.ledger.tile_source import TileSource

Sign = Callable[[int, bytes], bytes]  # tree size, root hash -> the signed note of this checkpoint


class LogReader(Protocol):
    """A view of one state of a log."""

    def size(self) -> int:
        """Return the number of entries."""
        ...

    def entries(self, start: int, stop: int) -> list[bytes]:
        """Return the entries [start, stop); raises MissingEntryError naming the first that is not there."""
        ...

    def checkpoint(self) -> bytes | None:
        """Return the signed note that was stored last, or None in a log that was never written."""
        ...


class LogWriter(LogReader, Protocol):
    """A view of the latest state that nobody else can change meanwhile."""

    def append(self, entries: Sequence[bytes], sign: Sign) -> bytes:
        """Add entries at the end and replace the checkpoint by what `sign` returns; return it.

        `sign` is called when everything that it vouches for is durable. When this returns, all of it is durable and
        visible; if it raises, nothing was acknowledged.
        """
        ...

    def republish(self, checkpoint: bytes) -> None:
        """Replace the checkpoint by the same text with other signatures beside the log's own."""
        ...


class LogStorage(Protocol):
    """The storage of one log. Raises StorageError."""

    @property
    def path(self) -> Path:
        """The directory of the log."""
        ...

    @property
    def source(self) -> TileSource:
        """The tiles, from which proofs are made."""
        ...

    def reading(self) -> AbstractContextManager[LogReader]:
        """Open a view of the current state; keep it short."""
        ...

    def writing(self) -> AbstractContextManager[LogWriter]:
        """Wait until no other thread or process writes, then open a view to write."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...
