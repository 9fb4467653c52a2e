"""What commands print: one JSON value or text on stdout, everything else on stderr; errors as one line, exit 2."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console

from samebits.cas import CasError, Digest
from samebits.cli.interrupts import EXIT_INTERRUPTED
from samebits.exec.errors import ExecError
from samebits.kernels.errors import KernelError
from samebits.ledger import LedgerError

P = ParamSpec("P")
R = TypeVar("R")

EXIT_DIFFERENT = 1
EXIT_BAD_INPUT = 2
OUR_ERRORS = (CasError, KernelError, LedgerError, ExecError)

stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


class CommandError(Exception):
    """Something wrong with what the user typed or named on the command line."""


def fail(message: str, code: int = EXIT_BAD_INPUT) -> NoReturn:
    """Print one line on stderr and exit."""
    print(f"samebits: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise typer.Exit(code)


def say(line: str) -> None:
    """Print one line on stderr and go on."""
    stderr.print(f"samebits: {printable(line)}")


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the project's errors, and those of the file system, into one line and exit code 2."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (*OUR_ERRORS, CommandError) as error:
            fail(_said(error, str(error)))
        except BrokenPipeError:
            raise typer.Exit(0) from None
        except OSError as error:
            fail(_said(error, f"{error.filename or 'input/output'}: {error.strerror or error}"))
        except KeyboardInterrupt as error:
            fail(_said(error, "interrupted"), EXIT_INTERRUPTED)
        except MemoryError as error:
            fail(_said(error, f"out of memory {error}".strip()))
        except typer.Exit:
            raise
        except Exception as error:  # a defect of ours: still one line, and never the code for "different"
            fail(f"internal error, please report it: {type(error).__name__}: {error}")

    return guarded


def _said(error: BaseException, message: str) -> str:
    """Return a message with what was noted on the error on its way: how to go on."""
    return "; ".join([message, *getattr(error, "__notes__", ())])


def print_json(value: Any) -> None:
    """Print one JSON value on stdout; addresses become text, and so do numbers that JSON lacks ("nan", "inf")."""
    print(json.dumps(_plain(value), allow_nan=False))


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print name and value on a line each, aligned."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{printable(name):<{width}}  {printable(str(value))}")


def print_metrics(metrics: Mapping[str, float]) -> None:
    """Print metrics on lines of their own, so that no name of one can stand for anything else."""
    for name, value in metrics.items():
        print(f"metric {printable(name)}  {value:.6g}")


def printable(text: str) -> str:
    """Return text with control characters and the like escaped: what others named must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def readable(value: Any) -> Any:
    """Return a decoded value with addresses as text and bytes as hex (long ones as their size)."""
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 64 else f"<{len(value)} bytes>"
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    if isinstance(value, dict):
        return {name: readable(item) for name, item in value.items()}
    return value


def size_text(size_bytes: int) -> str:
    """Return a size for people: ``12.3 kB``."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def time_text(time_s: int) -> str:
    """Return a time in POSIX seconds for people: ``2026-11-21T21:50:34Z``."""
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # beyond the year 9999
        return f"{time_s} s"


def _plain(value: Any) -> Any:
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
