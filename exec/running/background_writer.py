"""Does one thing after another in a thread, while the caller goes on with the next.

At most one is under way: who hands over another waits until it is done, so no more than its own data are kept. An error
is raised to the caller at its next call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class BackgroundWriter:
    """A thread that does tasks in their order. Leaving the block waits for the last one, also after an error."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "samebits-checkpoint")
        self._task: Future[None] | None = None
        self.interrupted = threading.Event()  # set: a task that waits for somebody else gives up

    def submit(self, task: Callable[[], None]) -> None:
        """Hand over a task, when the one before is done; raises what that one raised."""
        self.wait()
        self._task = self._pool.submit(task)

    def check(self) -> None:
        """Raise what the task raised, if it has ended; never waits."""
        if self._task is not None and self._task.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the task; raises what it raised."""
        task, self._task = self._task, None
        if task is not None:
            task.result()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):  # KeyboardInterrupt, TimeLimitReachedError
            self.interrupted.set()
        self._pool.shutdown()
