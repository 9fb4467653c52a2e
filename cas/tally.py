"""What a transfer has done: counted while it runs, told to whoever watches, reported at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

# called with the bytes of content that are done, present ones among them, and all that there are
Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What a transfer moved, and what it did not need to."""

    objects: int  # made visible
    rows: int  # sent or received
    size_bytes: int  # of content, in rows and inside records
    skipped_objects: int  # that were there before
    skipped_rows: int  # of new objects, that were there before


@dataclass(slots=True)
class Tally:
    """Counts of a transfer under way."""

    progress: Progress | None
    objects: int = 0
    rows: int = 0
    size_bytes: int = 0
    skipped_objects: int = 0
    skipped_rows: int = 0
    done_bytes: int = 0
    total_bytes: int = 0

    def row(self, size_bytes: int, *, moved: bool) -> None:
        """Count a row."""
        if moved:
            self.rows += 1
            self.size_bytes += size_bytes
        else:
            self.skipped_rows += 1
        self.done(size_bytes)

    def inline(self, size_bytes: int) -> None:
        """Count the content of a record."""
        self.size_bytes += size_bytes
        self.done(size_bytes)

    def done(self, size_bytes: int) -> None:
        """Say that so many more bytes of the total are done."""
        self.done_bytes += size_bytes
        if self.progress is not None:
            self.progress(self.done_bytes, self.total_bytes)

    def report(self) -> TransferReport:
        """Return the counts so far."""
        return TransferReport(self.objects, self.rows, self.size_bytes, self.skipped_objects, self.skipped_rows)
