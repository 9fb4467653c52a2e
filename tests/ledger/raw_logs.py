"""Logs whose entries are any bytes: what is tested below `Log` does not look into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samebits.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from samebits.ledger.keys import SigningKey
from samebits.ledger.logkey import log_origin
from samebits.ledger.storage import Sign
from samebits.ledger.tile_audit import tile_problems
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_source import DirectorySource
from samebits.ledger.tile_storage import TileLogStorage
from samebits.ledger.tiles import TreeEdge, grow

SEED = bytes(range(32))


def raw_entry(index: int) -> bytes:
    """Return an entry of 0 to 40 bytes."""
    return (b"entry %d " % index * 3)[: index * 7 % 41]


@dataclass
class RawLog:
    """A storage, and the key that signs for it."""

    directory: Path
    state_folder: Path
    key: SigningKey

    def __post_init__(self) -> None:
        self.storage = TileLogStorage(self.directory, self.key.verifier, state_folder=self.state_folder)

    def sign(self, tree_size: int, root_hash: bytes) -> bytes:
        """Sign a head."""
        return sign_checkpoint(Checkpoint(self.key.name, tree_size, root_hash), self.key).encode()

    def append(self, entries: Sequence[bytes], sign: Sign | None = None) -> None:
        """Append entries."""
        with self.storage.writing() as writer:
            writer.append(entries, sign or self.sign)

    def grow(self, *sizes: int) -> RawLog:
        """Append entries until the log has each of these sizes."""
        for size in sizes:
            self.append([raw_entry(index) for index in range(self.size, size)])
        return self

    def again(self, directory: Path | None = None, state_folder: Path | None = None) -> RawLog:
        """Return the log as another process opens it."""
        return RawLog(directory or self.directory, state_folder or self.state_folder, self.key)

    @property
    def size(self) -> int:
        """The number of entries."""
        with self.storage.reading() as view:
            return view.size()

    @property
    def entries(self) -> list[bytes]:
        """Every entry."""
        with self.storage.reading() as view:
            return view.entries(0, view.size())

    @property
    def note(self) -> bytes:
        """The published note."""
        with self.storage.reading() as view:
            note = view.checkpoint()
        assert note is not None
        return note

    @property
    def checkpoint(self) -> Checkpoint:
        """The published checkpoint, its signature verified."""
        return open_checkpoint(self.note, self.key.verifier)


def raw_log(folder: Path, *sizes: int) -> RawLog:
    """Return a log in a folder, with a state folder beside it, that was published at these sizes."""
    key = SigningKey(log_origin(SigningKey("x", SEED).public), SEED)
    return RawLog(folder / "log", folder / "state", key).grow(*sizes)


def check_files(directory: Path, checkpoint: Checkpoint) -> None:
    """Check every file that a log of this checkpoint must have against the others and the root."""
    source = DirectorySource(directory)
    entries = list(TileReader(source, checkpoint).entries())
    edge, files = grow(TreeEdge(), entries)
    assert (edge.tree_size, edge.root_hash()) == (checkpoint.tree_size, checkpoint.root_hash)
    for tile, data in files.items():
        assert source.read(tile.path, tile.limit_bytes) == data, tile.path
    assert [str(problem) for problem in tile_problems(directory, checkpoint.tree_size)] == []
