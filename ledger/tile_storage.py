"""A log's storage in static files, as C2SP tlog-tiles lays them out: what a web server can publish as it is.

    checkpoint                   the published signed note
    checkpoint.new               the next one, signed and not published yet
    tile/<L>/<N>[.p/<W>]         hashes (tiles.py)
    tile/entries/<N>[.p/<W>]     entries
    lock                         held by the one writer

An append writes bundles and tiles, then signs, then keeps the head outside the directory (heads.py), then publishes the
checkpoint; each is durable before the next begins. The log's key, ``log.pub``, is there before its first checkpoint is.
Nobody reads what is beyond the published checkpoint, so what a crash leaves there is removed, and a head that was
signed but not published is published by the next writer. Another user's head is not seen, so the signed note is also
durable as ``checkpoint.new`` before it is kept as a head.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
from samebits.ledger.durable import DurableWriter, locked, make_folder, new_path
from samebits.ledger.errors import LedgerError, StorageError
from samebits.ledger.file_errors import errors_named
from samebits.ledger.heads import HeadFile
from samebits.ledger.keys import VerifierKey
from samebits.ledger.leftovers import remove_partials, remove_unsigned
from samebits.ledger.lmdb_import import has_lmdb_log, read_lmdb_log, retire_lmdb_log
from samebits.ledger.logkey import store_log_verifier
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES
from samebits.ledger.presence import NO_CHECKPOINT, is_remnant, why_none
from samebits.ledger.recovery import agreed_edge, fork_error, open_own_note
from samebits.ledger.storage import Sign
from samebits.ledger.tile_source import CHECKPOINT_PATH, DirectorySource
from samebits.ledger.tile_view import TileLogView
from samebits.ledger.tiles import TreeEdge, grow

LOCK_NAME: Final = "lock"


@dataclass(frozen=True, slots=True)
class _Signed:
    """What was signed last, as head and checkpoint files say it (None: nothing yet), and the edge of its tree."""

    head: bytes | None
    published: bytes | None
    edge: TreeEdge


class TileLogStorage:
    """`LogStorage` in the files of a directory, safe for several threads and processes on one machine."""

    def __init__(self, path: Path, verifier: VerifierKey | None = None, *, state_folder: Path | None = None) -> None:
        """Open the storage, and make its directory if it is to be written: if the log's `verifier` is given.

        `state_folder` is where the last signed head is kept, if not in the user's state folder. Raises StorageError.
        """
        self._path = path
        self._verifier = verifier
        self._source = DirectorySource(path)
        self._pid = os.getpid()
        self._closed = False
        self._durable = DurableWriter()
        self._signed: _Signed | None = None  # None: has to be read
        self._head: HeadFile | None = None
        with errors_named(path, writes=verifier is not None):
            if verifier is None:
                if not (path / CHECKPOINT_PATH).is_file():
                    raise StorageError(path, why_none(path))
                return
            make_folder(path)
            self._head = HeadFile(verifier.name, state_folder)

    @property
    def path(self) -> Path:
        """The directory of the log."""
        return self._path

    @property
    def source(self) -> DirectorySource:
        """The tiles, from which proofs are made."""
        return self._source

    @contextmanager
    def reading(self) -> Iterator[TileLogView]:
        """Open a view of the current state."""
        self._check_usable()
        yield TileLogView(self._path, self._source)

    @contextmanager
    def writing(self) -> Iterator[TileLogWriter]:
        """Wait for the lock of the directory and for that of the head, and open a view to write.

        What a crash left undone is done first. Raises StorageError if the files do not hold the last signed head.
        """
        self._check_usable()
        if self._verifier is None or self._head is None:
            raise StorageError(self._path, "opened for reading only")
        with ExitStack() as held:
            with errors_named(self._path):
                held.enter_context(locked(self._path / LOCK_NAME))
            with errors_named(self._path, self._head):
                held.enter_context(self._head.locked())
                self._settle(self._verifier, self._head)
            writer = TileLogWriter(self, self._path, self._source)
            try:
                yield writer
            finally:
                writer.end()

    def close(self) -> None:
        """End the threads that sync."""
        if not self._closed and os.getpid() == self._pid:
            self._closed = True
            self._durable.close()

    def append(self, entries: Sequence[bytes], sign: Sign) -> bytes:
        """Do `TileLogWriter.append`; the caller holds the locks."""
        old, verifier = self._writable()
        edge, files = grow(old.edge, entries)
        self._signed = None  # unless this ends well
        with errors_named(self._path):
            self._durable.create({self._path / tile.path: data for tile, data in files.items()})
        checkpoint = Checkpoint(verifier.name, edge.tree_size, edge.root_hash())
        note = sign(checkpoint.tree_size, checkpoint.root_hash)
        if open_checkpoint(note, verifier) != checkpoint:
            raise StorageError(self._path, f"what was signed is not the checkpoint of its {edge.tree_size} entries")
        self._sign_and_publish(note)
        self._signed = _Signed(note, note, edge)
        remove_partials(self._path, files, old.edge.tree_size)
        return note

    def republish(self, note: bytes) -> None:
        """Do `TileLogWriter.republish`; the caller holds the locks."""
        signed, verifier = self._writable()
        if signed.head is None or open_checkpoint(note, verifier) != open_checkpoint(signed.head, verifier):
            raise StorageError(self._path, "another text cannot take the place of the checkpoint's")
        with errors_named(self._path):
            self._publish(note)
        self._signed = _Signed(signed.head, note, signed.edge)

    def _writable(self) -> tuple[_Signed, VerifierKey]:
        """Return what was signed last, and the log's key, to a view that may write."""
        if self._signed is None or self._verifier is None:
            raise StorageError(self._path, "an append failed here; open another view to write")
        return self._signed, self._verifier

    def _settle(self, verifier: VerifierKey, head_file: HeadFile) -> None:
        """Have head, checkpoint and files agree, and know what they say; raises StorageError where they can't."""
        published, head = self._source.read(CHECKPOINT_PATH, MAX_NOTE_SIZE_BYTES), head_file.read()
        is_left = new_path(self._path / CHECKPOINT_PATH).exists()
        known = self._signed
        if known is not None and not is_left and (known.published, known.head) == (published, head):
            # another process that was killed may have left files
            remove_unsigned(self._path, known.edge.tree_size, has_gaps=False)
            return
        self._signed = None
        signed = open_own_note(self._path, f"the last signed head ({head_file.path})", head, verifier)
        if has_lmdb_log(self._path):
            published = published or self._import_lmdb(signed, verifier)
            retire_lmdb_log(self._path)
        shown = open_own_note(self._path, "its checkpoint", published, verifier)
        left = self._signed_elsewhere(shown, verifier) if is_left else None
        if left is not None:
            published, shown = left
        if shown is None and signed is None:
            if is_remnant(self._path):
                raise StorageError(self._path, NO_CHECKPOINT)
            self._signed = _Signed(None, None, TreeEdge())
            return
        edge = agreed_edge(self._path, self._source, shown, signed)
        if published is None or (shown is not None and signed is not None and shown.tree_size < signed.tree_size):
            assert head is not None
            self._publish(head)  # a crash came between the signature and this
            published = head
        else:
            if head is None or (shown is not None and signed is not None and signed.tree_size < shown.tree_size):
                self._keep_head(published, head_file)  # the log was not here, or went on elsewhere
                head = published
            if left is not None:
                self._show(self._durable.replace_left)
        self._signed = _Signed(head, published, edge)
        remove_unsigned(self._path, edge.tree_size, has_gaps=True)

    def _signed_elsewhere(self, shown: Checkpoint | None, verifier: VerifierKey) -> tuple[bytes, Checkpoint] | None:
        """Return the note in checkpoint.new if it is newer than the published one: it may be a head that another user
        keeps. Raises StorageError if the files do not hold it."""
        note = self._source.read(new_path(Path(CHECKPOINT_PATH)).name, MAX_NOTE_SIZE_BYTES)
        try:
            left = open_checkpoint(note or b"", verifier)
        except LedgerError:
            return None  # half written: nobody keeps it as a head yet
        if note is None or (shown is not None and left.tree_size <= shown.tree_size):
            return None
        agreed_edge(self._path, self._source, shown, left)
        return note, left

    def _sign_and_publish(self, note: bytes) -> None:
        """Make a signed head durable, then visible; it counts from the moment that checkpoint.new is there."""
        assert self._head is not None
        with errors_named(self._path, self._head):
            self._durable.prepare({self._head.path: note, self._path / CHECKPOINT_PATH: note})
            self._durable.replace(self._head.path)
        try:
            self._show(self._durable.replace)
        except OSError as error:
            reason = f"{error.strerror or error}; what was signed last is published by the next writer"
            raise StorageError(self._path, reason) from error

    def _keep_head(self, note: bytes, head_file: HeadFile) -> None:
        self._durable.prepare({head_file.path: note})
        self._durable.replace(head_file.path)

    def _publish(self, note: bytes) -> None:
        self._durable.prepare({self._path / CHECKPOINT_PATH: note})
        self._show(self._durable.replace)

    def _show(self, replace: Callable[[Path], None]) -> None:
        """Put checkpoint.new in the place of the checkpoint."""
        assert self._verifier is not None
        store_log_verifier(self._path, self._verifier)  # who sees a checkpoint finds its key
        replace(self._path / CHECKPOINT_PATH)

    def _import_lmdb(self, signed: Checkpoint | None, verifier: VerifierKey) -> bytes | None:
        """Write the entries of a log in the old format as tiles, and publish its checkpoint as it is."""
        entries, note = read_lmdb_log(self._path)
        checkpoint = open_own_note(self._path, "the checkpoint in data.mdb", note, verifier)
        if note is None or checkpoint is None:
            return None
        edge, files = grow(TreeEdge(), entries)
        if Checkpoint(verifier.name, edge.tree_size, edge.root_hash()) != checkpoint:
            raise StorageError(self._path, "damaged: the entries in data.mdb are not those of its checkpoint")
        if signed not in (None, checkpoint):
            raise fork_error(self._path, signed, f"data.mdb holds {checkpoint.tree_size}")
        self._durable.create({self._path / tile.path: data for tile, data in files.items()})
        self._publish(note)
        return note

    def _check_usable(self) -> None:
        if self._closed:
            raise StorageError(self._path, "closed")
        if os.getpid() != self._pid:
            raise StorageError(self._path, "opened before a fork; open it again in the child process")


class TileLogWriter(TileLogView):
    """`LogWriter` over a storage whose locks are held."""

    def __init__(self, storage: TileLogStorage, path: Path, source: DirectorySource) -> None:
        super().__init__(path, source)
        self._storage = storage
        self._ended = False

    def append(self, entries: Sequence[bytes], sign: Sign) -> bytes:
        """Add entries at the end, sign, publish; return the signed note. Raises StorageError."""
        self._check_open()
        self._note = None
        return self._storage.append(entries, sign)

    def republish(self, checkpoint: bytes) -> None:
        """Replace the checkpoint by the same text with other signatures; raises StorageError."""
        self._check_open()
        self._note = None
        self._storage.republish(checkpoint)

    def end(self) -> None:
        """Let nothing more be written: the locks are let go."""
        self._ended = True

    def _check_open(self) -> None:
        if self._ended:
            raise StorageError(self._path, "this view has ended; open another one to write")
