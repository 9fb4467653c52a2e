"""The stores that the tests of this folder share: that of who runs a job, and that of who checks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.cas.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "other") as opened:
        yield opened
