"""A log's storage in an LMDB environment of its own: one row per entry, one for the checkpoint.

Database ``entries``: key = index as 8 bytes, big endian; value = the entry. Database ``meta``: ``format`` =
``samebits log v1``, ``checkpoint`` = the signed note. Sync is on, so a commit is on disk when it returns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb

from samebits.ledger.errors import MissingEntryError, StorageError
from samebits.ledger.keyfile import sync_directory

FORMAT: Final = b"samebits log v1"
MAP_SIZE_BYTES: Final = 16 << 30  # address space, not disk
_FORMAT_KEY: Final = b"format"
_CHECKPOINT_KEY: Final = b"checkpoint"
_DATA_NAME: Final = "data.mdb"


@dataclass(slots=True)
class _Environment:
    """An LMDB environment that everything in this process which opened its directory shares."""

    env: Any
    users: int = 0


# LMDB must not be opened twice in one process. A child of a fork never touches, nor closes, what its parent opened.
# Keys: process, and device and inode of the directory.
_open_environments: dict[tuple[int, int, int], _Environment] = {}
_registry_lock = threading.Lock()


class LmdbLogStorage:
    """`LogStorage` in `<path>/data.mdb`, safe for several threads and processes on one machine."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the storage, and create it unless `read_only`; raises StorageError."""
        self._path = path
        self._read_only = read_only
        self._pid = os.getpid()
        self._closed = False
        with _errors_named(path):
            self._key, self._env = _acquire(path, read_only)
        try:
            with _errors_named(path):
                self._databases = self._open_databases()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The directory of the log."""
        return self._path

    @contextmanager
    def reading(self) -> Iterator[LmdbLogView]:
        """Open a view of the current state."""
        self._check_usable()
        with _errors_named(self._path), self._env.begin() as transaction:
            yield LmdbLogView(self._path, transaction, *self._databases)

    @contextmanager
    def writing(self) -> Iterator[LmdbLogView]:
        """Wait for the write lock of the environment and open a view to write."""
        self._check_usable()
        if self._read_only:
            raise StorageError(self._path, "opened for reading only")
        with _errors_named(self._path), self._env.begin(write=True) as transaction:
            yield LmdbLogView(self._path, transaction, *self._databases)

    def close(self) -> None:
        """Let go of the environment; the last user in this process closes it."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        with _registry_lock:
            shared = _open_environments[self._key]
            shared.users -= 1
            if not shared.users:
                del _open_environments[self._key]
                shared.env.close()

    def _open_databases(self) -> tuple[Any, Any]:
        """Return the handles of `entries` and `meta`; creates them in a new environment."""
        with self._env.begin() as transaction:
            is_new = transaction.stat()["entries"] == 0
        if is_new:
            if self._read_only:
                raise StorageError(self._path, "there is no log here")
            with self._env.begin(write=True) as transaction:
                self._env.open_db(b"entries", txn=transaction)
                meta = self._env.open_db(b"meta", txn=transaction)
                transaction.put(_FORMAT_KEY, FORMAT, db=meta)
            sync_directory(self._path)
        entries = self._env.open_db(b"entries", create=False)
        meta = self._env.open_db(b"meta", create=False)
        with self._env.begin() as transaction:
            found = transaction.get(_FORMAT_KEY, db=meta)
        if found != FORMAT:
            shown = "none" if found is None else repr(bytes(found[:40]))
            raise StorageError(self._path, f"format {shown} is not {FORMAT.decode()!r}")
        return entries, meta

    def _check_usable(self) -> None:
        if self._closed:
            raise StorageError(self._path, "closed")
        if os.getpid() != self._pid:
            raise StorageError(self._path, "opened before a fork; open it again in the child process")


class LmdbLogView:
    """`LogReader` and `LogWriter` over one LMDB transaction."""

    def __init__(self, path: Path, transaction: Any, entries: Any, meta: Any) -> None:
        self._path = path
        self._transaction = transaction
        self._entries = entries
        self._meta = meta

    def size(self) -> int:
        """Return the number of entries."""
        count: int = self._transaction.stat(self._entries)["entries"]
        return count

    def entries(self, start: int, stop: int) -> list[bytes]:
        """Return the entries [start, stop); raises MissingEntryError naming the first that is not there."""
        found: list[bytes] = []
        if start >= stop:
            return found
        with self._transaction.cursor(db=self._entries) as cursor:
            more = cursor.set_range(_index_key(start))
            for index in range(start, stop):
                if not more or cursor.key() != _index_key(index):
                    raise MissingEntryError(self._path, index)
                found.append(cursor.value())
                more = cursor.next()
        return found

    def checkpoint(self) -> bytes | None:
        """Return the signed note that was stored last, or None."""
        note: bytes | None = self._transaction.get(_CHECKPOINT_KEY, db=self._meta)
        return note

    def append(self, entries: Sequence[bytes], checkpoint: bytes) -> None:
        """Add entries at the end and replace the checkpoint."""
        for index, entry in enumerate(entries, self.size()):
            if not self._transaction.put(_index_key(index), entry, db=self._entries, overwrite=False):
                raise StorageError(self._path, f"there is an entry {index} beyond the last one")
        self._transaction.put(_CHECKPOINT_KEY, checkpoint, db=self._meta)


def _index_key(index: int) -> bytes:
    return index.to_bytes(8, "big")


def _acquire(path: Path, read_only: bool) -> tuple[tuple[int, int, int], Any]:
    """Return the process's environment of this directory and its key, opened now if need be, with one more user."""
    data = path / _DATA_NAME
    with _registry_lock:
        if read_only and not data.is_file():
            raise StorageError(path, "there is no log here")
        if not read_only:
            path.mkdir(parents=True, exist_ok=True)
        status = path.stat()
        key = (os.getpid(), status.st_dev, status.st_ino)
        if key not in _open_environments:
            writable = os.access(path, os.W_OK) and (not data.exists() or os.access(data, os.W_OK))
            _open_environments[key] = _Environment(_open_environment(path, writable))
        shared = _open_environments[key]
        shared.users += 1
        return key, shared.env


def _open_environment(path: Path, writable: bool) -> Any:
    """Open an environment; readers too open it writable where they may, since a writer may come to share it."""
    return lmdb.open(
        str(path), map_size=MAP_SIZE_BYTES, max_dbs=2, readonly=not writable, create=writable, max_spare_txns=2
    )


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Turn the errors of LMDB and of the file system into StorageError."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise StorageError(path, f"full: it holds {MAP_SIZE_BYTES >> 30} GiB") from error
    except (lmdb.NotFoundError, lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError) as error:
        raise StorageError(path, f"not a log, or damaged ({error})") from error
    except lmdb.Error as error:
        raise StorageError(path, str(error)) from error
    except OSError as error:
        raise StorageError(path, error.strerror or str(error)) from error
