"""Rows that arrive: verified at their place, kept at once, visible when the object is whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cas.remote_places import addresses

from samebits.cas.arrivals import Arrivals, check_row
from samebits.cas.digest import Digest, hash_node
from samebits.cas.errors import BadRowError, DamagedObjectError, RemoteError
from samebits.cas.node import Node
from samebits.cas.records import row_key
from samebits.cas.store import Store
from samebits.cas.wire import WireRecord, wire_record

MIB = 1 << 20
DATA = b"0" * MIB + b"1" * MIB + b"2"
ROWS = [DATA[:MIB], DATA[MIB : 2 * MIB], DATA[2 * MIB :]]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "target") as opened:
        yield opened


def put(store: Store) -> tuple[Digest, WireRecord]:
    digest = store.put_blob(DATA)
    return digest, wire_record(store, digest)


def test_object_is_visible_with_finish_and_its_rows_before(store: Store, target: Store) -> None:
    digest, record = put(store)
    with target.batch():
        arrivals = Arrivals(target, "there")
        for index in (2, 0, 1):
            arrivals.add_row(digest, index, check_row("there", digest, record, index, ROWS[index]))
        arrivals.flush()
        with Store(target.path) as another:
            assert another.missing_rows(record.row_keys) == []
            assert another.missing([digest]) == [digest]
        arrivals.finish(digest, record)
    assert target.get_blob(digest) == DATA


@pytest.mark.parametrize(
    ("index", "data", "reason"),
    [
        (0, ROWS[0][:-1], "has 1048575 bytes, not 1048576"),
        (0, ROWS[0] + b"0", "has more than 1048576 bytes, not 1048576"),
        (0, b"", "has 0 bytes"),
        (0, ROWS[1], "does not have its hash"),
        (1, b"x" + ROWS[1][1:], "does not have its hash"),
        (2, b"3", "does not have its hash"),
    ],
)
def test_add_row_names_a_bad_row(store: Store, target: Store, index: int, data: bytes, reason: str) -> None:
    digest, record = put(store)
    with target.batch(), pytest.raises(BadRowError, match=f"remote there: row {index} of object {digest} {reason}"):
        check_row("there", digest, record, index, data)
    assert target.missing_rows(record.row_keys) == list(record.row_keys)


def test_add_row_refuses_a_row_that_has_the_claimed_key_but_not_the_place(store: Store, target: Store) -> None:
    digest, record = put(store)
    swapped = dataclasses.replace(record, row_keys=(record.row_keys[1], record.row_keys[0], record.row_keys[2]))
    with target.batch(), pytest.raises(BadRowError, match="row 0"):
        check_row("there", digest, swapped, 0, ROWS[1])


def test_add_row_refuses_a_row_that_has_the_place_but_not_the_claimed_key(store: Store, target: Store) -> None:
    digest, record = put(store)
    other = dataclasses.replace(record, row_keys=(bytes(32), *record.row_keys[1:]))
    with target.batch(), pytest.raises(BadRowError, match="row 0"):
        check_row("there", digest, other, 0, ROWS[0])


def test_use_row_takes_what_is_there_only_at_its_place(store: Store, target: Store) -> None:
    digest, record = put(store)
    target.put_blob(ROWS[0])
    target.put_blob(ROWS[1])
    swapped = dataclasses.replace(record, row_keys=(record.row_keys[1], record.row_keys[0], record.row_keys[2]))
    with target.batch():
        arrivals = Arrivals(target, "there")
        assert arrivals.use_row(digest, record, 0)
        assert arrivals.use_row(digest, record, 1)
        assert not arrivals.use_row(digest, record, 2)
        with pytest.raises(BadRowError, match="row 0"):
            arrivals.use_row(digest, swapped, 0)


def test_use_row_says_that_the_stores_row_is_damaged(store: Store, target: Store) -> None:
    digest, record = put(store)
    target.put_blob(ROWS[0])
    target.environment.write(lambda transaction: transaction.put("rows", record.row_keys[0], b"x" * MIB))
    with target.batch(), pytest.raises(DamagedObjectError, match="row 0"):
        Arrivals(target, "there").use_row(digest, record, 0)


def test_finish_wants_every_row_checked(store: Store, target: Store) -> None:
    digest, record = put(store)
    for row in ROWS[:2]:
        target.put_blob(row)
    with target.batch():
        arrivals = Arrivals(target, "there")
        arrivals.use_row(digest, record, 0)
        with pytest.raises(AssertionError):
            arrivals.finish(digest, record)
    assert digest not in addresses(target)


def test_finish_refuses_a_node_of_other_rows(target: Store) -> None:
    encoded = bytes(MIB + 1)
    rows = [encoded[:MIB], encoded[MIB:]]
    record = WireRecord("node", len(encoded), None, tuple(map(row_key, rows)), ())
    wrong, right = hash_node(b"another"), hash_node(encoded)
    with target.batch():
        arrivals = Arrivals(target, "there")
        for digest in (wrong, right):
            for index, row in enumerate(rows):
                arrivals.add_row(digest, index, check_row("there", digest, record, index, row))
        with pytest.raises(RemoteError, match=str(wrong)):
            arrivals.finish(wrong, record)
        arrivals.finish(right, record)
    assert addresses(target) == {right}


def test_finish_refuses_an_inline_object_of_another_address(store: Store, target: Store) -> None:
    digest = store.put_node(Node("note", {"text": "hi"}))
    record = dataclasses.replace(wire_record(store, digest), kind="blob")
    with target.batch(), pytest.raises(RemoteError, match=str(digest)):
        Arrivals(target, "there").finish(digest, record)
    assert addresses(target) == set()
