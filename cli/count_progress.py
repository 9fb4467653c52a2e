"""The progress of things that are counted: a bar on a terminal, a line now and then elsewhere; on stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from samebits.cli.output import stderr

LINE_EVERY_S = 10.0
_BAR_AFTER_S = 0.5  # what is done by then shows nothing

Report = Callable[[str, int, int], None]  # what, how many, of how many


@contextlib.contextmanager
def count_progress(title: str) -> Iterator[Report]:
    """Show progress on stderr; yields the function to call with what is counted, how many are done, and all."""
    started = last = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=stderr, refresh_per_second=8)
    task = bar.add_task(title, total=None)

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if stderr.is_terminal and now - started >= _BAR_AFTER_S:
            bar.start()
            bar.update(task, description=f"{title} {what}", completed=done, total=total)
        elif not stderr.is_terminal and now - last >= LINE_EVERY_S:
            last = now
            stderr.print(f"{title} {what} {done}/{total}")

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
