"""Packages that come with an extra of samebits."""

from __future__ import annotations

from importlib.util import find_spec

from samebits.exec.errors import JobError


def require_torch(what: str) -> None:
    """Raise JobError if PyTorch, which `what` needs, is not installed."""
    if find_spec("torch") is None:
        raise JobError(f"{what} needs PyTorch: install samebits[torch]")
