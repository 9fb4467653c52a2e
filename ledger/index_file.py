"""A log's index on disk: an LMDB environment of its own in `<log>/index/`, which may be deleted at any time.

The rows are those of `index.py` and `search_rows.py`. One more, ``m``, says what they cover: the canonical encoding of
``{"format": "samebits index v1", "origin": ..., "size": 13, "hashes": [32 bytes, ...]}``, where the hashes are those of
`merkle.CompactRange`, so that whoever opens the log goes on from there. It is written in one transaction with its rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb

from samebits.cas.database_files import DATA_NAME, MAX_READERS, needed_bytes, reserve_lock_file
from samebits.cas.encoding import Value, decode, encode
from samebits.cas.errors import EncodingError
from samebits.cas.shared import SharedEnvironment, acquire, release
from samebits.ledger.errors import IndexFileError
from samebits.ledger.merkle import HASH_SIZE_BYTES, CompactRange

INDEX_FOLDER: Final = "index"
FORMAT: Final = "samebits index v1"
META: Final = b"m"
_LOCK_NAME: Final = "lock.mdb"
_MAP_SIZES_BYTES: Final = (64 << 30, 4 << 30, 512 << 20)  # address space, not disk


@dataclass(frozen=True, slots=True)
class IndexCover:
    """What the rows of an index cover: the first entries of a log, remembered by their tree."""

    origin: str
    tree: CompactRange

    def encode(self) -> bytes:
        """Return the row that says it."""
        hashes: list[Value] = list(self.tree.hashes)
        return encode({"format": FORMAT, "origin": self.origin, "size": self.tree.tree_size, "hashes": hashes})

    @classmethod
    def decode(cls, row: bytes) -> IndexCover | None:
        """Read the row; None for anything else, another version included."""
        with suppress(EncodingError):
            match decode(row):
                case {
                    "format": str() as found,
                    "origin": str() as origin,
                    "size": int() as size,
                    "hashes": list() as h,
                }:
                    hashes = tuple(item for item in h if isinstance(item, bytes) and len(item) == HASH_SIZE_BYTES)
                    if found == FORMAT and size >= 0 and size.bit_count() == len(hashes) == len(h):
                        return cls(origin, CompactRange(size, hashes))
        return None


class IndexView:
    """The rows of an index file at one moment."""

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction
        self.cover_row: bytes | None = transaction.get(META)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        value: bytes | None = self._transaction.get(key)
        return value

    def scan(self, prefix: bytes, first: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) in key order for the keys that start with `prefix` and are not before `first`."""
        with self._transaction.cursor() as cursor:
            if cursor.set_range(max(prefix, first)):
                for key, value in cursor.iternext():
                    if not key.startswith(prefix):
                        return
                    yield key, value


class IndexFile:
    """The index file of one log, safe for several threads and processes; raises IndexFileError for a damaged one."""

    def __init__(self, directory: Path, shared: SharedEnvironment) -> None:
        """Use `open`."""
        self._directory = directory
        self._shared = shared
        self._pid = os.getpid()
        self._closed = False

    @classmethod
    def open(cls, log: Path, *, create: bool) -> IndexFile | None:
        """Open the index of the log in directory `log`; None where there is none and it is not to be created, and where
        it cannot be written.

        A file that LMDB cannot open is replaced: it holds nothing that the log does not.
        """
        directory = log / INDEX_FOLDER
        if not create and not (directory / DATA_NAME).is_file():
            return None
        for attempt in (1, 2):
            try:
                directory.mkdir(exist_ok=True)
                if not os.access(directory, os.W_OK):
                    return None
                return cls(directory, acquire(directory / DATA_NAME, lambda: _open_environment(directory)))
            except (OSError, lmdb.Error):
                if attempt == 1:
                    _remove_files(directory)
        return None

    @contextmanager
    def reading(self) -> Iterator[IndexView]:
        """Open a view of the rows as they are now; keep it short."""
        with self._transaction(write=False) as transaction:
            yield IndexView(transaction)

    def write(self, before: bytes | None, cover: IndexCover, rows: Mapping[bytes, bytes]) -> bool:
        """Add rows and say what they cover now; does nothing if the file's cover is no longer the row `before`."""
        with self._transaction(write=True) as transaction:
            if transaction.get(META) != before:
                return False
            for key in sorted(rows):
                transaction.put(key, rows[key])
            transaction.put(META, cover.encode())
        return True

    def clear(self) -> None:
        """Delete every row."""
        with self._transaction(write=True) as transaction:
            transaction.drop(self._shared.env.open_db(None, txn=transaction), delete=False)

    def close(self) -> None:
        """Let go of the file; the last user in this process closes it."""
        if not self._closed and os.getpid() == self._pid:
            self._closed = True
            release(self._shared)

    def discard(self) -> None:
        """Let go of the file, and remove it where that is allowed: it is damaged."""
        self.close()
        _remove_files(self._directory)

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Any]:
        if self._closed or os.getpid() != self._pid:
            raise IndexFileError(self._directory, "closed, or opened before a fork")
        try:
            self._shared.enter()
            try:
                with self._shared.env.begin(write=write) as transaction:
                    yield transaction
            finally:
                self._shared.leave()
        except lmdb.Error as error:
            raise IndexFileError(self._directory, str(error)) from error


def is_damage(error: IndexFileError) -> bool:
    """Return whether the file itself is bad, and not only out of reach."""
    return isinstance(error.__cause__, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError)


def _remove_files(directory: Path) -> None:
    with suppress(OSError):
        for name in (DATA_NAME, _LOCK_NAME):
            (directory / name).unlink(missing_ok=True)


def _open_environment(directory: Path) -> SharedEnvironment:
    reserve_lock_file(directory)  # a full disk would end the process
    for size in _MAP_SIZES_BYTES:
        try:
            env = lmdb.open(
                os.fsencode(directory),
                map_size=size,
                max_readers=MAX_READERS,
                max_spare_txns=0,  # a child of a fork clears cached ones when it closes what it inherited
                metasync=False,  # a power cut may lose the last rows, never the order of what was written
                mode=0o644,
            )
        except (lmdb.MemoryError, OverflowError):
            if size == _MAP_SIZES_BYTES[-1]:
                raise
            continue
        try:
            if (directory / DATA_NAME).stat().st_size < needed_bytes(env):
                raise OSError(f"{DATA_NAME} is shorter than it says")
            env.reader_check()
        except BaseException:
            env.close()
            raise
        return SharedEnvironment(env, {}, read_only=False)
    raise AssertionError("there is no map size to try")
