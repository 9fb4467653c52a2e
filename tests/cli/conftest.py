"""What every test of the commands has: a trust file of its own, so that none reads or writes the user's."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_trust_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where this test's trust file would be; there is none."""
    path = tmp_path_factory.mktemp("trusting") / "trust"
    monkeypatch.setenv("SAMEBITS_TRUST", str(path))
    return path
