"""Find the user's own line in a stack: the innermost frame outside torch, this package and the standard library."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType

import torch

_ROOMS = Path(__file__).resolve().parents[2]
_FOREIGN = tuple(
    str(root.resolve())
    for root in (
        Path(torch.__file__).parent,
        Path(sysconfig.get_paths()["stdlib"]),
        Path(sysconfig.get_paths()["purelib"]),
        *(_ROOMS / room for room in ("cas", "cli", "exec", "kernels", "ledger")),
    )
)


def current_line() -> str | None:
    """Return the user's line that is being executed, as ``file.py:12: source``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return _format(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def line_of(traceback: TracebackType | None) -> str | None:
    """Return the innermost user's line of a traceback."""
    found = None
    while traceback is not None:
        if _is_users(traceback.tb_frame.f_code.co_filename):
            found = _format(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


@cache
def _is_users(filename: str) -> bool:
    if filename.startswith("<"):
        return False
    return not str(Path(filename).resolve()).startswith(_FOREIGN)


def _format(filename: str, line: int) -> str:
    return f"{Path(filename).name}:{line}: {linecache.getline(filename, line).strip()}"
