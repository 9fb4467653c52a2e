"""The LMDB environment of a store: opening and checking it, its databases and its transactions.

Databases: ``objects`` (address -> record), ``rows`` (BLAKE3 of a row -> row), ``subtrees`` (row and position -> its
value in BLAKE3's tree), ``pins`` (name -> address), ``leases`` (what living processes need), ``unfinished`` (rows of
objects that are not whole yet), ``touches`` (what was put while garbage is collected) and ``meta``, whose ``format`` is
the canonical msgpack of ``{"format": "samebits-cas", "version": 2}``.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from samebits.cas.database_files import DATA_NAME, MAX_READERS, find_fault, needed_bytes, reserve_lock_file
from samebits.cas.encoding import decode, encode
from samebits.cas.errors import FULL_CODES, EncodingError, StoreError, StoreFullError, file_system_error
from samebits.cas.locks import USERS, Gate, Lease, open_lock
from samebits.cas.shared import SharedEnvironment, acquire, release
from samebits.cas.transaction import Transaction
from samebits.cas.upgrade import OLD_FORMAT_RECORD, upgrade_records

OBJECTS: Final = "objects"
ROWS: Final = "rows"
SUBTREES: Final = "subtrees"
PINS: Final = "pins"
LEASES: Final = "leases"
UNFINISHED: Final = "unfinished"
TOUCHES: Final = "touches"
META: Final = "meta"
FORMAT_KEY: Final = b"format"
COLLECTING_KEY: Final = b"collecting"
FORMAT_RECORD: Final = encode({"format": "samebits-cas", "version": 2})

# Address space, not disk: the file grows as it is filled. Smaller ones are for processes with limited address space.
_MAP_SIZES_BYTES: Final = tuple(size for size in (1 << 40, 64 << 30, 8 << 30, 1 << 30) if size <= sys.maxsize)
_RESERVE_BYTES: Final = 4 << 20  # how far a store that is full may grow so that something can be deleted
_OLD_TABLES: Final = (ROWS, OBJECTS, PINS, META)  # of version 1
_TABLES: Final = (*_OLD_TABLES, SUBTREES, LEASES, UNFINISHED, TOUCHES)
_MAX_UNWRITTEN_PAGES: Final = 16

R = TypeVar("R")


class Environment:
    """One user's hold on the LMDB environment in a directory. Usable from several threads, and on after a fork."""

    def __init__(
        self,
        path: Path,
        directory: Path,
        *,
        read_only: bool = False,
        create: bool = True,
        map_size_bytes: int | None = None,
        max_size_bytes: int | None = None,
    ) -> None:
        """Open `directory`, which belongs to the store `path`; raises StoreError."""
        self._path = path
        self._directory = directory
        self._read_only = read_only
        self._max_size_bytes = max_size_bytes
        self._map_sizes = _MAP_SIZES_BYTES if map_size_bytes is None else (map_size_bytes,)
        if max_size_bytes is not None:
            self._map_sizes = tuple(sorted({min(size, max_size_bytes) for size in self._map_sizes}, reverse=True))
        self._closed = False
        self._pid = os.getpid()
        self._shared = self._acquire(create=create)

    @property
    def path(self) -> Path:
        """The directory of the store that the environment belongs to."""
        return self._path

    @property
    def directory(self) -> Path:
        """The directory of the environment itself."""
        return self._directory

    def check_writable(self) -> None:
        """Raise StoreError if this user only reads."""
        if self._read_only:
            raise StoreError(self._path, "is opened for reading only")

    def gate(self) -> Gate:
        """Return the process's gate; whoever is inside keeps the sweeps of garbage collection out."""
        self.check_writable()
        with self._file_errors():
            return self._current().gate(self._directory)

    def lease(self) -> Lease:
        """Return the process's lease, taken with the first call; what is put from then on stays while it lives."""
        self.check_writable()
        with self._file_errors():
            return self._current().lease(self._directory)

    def lease_identity(self) -> str | None:
        """Return the identity of the process's lease if it has one."""
        return self._current().lease_identity

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a snapshot to read from; keep it short, it holds on to the pages it sees."""
        with self._transaction(write=False) as transaction:
            yield transaction

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a copy of one value, or None: `reading` for one key, and faster."""
        shared = self._current()
        try:
            handle = self._begin(shared, write=False)
            try:
                value = handle.get(key, db=shared.tables[table])
                return None if value is None else bytes(value)
            finally:
                handle.abort()
                shared.leave()
        except lmdb.Error as error:
            raise self._wrap(error, write=False) from error

    def has(self, table: str, key: bytes) -> bool:
        """Return whether a key is there."""
        with self._transaction(write=False) as transaction:
            return transaction.has(table, key)

    def write(self, work: Callable[[Transaction], R], *, frees: bool = False) -> R:
        """Do `work` in a transaction that is on disk when this returns; an exception leaves everything as it was.

        `work` is done again when the map was too small and has grown. What `frees` space needs some at first: it gets
        it beyond the size that the store may have.
        """
        self.check_writable()
        while True:
            try:
                with self._transaction(write=True) as transaction:
                    return work(transaction)
            except StoreFullError as error:
                if not isinstance(error.__cause__, lmdb.MapFullError) or not self._grow(frees):
                    raise

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

    def _grow(self, frees: bool) -> bool:
        """Double the map unless that is more than is allowed, or than the process can have; return whether it grew."""
        shared = self._current()
        size = shared.env.info()["map_size"]
        most = self._max_size_bytes
        wanted = size * 2 if most is None else min(size * 2, most + (_RESERVE_BYTES if frees else 0))
        if wanted <= size:
            return False
        try:
            shared.when_idle(lambda: shared.env.set_mapsize(max(wanted, shared.env.info()["map_size"])))
        except (lmdb.Error, OverflowError):
            return False
        return True

    def _current(self) -> SharedEnvironment:
        if self._closed:
            raise StoreError(self._path, "is closed")
        if self._pid != os.getpid():
            self._shared = self._acquire(create=False)
            self._pid = os.getpid()
        return self._shared

    def _acquire(self, *, create: bool) -> SharedEnvironment:
        data = self._directory / DATA_NAME
        try:
            with self._file_errors():
                shared = acquire(data, lambda: self._open(data, create=create))
        except lmdb.Error as error:
            raise self._wrap(error, write=not self._read_only) from error
        if shared.read_only and not self._read_only:
            release(shared)
            raise StoreError(self._path, "is not writable")
        return shared

    def _open(self, data: Path, *, create: bool) -> SharedEnvironment:
        if not data.exists():
            if not create or self._read_only:
                raise StoreError(self._path, "there is no store here")
            self._directory.mkdir(parents=True, exist_ok=True)
        elif (fault := find_fault(self._directory)) is not None:
            raise StoreError(self._path, f"is damaged: {fault}")
        writable = os.access(self._directory, os.W_OK) and (not data.exists() or os.access(data, os.W_OK))
        users = _lock_users(self._directory, writable=writable)
        try:
            if writable:
                reserve_lock_file(self._directory)
            env = _open_lmdb(self._directory, self._map_sizes, read_only=not writable)
        except BaseException:
            _close_lock(users)
            raise
        try:
            _check_length(self._path, env, data, writable=writable)
            tables = self._open_tables_at_any_size(env, create=create and not self._read_only, read_only=not writable)
            env.reader_check()
        except BaseException:
            env.close()
            _close_lock(users)
            raise
        return SharedEnvironment(env, tables, read_only=not writable, users_lock=users)

    @contextmanager
    def _file_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise file_system_error(self._path, error) from error

    def _open_tables_at_any_size(self, env: Any, *, create: bool, read_only: bool) -> dict[str, Any]:
        """Open the databases; follows a map that another process makes larger meanwhile."""
        while True:
            try:
                return self._open_tables(env, create=create, read_only=read_only)
            except lmdb.MapResizedError:
                env.set_mapsize(0)

    def _open_tables(self, env: Any, *, create: bool, read_only: bool) -> dict[str, Any]:
        """Return the databases' handles; all of them are made in one transaction, with the format's record."""
        try:
            if read_only:
                meta = env.open_db(META.encode(), create=False)  # a transaction knows only databases opened before it
                with env.begin() as transaction:
                    self._check_format(transaction.get(FORMAT_KEY, db=meta))
                return {name: env.open_db(name.encode(), create=False) for name in _TABLES}
            with env.begin(write=True) as transaction:
                fresh = transaction.stat()["entries"] == 0
                if fresh and not create:
                    raise StoreError(self._path, "there is no store here")
                tables = {name: env.open_db(name.encode(), txn=transaction, create=fresh) for name in _OLD_TABLES}
                old = not fresh and transaction.get(FORMAT_KEY, db=tables[META]) == OLD_FORMAT_RECORD
                tables |= {
                    name: env.open_db(name.encode(), txn=transaction, create=fresh or old)
                    for name in _TABLES
                    if name not in tables
                }
                if old:
                    upgrade_records(transaction, tables[OBJECTS])
                if fresh or old:
                    transaction.put(FORMAT_KEY, FORMAT_RECORD, db=tables[META])
                self._check_format(transaction.get(FORMAT_KEY, db=tables[META]))
                return tables
        except lmdb.NotFoundError as error:
            raise StoreError(self._path, "is an LMDB database, but not of a store") from error

    def _check_format(self, record: bytes | None) -> None:
        if record == OLD_FORMAT_RECORD:
            raise StoreError(self._path, "has the format of an earlier version; a put into it brings it up to date")
        if record != FORMAT_RECORD:
            raise StoreError(self._path, f"has the format {_describe_format(record)}, which this version does not know")

    def _wrap(self, error: lmdb.Error, *, write: bool) -> StoreError:
        """Return the error of LMDB as one of ours."""
        if isinstance(error, lmdb.MapFullError):
            return StoreFullError(self._path, "full: the map's size is reached")
        if write and (error.code in FULL_CODES or isinstance(error, lmdb.DiskError)):
            return StoreFullError(self._path, f"can't be written, the disk is full or failing ({error.reason})")
        if isinstance(
            error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError | lmdb.PageNotFoundError
        ):
            return StoreError(self._path, f"is damaged, or not an LMDB database ({error.reason})")
        if isinstance(error, lmdb.ReadersFullError):
            return StoreError(self._path, "too many readers at once")
        return StoreError(self._path, str(error.reason or error))


def _lock_users(directory: Path, *, writable: bool) -> int | None:
    """Say that this process uses the store, so that nobody compacts it meanwhile; waits while it is compacted."""
    if not writable and not (directory / USERS).exists():
        return None
    descriptor = open_lock(directory / USERS)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _close_lock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _open_lmdb(directory: Path, map_sizes: tuple[int, ...], *, read_only: bool) -> Any:
    """Open the environment with the largest map that the process may have."""
    for last, size in [(size is map_sizes[-1], size) for size in map_sizes]:
        try:
            return lmdb.open(
                os.fsencode(directory),
                map_size=size,
                max_dbs=len(_TABLES),
                max_readers=MAX_READERS,
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
    needed = needed_bytes(env)
    missing = needed - data.stat().st_size
    if missing <= 0:
        return
    few = missing <= _MAX_UNWRITTEN_PAGES * env.stat()["psize"]
    if not (few and writable and hasattr(os, "posix_fallocate")):
        raise StoreError(path, f"is damaged: {data.name} lacks its last {missing} bytes")
    with data.open("r+b") as file:
        os.posix_fallocate(
            file.fileno(), file.seek(0, os.SEEK_END) + missing - 1, 1
        )  # never shortens, whatever another process does


def _describe_format(record: bytes | None) -> str:
    try:
        match decode(record or b""):
            case {"format": str() as name, "version": int() as version}:
                return f"{name!r} version {version}"
    except EncodingError:
        pass
    return "of something else"
