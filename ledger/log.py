"""A log on disk: append entries that keep the rules, read them back, and sign a checkpoint of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from samebits.cas.digest import Digest, hash_node
from samebits.ledger.audit import LogAudit, audit_log
from samebits.ledger.bodies import EntryKind
from samebits.ledger.chain import ChainBuilder, RunChain
from samebits.ledger.checked import CheckedSignatures
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from samebits.ledger.entry import Entry, decode_entry, encode_entry
from samebits.ledger.errors import (
    EntryNotFoundError,
    IndexFileError,
    LedgerError,
    RunNotFoundError,
    StaleCheckpointError,
    StorageError,
)
from samebits.ledger.heads import HeadFile
from samebits.ledger.index import KINDS, LogIndex
from samebits.ledger.index_file import INDEX_FOLDER, IndexFile
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.lineage import Lineage, LineageWalk
from samebits.ledger.links import Link, link_entry
from samebits.ledger.log_state import READ_BATCH
from samebits.ledger.logkey import has_log_verifier, load_log_verifier, load_or_create_log_key, store_log_verifier
from samebits.ledger.merkle import EMPTY_ROOT, leaf_hash
from samebits.ledger.note import add_signatures
from samebits.ledger.recovery import agreed_edge
from samebits.ledger.rows import Rows
from samebits.ledger.search import FoundEntry, Named, Query, find_address, runs_of_job, search_indexes
from samebits.ledger.search_rows import (
    RUN_ENTRIES,
    add_search_rows,
    list_artifacts,
    list_runs,
    scan_indexes,
)
from samebits.ledger.sessions import Session, Sessions, retried
from samebits.ledger.storage import LogStorage, Sign
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_storage import TileLogStorage


class Log:
    """An append-only list of signed entries in one directory, which its own key vouches for.

    Several processes may use one directory at once; each sees what the others appended. One `Log` may be shared by
    threads, and is opened anew after a fork.
    """

    def __init__(
        self,
        storage: LogStorage,
        verifier: VerifierKey,
        key: SigningKey | None,
        index_file: IndexFile | None = None,
        *,
        state_folder: Path | None = None,
    ) -> None:
        """Use `Log.open`. Without a private key the log can only be read; without a file the index is in memory."""
        self._storage = storage
        self._verifier = verifier
        self._key = key
        self._head = HeadFile(verifier.name, state_folder)
        self._sessions = Sessions(storage, verifier, index_file)
        self._checked = CheckedSignatures()
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
                verifier, index_file = load_log_verifier(directory), IndexFile.open(directory, create=False)
                return cls(storage, verifier, None, index_file, state_folder=state_folder)
            except BaseException:
                storage.close()
                raise
        key = load_or_create_log_key(directory)
        storage = TileLogStorage(directory, key.verifier, state_folder=state_folder)
        try:
            if has_log_verifier(directory) and load_log_verifier(directory) != key.verifier:
                raise StorageError(directory, "log.key and log.pub are the keys of two different logs")
            _start_log(storage, key)
            store_log_verifier(directory, key.verifier)  # of a log that has lost it
            index_file = IndexFile.open(directory, create=True)
            return cls(storage, key.verifier, key, index_file, state_folder=state_folder)
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
        with self._sessions.hold() as session:
            return session.state.tree.tree_size

    @retried
    def append(self, entries: Sequence[Entry]) -> Checkpoint:
        """Add entries at the end, all or none, and return the new checkpoint, which is durable by then.

        Before anything is written, each entry's form, signature, origin and place in its run are checked; raises
        EntryError, ChainError or StorageError.
        """
        if self._key is None:
            raise StorageError(self._storage.path, "opened for reading only")
        with self._sessions.hold(write=True) as session:
            assert session.writer is not None
            tree, rows, encoded = session.state.tree, Rows(session.index.rows), []
            index = LogIndex(self.origin, rows)
            for entry in entries:
                data = encode_entry(entry)
                address, link = _link(data)
                index.add(tree.tree_size, link)
                self._checked.check(tree.tree_size, address, entry)
                add_search_rows(rows, tree.tree_size, link, entry)
                tree = tree.extended(leaf_hash(data))
                encoded.append(data)
            checkpoint = Checkpoint(self.origin, tree.tree_size, tree.root_hash())
            if encoded:
                session.grew(session.writer.append(encoded, _signer(checkpoint, self._key)), tree, rows.own)
        return checkpoint

    @retried
    def entry(self, index: int) -> Entry:
        """Return an entry, its signature not verified; raises EntryNotFoundError."""
        with self._sessions.hold() as session:
            size = session.state.tree.tree_size
            if not 0 <= index < size:
                raise EntryNotFoundError(index, size)
            return session.read(index, index + 1)[0][1]

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Return the entries [start, stop), to the end if there is no stop; signatures are not verified.

        Raises StorageError for a damaged one.
        """
        end = self.size if stop is None else min(stop, self.size)
        for first in range(start, end, READ_BATCH):
            for _, entry in self._read(first, min(first + READ_BATCH, end)):
                yield entry

    @retried
    def find(self, address: Digest) -> tuple[int, Entry]:
        """Return an entry, its signature not verified, and its index; raises EntryNotFoundError."""
        with self._sessions.hold() as session:
            index = session.index.find(address.raw)
            if index is None:
                raise EntryNotFoundError(address, session.state.tree.tree_size)
            return index, session.read(index, index + 1)[0][1]

    def checkpoint(self) -> str:
        """Return the signed note that says how many entries there are and what they are."""
        with self._sessions.hold() as session:
            assert session.state.note is not None
            return session.state.note.decode()

    def tiles(self) -> TileReader:
        """Return what reads entries and makes proofs under the checkpoint of now; raises TileError for damage."""
        with self._sessions.hold() as session:
            tree = session.state.tree
        checkpoint = Checkpoint(self.origin, tree.tree_size, tree.root_hash())
        reader = self._tiles  # another thread may replace it
        if reader is None or reader.checkpoint != checkpoint:
            reader = self._tiles = TileReader(self._storage.source, checkpoint)
        return reader

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
        with self._sessions.hold(write=True) as session:
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

    @retried
    def runs(self) -> list[RunChain]:
        """Return the chains of all runs in this log, oldest first, signatures verified; raises ChainError."""
        with self._sessions.hold() as session:
            return [self._chain(session, run) for run in list_runs(session.index.rows)]

    @retried
    def chain(self, run_address: Digest) -> RunChain:
        """Return the chain of a run, signatures verified; raises ChainError and RunNotFoundError."""
        with self._sessions.hold() as session:
            return self._chain(session, run_address)

    def find_chain(self, run_address: Digest) -> RunChain | None:
        """Return the chain of a run, signatures verified, None if this log has no such run; raises ChainError."""
        try:
            return self.chain(run_address)
        except RunNotFoundError:
            return None

    @retried
    def verdicts(self, run_address: Digest) -> list[tuple[int, Entry]]:
        """Return (index, entry) of every verdict on a run, which may be in another log; signatures verified."""
        return self._statements(run_address, "verdict")

    @retried
    def draws(self, run_address: Digest) -> list[tuple[int, Entry]]:
        """Return (index, entry) of every draw of a run, which may be in another log; signatures verified."""
        return self._statements(run_address, "draw")

    @retried
    def search(self, query: Query) -> list[FoundEntry]:
        """Return the entries that a query means, in their order, their signatures not verified."""
        with self._sessions.hold() as session:
            rows = session.index.rows
            job = [] if query.job is None else session.read_at(runs_of_job(rows, query.job))
            found = search_indexes(rows, query, [run for _, run, _ in job])
            return [FoundEntry(*item, found[item[0]]) for item in session.read_at(list(found))]

    @retried
    def artifacts(self) -> list[Digest]:
        """Return every address that an entry names: jobs, states, lists of commits and kernels."""
        with self._sessions.hold() as session:
            return list_artifacts(session.index.rows)

    @retried
    def find_address(self, text: str, names: tuple[Named, ...] = ("entry", "artifact")) -> Digest | None:
        """Return the address that a text or its beginning names, None if there is none; raises LedgerError."""
        with self._sessions.hold() as session:
            return find_address(session.index.rows, text, names)

    @retried
    def lineage(self, address: Digest) -> Lineage:
        """Walk from a state or an entry back to what it was made from; raises ArtifactNotFoundError, ChainError."""
        with self._sessions.hold() as session:
            return LineageWalk(session.index, session.read_at, partial(self._chain, session)).trace(address)

    def audit(self, *, workers: int = 1, against: Mapping[str, bytes] | None = None) -> LogAudit:
        """Check the log from its stored bytes alone; damage is in the result's problems, not raised.

        `against`: signed checkpoints kept elsewhere, by where they are from, which the log must go on from. `workers`:
        processes that share the work; more than 1 only in a program with a guarded main module (multiprocessing).
        """
        return audit_log(self._storage, self._verifier, workers=workers, against=against)

    def last_head(self) -> bytes | None:
        """Return the signed note of the last head that this log's key signed on this machine, None if it knows of none.

        None too if the files hold that head, and only its publication is missing: the next writer makes up for it.
        """
        head = self._head.read()
        if head is None:
            return None
        try:
            signed = open_checkpoint(head, self._verifier)
            with self._storage.reading() as view:
                note = view.checkpoint()
            shown = None if note is None else open_checkpoint(note, self._verifier)
            if shown is None or shown.tree_size < signed.tree_size:
                agreed_edge(self._storage.path, self._storage.source, shown, signed)
                return None
        except LedgerError:  # an audit says what is wrong
            return head
        return head

    def reindex(self) -> None:
        """Make the index anew from the entries; raises StorageError for damaged ones."""
        self._sessions.reindex()

    def close(self) -> None:
        """Let go of the files."""
        self._sessions.close()
        self._storage.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @retried
    def _read(self, start: int, stop: int) -> list[tuple[Digest, Entry]]:
        with self._sessions.hold() as session:
            return session.read(start, stop)

    def _statements(self, run: Digest, kind: EntryKind) -> list[tuple[int, Entry]]:
        with self._sessions.hold() as session:
            rows = scan_indexes(session.index.rows, RUN_ENTRIES + run.raw)
            found = session.read_at([index for index, code in rows if code == KINDS[kind]])
        for index, address, entry in found:
            self._checked.check(index, address, entry)
        return [(index, entry) for index, _, entry in found]

    def _chain(self, session: Session, run: Digest) -> RunChain:
        head = session.index.head(run.raw)
        if head is None:
            raise RunNotFoundError(run)
        rows = scan_indexes(session.index.rows, RUN_ENTRIES + run.raw)
        found = session.read_at([index for index, _ in rows if index >= head.index])
        builder = ChainBuilder(*found[0])
        for item in found[1:]:
            builder.add(*item)
        chain = builder.build()
        if chain.head.raw != head.head:
            raise IndexFileError(self._storage.path / INDEX_FOLDER, "does not fit the entries; delete it")
        self._checked.check_chain(chain)
        return chain


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
