"""The progress of a run: step, loss and steps per second; a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from samebits.cli.output import printable, stderr
from samebits.exec.runner import Progress as Report

LINE_EVERY_S = 10.0


@contextlib.contextmanager
def step_progress(title: str) -> Iterator[Report]:
    """Show progress on stderr; yields the function to call after each step."""
    with _bar(title) if stderr.is_terminal else contextlib.nullcontext(_lines(title)) as report:
        yield report


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[shown]}", markup=False),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=stderr, refresh_per_second=8)
    task = bar.add_task(title, total=None, shown="")

    def report(done: int, steps: int, metrics: Mapping[str, float]) -> None:
        bar.start()  # with the first step, so that an error before it leaves nothing but its line
        speed = bar.tasks[0].finished_speed or bar.tasks[0].speed or 0.0
        bar.update(task, completed=done, total=steps, shown=_shown(metrics, speed))

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


def _lines(title: str) -> Report:
    """Return a report that prints a line every ten seconds, and one for the last step."""
    started = last = time.monotonic()

    def report(done: int, steps: int, metrics: Mapping[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if done == steps or now - last >= LINE_EVERY_S:
            last = now
            stderr.print(f"{title} {done}/{steps}  {_shown(metrics, done / max(now - started, 1e-9))}")

    return report


def _shown(metrics: Mapping[str, float], steps_per_s: float) -> str:
    parts = [f"{printable(name)} {value:.4f}" for name, value in metrics.items()]
    return "  ".join([*parts, f"{steps_per_s:.1f} steps/s"])
