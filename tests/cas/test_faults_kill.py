"""200 kills -9 at any moment of a put, pull, push, gc, ...: nothing breaks, and nothing that was told done is lost.

After each one the store opens, `fsck` of every byte is clean, what was acknowledged is there, and the next put, garbage
collection and compaction work. A store lives on over many kills, so damage would add up.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.cas.kill_workers import ALL_GARBAGE_S, MIB, put_something, repair, safetensors_bytes
from tests.cas.zygote import KILLED, Job, Outcome, Zygote, zygote

from samebits.cas.compact import compact
from samebits.cas.digest import Digest, hash_blob
from samebits.cas.directories import get_directory, put_directory
from samebits.cas.files import put_file
from samebits.cas.fsck import fsck
from samebits.cas.gc import collect_garbage
from samebits.cas.node import Node
from samebits.cas.pulling import pull
from samebits.cas.pushing import push
from samebits.cas.reachable import check_objects
from samebits.cas.remotes import open_remote
from samebits.cas.store import Store

LARGEST_STORE_BYTES = 300 * MIB
# how often a worker is killed, and the time in which it has done some of everything
PUTS, PULLS, PUSHES, COLLECTIONS, CROWDS = 46, 22, 10, 28, 14
PINS, COMPACTIONS, REPAIRS, GETS, CREATIONS = 14, 14, 10, 6, 4
PINS_TIME_S, PUT_TIME_S, PULL_TIME_S, PUSH_TIME_S, COLLECT_TIME_S = 0.03, 0.2, 0.15, 0.15, 0.12
COMPACT_TIME_S, REPAIR_TIME_S, GET_TIME_S, CREATE_TIME_S = 0.25, 0.2, 0.1, 0.03
assert PUTS + 2 * PULLS + 2 * PUSHES + COLLECTIONS + CROWDS + PINS + COMPACTIONS + REPAIRS + GETS + CREATIONS == 200


def moment(number: int, count: int, time_s: float) -> float:
    """Return a delay in the part of the time that belongs to this kill; the first few kills hit the start."""
    return time_s * (number + random.Random(number).random()) / count


@dataclass(slots=True)
class Victim:
    """A store that kills are done to, and what it must have by what its workers said."""

    path: Path
    pins: dict[str, Digest] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where workers write files."""
        return self.path.parent / "files"

    def renew(self) -> bool:
        """Make room if the store has grown too large; return whether it is to be made anew."""
        data = self.path / "cas" / "data.mdb"
        if data.exists() and data.stat().st_size <= LARGEST_STORE_BYTES:
            return False
        shutil.rmtree(self.path, ignore_errors=True)
        self.pins.clear()
        return True

    def check(self, outcome: Outcome, *, puts_stay: bool, use: bool = True) -> None:
        """Check the store after the kill of a worker that told of its puts and pins, and then use it."""
        assert outcome.status == KILLED, outcome.lines[-1:]
        with Store(self.path) as store:
            self.take_pins(outcome, store.pins())
            promised = set(self.pins.values())
            if puts_stay:
                promised.update(Digest.parse(text) for (text,) in said_last(outcome, "put", "forget"))
            assert store.missing(promised) == []
            report = fsck(store)
            assert (report.problems, report.loose) == ((), ())
            if use:
                self.use(store)

    def take_pins(self, outcome: Outcome, actual: dict[str, Digest]) -> None:
        """Check that the pins are those that the worker has told of, but for the one that it was about to change."""
        done = outcome.said("did")
        changes = outcome.said("will")
        assert len(changes) - len(done) in (0, 1)
        for name, address in changes[: len(done)]:
            change(self.pins, name, address)
        if self.pins != actual and len(changes) > len(done):
            change(self.pins, *changes[-1])
        assert actual == self.pins

    def use(self, store: Store) -> None:
        """Put, let old pins go, collect garbage: everything that is pinned stays."""
        digest = store.put_blob(random.randbytes(100_000))
        for name in [name for name in self.pins if name != "base"][:-5]:
            store.unpin(name)
            del self.pins[name]
        assert len(store.get_blob(digest)) == 100_000
        collect_garbage(store, grace_s=ALL_GARBAGE_S)
        assert not store.has(digest)
        assert fsck(store, "presence").problems == ()
        assert store.pins() == self.pins


def said_last(outcome: Outcome, word: str, forget: str) -> list[list[str]]:
    """Return what followed a word since another one was said."""
    words = [line[0] for line in outcome.lines]
    start = len(words) - words[::-1].index(forget) if forget in words else 0
    return [line[1:] for line in outcome.lines[start:] if line[0] == word]


def change(pins: dict[str, Digest], name: str, address: str) -> None:
    pins.pop(name, None)  # the newest one last
    if address != "-":
        pins[name] = Digest.parse(address)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote("kill_workers", tmp_path_factory.mktemp("zygote") / "log") as started:
        yield started


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Victim]]:
    """The stores by what is done to them."""
    found: dict[str, Victim] = {}
    yield found
    for victim in found.values():
        shutil.rmtree(victim.path.parent)


@pytest.fixture
def victim(
    victims: dict[str, Victim], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Victim:
    """The store of this kind of kill."""
    kind = str(request.node.originalname)
    if "where" in getattr(request.node, "callspec").params:  # noqa: B009  (pytest has no type for it)
        kind += str(request.node.callspec.params["where"])
    if kind not in victims:
        victims[kind] = Victim(tmp_path_factory.mktemp("victim") / "store")
    return victims[kind]


@dataclass(frozen=True, slots=True)
class Origin:
    """Objects to pull: as a store, and as a directory remote."""

    store: Path
    directory: Path
    roots: tuple[Digest, ...]

    def text(self, where: str) -> str:
        return str(self.store if where == "store" else self.directory)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("origin")
    source = random.Random(3)
    with Store(folder / "store") as store, closing(open_remote(str(folder / "remote"), create=True)) as remote:
        shared = store.put_blob(source.randbytes(MIB + 5))
        roots = []
        for _ in range(4):
            parts = [shared, *(put_something(store, source, _made(folder / "files")) for _ in range(4))]
            roots.append(store.put_node(Node("list", {"parts": list(parts), "text": "x" * source.choice((1, 30_000))})))
        push(store, remote, roots)
        for number, root in enumerate(roots):
            store.pin(f"{number}", root)
    yield Origin(folder / "store", folder / "remote", tuple(roots))
    shutil.rmtree(folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("number", range(PUTS))
def test_kill_while_objects_are_put(workers: Zygote, victim: Victim, number: int) -> None:
    victim.renew()
    job = ("put", (str(victim.path), number, str(victim.folder)))
    victim.check(*workers.kill([job], [moment(number, PUTS, PUT_TIME_S)]), puts_stay=True)
    if number % 10 == 0:
        compact(victim.path)


@pytest.mark.parametrize("where", ["store", "directory"])
@pytest.mark.parametrize("number", range(PULLS))
def test_kill_while_objects_are_pulled(
    workers: Zygote, victim: Victim, origin: Origin, number: int, where: str
) -> None:
    victim.renew()
    job = ("pull_all", (str(victim.path), number, origin.text(where), list(map(str, origin.roots))))
    delay = moment(number, PULLS, PULL_TIME_S)
    victim.check(*workers.kill([job], [delay]), puts_stay=True, use=number % 3 == 0)
    if number % 3 == 1:
        with Store(victim.path) as store, closing(open_remote(origin.text(where))) as remote:
            pull(remote, store, origin.roots)
            assert check_objects(store, origin.roots)[1] == []


@pytest.mark.parametrize("where", ["store", "directory"])
@pytest.mark.parametrize("number", range(PUSHES))
def test_kill_while_objects_are_pushed(workers: Zygote, victim: Victim, number: int, where: str) -> None:
    remote = Victim(victim.path.with_name("remote"), victim.pins)
    if victim.renew():
        shutil.rmtree(remote.path, ignore_errors=True)
    if where == "store":
        Store(remote.path).close()
    job = ("push_all", (str(victim.path), number, str(victim.folder), str(remote.path)))
    (outcome,) = workers.kill([job], [moment(number, PUSHES, PUSH_TIME_S)])
    Victim(victim.path).check(Outcome(status=outcome.status), puts_stay=False)
    if where == "store":
        remote.check(outcome, puts_stay=False)
        return
    assert outcome.status == KILLED
    with closing(open_remote(str(remote.path), create=True)) as opened:
        remote.take_pins(outcome, {**opened.pins()})
        with Store(victim.path.with_name("copy")) as copy:
            pull(opened, copy, remote.pins.values())
            assert check_objects(copy, remote.pins.values())[1] == []


@pytest.mark.parametrize("number", range(COLLECTIONS))
def test_kill_while_garbage_is_collected(workers: Zygote, victim: Victim, number: int) -> None:
    victim.renew()
    jobs = [
        ("collect", (str(victim.path),)),
        ("put", (str(victim.path), number, str(victim.folder))),
    ]
    delay = moment(number, COLLECTIONS, COLLECT_TIME_S)
    collector, putter = workers.kill(jobs, [delay, delay + 0.03])
    assert collector.status == KILLED, collector.lines
    victim.check(putter, puts_stay=False)


@pytest.mark.parametrize("number", range(CROWDS))
def test_kill_of_two_writers_and_a_garbage_collection(workers: Zygote, victim: Victim, number: int) -> None:
    victim.renew()
    puts: list[Job] = [("put", (str(victim.path), seed, str(victim.folder))) for seed in (2 * number, 2 * number + 1)]
    source = random.Random(number)
    delays = [source.uniform(0, PUT_TIME_S) for _ in range(3)]
    *putters, collector = workers.kill([*puts, ("collect", (str(victim.path),))], delays)
    assert collector.status == KILLED, collector.lines
    both = Outcome(status=KILLED)
    with Store(victim.path) as store:
        actual = store.pins()
    for own, putter in zip((2 * number, 2 * number + 1), putters, strict=True):
        assert putter.status == KILLED, putter.lines[-1:]
        mine = Victim(victim.path)
        mine.take_pins(putter, {name: digest for name, digest in actual.items() if name.startswith(f"{own}/")})
        victim.pins |= mine.pins
    victim.check(both, puts_stay=False)


@pytest.mark.parametrize("number", range(PINS))
def test_kill_while_pins_change(workers: Zygote, victim: Victim, number: int) -> None:
    victim.renew()
    with Store(victim.path) as store:
        for part in range(5):
            store.put_blob(b"%d" % part)
    job = ("pin_all", (str(victim.path), number))
    victim.check(*workers.kill([job], [moment(number, PINS, PINS_TIME_S)]), puts_stay=False)


@pytest.mark.parametrize("number", range(COMPACTIONS))
def test_kill_while_a_store_is_compacted(workers: Zygote, victim: Victim, number: int) -> None:
    if victim.renew():
        with Store(victim.path) as store:  # most of the time is the copying, then
            store.pin("base", store.put_blob(random.randbytes(24 * MIB)))
            victim.pins.update(store.pins())
    job = ("compact_all", (str(victim.path), number))
    victim.check(*workers.kill([job], [moment(number, COMPACTIONS, COMPACT_TIME_S)]), puts_stay=True)
    report = compact(victim.path)
    assert report.after_size_bytes < _size_of(victim) + MIB
    assert not (victim.path / "cas" / "compacting").exists()


def _size_of(victim: Victim) -> int:
    with Store(victim.path) as store:
        return sum(info.size_bytes for info in store.objects())


@pytest.mark.parametrize("number", range(REPAIRS))
def test_kill_while_a_store_is_repaired(workers: Zygote, victim: Victim, origin: Origin, number: int) -> None:
    """A repair that was killed may leave damage; the next one mends it."""
    if victim.renew():
        with Store(victim.path) as store, closing(open_remote(str(origin.store))) as remote:
            pull(remote, store, origin.roots)
            for root in origin.roots:
                store.pin(f"{root}", root)
    job = ("repair_all", (str(victim.path), number, origin.text("store")))
    (outcome,) = workers.kill([job], [moment(number, REPAIRS, REPAIR_TIME_S)])
    assert outcome.status == KILLED, outcome.lines
    with Store(victim.path) as store:
        repair(store, str(origin.store))
        report = fsck(store)
        assert (report.problems, report.loose) == ((), ())
        assert check_objects(store, origin.roots)[1] == []


@pytest.mark.parametrize("number", range(GETS))
def test_kill_while_files_are_written(workers: Zygote, victim: Victim, number: int) -> None:
    """A file is the old one or the new one, and a folder is whole or not there."""
    source = random.Random(1)
    contents = [safetensors_bytes(source) + source.randbytes(8 * MIB), source.randbytes(9 * MIB)]
    if victim.renew():
        _made(victim.folder)
        with Store(victim.path) as store:
            for name, data in zip("ab", contents, strict=True):
                (victim.folder / name).write_bytes(data)
                store.pin(name, put_file(store, victim.folder / name).digest)
            store.pin("folder", put_directory(store, victim.folder).digest)
            victim.pins.update(store.pins())
        shutil.rmtree(victim.folder)
    _made(victim.folder)
    files = [str(victim.pins[name]) for name in "ab"]
    job = ("get_all", (str(victim.path), number, files, str(victim.pins["folder"]), str(victim.folder)))
    (outcome,) = workers.kill([job], [moment(number, GETS, GET_TIME_S)])
    victim.check(Outcome(status=outcome.status), puts_stay=False)
    found = {path.name: path for path in victim.folder.iterdir() if not path.name.startswith(".samebits-")}
    assert {name for (name,) in outcome.said("folder")} <= found.keys()
    if outcome.said("file"):
        assert "file" in found
    for name, path in found.items():
        if name == "file":
            assert path.read_bytes() in contents
        else:
            assert [(path / name).read_bytes() for name in "ab"] == contents
    shutil.rmtree(victim.folder)


@pytest.mark.parametrize("number", range(CREATIONS))
def test_kill_while_a_store_is_made(workers: Zygote, victim: Victim, number: int) -> None:
    _made(victim.folder)
    job = ("create_all", (str(victim.folder), number))
    (outcome,) = workers.kill([job], [moment(number, CREATIONS, CREATE_TIME_S)])
    assert outcome.status == KILLED, outcome.lines
    found = sorted(victim.folder.glob(f"{number}-*"))
    assert {name for (name,) in outcome.said("made")} <= {path.name for path in found}
    for path in found:
        with Store(path) as store:
            store.put_blob(b"writable")
            assert fsck(store).problems == ()
            if path.name in {name for name, _ in outcome.said("will")[: len(outcome.said("did"))]}:
                assert store.pins() == {path.name: hash_blob(path.name.encode())}


def test_workers_that_fail_are_noticed(workers: Zygote, tmp_path: Path) -> None:
    """The tests above rely on it: a worker that meets an error ends, and was not killed."""
    (tmp_path / "file").write_text("x")
    outcome = workers.run("collect", str(tmp_path / "file"))
    assert outcome.status == 1
    assert outcome.said("error")[0][0] == "StoreError"
    with Store(tmp_path / "store") as store:
        get_directory(store, put_directory(store, _made(tmp_path / "empty")).digest, tmp_path / "copy")
    assert workers.run("collect", str(tmp_path / "store"), timeout_s=0.1).timed_out
