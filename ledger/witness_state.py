"""What a witness must never forget: for every log, the last checkpoint that it cosigned.

    <directory>/witness.key               private key (type 04), mode 0600
    <directory>/lock                      flock: who holds it may cosign
    <directory>/<hex>/checkpoint          the last note it cosigned of a log, its own signature in it
    <directory>/<hex>/fork-<size>-<hex>   a checkpoint that contradicts that one: both are signed by the log

``<hex>`` of a log is SHA-256 of its origin. The key and the state are in one directory, so that a witness that lost one
has lost both: with the key alone it would cosign what contradicts its word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from samebits.cas.durable_files import replace_file, sync_folder
from samebits.ledger.cosignature import WitnessSigningKey
from samebits.ledger.durable import locked
from samebits.ledger.errors import KeyFileError, StorageError
from samebits.ledger.file_errors import errors_named
from samebits.ledger.keyfile import read_key, write_key
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES
from samebits.ledger.regular_file import read_regular
from samebits.ledger.witness_protocol import hash_origin

KEY_NAME: Final = "witness.key"
MAX_FORKS: Final = 16  # kept of one log; the first is proof enough
_CHECKPOINT_NAME: Final = "checkpoint"
_LOCK_NAME: Final = "lock"


def create_witness(directory: Path, name: str) -> WitnessSigningKey:
    """Make the key of a new witness in a directory that holds none; raises StorageError and KeyFileError."""
    key = WitnessSigningKey.generate(name)
    if directory.is_dir() and any(directory.iterdir()):
        raise StorageError(directory, "not empty: a new witness starts in a directory of its own")
    if not write_key(directory / KEY_NAME, key.format()):
        raise StorageError(directory, "there is a witness here already")
    return key


def load_witness_key(directory: Path) -> WitnessSigningKey:
    """Return the private key of the witness in a directory; raises KeyFileError."""
    path = directory / KEY_NAME
    key = read_key(path, WitnessSigningKey.parse)
    if key is None:
        raise KeyFileError(path, "there is no witness here")
    return key


class WitnessState:
    """The files of one witness. Safe for several threads and processes on one machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def path(self) -> Path:
        """The directory."""
        return self._directory

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other thread or process is between reading what was cosigned and having written it."""
        with ExitStack() as held:
            with self._errors_named():
                held.enter_context(locked(self._directory / _LOCK_NAME))
            yield

    def read(self, origin_hash: str) -> bytes | None:
        """Return the last note that was written for a log, None if there never was one; raises StorageError."""
        with self._errors_named():
            try:
                return read_regular(self._directory / origin_hash / _CHECKPOINT_NAME, MAX_NOTE_SIZE_BYTES)[0]
            except FileNotFoundError:
                return None

    def write(self, origin: str, note: str) -> None:
        """Replace the last note of a log; it is durable when this returns. Raises StorageError. Hold the lock."""
        with self._errors_named():
            replace_file(self._log_directory(origin) / _CHECKPOINT_NAME, note.encode())

    def write_fork(self, origin: str, tree_size: int, note: bytes) -> None:
        """Keep a note that contradicts the one that was cosigned; the first 16 of a log. Raises StorageError."""
        with self._errors_named():
            directory = self._log_directory(origin)
            path = directory / f"fork-{tree_size}-{sha256(note).hexdigest()[:16]}"
            if not path.exists() and len(self.forks(origin)) < MAX_FORKS:
                replace_file(path, note)

    def forks(self, origin: str) -> list[Path]:
        """Return the files of notes that contradict what was cosigned of a log."""
        with self._errors_named():
            return sorted((self._directory / hash_origin(origin)).glob("fork-*"))

    def origin_hashes(self) -> list[str]:
        """Return the hashes of the origins of all logs that anything was cosigned of."""
        with self._errors_named():
            return sorted(path.parent.name for path in self._directory.glob(f"*/{_CHECKPOINT_NAME}"))

    def _log_directory(self, origin: str) -> Path:
        """Return the directory of a log, durable under its name."""
        directory = self._directory / hash_origin(origin)
        if not directory.is_dir():
            directory.mkdir(exist_ok=True)
            sync_folder(self._directory)
        return directory

    def _errors_named(self) -> AbstractContextManager[None]:
        return errors_named(self._directory, writes=False)
