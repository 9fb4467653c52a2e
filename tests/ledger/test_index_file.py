"""The index on disk: it says what the entries say, is made anew where it does not, and is never needed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samebits.cas.digest import hash_blob
from samebits.ledger import log_state
from samebits.ledger import sessions as sessions_module
from samebits.ledger.entry import Entry, decode_entry, encode_entry, entry_address
from samebits.ledger.errors import StorageError
from samebits.ledger.index_file import INDEX_FOLDER, IndexCover, IndexFile
from samebits.ledger.log import Log
from samebits.ledger.merkle import CompactRange
from samebits.ledger.search import Query

MakeMany = Callable[..., list[Entry]]
Make = Callable[..., Entry]


@pytest.fixture
def no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index file is written after every append."""
    monkeypatch.setattr(sessions_module, "_INDEX_LAG", 1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The entries that catching up had to read."""
    read: list[bytes] = []

    def decode(data: bytes) -> Entry:
        read.append(data)
        return decode_entry(data)

    monkeypatch.setattr(log_state, "decode_entry", decode)
    yield read


def rows_of(directory: Path) -> dict[bytes, bytes]:
    file = IndexFile.open(directory, create=False)
    assert file is not None
    with file.reading() as view:
        rows = dict(view.scan(b""))
    file.close()
    return rows


def fill(log: Log, make_entries: MakeMany, make_verdict: Make, count: int = 20) -> list[Entry]:
    entries = make_entries(log.origin, count)
    verdict = make_verdict(log.origin, entry_address(entries[0]), entry_address(entries[-1]), 0, count)
    log.append([*entries, verdict])
    return [*entries, verdict]


def test_log_reads_only_new_entries_on_a_cold_start(
    log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany, make_run: Make, decoded: list[bytes]
) -> None:
    entries = make_entries(log.origin, 20)
    log.append(entries[:10])
    sessions_module._INDEX_LAG = 1000  # type: ignore[misc]
    log.append(entries[10:])
    with Log.open(tmp_path / "log") as again:
        assert again.size == 21
        assert len(decoded) == 11
        assert again.chain(entry_address(entries[0])).next_step == 20
        assert [again.find(entry_address(entry)) for entry in entries] == list(enumerate(entries))
        assert list(again.entries()) == entries
        again.append([make_run(again.origin, 7)])
        assert len(decoded) == 11
        assert again.audit().is_ok


def test_index_file_is_the_same_however_it_was_made(
    log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany, make_verdict: Make
) -> None:
    fill(log, make_entries, make_verdict)
    other = make_entries(log.origin, 5, nonce=8)
    for entry in other:
        log.append([entry])
    made = rows_of(tmp_path / "log")
    log.reindex()
    assert rows_of(tmp_path / "log") == made
    log.close()
    shutil.rmtree(tmp_path / "log" / INDEX_FOLDER)
    with Log.open(tmp_path / "log") as again:
        assert again.size == 28
    assert rows_of(tmp_path / "log") == made
    assert len(made) > 28 * 5


@pytest.mark.parametrize("piece", [1, 5, 27, 28, 29])
def test_index_file_is_made_in_pieces(
    piece: int,
    log: Log,
    tmp_path: Path,
    no_lag: None,
    make_entries: MakeMany,
    make_verdict: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = fill(log, make_entries, make_verdict)
    log.append(make_entries(log.origin, 5, nonce=8))
    made = rows_of(tmp_path / "log")
    monkeypatch.setattr(sessions_module, "_INDEX_PIECE", piece)
    log.reindex()
    assert rows_of(tmp_path / "log") == made
    assert log.chain(entry_address(entries[0])).next_step == 20
    log.close()
    shutil.rmtree(tmp_path / "log" / INDEX_FOLDER)
    with Log.open(tmp_path / "log") as again:
        again.append([])
        assert again.find(entry_address(entries[7])) == (7, entries[7])
    assert rows_of(tmp_path / "log") == made


@pytest.mark.parametrize("index", [3, 12, 20])
def test_index_of_damaged_entries_is_never_believed(
    index: int,
    log: Log,
    tmp_path: Path,
    no_lag: None,
    make_run: Make,
    make_entries: MakeMany,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The damaged entry keeps every rule: only the root tells, after the last piece."""
    entries = [make_run(log.origin, nonce) for nonce in range(21)]
    log.append(entries)
    log.close()
    shutil.rmtree(tmp_path / "log" / INDEX_FOLDER)
    monkeypatch.setattr(sessions_module, "_INDEX_PIECE", 4)
    bundle = tmp_path / "log" / "tile" / "entries" / "000.p" / "21"
    intact = bundle.read_bytes()
    changed = [encode_entry(entry) for entry in entries]
    changed[index] = encode_entry(make_run(log.origin, 90))
    with Log.open(tmp_path / "log") as again:
        bundle.write_bytes(b"".join(len(entry).to_bytes(2, "big") + entry for entry in changed))
        for _ in range(2):
            with pytest.raises(StorageError, match="are not those of its checkpoint"):
                _ = again.size
        bundle.write_bytes(intact)
        assert again.find(entry_address(entries[index]))[0] == index
        assert again.search(Query(since=0)) == []


def test_log_throws_away_the_index_of_another_log(
    log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany, make_verdict: Make
) -> None:
    entries = fill(log, make_entries, make_verdict)
    with Log.open(tmp_path / "other") as other:
        foreign = fill(other, make_entries, make_verdict, 3)
    for folder in ("log", "other"):
        assert len(rows_of(tmp_path / folder)) > 20
    log.close()
    shutil.rmtree(tmp_path / "log" / INDEX_FOLDER)
    shutil.copytree(tmp_path / "other" / INDEX_FOLDER, tmp_path / "log" / INDEX_FOLDER)
    with Log.open(tmp_path / "log") as again:
        assert again.find(entry_address(entries[5])) == (5, entries[5])
        assert again.chain(entry_address(entries[0])).next_step == 20
        assert not [run for run in again.runs() if run.run_address == entry_address(foreign[0])]
    cover = IndexCover.decode(rows_of(tmp_path / "log")[b"m"])
    assert cover is not None
    assert (cover.origin, cover.tree.tree_size) == (again.origin, 22)


@pytest.mark.parametrize("damage", ["cover", "hash", "size", "empty", "noise", "cut", "folder"])
def test_log_makes_a_damaged_index_anew(
    damage: str, log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany, make_verdict: Make
) -> None:
    entries = fill(log, make_entries, make_verdict, 40)
    log.close()
    data = tmp_path / "log" / INDEX_FOLDER / "data.mdb"
    before = rows_of(tmp_path / "log")
    cover = IndexCover.decode(before[b"m"])
    assert cover is not None
    if damage in ("cover", "hash", "size"):
        tree = cover.tree
        wrong = {
            "cover": b"nonsense",
            "hash": IndexCover(log.origin, CompactRange(tree.tree_size, (bytes(32), *tree.hashes[1:]))).encode(),
            "size": IndexCover(log.origin, CompactRange(64, tree.hashes[:1])).encode(),
        }[damage]
        file = IndexFile.open(tmp_path / "log", create=False)
        assert file is not None
        with file._transaction(write=True) as transaction:
            transaction.put(b"m", wrong)
        file.close()
    elif damage == "folder":
        data.unlink()
        data.mkdir()
    else:
        data.write_bytes({"empty": b"", "noise": os.urandom(50_000), "cut": data.read_bytes()[:8192]}[damage])
    with Log.open(tmp_path / "log") as again:
        assert again.size == 42
        assert again.chain(entry_address(entries[0])).next_step == 40
        again.append([])
    if damage != "folder":
        assert rows_of(tmp_path / "log") == before


def damage_leaves(data: Path, *, cover: bool) -> None:
    """Give the leaves of the tree the flags of no page; that of the cover only if asked to."""
    content = bytearray(data.read_bytes())
    for start in range(2 * 4096, len(content), 4096):
        if content[start + 10] == 2 and (cover or b"samebits index" not in content[start : start + 4096]):
            content[start + 10] = 4
    data.write_bytes(content)


READS: dict[str, Callable[[Log, list[Entry]], object]] = {
    "entry": lambda log, entries: log.entry(7) == entries[7],
    "entries": lambda log, entries: list(log.entries()) == entries,
    "find": lambda log, entries: log.find(entry_address(entries[40])) == (40, entries[40]),
    "find_address": lambda log, entries: log.find_address(str(entry_address(entries[9]))[:40]),
    "search": lambda log, entries: len(log.search(Query(run=entry_address(entries[0])))) == 302,
    "artifacts": lambda log, entries: len(log.artifacts()) > 300,
    "runs": lambda log, entries: log.runs()[0].next_step == 300,
    "chain": lambda log, entries: log.chain(entry_address(entries[0])).next_step == 300,
    "verdicts": lambda log, entries: len(log.verdicts(entry_address(entries[0]))) == 1,
    "lineage": lambda log, entries: log.lineage(entry_address(entries[0])).made_by[0].stop_step == 300,
    "nothing but the append": lambda log, entries: True,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("cover", [False, True])
def test_log_makes_an_index_anew_when_its_pages_are_damaged(
    cover: bool, read: str, log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany, make_verdict: Make
) -> None:
    """LMDB opens such a file, and finds out later, in the middle of a read or an append."""
    entries = fill(log, make_entries, make_verdict, 300)
    log.close()
    before = rows_of(tmp_path / "log")
    damage_leaves(tmp_path / "log" / INDEX_FOLDER / "data.mdb", cover=cover)
    with Log.open(tmp_path / "log") as again:
        assert READS[read](again, entries)
        assert again.append(make_entries(again.origin, 1, nonce=8)).tree_size == 304
        assert READS["find"](again, entries)
    assert before.items() - {(b"m", before[b"m"])} <= rows_of(tmp_path / "log").items()


@pytest.mark.parametrize("cover", [False, True])
def test_reindex_replaces_an_index_that_cannot_be_emptied(
    cover: bool, log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany, make_verdict: Make
) -> None:
    fill(log, make_entries, make_verdict, 300)
    log.close()
    before = rows_of(tmp_path / "log")
    damage_leaves(tmp_path / "log" / INDEX_FOLDER / "data.mdb", cover=cover)
    with Log.open(tmp_path / "log", read_only=True) as again:
        again.reindex()
    assert rows_of(tmp_path / "log") == before


def test_index_of_a_later_state_is_not_believed_by_an_older_log(
    log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany
) -> None:
    entries = make_entries(log.origin, 10)
    log.append(entries[:4])
    shutil.copytree(tmp_path / "log", tmp_path / "old")
    log.append(entries[4:])
    log.close()
    shutil.rmtree(tmp_path / "old" / INDEX_FOLDER)
    shutil.copytree(tmp_path / "log" / INDEX_FOLDER, tmp_path / "old" / INDEX_FOLDER)
    with Log.open(tmp_path / "old", read_only=True) as old:
        assert old.chain(entry_address(entries[0])).next_step == 3
        assert old.size == 4


def test_log_that_was_replaced_by_another_history_is_refused_although_its_index_fits(
    log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany, make_run: Make
) -> None:
    """Somebody who has the log's key replaces entries, checkpoint and index under a process that knew others."""
    shutil.copytree(tmp_path / "log", tmp_path / "fork")
    log.append(make_entries(log.origin, 5))
    with Log.open(tmp_path / "fork", state_folder=tmp_path / "elsewhere") as fork:
        fork.append([make_run(fork.origin, nonce) for nonce in range(9)])
    shutil.rmtree(tmp_path / "log" / "tile")
    shutil.copytree(tmp_path / "fork" / "tile", tmp_path / "log" / "tile")
    shutil.copy(tmp_path / "fork" / "checkpoint", tmp_path / "log" / "checkpoint")
    file = IndexFile.open(tmp_path / "log", create=False)
    assert file is not None
    rows = rows_of(tmp_path / "fork")
    cover = IndexCover.decode(rows.pop(b"m"))
    assert cover is not None
    with file.reading() as before:
        row = before.cover_row
    assert file.write(row, cover, rows)
    file.close()
    with pytest.raises(StorageError, match="not those it had"):
        _ = log.size


def test_read_only_log_makes_no_index(log: Log, tmp_path: Path, make_entries: MakeMany) -> None:
    log.append(make_entries(log.origin, 3))
    log.close()
    shutil.rmtree(tmp_path / "log" / INDEX_FOLDER)
    with Log.open(tmp_path / "log", read_only=True) as reader:
        assert reader.size == 4
        assert not (tmp_path / "log" / INDEX_FOLDER).exists()
        reader.reindex()
    assert len(rows_of(tmp_path / "log")) > 4


def test_index_file_is_written_by_one_and_read_by_others(
    log: Log, tmp_path: Path, no_lag: None, make_entries: MakeMany
) -> None:
    entries = make_entries(log.origin, 30)
    with Log.open(tmp_path / "log") as second:
        for start in range(0, 30, 3):
            log.append(entries[start : start + 2])
            second.append(entries[start + 2 : start + 3])
            assert second.find(entry_address(entries[start])) == (start, entries[start])
    assert log.chain(entry_address(entries[0])).next_step == 29


def test_index_goes_on_in_memory_when_its_file_cannot_be_written(
    log: Log, no_lag: None, make_entries: MakeMany, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose map is full, made by LMDB itself."""
    entries = make_entries(log.origin, 400)
    assert log._sessions._index_file is not None
    log._sessions._index_file._shared.env.set_mapsize(64 << 10)
    for entry in entries:
        log.append([entry])
    assert log._sessions._index_file is None
    assert log.chain(entry_address(entries[0])).next_step == 400
    assert log.audit().is_ok


def test_index_cover_reads_back_only_what_it_writes() -> None:
    tree = CompactRange()
    for number in range(13):
        tree = tree.extended(hash_blob(b"%d" % number).raw)
        cover = IndexCover("samebits.local/log/0123456789abcdef", tree)
        assert IndexCover.decode(cover.encode()) == cover
    for row in (b"", b"\xc0", cover.encode() + b"\0", cover.encode().replace(b"index v1", b"index v2")):
        assert IndexCover.decode(row) is None
    assert IndexCover.decode(IndexCover("o", CompactRange(4, tree.hashes)).encode()) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_log_in_a_directory_that_may_not_be_written_has_its_index_in_memory(
    log: Log, tmp_path: Path, make_entries: MakeMany
) -> None:
    entries = make_entries(log.origin, 3)
    log.append(entries)
    log.close()
    (tmp_path / "log" / INDEX_FOLDER).chmod(stat.S_IRUSR | stat.S_IXUSR)
    with Log.open(tmp_path / "log", read_only=True) as reader:
        assert reader.chain(entry_address(entries[0])).next_step == 3
