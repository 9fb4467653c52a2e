"""The LMDB environment of a store: opening and checking it, its databases and its transactions.

Databases: ``rows`` (BLAKE3 of a row -> row), ``objects`` (address -> record), ``pins`` (name -> address) and ``meta``,
whose ``format`` is the canonical msgpack of ``{"format": "samebits-cas", "version": 1}``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb

from samebits.cas.encoding import decode, encode
from samebits.cas.errors import EncodingError, StoreError, StoreFullError
from samebits.cas.shared import SharedEnvironment, acquire, release

ROWS: Final = "rows"
OBJECTS: Final = "objects"
PINS: Final = "pins"
META: Final = "meta"
FORMAT_KEY: Final = b"format"
FORMAT_RECORD: Final = encode({"format": "samebits-cas", "version": 1})

# Address space, not disk: the file grows as it is filled. Smaller ones are for processes with limited address space.
_MAP_SIZES_BYTES: Final = tuple(size for size in (1 << 40, 64 << 30, 8 << 30, 1 << 30) if size <= sys.maxsize)
_MAX_READERS: Final = 1022
_TABLES: Final = (ROWS, OBJECTS, PINS, META)
_DATA_NAME: Final = "data.mdb"
_MAX_UNWRITTEN_PAGES: Final = 16
_FULL_CODES: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@dataclass(slots=True)
class Transaction:
    """Reads and writes of one LMDB transaction. A memoryview it gives out is valid only until the transaction ends."""

    handle: Any  # lmdb.Transaction
    tables: dict[str, Any]

    def get(self, table: str, key: bytes) -> memoryview | None:
        """Return the value of a key, or None."""
        value: memoryview | None = self.handle.get(key, db=self.tables[table])
        return value

    def put_new(self, table: str, key: bytes, value: bytes | bytearray | memoryview) -> bool:
        """Write a value unless the key is there; return whether it was written."""
        return bool(self.handle.put(key, value, overwrite=False, db=self.tables[table]))

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Write a value in place of any other."""
        self.handle.put(key, value, db=self.tables[table])

    def delete(self, table: str, key: bytes) -> bool:
        """Delete a key; return whether it was there."""
        return bool(self.handle.delete(key, db=self.tables[table]))

    def scan(self, table: str, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` (key, value) in key order, from the first key behind `after`."""
        found: list[tuple[bytes, bytes]] = []
        with self.handle.cursor(db=self.tables[table]) as cursor:
            more = cursor.first() if after is None else cursor.set_range(after + b"\0")
            while more and len(found) < limit:
                found.append((bytes(cursor.key()), bytes(cursor.value())))
                more = cursor.next()
        return found


class Environment:
    """One user's hold on the LMDB environment in a directory. Usable from several threads, and on after a fork."""

    def __init__(
        self, path: Path, directory: Path, *, read_only: bool, create: bool, map_size_bytes: int | None
    ) -> None:
        """Open `directory`, which belongs to the store `path`; raises StoreError."""
        self._path = path
        self._directory = directory
        self._read_only = read_only
        self._map_sizes = _MAP_SIZES_BYTES if map_size_bytes is None else (map_size_bytes,)
        self._closed = False
        self._pid = os.getpid()
        self._shared = self._acquire(create=create)

    @property
    def path(self) -> Path:
        """The directory of the store that the environment belongs to."""
        return self._path

    def check_writable(self) -> None:
        """Raise StoreError if this user only reads."""
        if self._read_only:
            raise StoreError(self._path, "is opened for reading only")

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a snapshot to read from; keep it short, it holds on to the pages it sees."""
        with self._transaction(write=False) as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Wait for the write lock and open a transaction that commits at the end, or aborts on an exception."""
        self.check_writable()
        with self._transaction(write=True) as transaction:
            yield transaction

    def close(self) -> None:
        """Let go of the environment; the last user in the process closes it, after the transactions that still run."""
        if self._closed:
            return
        self._closed = True
        if self._pid == os.getpid():
            release(self._shared)

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Transaction]:
        shared = self._current()
        try:
            handle = self._begin(shared, write)
            try:
                with handle:
                    yield Transaction(handle, shared.tables)
            finally:
                shared.leave()
        except lmdb.Error as error:
            raise self._wrap(error, write=write) from error

    def _begin(self, shared: SharedEnvironment, write: bool) -> Any:
        """Begin a transaction and count it; follows a map that another process has made larger."""
        while True:
            shared.enter()
            try:
                return shared.env.begin(write=write, buffers=True)
            except lmdb.MapResizedError:
                shared.leave()
                shared.when_idle(lambda: shared.env.set_mapsize(0))
            except BaseException:
                shared.leave()
                raise

    def _current(self) -> SharedEnvironment:
        if self._closed:
            raise StoreError(self._path, "is closed")
        if self._pid != os.getpid():
            self._shared = self._acquire(create=False)
            self._pid = os.getpid()
        return self._shared

    def _acquire(self, *, create: bool) -> SharedEnvironment:
        data = self._directory / _DATA_NAME
        try:
            shared = acquire(data, lambda: self._open(data, create=create))
        except OSError as error:
            raise StoreError(self._path, error.strerror or str(error)) from error
        except lmdb.Error as error:
            raise self._wrap(error, write=False) from error
        if shared.read_only and not self._read_only:
            release(shared)
            raise StoreError(self._path, "is not writable")
        return shared

    def _open(self, data: Path, *, create: bool) -> SharedEnvironment:
        if not data.exists():
            if not create or self._read_only:
                raise StoreError(self._path, "there is no store here")
            self._directory.mkdir(parents=True, exist_ok=True)
        writable = os.access(self._directory, os.W_OK) and (not data.exists() or os.access(data, os.W_OK))
        env = _open_lmdb(self._directory, self._map_sizes, read_only=not writable)
        try:
            _check_length(self._path, env, data, writable=writable)
            tables = self._open_tables(env, create=create and not self._read_only, read_only=not writable)
            env.reader_check()
        except BaseException:
            env.close()
            raise
        return SharedEnvironment(env, tables, read_only=not writable)

    def _open_tables(self, env: Any, *, create: bool, read_only: bool) -> dict[str, Any]:
        """Return the databases' handles; all of them are made in one transaction, with the format's record."""
        try:
            if read_only:
                tables = {name: env.open_db(name.encode(), create=False) for name in _TABLES}
                with env.begin() as transaction:
                    record = transaction.get(FORMAT_KEY, db=tables[META])
            else:
                with env.begin(write=True) as transaction:
                    fresh = transaction.stat()["entries"] == 0
                    if fresh and not create:
                        raise StoreError(self._path, "there is no store here")
                    tables = {name: env.open_db(name.encode(), txn=transaction, create=fresh) for name in _TABLES}
                    if fresh:
                        transaction.put(FORMAT_KEY, FORMAT_RECORD, db=tables[META])
                    record = transaction.get(FORMAT_KEY, db=tables[META])
        except lmdb.NotFoundError as error:
            raise StoreError(self._path, "is an LMDB database, but not of a store") from error
        if record != FORMAT_RECORD:
            raise StoreError(self._path, f"has the format {_describe_format(record)}, which this version does not know")
        return tables

    def _wrap(self, error: lmdb.Error, *, write: bool) -> StoreError:
        """Return the error of LMDB as one of ours."""
        if isinstance(error, lmdb.MapFullError):
            return StoreFullError(self._path, "full: the map's size is reached")
        if write and (error.code in _FULL_CODES or isinstance(error, lmdb.DiskError)):
            return StoreFullError(self._path, f"can't be written, the disk is full or failing ({error.reason})")
        if isinstance(
            error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError | lmdb.PageNotFoundError
        ):
            return StoreError(self._path, f"is damaged, or not an LMDB database ({error.reason})")
        if isinstance(error, lmdb.ReadersFullError):
            return StoreError(self._path, "too many readers at once")
        return StoreError(self._path, str(error.reason or error))


def _open_lmdb(directory: Path, map_sizes: tuple[int, ...], *, read_only: bool) -> Any:
    """Open the environment with the largest map that the process may have."""
    for last, size in [(size is map_sizes[-1], size) for size in map_sizes]:
        try:
            return lmdb.open(
                os.fsencode(directory),
                map_size=size,
                max_dbs=len(_TABLES),
                max_readers=_MAX_READERS,
                max_spare_txns=0,  # a child of a fork clears cached ones when it closes what it inherited
                readonly=read_only,
                lock=not read_only or os.access(directory / "lock.mdb", os.W_OK),
                readahead=True,  # rows are long: without it a cold read was 10 times slower
                mode=0o644,
            )
        except (lmdb.MemoryError, OverflowError):
            if last:
                raise
    raise AssertionError("there is no map size to try")


def _check_length(path: Path, env: Any, data: Path, *, writable: bool) -> None:
    """Refuse a data file that ends before its last page: touching what is missing would kill the process (SIGBUS).

    A transaction that frees the last pages it took may leave a few unwritten; the file is filled up for them.
    """
    needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    missing = needed - data.stat().st_size
    if missing <= 0:
        return
    few = missing <= _MAX_UNWRITTEN_PAGES * env.stat()["psize"]
    if not (few and writable and hasattr(os, "posix_fallocate")):
        raise StoreError(path, f"is damaged: {data.name} lacks its last {missing} bytes")
    with data.open("r+b") as file:
        os.posix_fallocate(file.fileno(), needed - 1, 1)  # never shortens, whatever another process does


def _describe_format(record: bytes | None) -> str:
    try:
        match decode(record or b""):
            case {"format": str() as name, "version": int() as version}:
                return f"{name!r} version {version}"
    except EncodingError:
        pass
    return "of something else"
