"""The store: objects under their addresses in LMDB, every read verified.

In a store's directory, ``cas/`` is the LMDB environment (environment.py has its databases, records.py the values).
Other rooms keep their own folders beside it.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from numpy.typing import NDArray

from samebits.cas.damage import take_out
from samebits.cas.digest import DIGEST_SIZE_BYTES, Buffer, Digest, hash_node
from samebits.cas.environment import LEASES, Environment
from samebits.cas.errors import DamagedObjectError, DigestMismatchError, StoreError
from samebits.cas.node import Node, decode_node, encode_node
from samebits.cas.pins import Pins, delete_pin, pin_key, read_pins, scan_pins, write_claim, write_pin
from samebits.cas.reads import ObjectReader, find_objects, list_objects
from samebits.cas.records import INLINE_SIZE_BYTES, ROW_SIZE_BYTES, ObjectInfo, ObjectRecord
from samebits.cas.row_values import measure_rows, measure_section
from samebits.cas.writes import PendingWrites, write_blob, write_node, write_small_blob

ENVIRONMENT_FOLDER: Final = "cas"

Array = NDArray[Any]


class _ThreadState(threading.local):
    """What each thread has of its own: the batch that is open, and how much it has added."""

    pending: PendingWrites | None = None
    new_bytes: int = 0
    watcher: Callable[[int], object] | None = None


class Store:
    """A content-addressed store in a directory. Threads and processes may read and write it at once.

    Reads raise ObjectNotFoundError, DigestMismatchError for bytes that have another address, and DamagedObjectError
    for a record or a row that is missing or malformed. Writes raise StoreFullError when there is no room.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        read_only: bool = False,
        create: bool = True,
        map_size_bytes: int | None = None,
        max_size_bytes: int | None = None,
    ) -> None:
        """Open the store in directory `path`, and make it if there is none and `create`; raises StoreError.

        `map_size_bytes` is the address space to begin with (default 1 TiB, or what the process can have); it doubles
        when the database has filled it, up to `max_size_bytes` if that is given: then StoreFullError.
        """
        self._path = Path(path).absolute()
        if self._path.exists() and not self._path.is_dir():
            raise StoreError(self._path, "is not a directory")
        self._environment = Environment(
            self._path,
            self._path / ENVIRONMENT_FOLDER,
            read_only=read_only,
            create=create,
            map_size_bytes=map_size_bytes,
            max_size_bytes=max_size_bytes,
        )
        self._thread = _ThreadState()
        self._reader = ObjectReader(self._environment, self._open_batch)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The directory of the store."""
        return self._path

    @property
    def environment(self) -> Environment:
        """The database, for the other files of this room."""
        return self._environment

    @property
    def reader(self) -> ObjectReader:
        """What reads objects, for the other files of this room."""
        return self._reader

    @property
    def has_batch(self) -> bool:
        """Whether the calling thread has a batch open."""
        return self._open_batch() is not None

    @property
    def new_bytes(self) -> int:
        """How many bytes of content the calling thread has added through this Store; equal content adds none."""
        pending = self._thread.pending
        return self._thread.new_bytes + (0 if pending is None else pending.new_bytes)

    def close(self) -> None:
        """Let go of the store; closing twice is fine."""
        self._environment.close()

    @contextmanager
    def batch(self, *, join: bool = False) -> Iterator[None]:
        """Gather this thread's puts, commit them together at the end; an exception drops what is not yet committed.

        More than 32 MiB is committed in several transactions, each of complete objects. When one of them fails the
        batch takes nothing more. Batches do not nest (StoreError), but with `join` the puts belong to the batch that
        is open, if one is. It is not open in the child of a fork.
        """
        open_one = self._open_batch()
        if open_one is not None:
            if not join:
                raise StoreError(self._path, "a batch is already open in this thread")
            open_one.check_usable()
            yield
            return
        gate = self._environment.gate()
        visit = gate.enter()
        try:
            writes = PendingWrites(self._environment, gate, visit, watcher=self._thread.watcher)
            self._thread.pending = writes
            try:
                yield
                writes.flush()
            finally:
                self._thread.pending = None
                self._thread.new_bytes += writes.new_bytes
        finally:
            gate.leave(visit)

    @contextmanager
    def watching(self, watcher: Callable[[int], object]) -> Iterator[None]:
        """Have `watcher` told the size in bytes of each row that this thread's batches take, in the block."""
        self._thread.watcher = watcher
        try:
            yield
        finally:
            self._thread.watcher = None

    def put_blob(self, data: Buffer) -> Digest:
        """Store raw bytes, which must not change meanwhile, and return their address."""
        view = _byte_view(data)
        with self.batch(join=True):
            if len(view) <= INLINE_SIZE_BYTES:
                return write_small_blob(self._pending(), bytes(view))
            return write_blob(self._pending(), measure_rows(self._environment, _cut_rows([view], copy=False)), None)

    def put_node(self, node: Node) -> Digest:
        """Store a node and return its address; raises NodeError or EncodingError."""
        encoded = encode_node(node)
        digest = hash_node(encoded)
        with self.batch(join=True):
            write_node(self._pending(), digest, memoryview(encoded))
        return digest

    def put_encoded_node(self, data: Buffer, *, expected: Digest | None = None) -> Digest:
        """Store a node that is already encoded; raises NodeError, EncodingError, or DigestMismatchError."""
        decode_node(data)
        digest = hash_node(data)
        if expected is not None and digest != expected:
            raise DigestMismatchError(expected, digest)
        with self.batch(join=True):
            write_node(self._pending(), digest, _byte_view(data))
        return digest

    def put_stream(self, stream: BinaryIO, *, expected: Digest | None = None) -> Digest:
        """Store what a stream has left, in bounded memory; raises DigestMismatchError if it is not `expected`."""
        return self.put_pieces(iter(lambda: _read_piece(stream), b""), expected=expected)

    def put_pieces(self, pieces: Iterable[Buffer], *, expected: Digest | None = None) -> Digest:
        """Store a blob that comes in pieces of any size; raises DigestMismatchError if it is not `expected`.

        A piece may be changed when the next one is asked for.
        """
        with self.batch(join=True):
            rows = _cut_rows(pieces, copy=True)
            return write_blob(self._pending(), measure_rows(self._environment, rows), expected)

    def put_section(self, descriptor: int, start: int, stop: int) -> Digest:
        """Store bytes [start, stop) of an open file as a blob, at the speed of the disk; raises EOFError if it ends."""
        with self.batch(join=True):
            return write_blob(self._pending(), measure_section(self._environment, descriptor, start, stop), None)

    def pin(self, name: str, digest: Digest) -> None:
        """Give an object a name; raises ObjectNotFoundError, or ValueError for a name that can't be one."""
        key = pin_key(name)
        with self.batch(join=True):
            self.flush()
            self._environment.write(lambda transaction: write_pin(transaction, key, digest))

    def unpin(self, name: str) -> bool:
        """Take a name away, a malformed pin's too; return whether it was there."""
        return self._environment.write(lambda transaction: delete_pin(transaction, name), frees=True)

    def pins(self) -> dict[str, Digest]:
        """Return every pin, in the order of names; raises StoreError for one that is malformed."""
        with self._environment.reading() as transaction:
            return read_pins(transaction, self._path)

    def scan_pins(self) -> Pins:
        """Return every pin, those that are malformed apart."""
        with self._environment.reading() as transaction:
            return scan_pins(transaction)

    @contextmanager
    def holding(self, roots: Iterable[Digest]) -> Iterator[None]:
        """Keep objects, with all that they refer to, from garbage collection until the end, or this process's death."""
        identity = self._environment.lease().identity
        key = f"{identity}/{secrets.token_hex(8)}".encode()
        claim = list(roots)
        with self.batch(join=True):
            self.flush()
            self._environment.write(lambda transaction: write_claim(transaction, key, claim))
        try:
            yield
        finally:
            with suppress(StoreError):  # an entry that stays means nothing once the process is dead
                if self._environment.lease_identity() == identity:  # else this is a child, and its parent goes on
                    self._environment.write(lambda transaction: transaction.delete(LEASES, key), frees=True)

    def flush(self) -> None:
        """Commit what the open batch has gathered so far; StoreError outside of one."""
        pending = self._open_batch()
        if pending is None:
            raise StoreError(self._path, "no batch is open in this thread")
        pending.flush()

    def find(self, prefix: str, limit: int = 2) -> list[Digest]:
        """Return up to `limit` addresses that begin with these hexadecimal characters; raises ValueError for others."""
        if len(prefix) > 2 * DIGEST_SIZE_BYTES or not set(prefix) <= set("0123456789abcdef"):
            raise ValueError(f"{prefix!r} is not the beginning of an address")
        whole = bytes.fromhex(prefix[: len(prefix) // 2 * 2])
        found = find_objects(self._environment, whole, limit if len(prefix) % 2 == 0 else 1 << 20)
        return [digest for digest in found if str(digest).startswith(prefix)][:limit]

    def tensor(self, digest: Digest) -> Array:
        """Return a stored tensor as a read-only array; only its own rows are read. Raises as `get_tensor` does."""
        from samebits.cas.tensor import get_tensor  # tensors are made of objects, the store knows only those

        return get_tensor(self, digest)

    def has(self, digest: Digest) -> bool:
        """Return whether the store has an object of this address."""
        return self._reader.has(digest)

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Return those of `digests` that the store has no object of, in their order."""
        return [digest for digest in digests if not self.has(digest)]

    def missing_rows(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return those of `keys` that the store has no row of, in their order."""
        return [key for key in keys if not self._reader.has_row(key)]

    def row(self, key: bytes) -> bytes | None:
        """Return the row of this key as it lies in the store, not verified; None if there is none."""
        return self._reader.row(key)

    def record(self, digest: Digest) -> ObjectRecord:
        """Return where the bytes of an object are; raises ObjectNotFoundError, DamagedObjectError."""
        return self._reader.record(digest)

    def stat(self, digest: Digest) -> ObjectInfo:
        """Return kind and size of an object, from the index alone."""
        record = self._reader.record(digest)
        return ObjectInfo(digest, record.kind, record.size_bytes)

    def get_blob(self, digest: Digest) -> bytes:
        """Return the bytes of a blob; raises ObjectKindError for a node."""
        return self._reader.read_bytes(digest, self._reader.record(digest, "blob"))

    def get_encoded(self, digest: Digest) -> bytes:
        """Return the encoding of a node; raises ObjectKindError for a blob."""
        return self._reader.read_bytes(digest, self._reader.record(digest, "node"))

    def get_node(self, digest: Digest) -> Node:
        """Return a node; raises ObjectKindError for a blob."""
        return decode_node(self.get_encoded(digest))

    def read_into(self, digest: Digest, out: memoryview) -> None:
        """Copy a blob into `out`, which has exactly its bytes; after an error the content of `out` means nothing."""
        record = self._reader.record(digest, "blob")
        if out.format != "B" or out.ndim != 1 or out.nbytes != record.size_bytes:
            raise ValueError(f"want a view of {record.size_bytes} bytes, not of {out.nbytes}")
        self._reader.read_into(digest, record, out)

    def read_rows(self, digest: Digest) -> Iterator[bytes]:
        """Yield an object's bytes in rows of up to 1 MiB, each verified before it is given out.

        That they are the right rows in the right order is known with the last one: raises DigestMismatchError there.
        """
        return self._reader.read_rows(digest)

    def write_to(self, digest: Digest, descriptor: int, offset: int) -> int:
        """Write an object's bytes into an open file at an offset, at the speed of the disk; returns their number.

        Every row is verified before it is written; that they are the right ones in the right order is known at the
        end: raises DigestMismatchError there.
        """
        return self._reader.write_to(digest, descriptor, offset)

    def objects(self) -> Iterator[ObjectInfo]:
        """Yield every object in the order of addresses; raises DamagedObjectError at a record that does not decode."""
        return list_objects(self._environment)

    def discard_damaged(self, digest: Digest) -> bool:
        """Forget an object if it is damaged, with its damaged rows, so that it can be put or fetched again.

        Returns whether it was damaged; an intact object stays. Raises ObjectNotFoundError if there is none.
        """
        self._environment.check_writable()
        try:
            for _ in self.read_rows(digest):
                pass
        except DamagedObjectError:
            return take_out(self._environment, digest)
        return False

    def pending_writes(self) -> PendingWrites:
        """Return what this thread's batch has gathered; for the other files of this room, only within a batch."""
        return self._pending()

    def _open_batch(self) -> PendingWrites | None:
        """Return what the calling thread's batch has gathered, if one is open."""
        pending = self._thread.pending
        return pending if pending is not None and pending.process == os.getpid() else None

    def _pending(self) -> PendingWrites:
        pending = self._open_batch()
        if pending is None:
            raise AssertionError("only called within a batch")
        return pending


def _byte_view(data: Buffer) -> memoryview:
    view = memoryview(data)
    return view.cast("B") if view.nbytes else memoryview(b"")


def _read_piece(stream: BinaryIO) -> bytes:
    piece = stream.read(ROW_SIZE_BYTES)
    if not isinstance(piece, bytes):
        raise TypeError(f"the stream's read gave {type(piece).__name__}, not bytes")
    return piece


def _cut_rows(pieces: Iterable[Buffer], *, copy: bool) -> Iterator[Buffer]:
    """Yield the pieces' bytes in rows of 1 MiB, the last one shorter.

    A row that lies in one piece is not copied, unless `copy` and the piece can change: rows are taken ahead.
    """
    rest = bytearray()
    for piece in pieces:
        view, start = _byte_view(piece), 0
        while start < len(view):
            stop = min(len(view), start + ROW_SIZE_BYTES - len(rest))
            if not rest and stop - start == ROW_SIZE_BYTES:
                yield bytes(view[start:stop]) if copy and not isinstance(piece, bytes) else view[start:stop]
            else:
                rest += view[start:stop]
            if len(rest) == ROW_SIZE_BYTES:
                yield rest
                rest = bytearray()
            start = stop
    if rest:
        yield rest
