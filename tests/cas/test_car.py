"""Archives: the identical file for the same object, checked by readers nobody here wrote, and what is refused."""

from __future__ import annotations

import os
import random
from pathlib import Path

import ipld_car
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiformats import multicodec
from multiformats.multicodec import Multicodec
from multiformats.multihash import raw
from tests.cas.remote_places import addresses, make_objects

from samebits.cas import Digest, FileError, FileFormatError, Node, ObjectNotFoundError, Store, check_objects, hash_blob
from samebits.cas.car import NODE_CODEC, NODE_MULTIHASH, car_root, read_car, write_car
from samebits.cas.digest import hash_node

HELLO = (
    "3a a2 65 726f6f7473 81 d8 2a 58 25 00 01 55 1e 20 ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
    "67 76657273696f6e 01 29 01 55 1e 20 ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f 68656c6c6f"
)


@pytest.fixture(scope="module", autouse=True)
def private_codes() -> None:
    for name, tag, code in (("samebits-node", "ipld", NODE_CODEC), ("samebits-node-hash", "multihash", NODE_MULTIHASH)):
        if not multicodec.exists(name):
            multicodec.register(Multicodec(name=name, tag=tag, code=code, status="draft", description=""))
            if tag == "multihash":
                raw.register(name, lambda data, size=None: hash_node(data).raw, 32)


def section(kind: str, digest: Digest, data: bytes, size: int | None = None) -> bytes:
    cid = bytes.fromhex({"blob": "01551e20", "node": "01e2e6c101e3e6c10120"}[kind]) + digest.raw
    return varint(len(cid) + len(data) if size is None else size) + cid + data


def varint(value: int) -> bytes:
    encoded = b""
    while value >= 128:
        encoded, value = encoded + bytes([value & 127 | 128]), value >> 7
    return encoded + bytes([value])


def header(root: bytes) -> bytes:
    body = b"\xa2\x65roots\x81\xd8\x2a\x58" + bytes([len(root) + 1]) + b"\0" + root + b"\x67version\x01"
    return varint(len(body)) + body


def node_cid(digest: Digest) -> bytes:
    return bytes.fromhex("01e2e6c101e3e6c10120") + digest.raw


def test_write_car_gives_the_documented_bytes(store: Store, tmp_path: Path) -> None:
    write_car(store, store.put_blob(b"hello"), tmp_path / "hello.car")
    assert (tmp_path / "hello.car").read_bytes() == bytes.fromhex(HELLO)
    assert len(bytes.fromhex(HELLO)) == 101


def test_car_round_trip_brings_every_object_and_gives_the_identical_file(store: Store, tmp_path: Path) -> None:
    made = make_objects(store)
    wrote = write_car(store, made.root, tmp_path / "one.car")
    with Store(tmp_path / "other") as other:
        read = read_car(tmp_path / "one.car", other)
        assert (read.root, read.objects, read.size_bytes) == (made.root, 6, wrote.size_bytes)
        assert addresses(other) == addresses(store)
        assert check_objects(other, [made.root]) == (6, [])
        assert read.new_bytes > 0
        assert read_car(tmp_path / "one.car", other).new_bytes == 0
        write_car(other, made.root, tmp_path / "two.car")
    assert (tmp_path / "one.car").read_bytes() == (tmp_path / "two.car").read_bytes()
    assert car_root(tmp_path / "one.car") == made.root


def test_another_reader_reads_the_archive_and_checks_its_blobs(store: Store, tmp_path: Path) -> None:
    made = make_objects(store)
    write_car(store, made.root, tmp_path / "one.car")
    roots, blocks = ipld_car.decode((tmp_path / "one.car").read_bytes())
    assert [root.raw_digest for root in roots] == [made.root.raw]
    assert {block.raw_digest for block, _ in blocks} == {digest.raw for digest in addresses(store)}
    for cid, data in blocks:
        if cid.codec.name == "raw":
            assert cid.hashfun.name == "blake3"
            assert hash_blob(data).raw == cid.raw_digest
        else:
            assert (cid.codec.code, cid.hashfun.code) == (NODE_CODEC, NODE_MULTIHASH)
            assert hash_node(data).raw == cid.raw_digest


def test_an_archive_of_another_writer_is_read(store: Store, tmp_path: Path) -> None:
    from multiformats import CID

    cid = CID("base32", 1, "raw", ("blake3", hash_blob(b"hello").raw))
    (tmp_path / "x.car").write_bytes(ipld_car.encode([cid], [(cid, b"hello")]))
    assert read_car(tmp_path / "x.car", store).root == hash_blob(b"hello")
    assert store.get_blob(hash_blob(b"hello")) == b"hello"


A, B = hash_blob(b"a"), hash_blob(b"b")
NODE = b"\x92\xa1n\x81\xa1a\xc7\x20\x01" + A.raw
N = hash_node(NODE)
RAW_A = bytes.fromhex("01551e20") + A.raw
GOOD = header(node_cid(N)) + section("blob", A, b"a") + section("node", N, NODE)

BAD: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "ends within the header's length"),
    ("a header that ends", GOOD[:20], "ends within the header"),
    ("a long header", varint(1 << 60) + GOOD[1:], "its header has 1152921504606846976 bytes"),
    ("another version", GOOD.replace(b"version\x01", b"version\x02"), "not that of a CAR file"),
    ("no roots", varint(17) + b"\xa2\x65roots\x80\x67version\x01", "not that of a CAR file"),
    ("text", b"hello, this is some text, and no archive at all", "its header has 104 bytes"),
    ("only a header", header(RAW_A), "does not hold its root"),
    ("a wrong byte", GOOD.replace(section("blob", A, b"a"), section("blob", A, b"b")), f"{A} in it is wrong"),
    ("a node behind itself", header(node_cid(N)) + section("node", N, NODE) + section("blob", A, b"a"), "not in it"),
    ("a blob as a node", header(RAW_A) + section("node", A, b"a"), "is wrong"),
    ("no node", header(node_cid(hash_node(b"a"))) + section("node", hash_node(b"a"), b"a"), "is wrong"),
    ("twice", header(RAW_A) + 2 * section("blob", A, b"a"), "is in it twice"),
    ("an extra object", header(RAW_A) + section("blob", B, b"b") + section("blob", A, b"a"), f"{B} in it is no part"),
    ("another root", header(RAW_A) + section("blob", B, b"b"), "does not hold its root"),
    ("a cut file", GOOD[:-1], f"object {N} should have {len(NODE)} bytes, but the file ends"),
    ("more bytes", GOOD + b"\0", "has no CID"),
    ("a section of 2^60 bytes", header(RAW_A) + section("blob", A, b"a", 1 << 60), "should have 1152921504606846940"),
    ("a varint without end", header(RAW_A) + b"\xff" * 12, "has more than 9 bytes"),
    ("a long varint", header(RAW_A) + b"\xa5\x00" + RAW_A + b"a", "not in its shortest form"),
    ("a short section", header(RAW_A) + b"\x03" + RAW_A, "has no CID"),
    ("another hash", header(RAW_A) + varint(37) + bytes.fromhex("01551220") + A.raw + b"a", "has no CID"),
    ("a CID of version 0", header(RAW_A) + varint(35) + b"\x12\x20" + A.raw + b"a", "has no CID"),
]


@pytest.mark.parametrize(("data", "reason"), [pytest.param(data, why, id=name) for name, data, why in BAD])
def test_read_car_refuses(store: Store, tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "bad.car").write_bytes(data)
    with pytest.raises(FileFormatError, match=reason) as error:
        read_car(tmp_path / "bad.car", store)
    assert "\n" not in str(error.value)
    assert addresses(store) <= {A, B}
    assert not store.pins()


def test_the_good_archive_of_these_tests_is_good(store: Store, tmp_path: Path) -> None:
    (tmp_path / "good.car").write_bytes(GOOD)
    assert read_car(tmp_path / "good.car", store).root == N


def test_a_wrong_byte_of_a_large_blob_is_found_and_the_blob_is_not_there(store: Store, tmp_path: Path) -> None:
    data = bytearray(random.Random(5).randbytes(5 * (1 << 20) + 3))
    digest = store.put_blob(data)
    write_car(store, digest, tmp_path / "large.car")
    archive = bytearray((tmp_path / "large.car").read_bytes())
    archive[3 << 20] ^= 1
    (tmp_path / "large.car").write_bytes(archive)
    with Store(tmp_path / "other") as other:
        with pytest.raises(FileFormatError, match=f"object {digest} in it is wrong"):
            read_car(tmp_path / "large.car", other)
        assert not addresses(other)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Digest, Path]:
    """A real archive of several kinds of objects, its root, and a folder."""
    folder = tmp_path_factory.mktemp("real")
    with Store(folder / "source") as store:
        small = [store.put_blob(bytes([n]) * n) for n in (0, 1, 100)]
        inner = store.put_node(Node("inner", {"all": list(small)}))
        root = store.put_node(Node("outer", {"inner": inner, "one": small[1], "large": store.put_blob(bytes(20_000))}))
        write_car(store, root, folder / "real.car")
    return (folder / "real.car").read_bytes(), root, folder


CHANGES = st.tuples(st.integers(0, 21_000), st.integers(0, 255), st.sampled_from(["set", "cut", "add", "end"]))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(CHANGES, max_size=3))
def test_whatever_is_changed_an_accepted_archive_gives_the_same_objects(
    real: tuple[bytes, Digest, Path], changes: list[tuple[int, int, str]]
) -> None:
    original, root, folder = real
    data = bytearray(original)
    for at, value, how in changes:
        at %= max(1, len(data))
        if how == "set":
            data[at : at + 1] = bytes([value])
        elif how == "cut":
            del data[at : at + value]
        elif how == "add":
            data[at:at] = data[value : 2 * value]
        else:
            del data[at:]
    (folder / "changed.car").write_bytes(data)
    with Store(folder / f"other-{os.urandom(6).hex()}") as other:
        try:
            read = read_car(folder / "changed.car", other)
        except FileFormatError as error:
            assert "\n" not in str(error)
            assert data != original
            return
        assert (read.root, read.objects) == (root, 6)
        assert check_objects(other, [root]) == (6, [])
        assert bytes(data) == original


def test_write_car_of_what_is_not_there_leaves_no_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError):
        write_car(store, A, tmp_path / "none.car")
    node = store.put_node(Node("n", {"a": A}))
    with pytest.raises(ObjectNotFoundError):
        write_car(store, node, tmp_path / "none.car")
    assert not list(tmp_path.glob("*.car")) and not list(tmp_path.glob(".samebits*"))


def test_read_car_of_what_is_no_file_says_so(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.car")
    for name, reason in (("pipe.car", "not a regular file"), ("none.car", "No such file"), (".", "directory|regular")):
        with pytest.raises(FileError, match=reason):
            read_car(tmp_path / name, store)
