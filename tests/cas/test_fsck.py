"""fsck finds every damage, says who needs what is damaged, and mends it with what a copy gives."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.cas.digest import Digest, hash_blob
from samebits.cas.environment import LEASES, OBJECTS, PINS, ROWS, SUBTREES
from samebits.cas.errors import FileError, StoreError
from samebits.cas.fsck import LEVELS, Level, fsck, quarantine
from samebits.cas.gc import collect_garbage
from samebits.cas.node import Node, encode_node, node_address
from samebits.cas.records import row_key
from samebits.cas.remotes import StoreRemote
from samebits.cas.store import Store
from samebits.cas.transfer import pull

MIB = 1 << 20
LARGE = os.urandom(2 * MIB + 9)
NODE = Node("list", {"parts": [hash_blob(LARGE), hash_blob(b"small")]})
BIG_NODE = Node("list", {"parts": [hash_blob(b"small")], "text": "x" * 20_000})


@pytest.fixture
def top(store: Store) -> Digest:
    """A pinned node that refers to a large blob, to a small one, and to a node that lies in a row."""
    store.put_blob(LARGE)
    store.put_blob(b"small")
    top = store.put_node(Node("list", {"parts": [store.put_node(NODE), store.put_node(BIG_NODE)]}))
    store.pin("top", top)
    return top


def edit(store: Store, table: str, key: bytes, change: Callable[[bytearray], object] | None) -> None:
    value = bytearray(store.environment.get(table, key) or b"")
    assert value
    if change is None:
        store.environment.write(lambda t: t.delete(table, key))
    else:
        changed = change(value)
        data = changed if isinstance(changed, bytearray) else value
        store.environment.write(lambda t: t.put(table, key, bytes(data)))


def flip(position: int) -> Callable[[bytearray], None]:
    def change(value: bytearray) -> None:
        value[position] ^= 1

    return change


@pytest.mark.parametrize("level", LEVELS)
def test_an_intact_store_is_clean(store: Store, top: Digest, level: Level) -> None:
    report = fsck(store, level, [("entry 0", top)])
    assert (report.objects, report.rows, report.problems, report.loose) == (5, 4, (), ())
    assert report.size_bytes > 2 * MIB
    with Store(store.path, read_only=True) as reader:
        assert fsck(reader, level) == report


def in_record(position: int) -> Callable[[Store], Digest]:
    def damage(store: Store) -> Digest:
        edit(store, OBJECTS, hash_blob(b"small").raw, flip(position))
        return hash_blob(b"small")

    return damage


def in_row(change: Callable[[bytearray], object] | None, start: int = MIB) -> Callable[[Store], Digest]:
    def damage(store: Store) -> Digest:
        edit(store, ROWS, row_key(LARGE[start : start + MIB]), change)
        return hash_blob(LARGE)

    return damage


def large_record(change: Callable[[bytearray], object]) -> Callable[[Store], Digest]:
    def damage(store: Store) -> Digest:
        edit(store, OBJECTS, hash_blob(LARGE).raw, change)
        return hash_blob(LARGE)

    return damage


def big_node_row(store: Store) -> Digest:
    edit(store, ROWS, row_key(encode_node(BIG_NODE)), flip(19_000))
    return node_address(BIG_NODE)


def node_record(store: Store) -> Digest:
    edit(store, OBJECTS, node_address(NODE).raw, flip(40))
    return node_address(NODE)


DAMAGES: dict[str, tuple[Level, Callable[[Store], Digest]]] = {  # the first level that finds it
    "form of a record": ("index", in_record(0)),
    "time of a record": ("index", in_record(7)),
    "size of a record": ("index", in_record(9)),
    "inline byte": ("full", in_record(17)),
    "record cut": ("index", large_record(lambda value: value[:-1])),
    "row key in a record": ("presence", large_record(flip(60))),
    "row flipped": ("full", in_row(flip(77))),
    "short row flipped": ("full", in_row(flip(8), 2 * MIB)),
    "row cut": ("presence", in_row(lambda value: value[:-1])),
    "row gone": ("presence", in_row(None)),
    "node in its record": ("presence", node_record),
    "node in a row": ("presence", big_node_row),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_found_named_and_mended(store: Store, top: Digest, tmp_path: Path, what: str) -> None:
    with Store(tmp_path / "copy") as copy:
        pull(StoreRemote(store), copy, [top])
        first, damage = DAMAGES[what]
        digest = damage(store)
        for level in LEVELS:
            problems = fsck(store, level).problems
            found = LEVELS.index(level) >= LEVELS.index(first)
            assert [problem.digest for problem in problems] == ([digest] if found else [])
        problem = problems[0]
        assert not problem.is_missing
        needed_by = {
            hash_blob(b"small"): {str(node_address(NODE)), str(node_address(BIG_NODE))},
            hash_blob(LARGE): {str(node_address(NODE))},
        }.get(digest, {str(top)})
        assert set(problem.referred_by) == needed_by
        lost = quarantine(store, problems)
        assert lost == [digest]
        assert not store.has(digest)
        assert (store.path / "cas" / "quarantine" / f"{digest}.record").exists()
        collect_garbage(store)  # the intact rows stay for the fetch
        before = store.new_bytes
        pull(StoreRemote(copy), store, lost)
        assert store.new_bytes - before <= (3 * MIB if what == "record cut" else MIB)
    for level in LEVELS:
        report = fsck(store, level)
        assert (report.problems, report.loose) == ((), ())
    assert store.get_blob(hash_blob(LARGE)) == LARGE


def test_a_row_that_two_objects_share_damages_both(store: Store) -> None:
    first, second = store.put_blob(LARGE), store.put_blob(LARGE[:MIB] + b"x")
    in_row(flip(0), 0)(store)
    problems = fsck(store).problems
    assert {problem.digest for problem in problems} == {first, second}
    quarantine(store, problems)
    store.put_blob(LARGE)
    store.put_blob(LARGE[:MIB] + b"x")
    assert fsck(store).problems == ()


def test_what_is_missing_is_named_with_who_needs_it(store: Store, top: Digest) -> None:
    gone = hash_blob(b"small")
    edit(store, OBJECTS, gone.raw, None)
    assert fsck(store, "index").problems == ()
    for level in LEVELS[1:]:
        (problem,) = fsck(store, level).problems
        assert problem.is_missing
        assert problem.digest == gone
        assert set(problem.referred_by) == {str(node_address(NODE)), str(node_address(BIG_NODE))}
    assert quarantine(store, [problem]) == [gone]


def test_pins_and_roots_that_name_nothing_are_found(store: Store, top: Digest) -> None:
    nothing = hash_blob(b"nothing")
    store.environment.write(lambda t: t.put(PINS, b"lost", nothing.raw))
    (problem,) = fsck(store, "presence", [("entry 7", nothing)]).problems
    assert problem.referred_by == ("pin lost", "entry 7")


@pytest.mark.parametrize(
    ("key", "name", "said"),
    [
        (b"models/top", "models/top", "pin models/top names no address (`samebits cas unpin models/top` removes it)"),
        (b"a b", "a b", "pin 'a b' names no address (`samebits cas unpin 'a b'` removes it)"),
        (b"-x", "-x", "pin -x names no address (`samebits cas unpin -- -x` removes it)"),
        (b"\x1bb\n", r"\x1bb\n", r"pin '\x1bb\n' names no address (`samebits cas unpin '\x1bb\n'` removes it)"),
        (b"t\xffp", r"t\xffp", r"pin 't\xffp' has a name that is not UTF-8 (`samebits cas unpin 't\xffp'` removes it)"),
    ],
)
def test_a_malformed_pin_is_named_and_can_be_removed(
    store: Store, top: Digest, key: bytes, name: str, said: str
) -> None:
    """It ended fsck; and nothing took it away."""
    value = top.raw if b"\xff" in key else b"short"
    store.environment.write(lambda t: t.put(PINS, key, value))
    for level in LEVELS:
        report = fsck(store, level)
        assert (report.problems, len(report.malformed_pins)) == ((), 1)
        assert said in report.malformed_pins[0]
    with pytest.raises(StoreError) as refused:
        collect_garbage(store, grace_s=0)
    assert report.malformed_pins[0] in str(refused.value)
    assert store.has(top)
    assert store.unpin(name)
    assert not store.unpin(name)
    assert fsck(store).malformed_pins == ()
    assert collect_garbage(store, grace_s=0).objects == 0
    assert store.pins() == {"top": top}


@pytest.mark.parametrize("position", [0, 39])
def test_a_damaged_value_is_loose(store: Store, top: Digest, position: int) -> None:
    key = row_key(LARGE[MIB : 2 * MIB])
    edit(store, SUBTREES, key + (1).to_bytes(8, "big"), flip(position))
    for level in LEVELS:
        report = fsck(store, level)
        assert report.problems == ()
        assert len(report.loose) == 1
        assert key.hex() in report.loose[0]


def test_a_damaged_row_that_nothing_needs_is_loose(store: Store) -> None:
    store.put_blob(LARGE)
    edit(store, OBJECTS, hash_blob(LARGE).raw, None)
    in_row(flip(3))(store)
    assert fsck(store, "presence").loose == ()
    assert len(fsck(store).loose) == 1


def test_unknown_level_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="index, presence, full"):
        fsck(store, "deep")  # type: ignore[arg-type]


def test_what_is_collected_meanwhile_is_no_damage(store: Store, top: Digest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record had been read, then it was gone: it was told as damaged, or as missing."""
    other = store.put_node(Node("list", {"parts": [store.put_blob(os.urandom(MIB)), store.put_blob(b"garbage")]}))
    real = store.reader.visit_row
    collected: list[object] = []

    def collect_first(*arguments: object) -> object:
        if not collected:
            collected.append(collect_garbage(store, grace_s=-2))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store.reader), "visit_row", lambda self, *arguments: collect_first(*arguments))
    report = fsck(store)
    assert not store.has(other)
    assert report.problems == ()


def test_damage_that_a_level_does_not_look_for_does_not_stop_it(store: Store, top: Digest) -> None:
    in_record(0)(store)
    node_record(store)
    (problem,) = fsck(store, "index").problems
    assert problem.digest == hash_blob(b"small")


@pytest.mark.parametrize("take", ["quarantine", "discard"])
def test_what_is_mended_while_it_is_taken_out_stays(
    store: Store, top: Digest, monkeypatch: pytest.MonkeyPatch, take: str
) -> None:
    """The object was deleted though somebody had put it again, whole, since it was found damaged."""
    digest = in_row(flip(77))(store)
    problems = fsck(store).problems
    real, key = store.environment.write, row_key(LARGE[MIB : 2 * MIB])

    def mend_first(work: Callable[..., object], **given: object) -> object:
        real(lambda t: t.put(ROWS, key, LARGE[MIB : 2 * MIB]))
        return real(work, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store.environment), "write", lambda self, *a, **k: mend_first(*a, **k))
    if take == "quarantine":
        assert quarantine(store, problems) == []
    else:
        assert not store.discard_damaged(digest)
    assert store.get_blob(digest) == LARGE


def test_nothing_is_taken_out_that_could_not_be_set_aside(store: Store, top: Digest) -> None:
    """The bytes were deleted first, and written to the folder then."""
    digest = in_row(flip(77))(store)
    problems = fsck(store).problems
    (store.path / "cas" / "quarantine").write_bytes(b"in the way")
    with pytest.raises(FileError, match="quarantine"):
        quarantine(store, problems)
    assert store.has(digest)


def test_a_damaged_claim_stops_a_collection_with_one_line(store: Store, top: Digest) -> None:
    key = f"{store.environment.lease().identity}/1".encode()
    store.environment.write(lambda t: t.put(LEASES, key, b"\xc1"))
    with pytest.raises(StoreError, match=r"the claim .* of a living process; try again"):
        collect_garbage(store)
