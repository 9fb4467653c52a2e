"""A store of version 1 is brought up to date when it is opened for writing, all or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from samebits.cas.digest import hash_blob, hash_node
from samebits.cas.encoding import encode
from samebits.cas.errors import DamagedObjectError
from samebits.cas.fsck import fsck
from samebits.cas.node import Node, encode_node
from samebits.cas.records import row_key
from samebits.cas.store import Store

MIB = 1 << 20
LARGE = os.urandom(2 * MIB + 3)
NOTE = Node("note", {"blob": hash_blob(b"small")})


def make_version_1(path: Path, extra: dict[bytes, bytes] | None = None) -> None:
    (path / "cas").mkdir(parents=True)
    rows = {row_key(LARGE[start : start + MIB]): LARGE[start : start + MIB] for start in range(0, len(LARGE), MIB)}
    node = encode_node(NOTE)
    objects = {
        hash_blob(b"small").raw: encode({"kind": "blob", "size": 5, "inline": b"small"}),
        hash_blob(LARGE).raw: encode({"kind": "blob", "size": len(LARGE), "rows": b"".join(rows)}),
        hash_node(node).raw: encode({"kind": "node", "size": len(node), "inline": node}),
        **(extra or {}),
    }
    tables = {
        b"rows": rows,
        b"objects": objects,
        b"pins": {b"note": hash_node(node).raw},
        b"meta": {b"format": encode({"format": "samebits-cas", "version": 1})},
    }
    with lmdb.open(str(path / "cas"), max_dbs=4, map_size=1 << 30) as env, env.begin(write=True) as transaction:
        for name, entries in tables.items():
            database = env.open_db(name, txn=transaction)
            for key, value in entries.items():
                transaction.put(key, value, db=database)


def test_everything_is_kept(tmp_path: Path) -> None:
    make_version_1(tmp_path)
    for _ in range(2):
        with Store(tmp_path) as store:
            assert store.get_blob(hash_blob(LARGE)) == LARGE
            assert store.get_blob(hash_blob(b"small")) == b"small"
            assert store.get_node(store.pins()["note"]) == NOTE
            assert fsck(store).problems == ()
    with Store(tmp_path, read_only=True) as store:
        assert len(list(store.objects())) == 3


def test_a_damaged_record_is_named_and_nothing_changes(tmp_path: Path) -> None:
    bad = hash_blob(b"bad")
    make_version_1(tmp_path, {bad.raw: b"\xc1"})
    for _ in range(2):
        with pytest.raises(DamagedObjectError, match=str(bad)):
            Store(tmp_path)
    with lmdb.open(str(tmp_path / "cas"), max_dbs=4) as env, env.begin() as transaction:
        assert transaction.get(b"format", db=env.open_db(b"meta", txn=transaction)) == encode(
            {"format": "samebits-cas", "version": 1}
        )
