"""The log: what it refuses to append, what it gives back, and who may open it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.cas.digest import hash_blob
from samebits.ledger.chain import read_chain
from samebits.ledger.checkpoint import open_checkpoint
from samebits.ledger.entry import Entry, encode_entry, entry_address
from samebits.ledger.errors import (
    ChainError,
    EntryError,
    EntryNotFoundError,
    KeyFileError,
    RunNotFoundError,
    StorageError,
)
from samebits.ledger.keyfile import load_key
from samebits.ledger.keys import SigningKey
from samebits.ledger.log import Log
from samebits.ledger.logkey import log_origin
from samebits.ledger.merkle import EMPTY_ROOT, check_consistency, check_inclusion, leaf_hash, root_hash

Make = Callable[..., Entry]
MakeMany = Callable[..., list[Entry]]


def test_open_makes_an_empty_signed_log(tmp_path: Path) -> None:
    with Log.open(tmp_path / "new" / "log") as log:
        assert log.size == 0
        checkpoint = open_checkpoint(log.checkpoint().encode(), log.verifier)
        assert (checkpoint.tree_size, checkpoint.root_hash) == (0, EMPTY_ROOT)
        key = load_key(tmp_path / "new" / "log" / "log.key")
        assert log.origin == key.name == log_origin(key.public)
        assert log.audit().is_ok
        assert list(log.entries()) == [] == log.runs()


def test_reader_finds_no_log_or_a_whole_one_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader saw the checkpoint first and was told that log.pub cannot be read."""
    seen: list[str] = []
    rename = Path.replace

    def watched(path: Path, target: Path) -> Path:
        renamed = rename(path, target)
        try:
            with Log.open(tmp_path / "log", read_only=True) as log:
                seen.append(f"{log.size} entries")
        except StorageError as error:
            seen.append(str(error).partition(": ")[2].partition(";")[0])
        return renamed

    monkeypatch.setattr(Path, "replace", watched)
    Log.open(tmp_path / "log").close()
    assert seen[-1] == "0 entries"
    assert set(seen[:-1]) <= {"there is no log here", "there is no log here yet"}
    assert "there is no log here yet" in seen


def test_append_gives_a_checkpoint_of_every_entry(log: Log, make_entries: MakeMany) -> None:
    entries = make_entries(log.origin, 5)
    first = log.append(entries[:2])
    second = log.append(entries[2:])
    assert open_checkpoint(log.checkpoint().encode(), log.verifier) == second
    hashes = [leaf_hash(encode_entry(entry)) for entry in entries]
    assert [log.tiles().leaf_hash(index) for index in range(6)] == hashes
    assert second.root_hash == root_hash(hashes)
    assert first.root_hash == root_hash(hashes[:2])
    for index in range(6):
        check_inclusion(index, 6, hashes[index], log.inclusion_proof(index), second.root_hash)
    check_consistency(0, 6, EMPTY_ROOT, second.root_hash, log.consistency_proof(0))
    check_consistency(2, 6, first.root_hash, second.root_hash, log.consistency_proof(2))
    assert log.append([]) == second


def test_log_gives_back_what_was_appended(log: Log, make_entries: MakeMany, make_verdict: Make) -> None:
    entries = make_entries(log.origin, 300)
    run, last = entry_address(entries[0]), entry_address(entries[-1])
    entries.append(make_verdict(log.origin, run, last, 0, 300))
    log.append(entries)
    assert list(log.entries()) == entries
    assert list(log.entries(255, 258)) == entries[255:258]
    assert log.entry(256) == entries[256]
    assert log.find(last) == (300, entries[300])
    chain = log.chain(run)
    assert chain == log.runs()[0] == read_chain(log.entries(), run)
    assert chain.next_step == 300
    assert log.verdicts(run) == [(301, entries[301])]
    assert log.verdicts(last) == []


def test_log_names_what_it_does_not_have(log: Log, make_entries: MakeMany) -> None:
    log.append(make_entries(log.origin, 1))
    for index in (-1, 2):
        with pytest.raises(EntryNotFoundError, match=f"entry {index} is not in this log of 2 entries"):
            log.entry(index)
    with pytest.raises(EntryNotFoundError, match="is not in this log of 2 entries"):
        log.find(hash_blob(b"x"))
    with pytest.raises(RunNotFoundError):
        log.chain(hash_blob(b"x"))
    assert log.find_chain(hash_blob(b"x")) is None
    run = entry_address(log.entry(0))
    assert log.find_chain(run) == log.chain(run)


def test_append_refuses_bad_entries_and_writes_none(
    log: Log, make_entries: MakeMany, make_run: Make, make_segment: Make, make_verdict: Make, stranger: SigningKey
) -> None:
    entries = make_entries(log.origin, 3)
    run = entries[0]
    log.append(entries[:3])
    before = log.checkpoint()
    unknown = make_entries(log.origin, 1, nonce=9)
    for bad, problem in [
        (replace(entries[3], signature=bytes(64)), "does not verify"),
        (make_run("samebits.local/log/0123456789abcdef", 1), "made for log samebits.local/log/0123456789abcdef"),
        (make_segment(run, entries[2], 2, origin="elsewhere"), "made for log elsewhere"),
        (make_segment(run, entries[2], 2, key=stranger), "signed by"),
        (make_segment(run, entries[1], 1, device="opencl"), "a fork"),
        (make_segment(run, entries[2], 3), "starts at step 3"),
        (entries[2], "repeats entry 2"),
        (run, "repeats entry 0"),
        (make_run(log.origin, steps=5), "a second run with the job, author and nonce of entry 0"),
        (unknown[1], "which is not in this log"),
        (make_verdict(log.origin, entry_address(run), entry_address(unknown[1]), 0, 1), "which is not in this run"),
    ]:
        for batch in ([bad], [make_run(log.origin, 7), bad]):
            index = 2 + len(batch)
            with pytest.raises(ChainError, match=rf"^entry {index} .*{problem}"):
                log.append(batch)
            assert log.checkpoint() == before
    with pytest.raises(EntryError, match=r"^prev: a run has no entry before it"):
        log.append([replace(run, prev=entry_address(run))])
    log.append(entries[3:])
    assert log.audit().is_ok


def test_append_takes_a_verdict_on_a_run_in_another_log(
    log: Log, tmp_path: Path, make_entries: MakeMany, make_verdict: Make
) -> None:
    with Log.open(tmp_path / "other") as other:
        entries = make_entries(other.origin, 2)
        other.append(entries)
    run, last = entry_address(entries[0]), entry_address(entries[-1])
    log.append([make_verdict(log.origin, run, last, 0, 2)])
    assert len(log.verdicts(run)) == 1
    log.audit().check()
    with pytest.raises(RunNotFoundError):
        log.chain(run)
    with pytest.raises(ChainError, match="made for log"):
        log.append([make_verdict(other.origin, run, last, 0, 2)])


def test_read_only_log_is_read_elsewhere_without_the_private_key(
    log: Log, tmp_path: Path, make_entries: MakeMany
) -> None:
    entries = make_entries(log.origin, 3)
    log.append(entries)
    log.close()
    shutil.copytree(tmp_path / "log", tmp_path / "copy", ignore=shutil.ignore_patterns("log.key"))
    before = sorted(path.name for path in (tmp_path / "copy").iterdir())
    with Log.open(tmp_path / "copy", read_only=True) as copy:
        run = entry_address(entries[0])
        assert read_chain(copy.entries(), run).next_step == 3
        assert copy.audit().is_ok
        with pytest.raises(StorageError, match="for reading only"):
            copy.append(entries)
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == before
    with pytest.raises(KeyFileError, match="can only be read"):
        Log.open(tmp_path / "copy")
    assert not (tmp_path / "copy" / "log.key").exists()


def test_open_refuses_key_files_of_two_logs(log: Log, tmp_path: Path) -> None:
    other = Log.open(tmp_path / "other")
    other.close()
    log.close()
    shutil.copy(tmp_path / "other" / "log.pub", tmp_path / "log" / "log.pub")
    with pytest.raises(StorageError, match="two different logs"):
        Log.open(tmp_path / "log")
    (tmp_path / "log" / "log.pub").write_text("nonsense\n")
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"log\.pub is damaged"):
            Log.open(tmp_path / "log", read_only=read_only)


def test_open_does_not_start_an_emptied_log_again(log: Log, tmp_path: Path, make_entries: MakeMany) -> None:
    log.append(make_entries(log.origin, 1))
    log.close()
    (tmp_path / "log" / "checkpoint").unlink()
    shutil.rmtree(tmp_path / "log" / "tile")
    with pytest.raises(StorageError, match=r"signed a head of 2 entries here, but the files hold 0 .*restored from"):
        Log.open(tmp_path / "log")
    with pytest.raises(StorageError, match="checkpoint is gone"):
        Log.open(tmp_path / "log", state_folder=tmp_path / "another machine")


def test_log_opened_twice_sees_the_others_entries(log: Log, tmp_path: Path, make_entries: MakeMany) -> None:
    entries = make_entries(log.origin, 4)
    with Log.open(tmp_path / "log") as second, Log.open(tmp_path / "log", read_only=True) as reader:
        log.append(entries[:1])
        second.append(entries[1:3])
        log.append(entries[3:])
        assert log.size == second.size == reader.size == 4 + 1
        assert reader.chain(entry_address(entries[0])).next_step == 4


def test_log_refuses_to_go_back(log: Log, tmp_path: Path, make_entries: MakeMany) -> None:
    entries = make_entries(log.origin, 2)
    log.append(entries[:2])
    old = log.checkpoint().encode()
    log.append(entries[2:])
    assert log.size == 3
    (tmp_path / "log" / "checkpoint").write_bytes(old)
    with Log.open(tmp_path / "log", read_only=True) as reader:
        assert reader.size == 2
    with pytest.raises(StorageError, match="went back from 3 entries to 2"):
        _ = log.size


def test_last_head_is_that_of_the_given_state_folder(tmp_path: Path, make_entries: MakeMany) -> None:
    """It was looked for in the user's."""
    folder, state = tmp_path / "log", tmp_path / "state"
    with Log.open(folder, state_folder=state) as log:
        log.append(make_entries(log.origin, 2))
        assert log.last_head() == log.checkpoint().encode()
    for read_only in (True, False):
        with Log.open(folder, read_only=read_only, state_folder=state) as log:
            assert log.last_head() == log.checkpoint().encode()
    with Log.open(folder, read_only=True) as log:
        assert log.last_head() is None


def test_append_from_threads_loses_nothing(log: Log, tmp_path: Path, make_run: Make) -> None:
    runs = [make_run(log.origin, nonce) for nonce in range(40)]

    def add(share: list[Entry]) -> None:
        for entry in share:
            log.append([entry])

    threads = [threading.Thread(target=add, args=(runs[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry_address(entry) for entry in log.entries()} == {entry_address(entry) for entry in runs}
    assert log.audit().is_ok


def test_append_stays_fast_in_a_long_log(log: Log, make_entries: MakeMany) -> None:
    entries = make_entries(log.origin, 600)
    log.append(entries[:1])
    took = []
    for entry in entries[1:]:
        start = time.perf_counter()
        log.append([entry])
        took.append(time.perf_counter() - start)
    assert log.size == 601
    assert sorted(took)[len(took) // 2] < 0.05  # seconds
