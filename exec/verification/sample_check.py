"""Check the draw that a sampled verdict tells of: announced before, by the same author, and these segments only.

What can't be checked is said to be unknown: the run or its checkpoint may be in another log, the checkpoint's bytes in
another store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from samebits.cas import CasError, Digest, ObjectNotFoundError, Store
from samebits.exec.errors import RunError
from samebits.exec.verification.drawing import signed_checkpoint
from samebits.exec.verification.sampling import draw_segments, hash_nonce
from samebits.ledger import (
    DrawBody,
    Entry,
    LedgerError,
    Log,
    NoteFormatError,
    Sample,
    SignatureError,
    VerdictBody,
    VerifierKey,
    entry_address,
)
from samebits.ledger.checkpoint import Checkpoint, parse_checkpoint
from samebits.ledger.note import parse_note

LogKeys = Callable[[str], Iterable[VerifierKey]]  # the keys of logs of this name that the user trusts


@dataclass(frozen=True, slots=True)
class SampleCheck:
    """What came of a check."""

    status: Literal["fits", "wrong", "unknown"]
    reason: str = ""  # one line


class _Wrong(Exception):  # noqa: N818 - a finding
    """The sample is not what was announced, or not what the seed draws."""


class _Unknown(Exception):  # noqa: N818 - a finding
    """Something that the check needs is not at hand."""


class SampleChecker:
    """Checks the sampled verdicts on one run in one log."""

    def __init__(self, log: Log, run: Digest, store: Store | None, trusted_keys: LogKeys) -> None:
        """`store` may have the checkpoints; `trusted_keys` are of other logs."""
        self._log, self._run, self._store, self._trusted_keys = log, run, store, trusted_keys
        self._draws = {entry_address(entry): (index, entry) for index, entry in log.draws(run)}
        self._reported: dict[Digest, int] = {}  # draw -> the first verdict by its author that tells of it
        for index, entry in log.verdicts(run):
            sample = _sample(entry)
            if sample is not None and sample.draw is not None and self._by_same(sample.draw, entry):
                self._reported.setdefault(sample.draw, index)
        self._chain = log.find_chain(run)

    def unreported(self) -> list[tuple[int, Entry]]:
        """Return (index, entry) of the draws that no verdict by their author tells of."""
        return [found for address, found in self._draws.items() if address not in self._reported]

    def check(self, index: int, entry: Entry) -> SampleCheck | None:
        """Return what comes of the verdict at `index`; None for one that is not sampled."""
        sample = _sample(entry)
        if sample is None:
            return None
        try:
            self._check(index, entry, sample)
        except _Wrong as finding:
            return SampleCheck("wrong", str(finding))
        except _Unknown as finding:
            return SampleCheck("unknown", str(finding))
        return SampleCheck("fits")

    def _by_same(self, draw: Digest, entry: Entry) -> bool:
        found = self._draws.get(draw)
        return found is not None and found[1].author == entry.author

    def _check(self, index: int, entry: Entry, sample: Sample) -> None:
        drawn_at = None if sample.draw is None else self._check_draw(index, entry, sample, sample.draw)
        total = self._count_segments(entry)
        announced = None if sample.draw is None else self._draws[sample.draw][1].body
        if isinstance(announced, DrawBody):
            if total is not None and announced.segments != total:
                raise _Wrong(f"the draw was of {announced.segments} segments, the run has {total}")
            total = announced.segments if total is None else total
        checkpoint, signed, problem = self._read_checkpoint(sample.checkpoint)
        if self._chain is not None:
            self._check_place(checkpoint, drawn_at, entry)
        if signed is not None and total is not None and entry.prev is not None:
            self._check_numbers(sample, entry.prev, total, signed)
        if problem:
            raise _Unknown(problem)
        if self._chain is None:
            raise _Unknown("the run is in another log, which may have more segments than were drawn from")

    def _check_draw(self, index: int, entry: Entry, sample: Sample, draw: Digest) -> int:
        """Check the entry that announced the sample; returns its index."""
        if draw not in self._draws:
            raise _Wrong("this log does not have the draw that it names")
        drawn_at, announced = self._draws[draw]
        body = announced.body
        assert isinstance(body, DrawBody)
        if drawn_at >= index:
            raise _Wrong("the draw was announced after the verdict")
        if announced.author != entry.author:
            raise _Wrong("the draw was announced by another author")
        if self._reported[draw] != index:
            raise _Wrong(f"entry {self._reported[draw]} reported this draw already")
        if announced.prev != entry.prev:
            raise _Wrong("the draw was up to another segment")
        if hash_nonce(self._run, sample.nonce) != body.nonce_hash:
            raise _Wrong("its nonce is not the one announced")
        if sample.beacon:
            raise _Wrong("it has a beacon that was not announced, which may have been tried until it drew these")
        if len(sample.segments) != body.sample:
            raise _Wrong(f"{body.sample} segments were to be drawn, it has {len(sample.segments)}")
        return drawn_at

    def _count_segments(self, entry: Entry) -> int | None:
        """Return how many segments the run has up to the one that the verdict names, if the run is in this log."""
        if self._chain is None:
            return None
        places = {link.address: number for number, link in enumerate(self._chain.segments)}
        if entry.prev not in places:
            raise _Wrong("it names a segment that the run does not have")
        return places[entry.prev] + 1

    def _read_checkpoint(self, address: Digest) -> tuple[Checkpoint, str | None, str]:
        """Return a stored checkpoint, the note as its log signed it, and why it can't be believed.

        The note is None, and the reason not empty, where no known key signed it.
        """
        if self._store is None:
            raise _Unknown("there is no store with the checkpoint")
        try:
            note = self._store.get_blob(address)
            checkpoint = parse_checkpoint(parse_note(note)[0])
        except ObjectNotFoundError:
            raise _Unknown(f"its checkpoint, blob {address}, is not in the store") from None
        except NoteFormatError as error:
            raise _Wrong(f"its checkpoint is none: {error}") from None
        except CasError as error:
            raise _Unknown(str(error)) from None
        is_ours = checkpoint.origin == self._log.origin
        keys = [self._log.verifier] if is_ours else list(self._trusted_keys(checkpoint.origin))
        for key in keys:
            try:
                return checkpoint, signed_checkpoint(note, key), ""
            except (SignatureError, NoteFormatError):
                continue
        if is_ours:
            raise _Wrong("its checkpoint is not signed by this log")
        return checkpoint, None, f"its checkpoint is of log {checkpoint.origin}, whose key is not trusted"

    def _check_place(self, checkpoint: Checkpoint, drawn_at: int | None, entry: Entry) -> None:
        """Check that the checkpoint is of this log, in which the run is, and covers the draw and the last segment."""
        if checkpoint.origin != self._log.origin:
            raise _Wrong(f"its checkpoint is of log {checkpoint.origin}, not of the run's")
        last = self._log.find(entry.prev)[0] if entry.prev is not None else 0
        if checkpoint.tree_size <= max(last, -1 if drawn_at is None else drawn_at):
            raise _Wrong("its checkpoint is from before the draw")
        try:
            root_hash = self._log.tiles().root_hash(checkpoint.tree_size)
        except (ValueError, LedgerError) as error:
            raise _Wrong(f"its checkpoint does not fit this log: {error}") from None
        if root_hash != checkpoint.root_hash:
            raise _Wrong("its checkpoint is of other entries than this log's")

    def _check_numbers(self, sample: Sample, head: Digest, total: int, signed: str) -> None:
        try:
            drawn = draw_segments(
                self._run,
                head,
                total,
                len(sample.segments),
                nonce=sample.nonce,
                beacon=sample.beacon,
                checkpoint=signed,
            )
        except RunError as error:
            raise _Wrong(str(error)) from None
        if drawn != sample.segments:
            raise _Wrong("other segments than those that the seed draws")


def _sample(entry: Entry) -> Sample | None:
    return entry.body.sample if isinstance(entry.body, VerdictBody) else None
