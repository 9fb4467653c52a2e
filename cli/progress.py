"""The progress bar of a run: step, loss and steps per second."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from samebits.cli.output import stderr
from samebits.exec.runner import Progress as Report


@contextlib.contextmanager
def step_progress(title: str) -> Iterator[Report]:
    """Show a bar on stderr; yields the function to call after each step."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[metrics]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=stderr, refresh_per_second=8)
    task = bar.add_task(title, total=None, metrics="", rate="")

    def report(done: int, steps: int, metrics: Mapping[str, float]) -> None:
        bar.start()  # with the first step, so that an error before it leaves nothing but its line
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        current = bar.tasks[0]
        speed = current.finished_speed or current.speed
        rate = f"{speed:.1f} steps/s" if speed else ""
        bar.update(task, completed=done, total=steps, metrics=shown, rate=rate)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
