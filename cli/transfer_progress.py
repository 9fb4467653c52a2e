"""The progress of bytes that move: a bar on a terminal, a line now and then elsewhere; on stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from samebits.cas.transfer import Progress as Report
from samebits.cli.output import size_text, stderr

LINE_EVERY_S = 10.0
_BAR_EVERY_S = 0.1


@contextlib.contextmanager
def byte_progress(title: str) -> Iterator[Report]:
    """Show progress on stderr; yields the function to call with the bytes done and all bytes."""
    with _bar(title) if stderr.is_terminal else contextlib.nullcontext(_lines(title)) as report:
        yield report


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=stderr, refresh_per_second=8)
    task = bar.add_task(title, total=None)
    last = 0.0

    def report(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        bar.start()  # with the first bytes, so that an error before them leaves nothing but its line
        now = time.monotonic()
        if done_bytes == total_bytes or now - last >= _BAR_EVERY_S:
            last = now
            bar.update(task, completed=done_bytes, total=total_bytes)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


def _lines(title: str) -> Report:
    """Return a report that prints a line every ten seconds."""
    started = last = time.monotonic()

    def report(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            speed = size_text(int(done_bytes / (now - started)))
            stderr.print(f"{title} {size_text(done_bytes)} of {size_text(total_bytes)}  {speed}/s")

    return report
