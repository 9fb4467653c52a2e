"""Progress on stderr: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from samebits.cas.transfer import Progress as ByteReport
from samebits.cli.output import printable, size_text, stderr

if TYPE_CHECKING:
    from samebits.exec.machine import Progress as StepReport

LINE_EVERY_S = 10.0
_BAR_EVERY_S = 0.1

CountReport = Callable[[str, int, int], None]  # what is counted, how many are done, all of them
_Show = Callable[[int, int, str, float], None]  # done, all, how that reads, seconds since the beginning


@contextlib.contextmanager
def step_progress(title: str) -> Iterator[StepReport]:
    """Show the steps of a run, their metrics and how many are done in a second; the last one always."""
    with _progress(title, ends_with_line=True) as show:
        started = time.monotonic()

        def report(done: int, steps: int, metrics: Mapping[str, float]) -> None:
            seconds = time.monotonic() - started
            parts = [f"{printable(name)} {value:.4f}" for name, value in metrics.items()]
            text = "  ".join([f"{done}/{steps}", *parts, f"{done / max(seconds, 1e-9):.1f} steps/s"])
            show(done, steps, text, 0.0)

        yield report


@contextlib.contextmanager
def byte_progress(title: str) -> Iterator[ByteReport]:
    """Show bytes that move, and how many move in a second."""
    with _progress(title) as show:
        started = time.monotonic()

        def report(done_bytes: int, total_bytes: int) -> None:
            seconds = time.monotonic() - started
            speed = size_text(int(done_bytes / max(seconds, 1e-9)))
            show(done_bytes, total_bytes, f"{size_text(done_bytes)} of {size_text(total_bytes)}  {speed}/s", 0.0)

        yield report


@contextlib.contextmanager
def count_progress(title: str) -> Iterator[CountReport]:
    """Show how many of something are done; nothing for what takes less than half a second."""
    with _progress(title) as show:
        yield lambda what, done, total: show(done, total, f"{what} {done}/{total}", 0.5)


@contextlib.contextmanager
def _progress(title: str, *, ends_with_line: bool = False) -> Iterator[_Show]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20))
    shown = (TextColumn("{task.fields[shown]}", markup=False), TimeRemainingColumn())
    bar = Progress(*columns, *shown, console=stderr, refresh_per_second=8)
    task = bar.add_task(title, total=None, shown="")
    started = last = time.monotonic()

    def show(done: int, total: int, text: str, after_s: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - started < after_s:
            return
        if not stderr.is_terminal:
            if now - last >= LINE_EVERY_S or (ends_with_line and done == total):
                last = now
                stderr.print(f"{title} {text}")
            return
        bar.start()  # with the first report, so that an error before it leaves nothing but its line
        if done == total or now - last >= _BAR_EVERY_S:
            last = now
            bar.update(task, completed=done, total=total, shown=text)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()
