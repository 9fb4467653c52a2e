"""Archives: an object and all that it refers to, as one CARv1 file, written and read in bounded memory.

A header (dag-cbor of ``{"roots": [CID], "version": 1}``), then a section for each object, each with its length before
it as an unsigned varint. A section is the object's CID and its bytes. Here each object stands once, behind all that it
refers to, so the root is the last. CIDs (version 1), 32 bytes of hash each:

    blob   codec raw (55), multihash blake3 (1e): any IPLD tool can check it
    node   codec 307362, multihash 307363: private ones, BLAKE3 in derive-key mode (digest.py)

Example, the archive of the blob ``hello``, 101 bytes: ``3a a2 65 726f6f7473 81 d8 2a 58 25 00 <CID> 67 76657273696f6e
01``, then ``29 <CID> 68656c6c6f`` with the CID ``01 55 1e 20 ea8f163db3...``.
Sources: https://ipld.io/specs/transport/car/carv1/, https://github.com/multiformats/cid
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.digest import DIGEST_SIZE_BYTES, Digest, hash_node
from samebits.cas.errors import DigestMismatchError, EncodingError, FileError, FileFormatError, NodeError
from samebits.cas.files import errors_named, refuse_inside, replacing_file
from samebits.cas.node import MAX_NODE_SIZE_BYTES, decode_node, references
from samebits.cas.reachable import behind_references
from samebits.cas.records import ROW_SIZE_BYTES, ObjectKind
from samebits.cas.store import Store
from samebits.cas.tally import Progress, Tally

NODE_CODEC: Final = 0x307362
NODE_MULTIHASH: Final = 0x307363
_PREFIXES: Final[dict[ObjectKind, bytes]] = {  # of a CID: version, codec, multihash, size of the hash
    "blob": bytes.fromhex("01 55 1e 20"),
    "node": bytes.fromhex("01 e2e6c101 e3e6c101 20"),
}
_HEADER_START: Final = b"\xa2\x65roots\x81\xd8\x2a\x58"  # {"roots": [tag 42 of the bytes
_HEADER_END: Final = b"\x67version\x01"
_MAX_HEADER_SIZE_BYTES: Final = 96
_MAX_VARINT_SIZE_BYTES: Final = 9


@dataclass(frozen=True, slots=True)
class Archived:
    """What an archive holds."""

    root: Digest
    objects: int
    size_bytes: int  # of the objects
    new_bytes: int = 0  # of content that the store had not, when it was read


def write_car(store: Store, root: Digest, path: Path, *, progress: Progress | None = None) -> Archived:
    """Write an object with all that it refers to into a new file; the same object gives an identical file.

    Each byte is verified before it is written. Raises ObjectNotFoundError, DamagedObjectError and FileError; then there
    is no file.
    """
    refuse_inside(store, path)
    order = [store.stat(digest) for digest in behind_references([root], partial(_references, store))]
    tally = Tally(progress, total_bytes=sum(info.size_bytes for info in order))
    with replacing_file(path) as file:
        header = _encode_header(root, store.stat(root).kind)
        file.write(_encode_varint(len(header)) + header)
        for info in order:
            cid = _PREFIXES[info.kind] + info.digest.raw
            file.write(_encode_varint(len(cid) + info.size_bytes) + cid)
            for row in store.read_rows(info.digest):
                file.write(row)
                tally.done(len(row))
    return Archived(root, len(order), tally.total_bytes)


def read_car(path: Path, store: Store, *, progress: Progress | None = None) -> Archived:
    """Put the objects of an archive into a store, each verified against its address; the root is not pinned.

    Raises FileFormatError for a file that `write_car` would not write: nothing of a wrong object is visible then, and
    objects before it, if any were written, are there until garbage is collected.
    """
    with errors_named(path), _open_regular(path) as file:
        reader = _Reader(path, file, os.fstat(file.fileno()).st_size)
        before = store.new_bytes
        with store.batch(join=True):
            archived = _read_objects(reader, store, Tally(progress, total_bytes=reader.size_bytes))
        return Archived(archived.root, archived.objects, archived.size_bytes, store.new_bytes - before)


def car_root(path: Path) -> Digest:
    """Return the root that an archive's header names; raises FileFormatError."""
    with errors_named(path), _open_regular(path) as file:
        return _Reader(path, file, os.fstat(file.fileno()).st_size).header()[0]


class _Reader:
    """Reads the parts of an archive; every length is compared with what is left of the file before it is used."""

    def __init__(self, path: Path, file: BinaryIO, size_bytes: int) -> None:
        self._path = path
        self._file = file
        self.size_bytes = size_bytes
        self.at = 0

    def header(self) -> tuple[Digest, ObjectKind]:
        """Return the root, and what kind of object its CID says it is."""
        size = self._varint("the header's length")
        if size > _MAX_HEADER_SIZE_BYTES:
            raise self.error(f"its header has {size} bytes; want one root and version 1")
        data = self.read(size, "the header")
        root = data[-len(_HEADER_END) - DIGEST_SIZE_BYTES : -len(_HEADER_END)]
        for kind in _PREFIXES:
            if len(root) == DIGEST_SIZE_BYTES and data == _encode_header(Digest(root), kind):
                return Digest(root), kind
        raise self.error("its header is not that of a CAR file, version 1, with one root that samebits wrote")

    def sections(self) -> Iterator[tuple[Digest, ObjectKind, int]]:
        """Yield address, kind and size of each object; whoever takes one reads its bytes before the next."""
        while self.at < self.size_bytes:
            where = self.at
            size = self._varint("a section's length")
            kind, digest, cid_size = self._cid(size, where)
            left = size - cid_size
            if left > self.size_bytes - self.at:
                raise self.error(f"object {digest} should have {left} bytes, but the file ends after {self._left()}")
            yield digest, kind, left

    def pieces(self, size_bytes: int) -> Iterator[bytes]:
        """Yield the next bytes in rows of 1 MiB."""
        while size_bytes:
            piece = self.read(min(size_bytes, ROW_SIZE_BYTES), "an object")
            size_bytes -= len(piece)
            yield piece

    def read(self, size_bytes: int, what: str) -> bytes:
        """Return the next bytes, all of them."""
        if size_bytes > self._left():
            raise self.error(f"the file ends within {what}")
        data = self._file.read(size_bytes)
        self.at += len(data)
        if len(data) != size_bytes:
            raise self.error("became shorter while it was read")
        return data

    def error(self, reason: str) -> FileFormatError:
        """Return the error that says what is wrong with the file."""
        return FileFormatError(self._path, reason)

    def _left(self) -> int:
        return self.size_bytes - self.at

    def _varint(self, what: str) -> int:
        value = 0
        for place in range(_MAX_VARINT_SIZE_BYTES):
            (byte,) = self.read(1, what)
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if byte == 0 and place:
                    raise self.error(f"{what} is not in its shortest form")
                return value
        raise self.error(f"{what} has more than {_MAX_VARINT_SIZE_BYTES} bytes")

    def _cid(self, section_bytes: int, where: int) -> tuple[ObjectKind, Digest, int]:
        """Read the CID that a section of this size begins with."""
        start = self.read(min(section_bytes, len(_PREFIXES["blob"])), "a CID")
        for kind, prefix in _PREFIXES.items():
            if len(start) == len(_PREFIXES["blob"]) and prefix.startswith(start):
                size = len(prefix) + DIGEST_SIZE_BYTES
                if section_bytes < size:
                    break
                rest = self.read(size - len(start), "a CID")
                if (start + rest).startswith(prefix):
                    return kind, Digest(rest[-DIGEST_SIZE_BYTES:]), size
        raise self.error(f"the section at byte {where} has no CID of a blob or a node")


def _read_objects(reader: _Reader, store: Store, tally: Tally) -> Archived:
    root, root_kind = reader.header()
    seen: set[Digest] = set()
    loose: dict[Digest, ObjectKind] = {}  # what nothing refers to yet
    size_bytes = 0
    for digest, kind, size in reader.sections():
        if digest in seen:
            raise reader.error(f"object {digest} is in it twice")
        try:
            if kind == "blob":
                store.put_pieces(reader.pieces(size), expected=digest)
            else:
                for child in _take_node(reader, store, digest, size, seen):
                    loose.pop(child, None)
        except (DigestMismatchError, EncodingError, NodeError) as error:
            raise reader.error(f"object {digest} in it is wrong: {error}") from error
        seen.add(digest)
        loose[digest] = kind
        size_bytes += size
        tally.done(reader.at - tally.done_bytes)
    if loose.get(root) != root_kind:
        raise reader.error(f"it does not hold its root {root}")
    del loose[root]
    for digest in loose:
        raise reader.error(f"object {digest} in it is no part of its root {root}")
    return Archived(root, len(seen), size_bytes)


def _take_node(
    reader: _Reader, store: Store, digest: Digest, size_bytes: int, seen: AbstractSet[Digest]
) -> tuple[Digest, ...]:
    """Store a node whose references were all seen, and return them."""
    if size_bytes > MAX_NODE_SIZE_BYTES:
        raise reader.error(f"node {digest} has {size_bytes} bytes; the most is {MAX_NODE_SIZE_BYTES}")
    encoded = b"".join(reader.pieces(size_bytes))
    if (actual := hash_node(encoded)) != digest:
        raise DigestMismatchError(digest, actual)
    found = references(decode_node(encoded))
    for child in found:
        if child not in seen:
            raise reader.error(f"object {digest} refers to {child}, which is not in it before")
    store.put_encoded_node(encoded, expected=digest)
    return found


def _references(store: Store, digest: Digest) -> tuple[Digest, ...]:
    return references(store.get_node(digest)) if store.stat(digest).kind == "node" else ()


def _encode_header(root: Digest, kind: ObjectKind) -> bytes:
    cid = _PREFIXES[kind] + root.raw
    return _HEADER_START + bytes([len(cid) + 1, 0]) + cid + _HEADER_END  # 0: the multibase prefix of plain bytes


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _open_regular(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not stop us
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileError(path, "not a regular file")
    return os.fdopen(descriptor, "rb")
