"""What a writer does before it writes: have the last signed head, the published checkpoint and the files agree."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from samebits.ledger.checkpoint import Checkpoint, open_checkpoint
from samebits.ledger.errors import LedgerError, StorageError, TileError
from samebits.ledger.keys import VerifierKey
from samebits.ledger.merkle import EMPTY_ROOT
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_source import TileSource
from samebits.ledger.tiles import TreeEdge

_HINT: Final = "restored from an old backup? To go on would sign a fork: bring the newer files back, or start a new log"


def open_own_note(path: Path, what: str, note: bytes | None, verifier: VerifierKey) -> Checkpoint | None:
    """Return the checkpoint of a note that the log wrote; raises StorageError naming the file if it is damaged."""
    try:
        return open_checkpoint(note, verifier) if note is not None else None
    except LedgerError as error:
        raise StorageError(path, f"{what} is damaged: {error}") from error


def agreed_edge(path: Path, source: TileSource, published: Checkpoint | None, head: Checkpoint | None) -> TreeEdge:
    """Return the edge of the larger tree of the two, of which the other one must be a prefix, from the files.

    At least one is given. Raises StorageError if the files do not hold the head, or show damage.
    """
    known = published or head
    assert known is not None
    empty = Checkpoint(known.origin, 0, EMPTY_ROOT)
    shown, signed = published or empty, head or known
    larger, smaller = (shown, signed) if shown.tree_size >= signed.tree_size else (signed, shown)
    try:
        reader = TileReader(source, larger)
        for _ in reader.entries(smaller.tree_size):  # those of a head that was not published yet
            pass
        is_prefix = reader.root_hash(smaller.tree_size) == smaller.root_hash
        edge = reader.edge()
    except TileError as error:
        if signed.tree_size > shown.tree_size:
            raise fork_error(path, signed, f"the files hold {shown.tree_size} ({error})") from error
        raise StorageError(path, f"damaged, run `samebits log verify`: {error}") from error
    if not is_prefix:
        raise fork_error(path, signed, f"they are not among the {shown.tree_size} that the files hold")
    return edge


def fork_error(path: Path, signed: Checkpoint, what: str) -> StorageError:
    """Return the error that says why nothing is signed."""
    return StorageError(path, f"its key has signed a head of {signed.tree_size} entries here, but {what}: {_HINT}")
