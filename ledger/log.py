"""A log on disk: append entries that keep the rules, read them back, and sign a checkpoint of all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from samebits.cas.digest import Digest, hash_node
from samebits.ledger.audit import LogAudit, audit_log
from samebits.ledger.chain import RunChain, check_chain_signatures
from samebits.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from samebits.ledger.entry import Entry, check_entry_signature, decode_entry, encode_entry
from samebits.ledger.errors import (
    ChainError,
    EntryNotFoundError,
    LedgerError,
    RunNotFoundError,
    SignatureError,
    StorageError,
)
from samebits.ledger.index import LogIndex
from samebits.ledger.keys import SigningKey, VerifierKey
from samebits.ledger.logkey import has_log_verifier, load_log_verifier, load_or_create_log_key, store_log_verifier
from samebits.ledger.merkle import EMPTY_ROOT, CompactRange, leaf_hash
from samebits.ledger.storage import LogReader, LogStorage, Sign
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_storage import TileLogStorage

_BATCH: Final = 256  # entries read in one view


@dataclass(frozen=True, slots=True)
class _State:
    """What this process knows of the log: everything under one checkpoint."""

    note: bytes | None  # None: nothing yet
    tree: CompactRange
    index: LogIndex


class Log:
    """An append-only list of signed entries in one directory, which its own key vouches for.

    Several processes may use one directory at once; each sees what the others appended. One `Log` may be shared by
    threads, and is opened anew after a fork.
    """

    def __init__(self, storage: LogStorage, verifier: VerifierKey, key: SigningKey | None) -> None:
        """Use `Log.open`. Without a private key the log can only be read."""
        self._storage = storage
        self._verifier = verifier
        self._key = key
        self._state = _State(None, CompactRange(), LogIndex(verifier.name))
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
                return cls(storage, load_log_verifier(directory), None)
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
            return cls(storage, key.verifier, key)
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
        return self._current().tree.tree_size

    def append(self, entries: Sequence[Entry]) -> Checkpoint:
        """Add entries at the end, all or none, and return the new checkpoint, which is durable by then.

        Before anything is written, each entry's form, signature, origin and place in its run are checked; raises
        EntryError, ChainError or StorageError.
        """
        if self._key is None:
            raise StorageError(self._storage.path, "opened for reading only")
        with self._lock, self._storage.writing() as view:
            state = self._caught_up(view)
            tree, index, encoded = state.tree, state.index.copy(), list[bytes]()
            for entry in entries:
                data = encode_entry(entry)
                index.add(tree.tree_size, hash_node(data), decode_entry(data))
                self._check_signature(tree.tree_size, hash_node(data), entry)
                tree = tree.extended(leaf_hash(data))
                encoded.append(data)
            checkpoint = Checkpoint(self.origin, tree.tree_size, tree.root_hash())
            if encoded:
                state = _State(view.append(encoded, _signer(checkpoint, self._key)), tree, index)
        self._state = state
        return checkpoint

    def entry(self, index: int) -> Entry:
        """Return an entry; raises EntryNotFoundError."""
        if not 0 <= index < self.size:
            raise EntryNotFoundError(index, self.size)
        return next(self.entries(index, index + 1))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Return the entries [start, stop), to the end if there is no stop. Raises StorageError for a damaged one."""
        positions = self._current().index.positions
        for index, data in self._stored(start, self.size if stop is None else min(stop, self.size)):
            if positions.get(hash_node(data)) != index:
                raise StorageError(self._storage.path, f"damaged, audit it: entry {index} is not what was appended")
            yield decode_entry(data)

    def find(self, address: Digest) -> tuple[int, Entry]:
        """Return an entry and its index by its address; raises EntryNotFoundError."""
        state = self._current()
        if address not in state.index.positions:
            raise EntryNotFoundError(address, state.tree.tree_size)
        index = state.index.positions[address]
        return index, self.entry(index)

    def checkpoint(self) -> str:
        """Return the signed note that says how many entries there are and what they are."""
        note = self._current().note
        assert note is not None
        return note.decode()

    def tiles(self) -> TileReader:
        """Return what reads entries and makes proofs under the checkpoint of now."""
        state = self._current()
        checkpoint = Checkpoint(self.origin, state.tree.tree_size, state.tree.root_hash())
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

    def runs(self) -> list[RunChain]:
        """Return the chains of all runs in this log, oldest first, signatures verified; raises ChainError."""
        return [self._verified(chain) for chain in self._current().index.chains.values()]

    def chain(self, run_address: Digest) -> RunChain:
        """Return the chain of a run, signatures verified; raises ChainError and RunNotFoundError."""
        chains = self._current().index.chains
        if run_address not in chains:
            raise RunNotFoundError(run_address)
        return self._verified(chains[run_address])

    def verdicts(self, run_address: Digest) -> list[tuple[int, Entry]]:
        """Return (index, entry) of every verdict on a run, which may be in another log; signatures verified."""
        found = [(index, self.entry(index)) for index in self._current().index.verdicts.get(run_address, ())]
        for index, entry in found:
            self._check_signature(index, hash_node(encode_entry(entry)), entry)
        return found

    def audit(self) -> LogAudit:
        """Check the log from its stored bytes alone; damage is in the result's problems, not raised."""
        return audit_log(self._storage, self._verifier)

    def close(self) -> None:
        """Let go of the files."""
        self._storage.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _current(self) -> _State:
        """Return what is known of the log now, with everything that others appended."""
        with self._lock:
            with self._storage.reading() as view:
                self._state = self._caught_up(view)
            return self._state

    def _caught_up(self, view: LogReader) -> _State:
        """Return the state under the stored checkpoint; raises LedgerError where entries and checkpoint disagree."""
        path, known, note = self._storage.path, self._state, view.checkpoint()
        if note is not None and note == known.note:
            return known
        if note is None:
            raise StorageError(path, "the checkpoint is missing")
        checkpoint = open_checkpoint(note, self._verifier)
        tree, index = known.tree, known.index.copy()
        if view.size() != checkpoint.tree_size:
            raise StorageError(path, f"has {view.size()} entries, but its checkpoint says {checkpoint.tree_size}")
        if checkpoint.tree_size < tree.tree_size:
            raise StorageError(path, f"went back from {tree.tree_size} entries to {checkpoint.tree_size}")
        for start in range(tree.tree_size, checkpoint.tree_size, _BATCH):
            for data in view.entries(start, min(start + _BATCH, checkpoint.tree_size)):
                try:
                    index.add(tree.tree_size, hash_node(data), decode_entry(data))
                except LedgerError as error:
                    named = error if isinstance(error, ChainError) else f"entry {tree.tree_size}: {error}"
                    raise StorageError(path, f"damaged, audit it: {named}") from error
                tree = tree.extended(leaf_hash(data))
        if tree.root_hash() != checkpoint.root_hash:
            raise StorageError(path, f"its {tree.tree_size} entries are not those of its checkpoint; damaged, audit it")
        return _State(note, tree, index)

    def _stored(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Read the entries [start, stop), a batch in each view."""
        for first in range(start, stop, _BATCH):
            with self._storage.reading() as view:
                batch = view.entries(first, min(first + _BATCH, stop))
            yield from enumerate(batch, first)

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


def _start_log(storage: LogStorage, key: SigningKey) -> None:
    """Have the storage mend what a crash left undone, and sign the checkpoint of an empty tree if it has none yet."""
    with storage.writing() as writer:
        if writer.checkpoint() is None:
            writer.append([], _signer(Checkpoint(key.name, 0, EMPTY_ROOT), key))
