"""A log's storage in an LMDB environment of its own: one row per entry, one for the checkpoint.

All rows are in the main database. Key = index as 8 bytes, big endian: an entry. Key = ``format``:
``samebits log v1``. Key = ``checkpoint``: the signed note. Sync is on, so a commit is on disk when it returns.
There are no named databases, which LMDB can only open in a write transaction: a reader would wait for the writers.
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

from samebits.cas.database_files import reserve_lock_file
from samebits.ledger.errors import MissingEntryError, StorageError
from samebits.ledger.keyfile import sync_directory

FORMAT: Final = b"samebits log v1"
# Address space, not disk: what a log can grow to. The smaller ones are for processes that have little of it.
MAP_SIZES_BYTES: Final = (16 << 30, 2 << 30, 256 << 20)
_FORMAT_KEY: Final = b"format"
_CHECKPOINT_KEY: Final = b"checkpoint"
_DATA_NAME: Final = "data.mdb"
_LOCK_NAME: Final = "lock.mdb"
_FILE_MODE: Final = 0o644
_NOT_WRITABLE: Final = "may only be read here; open it read-only"
_DAMAGE: Final = (
    lmdb.NotFoundError,
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)


@dataclass(slots=True)
class _Environment:
    """An LMDB environment that everything in this process which opened its directory shares."""

    env: Any
    writable: bool
    users: int = 0


# LMDB must not be opened twice in one process. What a child of a fork inherited, it closes before it opens its own.
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
            self._key, self._shared = _acquire(path, read_only)

    @property
    def path(self) -> Path:
        """The directory of the log."""
        return self._path

    @contextmanager
    def reading(self) -> Iterator[LmdbLogView]:
        """Open a view of the current state."""
        self._check_usable()
        with _errors_named(self._path), self._shared.env.begin() as transaction:
            yield LmdbLogView(self._path, transaction)

    @contextmanager
    def writing(self) -> Iterator[LmdbLogView]:
        """Wait for the write lock of the environment and open a view to write."""
        self._check_usable()
        if self._read_only:
            raise StorageError(self._path, "opened for reading only")
        with _errors_named(self._path), self._shared.env.begin(write=True) as transaction:
            yield LmdbLogView(self._path, transaction)

    def close(self) -> None:
        """Let go of the environment; the last user in this process closes it."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        with _registry_lock:
            self._shared.users -= 1
            if not self._shared.users:
                del _open_environments[self._key]
                self._shared.env.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise StorageError(self._path, "closed")
        if os.getpid() != self._pid:
            raise StorageError(self._path, "opened before a fork; open it again in the child process")


class LmdbLogView:
    """`LogReader` and `LogWriter` over one LMDB transaction."""

    def __init__(self, path: Path, transaction: Any) -> None:
        self._path = path
        self._transaction = transaction

    def size(self) -> int:
        """Return the number of entries."""
        rows: int = self._transaction.stat()["entries"]
        return rows - sum(self._transaction.get(key) is not None for key in (_FORMAT_KEY, _CHECKPOINT_KEY))

    def entries(self, start: int, stop: int) -> list[bytes]:
        """Return the entries [start, stop); raises MissingEntryError naming the first that is not there."""
        found: list[bytes] = []
        if start >= stop:
            return found
        with self._transaction.cursor() as cursor:
            more = cursor.set_range(_index_key(start))
            for index in range(start, stop):
                if not more or cursor.key() != _index_key(index):
                    raise MissingEntryError(self._path, index)
                found.append(cursor.value())
                more = cursor.next()
        return found

    def checkpoint(self) -> bytes | None:
        """Return the signed note that was stored last, or None."""
        note: bytes | None = self._transaction.get(_CHECKPOINT_KEY)
        return note

    def append(self, entries: Sequence[bytes], checkpoint: bytes) -> None:
        """Add entries at the end and replace the checkpoint."""
        for index, entry in enumerate(entries, self.size()):
            if not self._transaction.put(_index_key(index), entry, overwrite=False):
                raise StorageError(self._path, f"there is an entry {index} beyond the last one")
        self._transaction.put(_CHECKPOINT_KEY, checkpoint)


def _index_key(index: int) -> bytes:
    return index.to_bytes(8, "big")


def _acquire(path: Path, read_only: bool) -> tuple[tuple[int, int, int], _Environment]:
    """Return the process's environment of this directory and its key, opened now if need be, with one more user."""
    with _registry_lock:
        for inherited in [key for key in _open_environments if key[0] != os.getpid()]:
            _open_environments.pop(inherited).env.close()
        if read_only and not (path / _DATA_NAME).is_file():
            raise StorageError(path, "there is no log here")
        if not read_only:
            path.mkdir(parents=True, exist_ok=True)
        status = path.stat()
        key = (os.getpid(), status.st_dev, status.st_ino)
        if key not in _open_environments:
            _open_environments[key] = _open_environment(path, read_only)
        shared = _open_environments[key]
        if not read_only and not shared.writable:
            raise StorageError(path, _NOT_WRITABLE)
        shared.users += 1
        return key, shared


def _open_environment(path: Path, read_only: bool) -> _Environment:
    """Open an environment, created unless `read_only`, and check its format.

    Readers too open it writable where they may, since a writer in the same process may come to share it.
    """
    writable = _may_write(path / _DATA_NAME) and _may_write(path / _LOCK_NAME)
    if not read_only and not writable:
        raise StorageError(path, _NOT_WRITABLE)
    env = _open_lmdb(path, writable=writable, create=not read_only)
    try:
        _check_length(path, env)
        if not read_only:
            _write_format(path, env)
        with env.begin() as transaction:
            if transaction.stat()["entries"] == 0:
                raise StorageError(path, "there is no log here")
            found = transaction.get(_FORMAT_KEY)
        if found != FORMAT:
            shown = "none" if found is None else repr(found[:40])
            raise StorageError(path, f"format {shown} is not {FORMAT!r}")
    except BaseException:
        env.close()
        raise
    return _Environment(env, writable)


def _open_lmdb(path: Path, *, writable: bool, create: bool) -> Any:
    """Open the environment with the largest map that the process may have.

    Who may not write the lock file reads without a lock, and a writer does not know of that reader.
    """
    if writable:
        reserve_lock_file(path)  # a full disk would end the process
    for size in MAP_SIZES_BYTES:
        try:
            return lmdb.open(
                os.fsencode(path),  # LMDB takes text in UTF-8 only
                map_size=size,
                readonly=not writable,
                create=create,
                lock=writable or _may_write(path / _LOCK_NAME),
                mode=_FILE_MODE,
            )
        except (lmdb.MemoryError, OverflowError):
            if size == MAP_SIZES_BYTES[-1]:
                raise
    raise AssertionError("there is no map size to try")


def _may_write(file: Path) -> bool:
    return os.access(file if file.exists() else file.parent, os.W_OK)


def _check_length(path: Path, env: Any) -> None:
    """Refuse a data file that ends before its last page: touching what is missing would kill the process (SIGBUS).

    A log deletes nothing, so that each of its transactions writes all the pages it took.
    """
    needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    missing = needed - (path / _DATA_NAME).stat().st_size
    if missing > 0:
        raise StorageError(path, f"damaged: {_DATA_NAME} lacks its last {missing} bytes")


def _write_format(path: Path, env: Any) -> None:
    """Say in a new environment what it is."""
    with env.begin() as transaction:
        if transaction.stat()["entries"]:
            return
    with env.begin(write=True) as transaction:
        transaction.put(_FORMAT_KEY, FORMAT, overwrite=False)
    sync_directory(path)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Turn the errors of LMDB and of the file system into StorageError."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise StorageError(path, "full: the size of its map is reached") from error
    except lmdb.MapResizedError as error:
        raise StorageError(path, "grew beyond what this process has mapped of it; open it again") from error
    except _DAMAGE as error:
        raise StorageError(path, f"not a log, or damaged ({_reason(path, error)})") from error
    except lmdb.Error as error:
        raise StorageError(path, _reason(path, error)) from error
    except OSError as error:
        raise StorageError(path, error.strerror or str(error)) from error


def _reason(path: Path, error: lmdb.Error) -> str:
    """Return the message of an error without the path that some of them start with."""
    return str(error).removeprefix(f"{os.fsencode(path).decode(errors='replace')}: ")
