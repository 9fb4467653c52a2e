"""A log as its publisher gives it out, over HTTP maybe: opened and audited by somebody who has nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from samebits.ledger.audit import LogAudit, audit_slices
from samebits.ledger.checkpoint import open_checkpoint
from samebits.ledger.errors import NoteFormatError, ProofError
from samebits.ledger.keys import VerifierKey
from samebits.ledger.logkey import MAX_PUBLIC_SIZE_BYTES, PUBLIC_NAME
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES
from samebits.ledger.run_proof import check_log_key
from samebits.ledger.tile_reader import TileReader
from samebits.ledger.tile_source import CHECKPOINT_PATH, TileSource
from samebits.ledger.tiles import TILE_WIDTH

MAX_AUDITED_ENTRIES: Final = 1_000_000
MAX_AUDITED_SIZE_BYTES: Final = 1 << 30
_COPY: Final = "copy its files (log.pub, checkpoint, tile/) into the folder `ledger` of a store and verify them there"

Progress = Callable[[int, int], None]  # entries read, all of them


@dataclass(frozen=True, slots=True)
class PublishedLog:
    """A log under a checkpoint that its key signed, and whose root hash its tiles give."""

    log_key: VerifierKey  # as the publisher says
    note: bytes
    tiles: TileReader

    def audit(
        self, *, workers: int = 1, against: Mapping[str, bytes] | None = None, progress: Progress | None = None
    ) -> LogAudit:
        """Check every entry, every signature, the chain of every run, and the tree.

        What the log's key signed and is wrong all the same is in the result's problems, as for a log on disk
        (`Log.audit`, which says what the arguments are). Raises TileError at the first file that can't be had or that
        is not the one that was signed, and ProofError for more than a million entries, or 1 GiB of them.
        """
        size = self.tiles.tree_size
        if size > MAX_AUDITED_ENTRIES:
            raise ProofError(
                f"the log has {size} entries, more than the {MAX_AUDITED_ENTRIES} read over a network; {_COPY}"
            )
        return audit_slices(self._read(progress), size, self.note, self.log_key, workers=workers, against=against)

    def _read(self, progress: Progress | None) -> Iterator[list[bytes]]:
        size_bytes, size = 0, self.tiles.tree_size
        for start in range(0, size, TILE_WIDTH):
            entries = list(self.tiles.entries(start, start + TILE_WIDTH))
            size_bytes += sum(map(len, entries))
            if size_bytes > MAX_AUDITED_SIZE_BYTES:
                raise ProofError(f"the log's entries have more than {MAX_AUDITED_SIZE_BYTES} bytes; {_COPY}")
            if progress is not None:
                progress(start + len(entries), size)
            yield entries


def open_published_log(source: TileSource) -> PublishedLog | None:
    """Open the log that is published at a source, None if there is none; its key is taken at its word.

    Raises TileError, NoteFormatError, SignatureError, and ProofError for a key that is not that of a log.
    """
    key = source.read(PUBLIC_NAME, MAX_PUBLIC_SIZE_BYTES)
    note = source.read(CHECKPOINT_PATH, MAX_NOTE_SIZE_BYTES)
    if key is None or note is None:
        return None
    log_key = _parse_key(key)
    check_log_key(log_key, None)
    return PublishedLog(log_key, note, TileReader(source, open_checkpoint(note, log_key)))


def _parse_key(data: bytes) -> VerifierKey:
    try:
        return VerifierKey.parse(data.decode().removesuffix("\n"))
    except UnicodeDecodeError as error:
        raise NoteFormatError("verifier key", f"{PUBLIC_NAME} is not UTF-8") from error
