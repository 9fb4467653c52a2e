"""Proofs of runs: what an honest one shows, and each lie in one that is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samebits.cas.digest import Digest
from samebits.cas.encoding import decode, encode
from samebits.ledger import (
    Entry,
    LedgerError,
    Log,
    ProofError,
    RunNotFoundError,
    SigningKey,
    encode_entry,
    entry_address,
)
from samebits.ledger.logkey import log_origin
from samebits.ledger.run_proof import (
    ProvedEntry,
    RunProof,
    check_run_proof,
    decode_run_proof,
    encode_run_proof,
    find_run,
    make_run_proof,
)

Made = tuple[Log, Digest, RunProof]


@pytest.fixture
def made(log: Log, make_entries: Callable[..., list[Entry]], make_verdict: Callable[..., Entry]) -> Made:
    """Return a log of two runs, the address of the second one, whose entries are apart, and its proof."""
    first, second = make_entries(log.origin, 3), make_entries(log.origin, 4, 1)
    run = entry_address(second[0])
    log.append(first[:2] + second[:3])
    log.append([make_verdict(log.origin, run, entry_address(second[2]), 0, 2), *first[2:], *second[3:]])
    return log, run, make_run_proof(log, run)


def test_a_proof_shows_the_chain_of_the_run_without_verdicts(made: Made) -> None:
    log, run, proof = made
    proved = check_run_proof(decode_run_proof(encode_run_proof(proof)), run, log.verifier)
    assert proved.chain == replace(log.chain(run), verdicts=())
    assert (proved.checkpoint.tree_size, proved.log_key) == (log.size, log.verifier)
    assert [entry.index for entry in proof.entries] == [2, 3, 4, 8, 9]


def test_hashes_that_several_entries_need_are_stored_once(made: Made) -> None:
    proof = made[2]
    body = decode(encode_run_proof(proof))
    assert isinstance(body, dict) and isinstance(body["hashes"], bytes)
    assert len(body["hashes"]) // 32 == len({h for entry in proof.entries for h in entry.inclusion_proof})
    assert len(body["hashes"]) // 32 < sum(len(entry.inclusion_proof) for entry in proof.entries)


def changed_entry(proof: RunProof, place: int, **changes: object) -> RunProof:
    entries = list(proof.entries)
    entries[place] = replace(entries[place], **changes)  # type: ignore[arg-type]
    return replace(proof, entries=tuple(entries))


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


LIES: list[tuple[str, Callable[[RunProof], RunProof], str]] = [
    ("no entries", lambda p: replace(p, entries=()), "is not in this log"),
    ("the run's entry left out", lambda p: replace(p, entries=p.entries[1:]), "is that of segment"),
    (
        "a segment left out",
        lambda p: replace(p, entries=(*p.entries[:2], *p.entries[3:])),
        "not in this run",
    ),
    (
        "two segments changed about",
        lambda p: replace(p, entries=(*p.entries[:3], *p.entries[:2:-1])),
        "not in this run",
    ),
    ("a segment twice", lambda p: replace(p, entries=(*p.entries, p.entries[-1])), "log's order"),
    ("another index", lambda p: changed_entry(p, 1, index=4), "not in the log's order|is not in the tree"),
    ("an index outside", lambda p: changed_entry(p, 4, index=1 << 40), "cannot be in a tree"),
    ("another byte", lambda p: changed_entry(p, 2, data=flipped(p.entries[2].data)), "is not in the tree"),
    ("another hash", lambda p: changed_entry(p, 2, inclusion_proof=(bytes(32),) * 4), "is not in the tree|too"),
    ("a hash too few", lambda p: changed_entry(p, 2, inclusion_proof=p.entries[2].inclusion_proof[:-1]), "too short"),
    (
        "another checkpoint",
        lambda p: replace(p, checkpoint=p.checkpoint.replace("\n10\n", "\n11\n")),
        "does not verify",
    ),
    ("no checkpoint", lambda p: replace(p, checkpoint="hello"), "malformed"),
]


@pytest.mark.parametrize(("lie", "reason"), [pytest.param(lie, why, id=name) for name, lie, why in LIES])
def test_check_finds_the_lie(made: Made, lie: Callable[[RunProof], RunProof], reason: str) -> None:
    _, run, proof = made
    assert lie(proof) != proof
    with pytest.raises(LedgerError, match=reason) as error:
        check_run_proof(decode_run_proof(encode_run_proof(lie(proof))), run)
    assert "\n" not in str(error.value)


def test_another_logs_key_and_another_run_are_refused(made: Made, tmp_path: Path) -> None:
    log, run, proof = made
    with Log.open(tmp_path / "other") as other:
        with pytest.raises(LedgerError, match=f"not in {other.verifier.vkey}".replace("+", r"\+")):
            check_run_proof(proof, run, other.verifier)
        with pytest.raises(LedgerError, match="no signature by"):
            check_run_proof(replace(proof, log_key=other.verifier), run)
        with pytest.raises(RunNotFoundError):
            make_run_proof(other, run)
    with pytest.raises(LedgerError, match=f"is that of run {run}, not of run"):
        check_run_proof(proof, Digest(bytes(32)))


def test_a_log_under_another_name_than_its_keys_is_refused(made: Made) -> None:
    _, run, proof = made
    key = SigningKey("samebits.local/log/0123456789abcdef", bytes(32))
    assert key.name != log_origin(key.public)
    with pytest.raises(LedgerError, match="is not the origin of a log with the key"):
        check_run_proof(replace(proof, log_key=key.verifier), run)


def test_an_entry_that_its_author_did_not_sign_is_refused(
    log: Log, make_entries: Callable[..., list[Entry]], tmp_path: Path
) -> None:
    """A log's owner can put it there: it vouches for the place, not for what the author says."""
    from tests.ledger.raw_logs import RawLog

    key = SigningKey("x", bytes(range(32)))
    raw = RawLog(tmp_path / "raw", tmp_path / "state", SigningKey(log_origin(key.public), bytes(range(32))))
    run, segment = make_entries(raw.key.name, 1)
    forged = replace(segment, signature=bytes(63) + b"\1")
    raw.append([encode_entry(run), encode_entry(forged)])
    tiles, note = raw_tiles(raw)
    entries = tuple(ProvedEntry(i, tiles.entry(i), tiles.inclusion_proof(i)) for i in range(2))
    proof = RunProof(raw.key.verifier, note, entries)
    with pytest.raises(LedgerError, match="does not verify"):
        check_run_proof(proof, entry_address(run))
    with pytest.raises(LedgerError, match="does not verify"):
        find_run(tiles, entry_address(run), 10)


def raw_tiles(raw: object):  # type: ignore[no-untyped-def]
    from tests.ledger.raw_logs import RawLog

    from samebits.ledger.checkpoint import open_checkpoint
    from samebits.ledger.tile_reader import TileReader
    from samebits.ledger.tile_source import DirectorySource

    assert isinstance(raw, RawLog)
    note = (raw.directory / "checkpoint").read_bytes()
    return TileReader(DirectorySource(raw.directory), open_checkpoint(note, raw.key.verifier)), note.decode()


def test_find_run_reads_the_same_chain_from_tiles_and_is_bounded(made: Made) -> None:
    log, run, _ = made
    assert find_run(log.tiles(), run, 10) == replace(log.chain(run), verdicts=())
    with pytest.raises(LedgerError, match="the log has 10 entries, more than the 9"):
        find_run(log.tiles(), run, 9)
    with pytest.raises(RunNotFoundError):
        find_run(log.tiles(), Digest(bytes(32)), 10)


def test_find_run_takes_no_more_of_a_run_than_a_proof_may_have(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever published a log of one run alone had all of its entries held, and every signature of it checked."""
    log, run, _ = made
    size_bytes = sum(len(encode_entry(link.entry)) for link in log.chain(run).segments)
    monkeypatch.setattr("samebits.ledger.run_proof.MAX_RUN_PROOF_SIZE_BYTES", size_bytes)
    assert find_run(log.tiles(), run, 10).head == log.chain(run).head
    monkeypatch.setattr("samebits.ledger.run_proof.MAX_RUN_PROOF_SIZE_BYTES", size_bytes - 1)
    with pytest.raises(ProofError, match=f"segments of more than the {size_bytes - 1} bytes"):
        find_run(log.tiles(), run, 10)


FORMS: list[tuple[str, Callable[[dict[str, object]], object], str]] = [
    ("no map", lambda body: [], "want the fields"),
    ("another field", lambda body: {**body, "more": 1}, "want the fields"),
    ("no hashes", lambda body: {**body, "hashes": None}, "want the fields"),
    ("another version", lambda body: {**body, "version": 2}, "version 2"),
    ("hashes cut short", lambda body: {**body, "hashes": bytes(31)}, "32 bytes"),
    ("an unused hash", lambda body: {**body, "hashes": body["hashes"] + bytes(32)}, "order of their first use"),  # type: ignore[operator]
    ("a hash that is not there", lambda body: {**body, "entries": [[0, b"", b"\0\0\xff\xff"]]}, "has no hash 65535"),
    ("half a place", lambda body: {**body, "entries": [[0, b"", b"\0"]]}, "has 4 bytes"),
    ("a long path", lambda body: {**body, "entries": [[0, b"", bytes(4 * 64)]]}, "an entry is"),
    ("a number as an entry", lambda body: {**body, "entries": [1]}, "an entry is"),
    ("a key that is none", lambda body: {**body, "log": "x"}, "verifier key"),
]


@pytest.mark.parametrize(("change", "reason"), [pytest.param(change, why, id=name) for name, change, why in FORMS])
def test_decode_refuses_another_form(made: Made, change: Callable[[dict[str, object]], object], reason: str) -> None:
    body = decode(encode_run_proof(made[2]))
    assert isinstance(body, dict)
    with pytest.raises(LedgerError, match=reason):
        decode_run_proof(encode(change(body)))  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1 << 16), value=st.integers(0, 255))
def test_no_changed_byte_is_accepted(made: Made, at: int, value: int) -> None:
    _, run, proof = made
    data = bytearray(encode_run_proof(proof))
    at %= len(data)
    if data[at] == value:
        return
    data[at] = value
    try:
        proved = check_run_proof(decode_run_proof(bytes(data)), run)
    except LedgerError:
        return
    assert proved == check_run_proof(proof, run)  # signature lines of strangers are set aside, and nothing else differs
