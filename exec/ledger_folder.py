"""Where a store keeps its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from samebits.cas import Store

LEDGER_FOLDER: Final = "ledger"


def log_directory(store: Store) -> Path:
    """Return where a store keeps its ledger."""
    return Path(store.path) / LEDGER_FOLDER
