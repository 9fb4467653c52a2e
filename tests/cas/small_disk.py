"""A program that sees a file system of its own at a path, where one can be mounted without being root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cas.zygote import Zygote, zygote

_IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


@contextmanager
def zygote_with_disk(program: str, disk: Path) -> Iterator[Zygote]:
    """Run a program that may mount something at `disk`, which is not seen outside; skips where that can't be done."""
    test = [*_IN_NAMESPACE, "mount", "-t", "tmpfs", "none", str(disk)]
    try:
        tried = subprocess.run(test, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) here, and a full disk needs a mount of its own")
    if tried.returncode != 0:
        pytest.skip(f"a small file system can't be mounted here: {tried.stderr.strip()}")
    with zygote(program, disk.with_name("log"), _IN_NAMESPACE) as started:
        yield started
