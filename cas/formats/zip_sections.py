"""The members of a zip archive, checked against the bytes themselves; nothing is decompressed.

The central directory at the end says where each member lies; its local header says it again, and both must agree.
Source: APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16 and 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.errors import FileFormatError
from samebits.cas.formats.bounded_reader import BoundedReader
from samebits.cas.formats.plan import shown

ZIP_MAGIC: Final = b"PK\3\4"
EMPTY_ZIP_MAGIC: Final = b"PK\5\6"
STORED: Final = 0
MAX_DIRECTORY_SIZE_BYTES: Final = 100_000_000
MAX_MEMBERS: Final = 500_000
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _DESCRIPTOR, _UTF_8 = 1, 8, 1 << 11
_IN_ZIP64_16, _IN_ZIP64_32 = 0xFFFF, 0xFFFFFFFF
_ZIP64_EXTRA: Final = 1


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member: where its bytes lie, as they are in the file."""

    name: str
    method: int  # 0 is stored
    is_encrypted: bool
    header_start: int  # of its local header
    start: int  # its bytes [start, stop)
    stop: int
    end: int  # stop, or the end of the data descriptor behind it

    @property
    def is_plain(self) -> bool:
        """Whether its bytes in the file are its content."""
        return self.method == STORED and not self.is_encrypted


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the central directory says of a member."""

    raw_name: bytes
    flags: int
    method: int
    crc: int
    size_bytes: int  # in the archive
    content_size_bytes: int
    header_start: int


def read_zip(stream: BinaryIO, size_bytes: int, path: Path) -> list[ZipMember]:
    """Return the members of an archive in the order of their bytes; raises FileFormatError for a contradiction."""
    directory_start, directory_stop, count = _read_end(stream, size_bytes, path)
    reader = BoundedReader(stream, directory_start, directory_stop, path, "zip directory")
    entries = [_read_entry(reader) for _ in range(count)]
    if reader.position != directory_stop:
        raise reader.error(f"ends at {reader.position}, its size says {directory_stop}")
    members: list[ZipMember] = []
    names: set[str] = set()
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_start):
        member = _read_member(stream, entry, directory_start, path)
        if member.name in names:
            raise FileFormatError(path, f"has two members {shown(member.name)}")
        if member.header_start < end:
            raise FileFormatError(path, f"its member {shown(member.name)} overlaps another one")
        names.add(member.name)
        members.append(member)
        end = member.end
    return members


def _read_end(stream: BinaryIO, size_bytes: int, path: Path) -> tuple[int, int, int]:
    """Return where the central directory starts and stops, and how many members it has."""
    tail_start = max(0, size_bytes - _END.size - 0xFFFF)
    tail = BoundedReader(stream, tail_start, size_bytes, path, "zip archive").read(size_bytes - tail_start)
    for at in _positions_from_behind(tail):
        values = _END.unpack_from(tail, at)
        if at + _END.size + values[7] == len(tail):
            break
    else:
        raise FileFormatError(path, "is a zip archive without an end record: cut short, or bytes follow it")
    _, disk, first_disk, disk_count, count, directory_size, directory_start, _ = values
    stop = tail_start + at
    if stop >= _LOCATOR_64.size:
        reader = BoundedReader(stream, stop - _LOCATOR_64.size, stop, path, "zip64 end")
        locator = reader.read(_LOCATOR_64.size)
        if locator.startswith(b"PK\6\7"):
            wide, stop = _read_end_64(stream, locator, stop - _LOCATOR_64.size, path)
            narrow = (disk, first_disk, disk_count, count, directory_size, directory_start)
            limits = (*[_IN_ZIP64_16] * 4, *[_IN_ZIP64_32] * 2)
            for short, long, limit in zip(narrow, wide, limits, strict=True):
                if short not in (limit, long):
                    raise FileFormatError(path, "its zip end record and its zip64 end record disagree")
            disk, first_disk, disk_count, count, directory_size, directory_start = wide
    if disk or first_disk or disk_count != count:
        raise FileFormatError(path, "is a part of a zip archive of several files")
    if directory_size > MAX_DIRECTORY_SIZE_BYTES or count > MAX_MEMBERS:
        raise FileFormatError(
            path, f"its zip directory has {count} members and {directory_size} bytes, which is too much"
        )
    if directory_start + directory_size != stop:
        raise FileFormatError(path, f"its zip directory should end at {stop}, not {directory_start + directory_size}")
    return directory_start, stop, count


def _positions_from_behind(tail: bytes) -> list[int]:
    """Return where an end record may start, the last first."""
    found = []
    at = tail.rfind(EMPTY_ZIP_MAGIC)
    while at >= 0:
        if at + _END.size <= len(tail):
            found.append(at)
        at = tail.rfind(EMPTY_ZIP_MAGIC, 0, at + len(EMPTY_ZIP_MAGIC) - 1)
    return found


def _read_end_64(
    stream: BinaryIO, locator: bytes, locator_start: int, path: Path
) -> tuple[tuple[int, int, int, int, int, int], int]:
    _, disk, start, disks = _LOCATOR_64.unpack(locator)
    if disk or disks > 1 or start > locator_start - _END_64.size:
        raise FileFormatError(path, "its zip64 locator points to no record")
    reader = BoundedReader(stream, start, locator_start, path, "zip64 end")
    magic, size, _, _, *values = _END_64.unpack(reader.read(_END_64.size))
    if magic != b"PK\6\6" or start + 12 + size != locator_start:
        raise FileFormatError(path, "its zip64 end record is not one")
    first, second, third, fourth, fifth, sixth = values
    return (first, second, third, fourth, fifth, sixth), start


def _read_entry(reader: BoundedReader) -> _Entry:
    values = _CENTRAL.unpack(reader.read(_CENTRAL.size))
    magic, _, _, flags, method, _, _, crc, size, content_size, name_size, extra_size, comment_size = values[:13]
    disk, _, _, start = values[13:]
    if magic != b"PK\1\2":
        raise reader.error("has an entry that is not one")
    name = reader.read(name_size)
    extra = reader.read(extra_size)
    reader.skip(comment_size)
    wide = _zip64_fields(extra, [content_size, size, start], reader)
    if disk not in (0, _IN_ZIP64_16):
        raise reader.error("has a member in another file")
    content_size, size, start = wide
    if method == STORED and not flags & _ENCRYPTED and size != content_size:
        raise reader.error(f"has a stored member of {size} bytes that should have {content_size}")
    return _Entry(name, flags, method, crc, size, content_size, start)


def _zip64_fields(extra: bytes, values: list[int], reader: BoundedReader) -> list[int]:
    """Return the values, those that are all ones taken from the zip64 field of `extra`."""
    field = b""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if at + 4 + size > len(extra):
            raise reader.error("has an extra field that is longer than its room")
        if kind == _ZIP64_EXTRA:
            if field:
                raise reader.error("has two zip64 fields for one member")
            field = extra[at + 4 : at + 4 + size]
        at += 4 + size
    result = []
    for value in values:
        if value == _IN_ZIP64_32:
            if len(field) < 8:
                raise reader.error("lacks a size in its zip64 field")
            value, field = int.from_bytes(field[:8], "little"), field[8:]
        result.append(value)
    return result


def _read_member(stream: BinaryIO, entry: _Entry, limit: int, path: Path) -> ZipMember:
    """Return a member whose local header agrees with its entry; everything lies before `limit`."""
    name = _read_name(entry, path)
    if entry.header_start > limit:
        raise FileFormatError(path, f"its member {shown(name)} lies at {entry.header_start}, behind the members")
    reader = BoundedReader(stream, entry.header_start, limit, path, f"zip member {shown(name)}")
    values = _LOCAL.unpack(reader.read(_LOCAL.size))
    magic, _, flags, method, _, _, crc, size, content_size, name_size, extra_size = values
    if magic != ZIP_MAGIC:
        raise reader.error(f"has no local header at {entry.header_start}")
    if reader.read(name_size) != entry.raw_name:
        raise reader.error("has another name in its local header")
    if (flags, method) != (entry.flags, entry.method):
        raise reader.error("has other flags or another method in its local header")
    content_size, size = _zip64_fields(reader.read(extra_size), [content_size, size], reader)
    actual, wanted = (crc, size, content_size), (entry.crc, entry.size_bytes, entry.content_size_bytes)
    has_descriptor = bool(flags & _DESCRIPTOR)
    for found, told in zip(actual, wanted, strict=True):
        if found != told and not (has_descriptor and found == 0):
            raise reader.error("has another size or checksum in its local header")
    start = reader.position
    reader.skip(entry.size_bytes)
    stop = reader.position
    if has_descriptor:
        _skip_descriptor(reader, wanted)
    return ZipMember(name, method, bool(flags & _ENCRYPTED), entry.header_start, start, stop, reader.position)


def _skip_descriptor(reader: BoundedReader, wanted: tuple[int, int, int]) -> None:
    """Go past the data descriptor: an optional magic, then checksum and sizes, of 4 bytes each or (zip64) 8."""
    start = reader.position
    tail = reader.read(min(24, reader.stop - start))
    for magic in (b"PK\7\10", b""):
        for layout in ("<I2Q", "<3I"):
            try:
                expected = magic + struct.pack(layout, *wanted)
            except struct.error:  # a size of more than 4 bytes
                continue
            if tail.startswith(expected):
                reader.position = start + len(expected)
                return
    raise reader.error("has another size or checksum behind its bytes")


def _read_name(entry: _Entry, path: Path) -> str:
    try:
        name = entry.raw_name.decode("utf-8")
    except UnicodeDecodeError:
        if entry.flags & _UTF_8:
            raise FileFormatError(path, "has a member whose name is not UTF-8") from None
        name = entry.raw_name.decode("cp437")
    folders = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or name[1:2] == ":" or any(part in ("", ".", "..") for part in folders):
        raise FileFormatError(path, f"has a member {shown(name)}, which is no path inside of it")
    return name
