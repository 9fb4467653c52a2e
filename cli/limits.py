"""The options --max-memory and --max-seconds: what a command may take for data of strangers."""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from samebits.cli.output import CommandError, size_text
from samebits.exec.limits import Limits, TimeLimitReachedError
from samebits.exec.limits import limited as held_to

_SIZE: Final = re.compile(r"([0-9]{1,18})(?:([KMGT])(iB|B)?|B)?", re.IGNORECASE)
_POWERS: Final = {"K": 1, "M": 2, "G": 3, "T": 4}
_MAX_SECONDS: Final = 1e9


def parse_size(text: str) -> int:
    """Return bytes for ``500M``, ``2G`` (powers of 1000), ``512MiB`` (of 1024) or plain bytes."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a size such as 500M, 2G, 512MiB or a number of bytes")
    scale = 1024 if (found[3] or "").lower() == "ib" else 1000
    return int(found[1]) * int(scale ** _POWERS[found[2].upper()] if found[2] else 1)


MaxMemoryOption = Annotated[
    int | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        parser=parse_size,
        help="The most memory that the job may take, as 500M, 2G or 512MiB. Default: what is free.",
    ),
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option("--max-seconds", metavar="N", help="Stop after N seconds, with exit code 2. Default: never."),
]


@contextlib.contextmanager
def limited(max_memory: int | None, max_seconds: float | None) -> Iterator[None]:
    """Hold a command's work to its options; raises CommandError with the one line that says which limit it met."""
    if max_seconds is not None and not 0 < max_seconds <= _MAX_SECONDS:
        raise CommandError(f"--max-seconds {max_seconds:g} is not a positive number of seconds")
    over = f"stopped after the {max_seconds:g} s that --max-seconds allows" if max_seconds is not None else ""
    deadline_s = None if max_seconds is None else time.monotonic() + max_seconds
    try:
        with held_to(Limits(max_memory, deadline_s), f"samebits: {over}"):
            yield
    except TimeLimitReachedError:
        raise CommandError(over) from None
    except Exception as error:
        if max_memory is None or not _ran_out_of_memory(error):
            raise
        raise CommandError(f"the job needs more than the {size_text(max_memory)} that --max-memory allows") from error


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Say whether an error comes from an allocation that failed: Python's, the system's, LMDB's, OpenCL's."""
    while error is not None:
        if type(error).__name__ == "MemoryError" or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
