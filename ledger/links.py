"""What the rules of log and runs look at in an entry, without the rest: the part that an audit passes on."""

from __future__ import annotations

from typing import NamedTuple

from samebits.cas.digest import Digest
from samebits.ledger.bodies import DrawBody, EntryKind, RunBody, SegmentBody
from samebits.ledger.entry import Entry


class Link(NamedTuple):
    """An entry as a link of its run's chain. Addresses are 32 raw bytes; fields that a kind lacks are empty."""

    kind: EntryKind
    address: bytes
    origin: str
    author: bytes
    prev: bytes
    run: bytes  # a run entry's is its own address
    identity: bytes = b""  # run: author, job and nonce, 80 bytes
    steps: int = 0  # run
    first_step: int = 0
    stop_step: int = 0
    state_in: bytes = b""  # segment
    state_out: bytes = b""  # segment


def link_entry(address: Digest, entry: Entry) -> Link:
    """Return the link of an entry that has this address."""
    body, raw = entry.body, address.raw
    if isinstance(body, RunBody):
        identity = entry.author + body.job.raw + body.nonce
        return Link("run", raw, entry.origin, entry.author, b"", raw, identity, body.steps, body.first_step)
    prev = b"" if entry.prev is None else entry.prev.raw
    first, stop = (0, 0) if isinstance(body, DrawBody) else (body.first_step, body.stop_step)
    states = (body.state_in.raw, body.state_out.raw) if isinstance(body, SegmentBody) else (b"", b"")
    return Link(
        entry.kind,
        raw,
        entry.origin,
        entry.author,
        prev,
        body.run.raw,
        first_step=first,
        stop_step=stop,
        state_in=states[0],
        state_out=states[1],
    )
