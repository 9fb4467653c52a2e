"""Authors and operators who cheat: each is found, and the entry is named.

The operator has the log's key and signs whatever she wants, so nothing is believed because a checkpoint covers it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgpack
import pytest

from samebits.cas.digest import hash_blob
from samebits.cas.encoding import DIGEST_EXT_CODE, Value, decode
from samebits.ledger import audit as audit_module
from samebits.ledger.audit_entries import check_entries
from samebits.ledger.bodies import SegmentBody
from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.entry import Entry, encode_entry, entry_address, run_address, sign_entry
from samebits.ledger.errors import ChainError, StorageError
from samebits.ledger.keyfile import load_key
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log
from samebits.ledger.merkle import leaf_hash, root_hash

Make = Callable[..., Entry]
MakeMany = Callable[..., list[Entry]]


def publish(directory: Path, entries: list[bytes]) -> Log:
    """Make a log of these bytes, checked by nobody, under a checkpoint that its key signs."""
    log = Log.open(directory)
    with log._storage.writing() as view:
        view.append(entries, lambda size, root: head(directory, entries))
    return log


def head(directory: Path, entries: list[bytes]) -> bytes:
    """Return the checkpoint over these entries, signed by the log of the directory."""
    key = load_key(directory / "log.key")
    checkpoint = Checkpoint(key.name, len(entries), root_hash([leaf_hash(data) for data in entries]))
    return sign_checkpoint(checkpoint, key).encode()


STATE: Final = hash_blob(b"x")
EXAMPLE: Final = sign_entry(
    "samebits.local/log/0123456789abcdef",
    STATE,
    SegmentBody(STATE, 3, 4, STATE, STATE, STATE, bytes(32), "numpy", ()),
    SigningKey("x", bytes(32)),
)


@dataclass
class Cast:
    """An honest run of three segments in an empty log, and what is needed to make others."""

    directory: Path
    origin: str
    entries: list[Entry]
    run: Make
    segment: Make
    verdict: Make
    stranger: SigningKey

    @property
    def honest(self) -> list[bytes]:
        return [encode_entry(entry) for entry in self.entries]


@pytest.fixture
def cast(
    tmp_path: Path, make_entries: MakeMany, make_run: Make, make_segment: Make, make_verdict: Make, stranger: SigningKey
) -> Cast:
    with Log.open(tmp_path / "log") as log:
        origin = log.origin
    return Cast(tmp_path / "log", origin, make_entries(origin, 3), make_run, make_segment, make_verdict, stranger)


def next_segment(cast: Cast, first: int = 3, previous: int = 3, **changed: object) -> Entry:
    return cast.segment(cast.entries[0], cast.entries[previous], first, **changed)


def with_other_device(entry: Entry) -> Entry:
    assert isinstance(entry.body, SegmentBody)
    return replace(entry, body=replace(entry.body, device="opencl"))


CHEATS: dict[str, tuple[Callable[[Cast], Entry], str]] = {
    "extends the run of another key": (lambda c: next_segment(c, key=c.stranger), "signed by .* but only .* extends"),
    "skips steps": (lambda c: next_segment(c, 5), "starts at step 5, but the run stands at step 3"),
    "goes back": (lambda c: next_segment(c, 2), "starts at step 2, but the run stands at step 3"),
    "goes beyond the run": (lambda c: next_segment(c, stop_step=1001), "stops at step 1001, but the run has 1000"),
    "breaks the link": (lambda c: next_segment(c, prev=hash_blob(b"x")), "which is not in this run"),
    "forks": (lambda c: next_segment(c, 2, 2, device="opencl"), r"a fork: entry 3 \(.*\) already follows"),
    "forks at the run": (lambda c: next_segment(c, 0, 0, device="cuda"), r"a fork: entry 1 \(.*\) already follows"),
    "hands over another state": (lambda c: next_segment(c, state_in=hash_blob(b"x")), "was reached with"),
    "reuses a signature": (lambda c: with_other_device(next_segment(c)), "signature by .* does not verify"),
    "repeats an entry": (lambda c: c.entries[2], "repeats entry 2"),
    "repeats the run": (lambda c: c.entries[0], "repeats entry 0"),
    "runs twice under one nonce": (lambda c: c.run(c.origin, steps=7), "a second run with the job, author and nonce"),
    "is for another log": (lambda c: next_segment(c, origin="elsewhere"), "made for log elsewhere"),
    "is a run for another log": (lambda c: c.run("elsewhere", 5), "made for log elsewhere"),
    "extends a run that is not here": (
        lambda c: c.segment(c.run(c.origin, 9), c.run(c.origin, 9)),
        "a segment of run .* which is not in this log",
    ),
    "judges outside of the segment": (
        lambda c: c.verdict(c.origin, entry_address(c.entries[0]), entry_address(c.entries[2]), 0, 3),
        "stops at step 3, outside the last segment it checked",
    ),
    "judges another run's segment": (
        lambda c: c.verdict(c.origin, entry_address(c.entries[0]), entry_address(c.entries[0]), 0, 1),
        "as the segment it checked, which is not in this run",
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_author_who_cheats_is_named_by_audit_append_and_reading(name: str, cast: Cast) -> None:
    make, problem = CHEATS[name]
    bad = make(cast)
    with Log.open(cast.directory) as log:
        log.append(cast.entries)
        with pytest.raises(ChainError, match=rf"^entry 4 \({str(entry_address(bad))[:16]}\): .*{problem}"):
            log.append([bad])
        assert log.size == 4
    more = encode_entry(cast.run(cast.origin, 77))
    add(cast, [encode_entry(bad), more])
    with Log.open(cast.directory, read_only=True) as log:
        (found,) = log.audit().problems
        assert (found.index, found.run) == (4, run_address(bad))
        assert re.search(problem, found.problem)
        if "does not verify" not in problem:
            with pytest.raises(StorageError, match="damaged, run `samebits log verify`: entry 4"):
                _ = log.size


def longer_forms(data: bytes) -> dict[str, bytes]:
    """Return bytes that decode to the same fields as an entry's, each in a form that is not the canonical one."""
    node = decode(data)
    assert isinstance(node, list)
    fields = node[1]
    assert isinstance(fields, dict)
    shuffled = dict(reversed(fields.items()))
    return {
        "trailing byte": data + b"\0",
        "keys in another order": pack(["entry", shuffled]),
        "a key twice": b"\x92\xa5entry" + bytes([data[7] + 1]) + pack("author") + pack(fields["author"]) + data[8:],
        "a longer map": b"\x92\xa5entry\xde\0" + bytes([data[7] & 0x0F]) + data[8:],
        "a longer list": b"\xdc\0\2" + data[1:],
        "a longer integer": data.replace(b"stop_step\x04", b"stop_step\xcc\x04"),
        "a longer text": data.replace(b"\xa5numpy", b"\xd9\x05numpy"),
        "longer bytes": data.replace(b"\xa9signature\xc4\x40", b"\xa9signature\xc5\0\x40"),
        "a longer address": data.replace(b"state_in\xc7\x20\1", b"state_in\xc8\0\x20\1"),
        "a float for an integer": data.replace(b"stop_step\x04", b"stop_step\xca\x40\x80\0\0"),
    }


def pack(value: Value) -> bytes:
    packed: bytes = msgpack.packb(value, default=lambda item: msgpack.ExtType(DIGEST_EXT_CODE, item.raw))
    return packed


@pytest.mark.parametrize("form", longer_forms(encode_entry(EXAMPLE)))
def test_entry_in_another_encoding_is_named(form: str, cast: Cast) -> None:
    """The same fields in other bytes would be another leaf, and another address, of what is signed once."""
    data = encode_entry(next_segment(cast))
    changed = longer_forms(data)[form]
    assert changed != data
    add(cast, [changed])
    with Log.open(cast.directory, read_only=True) as log:
        (found,) = log.audit().problems
        assert found.index == 4
        with pytest.raises(StorageError, match="damaged, run `samebits log verify`: entry 4"):
            _ = log.size


SMALL_ORDER: Final = {
    "identity": "01" + "00" * 31,
    "identity, y not reduced": "ee" + "ff" * 30 + "7f",
    "order 2": "ec" + "ff" * 30 + "7f",
}


@pytest.mark.parametrize("name", SMALL_ORDER)
def test_signature_by_a_key_of_small_order_is_refused(name: str, cast: Cast) -> None:
    """With such a key, R = the identity and S = 0 sign half of all messages or all: anybody could."""
    key, signature = bytes.fromhex(SMALL_ORDER[name]), b"\1" + bytes(63)
    forged = [replace(cast.run(cast.origin, nonce), author=key, signature=signature) for nonce in range(40, 48)]
    checked = check_entries([encode_entry(entry) for entry in forged])
    assert all("author" in entry.problem for entry in checked)


def test_oversized_entry_is_named() -> None:
    (found,) = check_entries([b"\x92" + bytes(65_535)])
    assert "65536 bytes are more than 65535" in found.problem
    assert found.link is None


def test_dropped_entry_is_named_even_under_a_new_head(cast: Cast) -> None:
    publish(cast.directory, [*cast.honest[:2], cast.honest[3]]).close()
    with Log.open(cast.directory, read_only=True) as log:
        (found,) = log.audit().problems
        assert (found.index, "which is not in this run" in found.problem) == (2, True)


def test_reordered_chain_is_named_even_under_a_new_head(cast: Cast) -> None:
    publish(cast.directory, [cast.honest[place] for place in (0, 2, 1, 3)]).close()
    with Log.open(cast.directory, read_only=True) as log:
        assert [problem.index for problem in log.audit().problems] == [1, 3]


def test_rewritten_entry_is_named_even_under_a_new_head(cast: Cast) -> None:
    """The operator cannot sign for the author."""
    changed = encode_entry(with_other_device(cast.entries[3]))
    publish(cast.directory, [*cast.honest[:3], changed]).close()
    with Log.open(cast.directory, read_only=True) as log:
        (found,) = log.audit().problems
        assert (found.index, "does not verify" in found.problem) == (3, True)


def independent_runs(cast: Cast) -> list[bytes]:
    """Return entries that keep every rule in any order, so that only an older checkpoint tells that they changed."""
    return [encode_entry(cast.run(cast.origin, nonce)) for nonce in range(20, 28)]


@pytest.mark.parametrize(
    ("name", "known", "now", "problem"),
    [
        (
            "two heads of one size",
            [0, 1, 2],
            [0, 1, 3],
            "a fork: the log's key signed two different heads of 3 entries",
        ),
        ("reordered", [0, 1, 2], [0, 2, 1, 3], "a fork: the first 3 entries of the log are not those"),
        ("rewritten", [0, 1, 2], [0, 4, 2, 3], "a fork: the first 3 entries of the log are not those"),
        ("dropped", [0, 1, 2], [0, 2, 3, 4], "a fork: the first 3 entries of the log are not those"),
        ("rolled back", [0, 1, 2, 3, 4], [0, 1, 2], "has 5 entries, but the log has only 3: it was rolled back"),
        ("begun again", [0, 1], [], "has 2 entries, but the log has only 0"),
        ("gone on", [0, 1, 2], [0, 1, 2, 3], ""),
        ("the same", [0, 1, 2], [0, 1, 2], ""),
        ("from the beginning", [], [0, 1, 2], ""),
    ],
)
def test_audit_against_an_older_head_proves_what_the_operator_did(
    name: str, known: list[int], now: list[int], problem: str, cast: Cast
) -> None:
    runs = independent_runs(cast)
    publish(cast.directory, [runs[place] for place in now]).close()
    old = head(cast.directory, [runs[place] for place in known])
    with Log.open(cast.directory, read_only=True) as log:
        assert log.audit().is_ok
        problems = log.audit(against={"kept.txt": old, "now": log.checkpoint().encode()}).problems
        if not problem:
            assert problems == ()
            return
        assert str(problems[0]).startswith(f"checkpoint kept.txt: {problem}")
        assert problems[0].notes == (old, log.checkpoint().encode())
        assert len(problems) == 1


def test_audit_against_a_head_that_the_log_did_not_sign(cast: Cast, tmp_path: Path) -> None:
    publish(cast.directory, cast.honest).close()
    with Log.open(tmp_path / "other") as other, Log.open(cast.directory, read_only=True) as log:
        known = {"theirs": other.checkpoint().encode(), "noise": b"nonsense"}
        problems = [str(problem) for problem in log.audit(against=known).problems]
    assert problems[0].startswith("checkpoint theirs: the note has no signature by")
    assert problems[1].startswith("checkpoint noise: malformed note")


def test_audit_in_processes_finds_what_an_audit_in_one_finds(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "MIN_SHARED_ENTRIES", 1)
    monkeypatch.setattr(audit_module, "_BATCH", 3)
    forged = encode_entry(with_other_device(next_segment(cast)))
    runs = independent_runs(cast)
    publish(cast.directory, [*cast.honest, *runs[:3], forged, runs[0], b"nonsense", *runs[3:]]).close()
    with Log.open(cast.directory, read_only=True) as log:
        alone, shared = log.audit(), log.audit(workers=2)
    assert shared == alone
    assert [problem.index for problem in shared.problems] == [7, 8, 9]


def add(cast: Cast, more: list[bytes]) -> None:
    """Publish the honest entries and then others."""
    with Log.open(cast.directory) as log:
        size = log.size
    entries = [*cast.honest, *more]
    with Log.open(cast.directory) as log, log._storage.writing() as view:
        view.append(entries[size:], lambda size, root: head(cast.directory, entries))
