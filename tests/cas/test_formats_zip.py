"""Zip archives: real ones are read, those that contradict themselves are refused."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cas.weight_files import make_zip, plan_bytes, save_torch

from samebits.cas.errors import FileFormatError
from samebits.cas.formats.zip_sections import ZipMember, read_zip

PATH = Path("a.zip")


def read(data: bytes) -> list[ZipMember]:
    return read_zip(io.BytesIO(data), len(data), PATH)


def contents(data: bytes) -> dict[str, bytes]:
    return {member.name: data[member.start : member.stop] for member in read(data) if member.is_plain}


class Unseekable(io.RawIOBase):
    """A sink that a zip writer can't go back in, so that sizes come behind the bytes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(data)  # type: ignore[arg-type]


@given(st.dictionaries(st.from_regex(r"[a-zé]{1,3}(/[a-z]{1,3})?", fullmatch=True), st.binary(max_size=50), max_size=5))
def test_read_zip_finds_what_zipfile_wrote(members: dict[str, bytes]) -> None:
    data = make_zip(members)
    assert contents(data) == members


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_read_zip_reads_wide_sizes_and_descriptors(wide: bool, streamed: bool) -> None:
    sink = Unseekable() if streamed else io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in "ab":
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=wide) as member:
                member.write(name.encode() * 7)
    data = bytes(sink.data) if isinstance(sink, Unseekable) else sink.getvalue()
    assert contents(data) == {"a": b"a" * 7, "b": b"b" * 7}


def test_read_zip_reads_what_torch_and_comments_write() -> None:
    data = save_torch({"a": 1})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert contents(data) == {name: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.comment = b"PK\5\6" * 20
    assert read(stream.getvalue()) == []


def test_read_zip_does_not_take_compressed_bytes_for_content() -> None:
    data = make_zip({"a": bytes(1000)}, method=zipfile.ZIP_DEFLATED)
    (member,) = read(data)
    assert not member.is_plain
    assert member.stop - member.start < 100


def end_record(count: int = 0, size: int = 0, start: int = 0, *, disk: int = 0, comment: int = 0) -> bytes:
    return struct.pack("<4s4H2IH", b"PK\5\6", disk, 0, count, count, size, start, comment)


GOOD = make_zip({"a": b"12345", "b": b"67890"})
LOCAL_B = GOOD.index(b"PK\3\4", 4)
CENTRAL_A = GOOD.index(b"PK\1\2")
CENTRAL_B = GOOD.index(b"PK\1\2", CENTRAL_A + 4)
END = GOOD.index(b"PK\5\6")


def changed(at: int, new: bytes) -> bytes:
    return GOOD[:at] + new + GOOD[at + len(new) :]


def with_end_64(start: int, count: int = 2, told: int = 2, size: int | None = None, disks: int = 1) -> bytes:
    directory = END - CENTRAL_A if size is None else size
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, directory, CENTRAL_A)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, start, disks)
    return GOOD[:END] + wide + locator + end_record(told, END - CENTRAL_A, CENTRAL_A)


HOSTILE = {
    "nothing": (b"", "without an end record"),
    "no end": (GOOD[:END], "without an end record"),
    "bytes behind the end": (GOOD + b"x", "without an end record"),
    "a comment cut short": (GOOD[:-2] + b"\5\0", "without an end record"),
    "several disks": (changed(END + 4, b"\1"), "several files"),
    "other counts": (changed(END + 8, b"\1"), "several files"),
    "a count too many": (changed(END + 8, b"\3\0\3"), "ends early"),
    "a count too few": (changed(END + 8, b"\1\0\1"), "its size says"),
    "65535 members": (changed(END + 8, b"\xff\xff\xff\xff"), "ends early"),
    "a directory of 2^32-1 bytes": (changed(END + 12, b"\xff" * 4), "which is too much"),
    "a directory behind the end": (changed(END + 16, b"\xff" * 4), "should end at"),
    "a directory one byte off": (changed(END + 16, struct.pack("<I", CENTRAL_A + 1)), "should end at"),
    "no directory entry": (changed(CENTRAL_A, b"XX"), "an entry that is not one"),
    "a member in another file": (changed(CENTRAL_A + 34, b"\1"), "in another file"),
    "no local header": (changed(0, b"XX"), "no local header"),
    "another name": (changed(30, b"c"), "another name"),
    "another method": (changed(8, b"\10"), "another method"),
    "other flags": (changed(6, b"\1"), "other flags"),
    "another size": (changed(18, b"\4"), "another size"),
    "another checksum": (changed(14, b"\0\0\0\0"), "another size or checksum"),
    "a stored size that lies": (changed(CENTRAL_A + 24, b"\6"), "should have 6"),
    "both at one place": (changed(CENTRAL_B + 42, b"\0\0\0\0"), "another name"),
    "a place behind the directory": (changed(CENTRAL_B + 42, b"\xff\xff\xff\0"), "behind the members"),
    "a place in the directory": (changed(CENTRAL_B + 42, struct.pack("<I", CENTRAL_A)), "ends early"),
    "2^32-1 without its wide field": (changed(CENTRAL_B + 42, b"\xff" * 4), "zip64 field"),
    "an extra field that reaches too far": (changed(28, b"\1\0"), "overlaps"),
    "a wide end far away": (with_end_64(1 << 63), "points to no record"),
    "a wide end that is not there": (with_end_64(0), "is not one"),
    "wide ends that disagree": (with_end_64(END, count=3), "disagree"),
    "wide sizes that disagree": (with_end_64(END, size=1 << 40), "disagree"),
    "two disks": (with_end_64(END, disks=2), "points to no record"),
    "an endless wide count": (with_end_64(END, count=1 << 62, told=0xFFFF), "which is too much"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_read_zip_refuses(what: str) -> None:
    data, said = HOSTILE[what]
    with pytest.raises(FileFormatError, match=said):
        read(data)


def test_read_zip_takes_a_wide_end_that_agrees() -> None:
    assert contents(with_end_64(END)) == contents(with_end_64(END, told=0xFFFF)) == contents(GOOD)


def raw_zip(names: list[bytes], starts: list[int], data: bytes, flags: int = 0) -> bytes:
    """Return an archive with members of no bytes at these places of `data`."""
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, flags, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, start) + name
        for name, start in zip(names, starts, strict=True)
    )
    return data + directory + end_record(len(names), len(directory), len(data))


def local(name: bytes, flags: int = 0) -> bytes:
    return struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, 0, 0, 0, 0, 0, 0, len(name), 0) + name


def test_read_zip_refuses_names_that_occur_twice() -> None:
    assert [one.name for one in read(raw_zip([b"a"], [0], local(b"a")))] == ["a"]
    with pytest.raises(FileFormatError, match="two members"):
        read(raw_zip([b"a", b"a"], [0, 31], local(b"a") * 2))
    with pytest.raises(FileFormatError, match="two members"):
        read(raw_zip([b"a", b"a"], [0, 0], local(b"a") * 2))


def test_read_zip_refuses_members_that_overlap() -> None:
    padding = struct.pack("<HH", 0x4246, 31) + local(b"b")  # an extra field that is another member
    first = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, len(padding)) + b"a" + padding
    assert len(read(raw_zip([b"a"], [0], first))) == 1
    with pytest.raises(FileFormatError, match="overlaps"):
        read(raw_zip([b"a", b"b"], [0, 35], first))


@pytest.mark.parametrize(
    "name", [b"../a", b"/a", b"a//b", b"a/./b", b"a/../b", b"..", b"", b"a\\b", b"C:a", b"a\0b", b"/"]
)
def test_read_zip_refuses_paths_that_lead_elsewhere(name: bytes) -> None:
    with pytest.raises(FileFormatError, match="no path inside"):
        read(raw_zip([name], [0], local(name)))


def test_read_zip_reads_names_of_both_encodings() -> None:
    assert [one.name for one in read(raw_zip([b"\x82"], [0], local(b"\x82")))] == ["é"]
    with pytest.raises(FileFormatError, match="not UTF-8"):
        read(raw_zip([b"\x82"], [0], local(b"\x82", 1 << 11), flags=1 << 11))


def test_encrypted_members_are_bytes(tmp_path: Path) -> None:
    (member,) = read(raw_zip([b"a"], [0], local(b"a", 1), flags=1))
    assert not member.is_plain


def test_descriptor_that_lies_is_refused() -> None:
    sink = Unseekable()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a", b"12345")
    data = bytes(sink.data)
    at = data.index(b"PK\7\10")
    assert contents(data) == {"a": b"12345"}
    for offset in (14, 18, 22):
        with pytest.raises(FileFormatError, match="in its local header"):
            read(data[:offset] + b"\x99" + data[offset + 1 :])
    for offset in (4, 8, 12):
        with pytest.raises(FileFormatError, match="behind its bytes"):
            read(data[: at + offset] + b"\x99" + data[at + offset + 1 :])


def test_truncated_zip_is_refused_at_every_length() -> None:
    for data in (GOOD, save_torch({}), with_end_64(END)):
        for length in range(0, len(data), 1 if len(data) < 500 else 7):
            with pytest.raises(FileFormatError):
                read(data[:length])


def test_zip_bomb_costs_nothing() -> None:
    bomb = make_zip({"m/data.pkl": b"\x80\x02}.", "m/data/0": bytes(10 << 20)}, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(FileFormatError, match="compressed"):
        plan_bytes(bomb, "m.pt")
    plan = plan_bytes(bomb, "m.npz")
    assert plan is not None
    assert sum(len(section.tensors) for section in plan.sections) == 0
