"""The audit: every changed byte is found, and the entry it is in is named."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.ledger.raw_logs import raw_log

from samebits.ledger.audit import audit_log
from samebits.ledger.checkpoint import Checkpoint, sign_checkpoint
from samebits.ledger.entry import Entry, encode_entry, entry_address
from samebits.ledger.errors import AuditError, LedgerError, StorageError
from samebits.ledger.keyfile import load_key
from samebits.ledger.log import Log
from samebits.ledger.merkle import root_hash
from samebits.ledger.tile_audit import tile_problems
from samebits.ledger.tiles import Tile, decode_bundle, encode_bundle, tile_at

Make = Callable[..., Entry]
MakeMany = Callable[..., list[Entry]]


@pytest.fixture
def small(log: Log, make_entries: MakeMany, make_verdict: Make) -> Log:
    """A log of a run, two segments and a verdict."""
    entries = make_entries(log.origin, 2)
    verdict = make_verdict(log.origin, entry_address(entries[0]), entry_address(entries[2]), 0, 2)
    log.append([*entries, verdict])
    return log


def bundle_file(log: Log) -> Path:
    """Return the file of all entries of a log of up to 255."""
    return max((log._storage.path / "tile" / "entries" / "000.p").iterdir(), key=lambda path: int(path.name))


def put(log: Log, index: int, data: bytes) -> None:
    """Change an entry behind the log's back."""
    file = bundle_file(log)
    entries = decode_bundle(Tile(-1, 0, int(file.name)), file.read_bytes())
    entries[index] = data
    file.write_bytes(encode_bundle(entries))


def put_checkpoint(log: Log, note: bytes) -> None:
    (log._storage.path / "checkpoint").write_bytes(note)


def test_audit_counts_what_it_checked(small: Log) -> None:
    audit = small.audit()
    assert (audit.tree_size, audit.runs, audit.segments, audit.verdicts) == (4, 1, 2, 1)
    assert audit.root_hash == root_hash(list(map(small.tiles().leaf_hash, range(4))))
    assert audit.problems == ()
    audit.check()


def test_audit_names_every_flipped_byte_of_an_entry(small: Log) -> None:
    for index in (0, 2):
        data = encode_entry(small.entry(index))
        for place in range(len(data)):
            changed = bytearray(data)
            changed[place] ^= 1 << place % 8
            put(small, index, bytes(changed))
            audit = small.audit()
            assert index in [problem.index for problem in audit.problems]
            assert audit.problems[-1].problem.startswith("says root hash")
        put(small, index, data)
        assert small.audit().is_ok


def test_audit_names_every_flipped_byte_of_the_checkpoint(small: Log) -> None:
    note = small.checkpoint().encode()
    for place in range(len(note)):
        changed = bytearray(note)
        changed[place] ^= 1 << place % 8
        put_checkpoint(small, bytes(changed))
        assert str(small.audit().problems[-1])[:11] == "checkpoint:"
    put_checkpoint(small, note)
    assert small.audit().is_ok


def test_audit_names_the_run_and_the_problem(small: Log) -> None:
    run = str(entry_address(small.entry(0)))[:16]
    data = encode_entry(small.entry(2))
    put(small, 2, data.replace(small.entry(2).signature, bytes(64)))
    audit = small.audit()
    assert str(audit.problems[0]).startswith(f"entry 2 (run {run}): signature by ")
    with pytest.raises(AuditError, match=r"^entry 2 \(run .*does not verify \(and \d more\)"):
        audit.check()


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 3)])
def test_audit_finds_swapped_entries(small: Log, first: int, second: int) -> None:
    one, two = encode_entry(small.entry(first)), encode_entry(small.entry(second))
    put(small, first, two)
    put(small, second, one)
    assert not small.audit().is_ok


def test_audit_finds_removed_and_added_entries(small: Log, make_run: Make) -> None:
    note, file = small.checkpoint().encode(), bundle_file(small)
    data = file.read_bytes()
    more = data + encode_bundle([encode_entry(make_run(small.origin, 5))])
    file.write_bytes(data[:-1])
    assert str(small.audit().problems[0]) == "entries 0 to 3: missing (tile/entries/000.p/4: ends before its entry 3)"
    file.write_bytes(more)
    assert " bytes behind its 4 entries)" in str(small.audit().problems[0])
    file.unlink()
    assert [str(problem) for problem in small.audit().problems] == ["checkpoint: says 4 entries, but there are 0"]
    file.write_bytes(data)
    file.with_name("5").write_bytes(more)  # was never signed: nobody reads it
    assert small.audit().is_ok
    put_checkpoint(small, note.replace(b"\n4\n", b"\n5\n"))
    assert not small.audit().is_ok


def test_audit_names_every_changed_tile(log: Log, make_entries: MakeMany) -> None:
    """Those of older sizes too, which readers of older checkpoints ask for."""
    entries = make_entries(log.origin, 299)
    for start, stop in ((0, 256), (256, 270), (270, 300)):
        log.append(entries[start:stop])
    folder = log._storage.path
    paths = sorted(path for path in (folder / "tile").rglob("*") if path.is_file())
    assert len(paths) == 2 + 2 * 2 + 1
    for path in paths:
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        wrong = bytearray(data)
        wrong[len(data) // 2] ^= 1
        path.write_bytes(wrong)
        problems = [str(problem) for problem in log.audit().problems]
        if name in ("tile/entries/000", "tile/entries/001.p/44"):
            assert problems[0].startswith(("entry ", "entries "))
        else:
            assert problems == [f"{name}: not what the log's entries give"]
        path.write_bytes(data + b"x")
        assert name in str(log.audit().problems[0])
        path.unlink()
        is_old = name in ("tile/entries/001.p/14", "tile/0/001.p/14")
        assert log.audit().is_ok == is_old
        path.write_bytes(data)
    (folder / "tile/0/001.p/45").write_bytes(b"never signed")
    log.audit().check()


def test_audit_finds_a_missing_checkpoint(small: Log) -> None:
    (small._storage.path / "checkpoint").unlink()
    assert "checkpoint: missing" in [str(problem) for problem in small.audit().problems]


def test_audit_finds_rules_that_the_logs_own_key_broke(
    small: Log, tmp_path: Path, make_segment: Make, make_run: Make
) -> None:
    """The log's key signs whatever its holder wants: entries must stand on their own."""
    key = load_key(tmp_path / "log" / "log.key")
    run, first = small.entry(0), small.entry(1)
    fork = make_segment(run, first, 1, device="opencl")
    forged = encode_entry(make_run(small.origin, 5)).replace(run.author, bytes(range(32)))

    def sign(tree_size: int, root: bytes) -> bytes:
        return sign_checkpoint(Checkpoint(small.origin, tree_size, root), key).encode()

    with small._storage.writing() as view:
        view.append([encode_entry(fork), forged], sign)
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
    put(small, index, data.replace(b"numpy", b"numpz"))
    with pytest.raises(StorageError, match=f"damaged, run `samebits log verify`: entry {index}"):
        small.entry(index)
    with pytest.raises(
        StorageError, match=f"damaged, run `samebits log verify`: .*entry {index}"
    ):  # nobody signs on top of it
        Log.open(tmp_path / "log")
    with Log.open(tmp_path / "log", read_only=True) as again:
        for action in (lambda: again.size, lambda: again.chain(run), again.checkpoint):
            with pytest.raises(StorageError, match="damaged, run `samebits log verify`"):
                action()
        assert not again.audit().is_ok
    put(small, index, b"nonsense")
    with (
        Log.open(tmp_path / "log", read_only=True) as again,
        pytest.raises(LedgerError, match=f"log verify`: entry {index}: entry: not ms"),
    ):
        again.chain(run)
    assert small.append([more]).tree_size == 5  # who has read the log before knows what was signed
    assert entry_address(small.entry(4)) == entry_address(more)
    problems = [str(problem) for problem in small.audit().problems]  # what readers of the old checkpoint would get
    assert problems == ["tile/entries/000.p/4: not what the log's entries give"]


def test_tiles_that_became_full_while_they_are_checked_are_no_damage(tmp_path: Path) -> None:
    """The writer removes the partial ones then."""
    log = raw_log(tmp_path, 100, 200, 300)
    assert list(tile_problems(log.directory, 200)) == []
    full = log.directory / "tile/0/000"
    full.write_bytes(bytes(32) + full.read_bytes()[32:])
    wrong = "tile/0/000: not what the log's entries give"
    assert [str(problem) for problem in tile_problems(log.directory, 200)] == [wrong]
    full.unlink()
    assert [str(problem) for problem in tile_problems(log.directory, 200)] == ["tile/0/000.p/200: missing"]


def test_audit_beside_a_writer_finds_nothing(tmp_path: Path) -> None:
    log, ended = raw_log(tmp_path, 0), threading.Event()

    def grow() -> None:
        while not ended.is_set():
            log.grow(log.size + 51)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        while (size := log.size) < 2_000:
            assert list(tile_problems(log.directory, size)) == []
    finally:
        ended.set()
        writer.join()


def test_audit_of_a_log_that_claims_a_trillion_entries_ends(small: Log, tmp_path: Path) -> None:
    directory = small._storage.path
    size, key = 10**12, load_key(directory / "log.key")
    put_checkpoint(small, sign_checkpoint(Checkpoint(small.origin, size, bytes(32)), key).encode())
    last = tile_at(-1, (size - 1) >> 8, size)
    assert last is not None
    file = directory / last.path
    file.parent.mkdir(parents=True)
    file.write_bytes(encode_bundle([b"x"] * last.width))
    start = time.monotonic()
    audit = audit_log(small._storage, key.verifier, workers=4)
    assert time.monotonic() - start < 5  # seconds; one by one it would be years
    problems = [str(problem) for problem in audit.problems]
    assert problems[1] == "entries 256 to 511: missing (tile/entries/001: missing)"
    assert problems[1_000].endswith("to 999999999999: and more: not checked, after 1000 problems")
    assert len(problems) == 1_001
    assert audit.root_hash is None
