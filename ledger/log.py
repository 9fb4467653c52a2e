"""A log on disk: append entries that keep the rules, read them back, and sign a checkpoint of all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from samebits.cas.digest import Digest, hash_node
from samebits.ledger.audit import LogAudit, audit_log
from samebits.ledger.chain import ChainBuilder, RunChain, check_chain_signatures
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from samebits.ledger.entry import Entry, check_entry_signature, decode_entry, encode_entry
from samebits.ledger.errors import (
    ChainError,
    EntryNotFoundError,
    IndexFileError,
    LedgerError,
    RunNotFoundError,
    SignatureError,
    StaleCheckpointError,
    StorageError,
)
from samebits.ledger.index import KINDS, LogIndex
from samebits.ledger.index_file import INDEX_FOLDER, IndexCover, IndexFile, IndexView
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.lineage import Lineage, LineageWalk
from samebits.ledger.links import Link, link_entry
from samebits.ledger.log_state import READ_BATCH, CatchUp, LogState, UnfitIndexError
from samebits.ledger.logkey import has_log_verifier, load_log_verifier, load_or_create_log_key, store_log_verifier
from samebits.ledger.merkle import EMPTY_ROOT, leaf_hash
from samebits.ledger.note import add_signatures
from samebits.ledger.rows import Rows
from samebits.ledger.search import FoundEntry, Named, Query, find_address, runs_of_job, search_indexes
from samebits.ledger.search_rows import (
    RUN_ENTRIES,
    add_search_rows,
    list_artifacts,
    list_runs,
    neighbours,
    scan_indexes,
)
from samebits.ledger.storage import LogReader, LogStorage, LogWriter, Sign
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_storage import TileLogStorage

_INDEX_LAG: Final = 1024  # entries: the index file is written that often
_INDEX_PIECE: Final = 8192  # entries: an index is made in such pieces


@dataclass(frozen=True, slots=True)
class _Session:
    """The log while its state stands still for one operation."""

    state: LogState
    index: LogIndex
    view: LogReader
    writer: LogWriter | None


class Log:
    """An append-only list of signed entries in one directory, which its own key vouches for.

    Several processes may use one directory at once; each sees what the others appended. One `Log` may be shared by
    threads, and is opened anew after a fork.
    """

    def __init__(
        self, storage: LogStorage, verifier: VerifierKey, key: SigningKey | None, index_file: IndexFile | None = None
    ) -> None:
        """Use `Log.open`. Without a private key the log can only be read; without a file the index is in memory."""
        self._storage = storage
        self._verifier = verifier
        self._key = key
        self._index_file = index_file
        self._state = LogState()
        self._checked: set[Digest] = set()  # entries whose signature this process has verified
        self._lock = threading.RLock()
        self._tiles: TileReader | None = None  # under the checkpoint that proofs were last made for

    @classmethod
    def open(cls, directory: Path, *, read_only: bool = False, state_folder: Path | None = None) -> Log:
        """Open the log of a directory, created if there is none unless `read_only`.

        `state_folder` is where the last signed head is kept, if not in the user's state folder. Raises StorageError,
        also where the directory does not hold what was signed last, and KeyFileError for a private key that cannot be
        used.
        """
        if read_only:
            storage = TileLogStorage(directory)
            try:
                return cls(storage, load_log_verifier(directory), None, IndexFile.open(directory, create=False))
            except BaseException:
                storage.close()
                raise
        key = load_or_create_log_key(directory)
        storage = TileLogStorage(directory, key.verifier, state_folder=state_folder)
        try:
            if has_log_verifier(directory) and load_log_verifier(directory) != key.verifier:
                raise StorageError(directory, "log.key and log.pub are the keys of two different logs")
            _start_log(storage, key)
            store_log_verifier(directory, key.verifier)
            return cls(storage, key.verifier, key, IndexFile.open(directory, create=True))
        except BaseException:
            storage.close()
            raise

    @property
    def origin(self) -> str:
        """The log's name, which every entry in it was made for."""
        return self._verifier.name

    @property
    def verifier(self) -> VerifierKey:
        """The public key of the log."""
        return self._verifier

    @property
    def size(self) -> int:
        """The number of entries."""
        with self._session() as session:
            return session.state.tree.tree_size

    def append(self, entries: Sequence[Entry]) -> Checkpoint:
        """Add entries at the end, all or none, and return the new checkpoint, which is durable by then.

        Before anything is written, each entry's form, signature, origin and place in its run are checked; raises
        EntryError, ChainError or StorageError.
        """
        if self._key is None:
            raise StorageError(self._storage.path, "opened for reading only")
        with self._lock:
            with self._session(write=True) as session:
                assert session.writer is not None
                state, writer, rows = session.state, session.writer, Rows(session.index.rows)
                index, tree, encoded = LogIndex(self.origin, rows), state.tree, []
                for entry in entries:
                    data = encode_entry(entry)
                    address, link = _link(data)
                    index.add(tree.tree_size, link)
                    self._check_signature(tree.tree_size, address, entry)
                    add_search_rows(rows, tree.tree_size, link, entry)
                    tree = tree.extended(leaf_hash(data))
                    encoded.append(data)
                checkpoint = Checkpoint(self.origin, tree.tree_size, tree.root_hash())
                if encoded:
                    note = writer.append(encoded, _signer(checkpoint, self._key))
            if encoded:
                state.rows.update(rows.own)
                self._state = replace(state, note=note, tree=tree)
                self._store_index(_INDEX_LAG)
        return checkpoint

    def entry(self, index: int) -> Entry:
        """Return an entry; raises EntryNotFoundError."""
        with self._session() as session:
            size = session.state.tree.tree_size
            if not 0 <= index < size:
                raise EntryNotFoundError(index, size)
            return self._read(session, index, index + 1)[0][1]

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Return the entries [start, stop), to the end if there is no stop. Raises StorageError for a damaged one."""
        end = self.size if stop is None else min(stop, self.size)
        for first in range(start, end, READ_BATCH):
            with self._session() as session:
                batch = self._read(session, first, min(first + READ_BATCH, end))
            for _, entry in batch:
                yield entry

    def find(self, address: Digest) -> tuple[int, Entry]:
        """Return an entry and its index by its address; raises EntryNotFoundError."""
        with self._session() as session:
            index = session.index.find(address.raw)
            if index is None:
                raise EntryNotFoundError(address, session.state.tree.tree_size)
            return index, self._read(session, index, index + 1)[0][1]

    def checkpoint(self) -> str:
        """Return the signed note that says how many entries there are and what they are."""
        with self._session() as session:
            assert session.state.note is not None
            return session.state.note.decode()

    def tiles(self) -> TileReader:
        """Return what reads entries and makes proofs under the checkpoint of now; raises TileError for damage."""
        with self._session() as session:
            tree = session.state.tree
        checkpoint = Checkpoint(self.origin, tree.tree_size, tree.root_hash())
        if self._tiles is None or self._tiles.checkpoint != checkpoint:
            self._tiles = TileReader(self._storage.source, checkpoint)
        return self._tiles

    def inclusion_proof(self, index: int, tree_size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that entry `index` is in the tree of `tree_size` entries (default: all).

        Raises EntryNotFoundError, ValueError for a size outside, and TileError for damage.
        """
        return self.tiles().inclusion_proof(index, tree_size)

    def consistency_proof(self, old_size: int, tree_size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that the tree of `old_size` is a prefix of that of `tree_size` entries (default: all).

        Raises ValueError for sizes outside, and TileError for damage.
        """
        return self.tiles().consistency_proof(old_size, tree_size)

    def publish_cosigned(self, note: str) -> str:
        """Add the signature lines of a note to the published checkpoint, durably, and return the result.

        The lines are not looked at: verify them before. Raises StaleCheckpointError if the note's text is not that of
        the checkpoint, NoteFormatError for malformed lines, and StorageError.
        """
        with self._session(write=True) as session:
            assert session.writer is not None
            assert session.state.note is not None
            current = session.state.note.decode()
            text, _, lines = note.rpartition("\n\n")
            if current.rpartition("\n\n")[0] != text:
                raise StaleCheckpointError(f"log {self.origin} has grown since the checkpoint that was cosigned")
            published = add_signatures(current, lines)
            open_checkpoint(published.encode(), self._verifier)  # the log's own signature must have stayed
            session.writer.republish(published.encode())
        return published

    def runs(self) -> list[RunChain]:
        """Return the chains of all runs in this log, oldest first, signatures verified; raises ChainError."""
        with self._session() as session:
            return [self._chain(session, run) for run in list_runs(session.index.rows)]

    def chain(self, run_address: Digest) -> RunChain:
        """Return the chain of a run, signatures verified; raises ChainError and RunNotFoundError."""
        with self._session() as session:
            return self._chain(session, run_address)

    def verdicts(self, run_address: Digest) -> list[tuple[int, Entry]]:
        """Return (index, entry) of every verdict on a run, which may be in another log; signatures verified."""
        with self._session() as session:
            rows = scan_indexes(session.index.rows, RUN_ENTRIES + run_address.raw)
            found = self._read_at(session, [index for index, kind in rows if kind == KINDS["verdict"]])
        for index, address, entry in found:
            self._check_signature(index, address, entry)
        return [(index, entry) for index, _, entry in found]

    def search(self, query: Query) -> list[FoundEntry]:
        """Return the entries that a query means, in their order; their signatures were looked at by whoever appended
        them, and are again by an audit."""
        with self._session() as session:
            rows = session.index.rows
            job = [] if query.job is None else self._read_at(session, runs_of_job(rows, query.job))
            found = search_indexes(rows, query, [run for _, run, _ in job])
            return [FoundEntry(*item, found[item[0]]) for item in self._read_at(session, list(found))]

    def artifacts(self) -> list[Digest]:
        """Return every address that an entry names: jobs, states, lists of commits and kernels."""
        with self._session() as session:
            return list_artifacts(session.index.rows)

    def find_address(self, text: str, names: tuple[Named, ...] = ("entry", "artifact")) -> Digest | None:
        """Return the address that a text or its beginning names, None if there is none; raises LedgerError."""
        with self._session() as session:
            return find_address(session.index.rows, text, names)

    def lineage(self, address: Digest) -> Lineage:
        """Walk from a state or an entry back to what it was made from; raises ArtifactNotFoundError, ChainError."""
        with self._session() as session:

            def read(indexes: list[int]) -> list[tuple[int, Digest, Entry]]:
                return self._read_at(session, indexes)

            def chain(run: Digest) -> RunChain:
                return self._chain(session, run)

            return LineageWalk(session.index, read, chain).trace(address)

    def audit(self, *, workers: int = 1, against: Mapping[str, bytes] | None = None) -> LogAudit:
        """Check the log from its stored bytes alone; damage is in the result's problems, not raised.

        `against`: signed checkpoints kept elsewhere, by where they are from, which the log must go on from. `workers`:
        processes that share the work; more than 1 only in a program with a guarded main module (multiprocessing).
        """
        return audit_log(self._storage, self._verifier, workers=workers, against=against)

    def reindex(self) -> None:
        """Make the index anew from the entries; raises StorageError for damaged ones."""
        with self._lock:
            if self._index_file is None:
                self._index_file = IndexFile.open(self._storage.path, create=True)
            if self._index_file is None:
                raise StorageError(self._storage.path, "may only be read here, so its index is in memory")
            self._index_file.clear()
            with self._session():
                pass
            self._store_index(1)

    def close(self) -> None:
        """Let go of the files."""
        self._forget_index_file()
        self._storage.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[_Session]:
        """Hold the log still, with everything that others appended; keep it short."""
        while True:
            with self._lock, ExitStack() as stack:
                # A view of the index file is opened before one of the entries, so that it never is ahead of them;
                # nobody else appends while we write.
                writer = stack.enter_context(self._storage.writing()) if write else None
                base = self._open_index(stack)
                view = stack.enter_context(self._storage.reading()) if writer is None else writer
                base = self._catch_up(view, base)
                if self._state.note is not None:
                    yield _Session(self._state, self._state.index(self.origin, base), view, writer)
                    break
            self._store_index(1)  # much was to be read: piece by piece, so that the rows do not pile up in memory
        if not write:
            self._store_index(_INDEX_LAG)

    def _catch_up(self, view: LogReader, base: IndexView | None) -> IndexView | None:
        """Bring the state to the checkpoint, or nearer to it; returns the view of the index file if it is of use."""
        catch_up = CatchUp(self._storage.path, self._verifier, view)
        most = view.size() if self._index_file is None else _INDEX_PIECE
        try:
            try:
                self._state = catch_up.run(self._state, base, most)
            except UnfitIndexError:
                if self._index_file is not None:
                    self._index_file.clear()
                base = None
                self._state = catch_up.run(self._state, None, most)
        except LedgerError:
            if self._state.note is None:  # its entries were not under any checkpoint
                self._state = LogState()
            raise
        return base

    def _open_index(self, stack: ExitStack) -> IndexView | None:
        if self._index_file is None:
            return None
        try:
            return stack.enter_context(self._index_file.reading())
        except IndexFileError:
            self._forget_index_file()
            return None

    def _store_index(self, lag: int) -> None:
        """Write the rows in memory to the index file if they are those of at least `lag` entries."""
        with self._lock:
            state, file = self._state, self._index_file
            if file is None or state.tree.tree_size - state.covered < lag:
                return
            cover = IndexCover(self.origin, state.tree)
            try:
                if file.write(state.cover_row, cover, state.rows):
                    self._state = state.indexed(cover)
            except IndexFileError:  # a full disk: the entries are safe, the index goes on in memory
                self._forget_index_file()

    def _forget_index_file(self) -> None:
        if self._index_file is not None:
            self._index_file.close()
            self._index_file = None

    def _read(self, session: _Session, start: int, stop: int) -> list[tuple[Digest, Entry]]:
        """Return (address, entry) of [start, stop); raises StorageError for one that is not what was appended."""
        found = []
        for index, data in enumerate(session.view.entries(start, stop), start):
            address = hash_node(data)
            if session.index.find(address.raw) != index:
                raise StorageError(self._storage.path, f"damaged, audit it: entry {index} is not what was appended")
            found.append((address, decode_entry(data)))
        return found

    def _read_at(self, session: _Session, indexes: list[int]) -> list[tuple[int, Digest, Entry]]:
        """Return (index, address, entry) of entries anywhere, in their order; neighbours are read at once."""
        found: list[tuple[int, Digest, Entry]] = []
        for start, stop in neighbours(indexes):
            read = self._read(session, start, stop)
            found.extend((index, *item) for index, item in enumerate(read, start))
        return found

    def _chain(self, session: _Session, run: Digest) -> RunChain:
        head = session.index.head(run.raw)
        if head is None:
            raise RunNotFoundError(run)
        rows = scan_indexes(session.index.rows, RUN_ENTRIES + run.raw)
        found = self._read_at(session, [index for index, _ in rows if index >= head.index])
        builder = ChainBuilder(*found[0])
        for item in found[1:]:
            builder.add(*item)
        chain = builder.build()
        if chain.head.raw != head.head:
            raise IndexFileError(self._storage.path / INDEX_FOLDER, "does not fit the entries; delete it")
        return self._verified(chain)

    def _verified(self, chain: RunChain) -> RunChain:
        """Return the chain after verifying the signatures that this process has not verified yet."""
        addresses = {address for _, address, _ in chain.items()}
        if not addresses <= self._checked:
            check_chain_signatures(chain)
            self._checked |= addresses
        return chain

    def _check_signature(self, index: int, address: Digest, entry: Entry) -> None:
        if address not in self._checked:
            try:
                check_entry_signature(entry)
            except SignatureError as error:
                raise ChainError(index, address, str(error)) from None
            self._checked.add(address)


def _signer(checkpoint: Checkpoint, key: SigningKey) -> Sign:
    """Return what signs this checkpoint and no other."""

    def sign(tree_size: int, root_hash: bytes) -> bytes:
        if (tree_size, root_hash) != (checkpoint.tree_size, checkpoint.root_hash):
            raise AssertionError("the tiles are those of another tree than the entries")
        return sign_checkpoint(checkpoint, key).encode()

    return sign


def _link(data: bytes) -> tuple[Digest, Link]:
    """Return address and link of an entry's bytes, whose form is checked."""
    address = hash_node(data)
    return address, link_entry(address, decode_entry(data))


def _start_log(storage: LogStorage, key: SigningKey) -> None:
    """Have the storage mend what a crash left undone, and sign the checkpoint of an empty tree if it has none yet."""
    with storage.writing() as writer:
        if writer.checkpoint() is None:
            writer.append([], _signer(Checkpoint(key.name, 0, EMPTY_ROOT), key))
