"""Keys, entries and logs that the ledger's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samebits.cas.digest import Digest, hash_blob
from samebits.ledger.bodies import RunBody, SegmentBody, VerdictBody
from samebits.ledger.entry import Entry, entry_address, sign_entry
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log


@pytest.fixture(scope="session")
def author() -> SigningKey:
    return SigningKey("runner.example", bytes(range(32)))


@pytest.fixture(scope="session")
def stranger() -> SigningKey:
    return SigningKey("stranger.example", bytes(range(32, 64)))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Log.open(tmp_path / "log") as opened:
        yield opened


@pytest.fixture(scope="session")
def make_run(author: SigningKey) -> Callable[..., Entry]:
    """Return a function: origin, nonce=0, steps=1000 -> a run entry."""

    def make(origin: str, nonce: int = 0, steps: int = 1000) -> Entry:
        body = RunBody(hash_blob(b"job"), nonce.to_bytes(16, "big"), steps, 1, 10)
        return sign_entry(origin, None, body, author)

    return make


@pytest.fixture(scope="session")
def make_segment(author: SigningKey) -> Callable[..., Entry]:
    """Return a function: run entry, previous entry, first step=0 -> a segment of one step, any field replaced."""

    def make(run: Entry, previous: Entry, first: int = 0, **changed: object) -> Entry:
        key, origin, prev = author, run.origin, entry_address(previous)
        fields: dict[str, object] = {
            "run": entry_address(run),
            "first_step": first,
            "stop_step": first + 1,
            "state_in": state(first),
            "state_out": state(first + 1),
            "commits": hash_blob(b"commits %d" % first),
            "commits_root": bytes(32),
            "device": "numpy",
            "kernels": (hash_blob(b"kernel"),),
        }
        if isinstance(changed.get("key"), SigningKey):
            key = changed.pop("key")  # type: ignore[assignment]
        origin = str(changed.pop("origin", origin))
        prev = changed.pop("prev", prev)  # type: ignore[assignment]
        return sign_entry(origin, prev, SegmentBody(**{**fields, **changed}), key)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_entries(make_run: Callable[..., Entry], make_segment: Callable[..., Entry]) -> Callable[..., list[Entry]]:
    """Return a function: origin, count of segments, nonce=0 -> a run entry and so many segments of one step."""

    def make(origin: str, count: int, nonce: int = 0) -> list[Entry]:
        entries = [make_run(origin, nonce)]
        for step in range(count):
            entries.append(make_segment(entries[0], entries[-1], step))
        return entries

    return make


@pytest.fixture(scope="session")
def make_verdict(stranger: SigningKey) -> Callable[..., Entry]:
    """Return a function: origin, run address, address of the last segment checked, first, stop -> a verdict."""

    def make(origin: str, run: Digest, prev: Digest, first: int, stop: int) -> Entry:
        return sign_entry(origin, prev, VerdictBody(run, first, stop, "same", None, "numpy"), stranger)

    return make


def state(step: int) -> Digest:
    return hash_blob(b"state %d" % step)
