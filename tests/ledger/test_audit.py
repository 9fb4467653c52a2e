"""The audit: every changed byte is found, and the entry it is in is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.entry import Entry, encode_entry, entry_address
from samebits.ledger.errors import AuditError, LedgerError, StorageError
from samebits.ledger.keyfile import load_key
from samebits.ledger.log import Log
from samebits.ledger.merkle import leaf_hash, root_hash

Make = Callable[..., Entry]
MakeMany = Callable[..., list[Entry]]


@pytest.fixture
def small(log: Log, make_entries: MakeMany, make_verdict: Make) -> Log:
    """A log of a run, two segments and a verdict."""
    entries = make_entries(log.origin, 2)
    verdict = make_verdict(log.origin, entry_address(entries[0]), entry_address(entries[2]), 0, 2)
    log.append([*entries, verdict])
    return log


def put(log: Log, key: bytes, value: bytes | None) -> None:
    """Change a row behind the log's back; None deletes it."""
    with log._storage.writing() as view:
        transaction = view._transaction  # type: ignore[attr-defined]
        transaction.delete(key) if value is None else transaction.put(key, value)


def row(index: int) -> bytes:
    return index.to_bytes(8, "big")


def test_audit_counts_what_it_checked(small: Log) -> None:
    audit = small.audit()
    assert (audit.tree_size, audit.runs, audit.segments, audit.verdicts) == (4, 1, 2, 1)
    assert audit.root_hash == root_hash(small.leaf_hashes())
    assert audit.problems == ()
    audit.check()


def test_audit_names_every_flipped_byte_of_an_entry(small: Log) -> None:
    for index in (0, 2):
        data = encode_entry(small.entry(index))
        for place in range(len(data)):
            changed = bytearray(data)
            changed[place] ^= 1 << place % 8
            put(small, row(index), bytes(changed))
            audit = small.audit()
            assert index in [problem.index for problem in audit.problems]
            assert audit.problems[-1].problem.startswith("says root hash")
        put(small, row(index), data)
        assert small.audit().is_ok


def test_audit_names_every_flipped_byte_of_the_checkpoint(small: Log) -> None:
    note = small.checkpoint().encode()
    for place in range(len(note)):
        changed = bytearray(note)
        changed[place] ^= 1 << place % 8
        put(small, b"checkpoint", bytes(changed))
        assert [str(problem)[:11] for problem in small.audit().problems] == ["checkpoint:"]
    put(small, b"checkpoint", note)
    assert small.audit().is_ok


def test_audit_names_every_flipped_bit_of_a_key(small: Log) -> None:
    data = encode_entry(small.entry(1))
    put(small, row(1), None)
    for bit in range(64):
        key = (1 ^ 1 << bit).to_bytes(8, "big")
        if bit <= 1:  # the key of another entry: both places are wrong then
            continue
        put(small, key, data)
        assert (1, "missing") in [(problem.index, problem.problem) for problem in small.audit().problems]
        put(small, key, None)
    put(small, row(1), data)
    assert small.audit().is_ok


def test_audit_names_the_run_and_the_problem(small: Log) -> None:
    run = str(entry_address(small.entry(0)))[:16]
    data = encode_entry(small.entry(2))
    put(small, row(2), data.replace(small.entry(2).signature, bytes(64)))
    audit = small.audit()
    assert str(audit.problems[0]).startswith(f"entry 2 (run {run}): signature by ")
    with pytest.raises(AuditError, match=r"^entry 2 \(run .*does not verify \(and \d more\)"):
        audit.check()


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 3)])
def test_audit_finds_swapped_entries(small: Log, first: int, second: int) -> None:
    one, two = encode_entry(small.entry(first)), encode_entry(small.entry(second))
    put(small, row(first), two)
    put(small, row(second), one)
    assert not small.audit().is_ok


def test_audit_finds_removed_and_added_entries(small: Log, make_run: Make) -> None:
    data = encode_entry(small.entry(3))
    put(small, row(3), None)
    assert [str(problem) for problem in small.audit().problems] == ["checkpoint: says 4 entries, but there are 3"]
    put(small, row(3), data)
    put(small, row(4), encode_entry(make_run(small.origin, 5)))
    assert [str(problem) for problem in small.audit().problems] == ["checkpoint: says 4 entries, but there are 5"]


def test_audit_finds_a_missing_checkpoint(small: Log) -> None:
    put(small, b"checkpoint", None)
    assert "checkpoint: missing" in [str(problem) for problem in small.audit().problems]


def test_audit_finds_rules_that_the_logs_own_key_broke(
    small: Log, tmp_path: Path, make_segment: Make, make_run: Make
) -> None:
    """The log's key signs whatever its holder wants: entries must stand on their own."""
    key = load_key(tmp_path / "log" / "log.key")
    run, first = small.entry(0), small.entry(1)
    fork = make_segment(run, first, 1, device="opencl")
    forged = encode_entry(make_run(small.origin, 5)).replace(run.author, bytes(range(32)))
    leaves = [*small.leaf_hashes(), leaf_hash(encode_entry(fork)), leaf_hash(forged)]
    note = sign_checkpoint(Checkpoint(small.origin, 6, root_hash(leaves)), key)
    with small._storage.writing() as view:
        view.append([encode_entry(fork), forged], note.encode())
    problems = small.audit().problems
    assert [problem.index for problem in problems] == [4, 5]
    assert "a fork: entry 2" in problems[0].problem
    assert "does not verify" in problems[1].problem


@pytest.mark.parametrize("index", [2, 3])  # one breaks the chain, one only the tree
def test_log_raises_for_damage_before_it_signs_or_returns_anything(
    index: int, small: Log, tmp_path: Path, make_run: Make
) -> None:
    run, more = entry_address(small.entry(0)), make_run(small.origin, 5)
    data = encode_entry(small.entry(index))
    put(small, row(index), data.replace(b"numpy", b"numpz"))
    with pytest.raises(StorageError, match=f"damaged, audit it: entry {index}"):
        small.entry(index)
    with Log.open(tmp_path / "log") as again:
        for action in (lambda: again.append([more]), lambda: again.size, lambda: again.chain(run), again.checkpoint):
            with pytest.raises(StorageError, match="damaged, audit it"):
                action()
        assert not again.audit().is_ok
    put(small, row(index), b"nonsense")
    with (
        Log.open(tmp_path / "log") as again,
        pytest.raises(LedgerError, match=f"audit it: entry {index}: entry: not ms"),
    ):
        again.append([more])
