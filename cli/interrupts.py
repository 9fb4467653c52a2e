"""Ctrl-C at any moment is one line and exit code 130."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def quiet_interrupt() -> Iterator[None]:
    """End the process with one line when Ctrl-C comes."""
    try:
        yield
    except KeyboardInterrupt:
        print("samebits: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
