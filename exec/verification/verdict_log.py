"""Where draws and verdicts are signed into: the verifier's own ledger, or any other that they may write to."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from samebits.cas import Digest, Store
from samebits.cas.store import ENVIRONMENT_FOLDER
from samebits.exec.errors import RunError
from samebits.exec.ledger_folder import LEDGER_FOLDER, log_directory
from samebits.exec.running.ledger_wait import Notice, wait_for_ledger
from samebits.ledger import DrawBody, Log, SigningKey, VerdictBody, entry_address, sign_entry
from samebits.ledger.logkey import PRIVATE_NAME


class VerdictLog:
    """A log into which one author signs. Where another process has locked it `notice` is told what is waited for."""

    def __init__(self, directory: Path, key: SigningKey, notice: Notice | None = None) -> None:
        """Open the log of a directory for writing; raises LedgerError."""
        self._wait = partial(wait_for_ledger, directory, notice)
        self._key = key
        self._wait()
        self._log = Log.open(directory)

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._log.origin

    def append(self, prev: Digest, body: DrawBody | VerdictBody) -> Digest:
        """Sign a statement about the run's entry `prev` and append it; returns its address."""
        entry = sign_entry(self._log.origin, prev, body, self._key, time=int(time.time()))
        self._wait()
        self._log.append([entry])
        return entry_address(entry)

    def append_verdict(self, prev: Digest, body: VerdictBody) -> Digest:
        """Append a verdict; returns its address, or that of one by the same author that says the same."""
        for _, known in self._log.verdicts(body.run):
            if (known.author, known.prev, known.body) == (self._key.public, prev, body):
                return entry_address(known)
        return self.append(prev, body)

    def close(self) -> None:
        """Let go of the files."""
        self._log.close()


def verdict_log_directory(store: Store, ledger: Path | None) -> Path:
    """Return where the store's own ledger is, or the log that `ledger` names: its folder, or that of a store with one.

    Raises RunError if it names neither.
    """
    if ledger is None:
        return log_directory(store)
    if (ledger / ENVIRONMENT_FOLDER).is_dir():
        return ledger / LEDGER_FOLDER
    if not (ledger / PRIVATE_NAME).is_file():
        raise RunError(
            f"ledger {ledger}: no log that can be written to; want the folder of a log with its key, or a store"
        )
    return ledger


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
