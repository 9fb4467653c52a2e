"""A database that was cut, overwritten or flipped behind the store's back: never wrong data, and one clear line.

Everything is read by a process of its own: LMDB trusts its index pages, and a damaged one may end the process.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cas.zygote import Outcome, Zygote, zygote

from samebits.cas.compact import compact
from samebits.cas.digest import Digest
from samebits.cas.errors import StoreError
from samebits.cas.fsck import fsck
from samebits.cas.gc import collect_garbage
from samebits.cas.node import Node
from samebits.cas.store import Store

MIB = 1 << 20
PAGE = 4096
DEATHS = {-signal.SIGBUS, -signal.SIGABRT, -signal.SIGSEGV}
FLIPS, ZEROS = 60, 16


@dataclass(frozen=True, slots=True)
class Made:
    """A store, compacted, so that every page of its database is in use; and what it has."""

    path: Path
    expected: Path  # for the reader
    data: bytes  # of the database
    pins: dict[str, Digest]
    index_pages: tuple[int, ...]  # pages that are no row
    pages: int

    def copy(self, path: Path, data: bytes | None = None) -> Path:
        """Return a copy of the store with another database."""
        shutil.copytree(self.path, path)
        if data is not None:
            (path / "cas" / "data.mdb").write_bytes(data)
        return path


def index_pages(data: bytes) -> Iterator[int]:
    """Yield the pages of an LMDB database that are not the rest of a long value."""
    page = 0
    while page < len(data) // PAGE:
        yield page
        flags, length = struct.unpack_from("<HI", data, page * PAGE + 10)  # 4: a value of several pages
        page += length if page > 1 and flags & 4 else 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, source = tmp_path_factory.mktemp("database"), random.Random(4)
    with Store(folder / "store") as store:
        with store.batch():
            small = [store.put_blob(source.randbytes(source.randrange(1, 300))) for _ in range(400)]
            large = [store.put_blob(source.randbytes(size)) for size in (16385, 100_000, MIB, 2 * MIB + 5)]
            nodes = [
                store.put_node(Node("list", {"parts": list(small[start : start + 20])})) for start in range(0, 400, 20)
            ]
            top = store.put_node(Node("list", {"parts": [*nodes, *large]}))
        for number, node in enumerate(nodes):
            store.pin(f"pin {number}", node)
        store.pin("top", top)
        pins = store.pins()
        objects: dict[str, str] = {}
        for digest in (*small, *large, *nodes, top):
            objects[str(digest)] = f"object {len(objects)}"
            (folder / objects[str(digest)]).write_bytes(b"".join(store.read_rows(digest)))
    compact(folder / "store")
    expected = {"objects": objects, "pins": {name: str(digest) for name, digest in pins.items()}}
    (folder / "expected").write_text(json.dumps(expected))
    data = (folder / "store" / "cas" / "data.mdb").read_bytes()
    return Made(folder / "store", folder / "expected", data, pins, tuple(index_pages(data)), len(data) // PAGE)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote("database_workers", tmp_path_factory.mktemp("zygote") / "log") as started:
        yield started


def read(workers: Zygote, made: Made, path: Path, *, read_only: bool = False) -> Outcome:
    """Read everything that a store should have; check that nothing of it is wrong, and that fsck saw what is lost."""
    outcome = workers.run("read", str(path), str(made.expected), read_only, timeout_s=20)
    log = workers.log.read_text()
    assert not outcome.timed_out
    assert outcome.said("wrong") == []
    assert not {name for name, _ in outcome.said("wrongpin")} & {name.replace(" ", "_") for name in made.pins}
    assert all("\\n" not in word for line in outcome.lines for word in line)
    if outcome.status == 0:
        checked = {line[0]: line[1] for line in outcome.said("fsck")}
        assert len(checked) == 3
        if outcome.said("failed") or outcome.said("listed") != [["True"]]:
            assert checked["full"] != "0"  # a number of problems, or refused
    elif outcome.status == 1:
        assert outcome.said("error")[0][0] == "StoreError", log[-3000:]
    else:
        assert outcome.status in DEATHS, log[-3000:]
    return outcome


def write(workers: Zygote, path: Path) -> str:
    """Use a damaged store; check that what was put comes back, or that it was refused."""
    outcome = workers.run("write", str(path), timeout_s=20)
    assert not outcome.timed_out
    assert outcome.said("wrong") == []
    assert outcome.status in {0} | DEATHS, workers.log.read_text()[-3000:]
    return death(outcome)


def death(outcome: Outcome) -> str:
    return "" if outcome.status >= 0 else signal.Signals(-outcome.status).name


def check_intact(workers: Zygote, made: Made, path: Path) -> None:
    """Check that a store has everything, and that it can be used."""
    for read_only in (True, False):
        outcome = read(workers, made, path, read_only=read_only)
        assert (outcome.status, outcome.said("failed"), outcome.said("pins")) == (0, [], [["same"]])
        assert [line[1] for line in outcome.said("fsck")] == ["0", "0", "0"]
    assert write(workers, path) == ""
    with Store(path) as store:
        assert store.pins().keys() == made.pins.keys() | {"written", "small"}
        assert fsck(store).problems == ()


CUTS: dict[str, Callable[[int], int]] = {
    "to nothing": lambda size: 0,
    "to 1 byte": lambda size: 1,
    "to half a page": lambda size: PAGE // 2,
    "to 1 byte less than a page": lambda size: PAGE - 1,
    "to 1 page": lambda size: PAGE,
    "to 1 byte less than 2 pages": lambda size: 2 * PAGE - 1,
    "to 2 pages": lambda size: 2 * PAGE,
    "to 3 pages": lambda size: 3 * PAGE,
    "to a tenth": lambda size: size // 10,
    "to the middle": lambda size: size // 2,
    "to the middle of a page": lambda size: size // 2 // PAGE * PAGE + 77,
    "by 17 pages": lambda size: size - 17 * PAGE,
    "by 16 pages": lambda size: size - 16 * PAGE,
    "by 2 pages": lambda size: size - 2 * PAGE,
    "by 1 page": lambda size: size - PAGE,
    "by 1 byte": lambda size: size - 1,
}


@pytest.mark.parametrize("what", CUTS)
def test_a_database_that_was_cut(
    workers: Zygote, made: Made, tmp_path: Path, what: str, record_property: Callable[[str, object], None]
) -> None:
    """Refused, but for a few pages at the end: those may not have been written, and fsck finds them if they were."""
    size = CUTS[what](len(made.data))
    path = made.copy(tmp_path / "store", made.data[:size])
    few = what in ("by 16 pages", "by 2 pages", "by 1 page", "by 1 byte")
    for read_only in (True, False):
        outcome = read(workers, made, path, read_only=read_only)
        record_property("died", death(outcome))
        if not few:
            assert outcome.status == 1
            assert (path / "cas" / "data.mdb").stat().st_size == size
    if not few:
        with pytest.raises(StoreError, match="damaged"):
            Store(path)
    record_property("died", write(workers, path))


def test_a_database_without_a_byte_that_nothing_was_put_into_is_made_anew(tmp_path: Path) -> None:
    """A process that was killed when it made the store leaves it so; a database that had something is refused."""
    Store(tmp_path).close()
    os.truncate(tmp_path / "cas" / "data.mdb", 0)
    with Store(tmp_path) as store:
        digest = store.put_blob(b"x")
    with Store(tmp_path) as store:
        assert store.get_blob(digest) == b"x"
    os.truncate(tmp_path / "cas" / "data.mdb", 0)
    for options in ({}, {"read_only": True}, {"create": False}):
        with pytest.raises(StoreError, match="damaged"):
            Store(tmp_path, **options)
    assert (tmp_path / "cas" / "data.mdb").stat().st_size == 0


@pytest.mark.parametrize("number", range(ZEROS))
def test_a_database_with_zeros_in_it(
    workers: Zygote, made: Made, tmp_path: Path, number: int, record_property: Callable[[str, object], None]
) -> None:
    source = random.Random(number)
    size = (512, PAGE, 16 * PAGE, 256 * PAGE)[number % 4]
    start = (
        source.choice(made.index_pages) * PAGE if number % 8 < 4 else source.randrange(len(made.data)) // size * size
    )
    data = bytearray(made.data)
    data[start : start + size] = bytes(len(data[start : start + size]))
    path = made.copy(tmp_path / "store", bytes(data))
    record_property("died", death(read(workers, made, path)))
    record_property("died", write(workers, path))


@pytest.mark.parametrize("number", range(FLIPS))
def test_a_database_with_a_flipped_byte(
    workers: Zygote, made: Made, tmp_path: Path, number: int, record_property: Callable[[str, object], None]
) -> None:
    """Anywhere, in index pages, and in what LMDB reads of them first."""
    source = random.Random(number)
    page = source.randrange(made.pages) if number % 3 == 0 else source.choice(made.index_pages)
    data = bytearray(made.data)
    data[page * PAGE + source.randrange(PAGE if number % 3 < 2 else 100)] ^= source.randrange(1, 256)
    path = made.copy(tmp_path / "store", bytes(data))
    record_property("died", death(read(workers, made, path, read_only=number % 2 == 0)))
    record_property("died", write(workers, path))


def _replace(name: str, content: bytes | None) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)

    return act


def _no_leases(folder: Path) -> None:
    shutil.rmtree(folder / "leases")


def _no_locks(folder: Path) -> None:
    for path in folder.glob("*.lock"):
        path.unlink()
    (folder / "lock.mdb").unlink()
    _no_leases(folder)


def _other_leases(folder: Path) -> None:
    """Files of dead processes, and what is no lease at all."""
    leases = folder / "leases"
    (leases / "empty").touch()
    (leases / "new-0").write_bytes(b"")
    (leases / ("0" * 32)).write_bytes(b"99999999999999999999999999999999 1\n")
    (leases / "bytes").write_bytes(random.Random(1).randbytes(10_000))
    (leases / "folder").mkdir()
    (leases / "to nothing").symlink_to("nowhere")
    (leases / "to itself").symlink_to("to itself")
    os.mkfifo(leases / "pipe")


def _junk_in_locks(folder: Path) -> None:
    for path in folder.glob("*.lock"):
        path.write_bytes(b"junk" * 9000)


def _half_a_compaction(folder: Path) -> None:
    (folder / "compacting").mkdir()
    (folder / "compacting" / "data.mdb").write_bytes(b"x")


LOCKS: dict[str, Callable[[Path], None]] = {
    "no lock.mdb": _replace("lock.mdb", None),
    "an empty lock.mdb": _replace("lock.mdb", b""),
    "a short lock.mdb": _replace("lock.mdb", b"x" * 100),
    "a page of zeros": _replace("lock.mdb", bytes(PAGE)),
    "zeros for lock.mdb": _replace("lock.mdb", bytes(65536)),
    "junk for lock.mdb": _replace("lock.mdb", random.Random(2).randbytes(65536)),
    "a long lock.mdb": _replace("lock.mdb", b"\xff" * 300_000),
    "no users.lock": _replace("users.lock", None),
    "no gate.lock": _replace("gate.lock", None),
    "no batches.lock": _replace("batches.lock", None),
    "no collector.lock": _replace("collector.lock", None),
    "junk in locks": _junk_in_locks,
    "no leases": _no_leases,
    "no locks": _no_locks,
    "other leases": _other_leases,
    "half a compaction": _half_a_compaction,
}


@pytest.mark.parametrize("what", LOCKS)
def test_locks_that_are_gone_or_junk(workers: Zygote, made: Made, tmp_path: Path, what: str) -> None:
    """They say nothing that must outlive the processes, so everything works on."""
    path = made.copy(tmp_path / "store")
    LOCKS[what](path / "cas")
    check_intact(workers, made, path)


def test_a_socket_among_the_leases_is_left_alone(store: Store) -> None:
    digest = store.put_blob(b"x")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(store.path / "cas" / "leases")  # a socket's path is at most 108 bytes
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    collect_garbage(store, [digest], grace_s=-2)
    assert store.has(digest)


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a link to itself", "a link to nothing"])
def test_something_else_in_the_databases_place(tmp_path: Path, what: str) -> None:
    Store(tmp_path).close()
    data = tmp_path / "cas" / "data.mdb"
    data.unlink()
    match what:
        case "a folder":
            data.mkdir()
        case "a pipe":
            os.mkfifo(data)
        case "a link to itself":
            data.symlink_to(data)
        case _:
            data.symlink_to(tmp_path / "no" / "where")
    for options in ({}, {"read_only": True}):
        with pytest.raises(StoreError) as caught:
            Store(tmp_path, **options)
        assert "\n" not in str(caught.value)
