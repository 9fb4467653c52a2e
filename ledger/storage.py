"""Where a log keeps its entries and its checkpoint: the protocol that `Log` works on.

A storage knows bytes only. Its entries are numbered from 0 without gaps and never change; each change adds entries
and replaces the checkpoint, both or neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


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

    def append(self, entries: Sequence[bytes], checkpoint: bytes) -> None:
        """Add entries at the end and replace the checkpoint."""
        ...


class LogStorage(Protocol):
    """The storage of one log. Raises StorageError."""

    @property
    def path(self) -> Path:
        """The directory of the log."""
        ...

    def reading(self) -> AbstractContextManager[LogReader]:
        """Open a view of the current state; keep it short."""
        ...

    def writing(self) -> AbstractContextManager[LogWriter]:
        """Wait until no other thread or process writes, then open a view to write.

        What was appended is durable and visible when the context ends, or gone if it ends with an exception.
        """
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...
