"""Where draws and verdicts are signed into: the verifier's own ledger, or any other that they may write to."""

from __future__ import annotations

import time
from pathlib import Path

from samebits.cas import Digest, Store
from samebits.cas.store import ENVIRONMENT_FOLDER
from samebits.exec.errors import RunError
from samebits.exec.ledger_folder import LEDGER_FOLDER, log_directory
from samebits.ledger import Entry, Log, SigningKey, VerdictBody, entry_address, sign_entry
from samebits.ledger.logkey import PRIVATE_NAME


def open_verdict_log(store: Store, ledger: Path | None) -> Log:
    """Open the store's own ledger, or the log that `ledger` names: its folder, or that of a store with one.

    Raises RunError if it names neither, and LedgerError.
    """
    if ledger is None:
        return Log.open(log_directory(store))
    if (ledger / ENVIRONMENT_FOLDER).is_dir():
        return Log.open(ledger / LEDGER_FOLDER)
    if not (ledger / PRIVATE_NAME).is_file():
        raise RunError(
            f"ledger {ledger}: no log that can be written to; want the folder of a log with its key, or a store"
        )
    return Log.open(ledger)


def keep_checkpoint(checkpoint: bytes, ledger: Path | None) -> None:
    """Put the checkpoint of a draw beside the ledger that the verdict goes into, if a store is there.

    Whoever reads that ledger can then compute the draw again. The store's own ledger (None) has it already.
    """
    if ledger is None:
        return
    folder = ledger.resolve()
    folder = folder.parent if folder.name == LEDGER_FOLDER else folder
    if (folder / ENVIRONMENT_FOLDER).is_dir():
        with Store(folder) as beside:
            beside.put_blob(checkpoint)


def append_verdict(log: Log, prev: Digest, body: VerdictBody, key: SigningKey) -> Digest:
    """Sign a verdict and append it; returns its address, or that of one by the same author that says the same."""
    entry = sign_entry(log.origin, prev, body, key, time=int(time.time()))
    for _, known in log.verdicts(body.run):
        if _said(known) == _said(entry):
            return entry_address(known)
    log.append([entry])
    return entry_address(entry)


def _said(entry: Entry) -> tuple[object, ...]:
    return entry.author, entry.prev, entry.body
