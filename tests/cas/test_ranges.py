"""Ranges of a blob are verified against its address alone."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samebits.cas.digest import hash_blob
from samebits.cas.environment import ROWS, SUBTREES
from samebits.cas.errors import DamagedObjectError, DigestMismatchError, ObjectKindError
from samebits.cas.node import Node
from samebits.cas.ranges import RangeChecker, read_range, subtree_values
from samebits.cas.records import row_key
from samebits.cas.store import Store

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 1000)
SIZES = [0, 1, 16384, 16385, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1, 3 * MIB + 1000]


def rows_of(data: bytes) -> list[bytes]:
    return [data[start : start + MIB] for start in range(0, len(data), MIB)] or [b""]


@pytest.mark.parametrize("size", SIZES)
def test_any_row_is_checked_by_a_reader_who_has_the_address_and_the_values(store: Store, size: int) -> None:
    data = DATA[:size]
    digest = store.put_blob(data)
    values = subtree_values(store, digest)
    checker = RangeChecker(digest, size, values)  # of a reader who has no store
    for index, row in enumerate(rows_of(data)):
        checker.check(index, row)
        for wrong in (row[:-1], row + b"x", bytes([row[0] ^ 1]) + row[1:] if row else b"y"):
            if wrong != row:
                with pytest.raises(DamagedObjectError, match=f"row {index}"):
                    checker.check(index, wrong)
    if size > 2 * MIB:
        with pytest.raises(DamagedObjectError, match="row 0 does not have its hash"):
            checker.check(0, rows_of(data)[1])


def test_values_that_are_not_the_blobs_are_refused(store: Store) -> None:
    digest = store.put_blob(DATA)
    values = subtree_values(store, digest)
    with pytest.raises(DigestMismatchError):
        RangeChecker(digest, len(DATA), (values[1], values[0], *values[2:]))
    with pytest.raises(DigestMismatchError):
        RangeChecker(hash_blob(b""), len(DATA), values)
    for size, given_ in ((len(DATA) + MIB, values), (len(DATA), values[:-1]), (MIB, (values[0],)), (len(DATA), ())):
        with pytest.raises(DamagedObjectError, match="rows"):
            RangeChecker(digest, size, given_)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(data=st.data(), size=st.sampled_from(SIZES))
def test_read_range_gives_the_bytes(store: Store, data: st.DataObject, size: int) -> None:
    digest = store.put_blob(DATA[:size])
    borders = [border for border in (0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, size) if border <= size]
    place = st.sampled_from(borders) | st.integers(0, size)
    start, stop = sorted((data.draw(place), data.draw(place)))
    assert b"".join(read_range(store, digest, start, stop)) == DATA[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, len(DATA) + 1)])
def test_read_range_refuses_what_is_not_within(store: Store, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not a range"):
        list(read_range(store, store.put_blob(DATA), start, stop))


def test_read_range_of_a_node_is_refused(store: Store) -> None:
    with pytest.raises(ObjectKindError):
        list(read_range(store, store.put_node(Node("note", {})), 0, 1))


def test_read_range_reads_only_its_rows(store: Store) -> None:
    digest = store.put_blob(DATA)
    for row in rows_of(DATA)[2:]:
        store.environment.write(lambda t, r=row: t.put(ROWS, row_key(r), bytes(len(r))))  # type: ignore[misc]
    assert b"".join(read_range(store, digest, 5, 2 * MIB)) == DATA[5 : 2 * MIB]
    with pytest.raises(DamagedObjectError, match="row 2"):
        list(read_range(store, digest, 5, 2 * MIB + 1))


def test_a_row_in_another_rows_place_is_caught(store: Store) -> None:
    """Each row is intact and the table of values too; only the order is wrong."""
    digest, other = store.put_blob(DATA), store.put_blob(DATA[MIB : 2 * MIB] + DATA[:MIB] + DATA[2 * MIB :])
    encoded = store.environment.get("objects", other.raw)
    assert encoded is not None
    store.environment.write(lambda t: t.put("objects", digest.raw, encoded))
    with pytest.raises(DigestMismatchError):
        list(read_range(store, digest, 0, 10))


@pytest.mark.parametrize("position", [0, 31, 32, 39, None])
def test_a_damaged_or_missing_value_is_computed_anew(store: Store, position: int | None) -> None:
    digest = store.put_blob(DATA)
    keys = [row_key(row) + index.to_bytes(8, "big") for index, row in enumerate(rows_of(DATA))]
    for key in keys:
        entry = bytearray(store.environment.get(SUBTREES, key) or b"")
        assert len(entry) == 40
        if position is None:
            store.environment.write(lambda t, k=key: t.delete(SUBTREES, k))  # type: ignore[misc]
        else:
            entry[position] ^= 1
            store.environment.write(lambda t, k=key, e=bytes(entry): t.put(SUBTREES, k, e))  # type: ignore[misc]
    assert b"".join(read_range(store, digest, 100, 2 * MIB + 7)) == DATA[100 : 2 * MIB + 7]
    assert store.get_blob(digest) == DATA
    assert b"".join(store.read_rows(digest)) == DATA
    assert store.put_blob(DATA) == digest, "a damaged value gave a wrong address"


def test_pieces_of_a_range_are_within_rows(store: Store) -> None:
    digest = store.put_blob(DATA)
    pieces = list(read_range(store, digest, MIB // 2, 3 * MIB + 5))
    assert [len(piece) for piece in pieces] == [MIB // 2, MIB, MIB, 5]
    assert all(len(one) <= MIB and len(other) <= MIB for one, other in pairwise(pieces))
