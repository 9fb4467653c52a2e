"""PyTorch checkpoints of versions before 1.6, and of `torch.save(..., _use_new_zipfile_serialization=False)`.

Five pickles (a magic number, the protocol 1001, facts of the system, the object, the keys of the storages), then for
each key a count of elements (8 bytes, little endian) and the elements. Source: torch/serialization.py (_legacy_save).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.errors import FileFormatError
from samebits.cas.formats.bounded_reader import BoundedReader
from samebits.cas.formats.pickle_reader import Mapping, read_pickle
from samebits.cas.formats.plan import FilePlan, Section, cover_file, shown
from samebits.cas.formats.torch_names import ALLOWED
from samebits.cas.formats.torch_objects import Storage, named_views, read_storages
from samebits.cas.formats.torch_sections import cut_storage, group_views

MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION: Final = 1001
MAX_HEADER_SIZE_BYTES: Final = 200_000_000  # the five pickles
_MAGIC_PICKLE: Final = b"\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little") + b"."


def is_legacy_start(start: bytes) -> bool:
    """Return whether a file's first bytes are the pickle of the magic number, in any of the protocols 2 to 5."""
    at = start.find(_MAGIC_PICKLE)
    return start[:1] == b"\x80" and 2 <= at <= 11


def plan_torch_legacy(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan:
    """Return the plan of a legacy checkpoint; raises FileFormatError."""
    stop = min(size_bytes, MAX_HEADER_SIZE_BYTES)
    reader = BoundedReader(stream, 0, stop, path, "pickle")
    if read_pickle(reader, ()).value != MAGIC_NUMBER:
        raise FileFormatError(path, "does not start with PyTorch's magic number")
    if read_pickle(reader, ()).value != PROTOCOL_VERSION:
        raise FileFormatError(path, f"is not of PyTorch's legacy protocol {PROTOCOL_VERSION}")
    is_little_endian = _is_little_endian(read_pickle(reader, ()).value, path)
    pickle = read_pickle(reader, ALLOWED)
    storages = read_storages(pickle, path)
    keys = read_pickle(reader, ()).value
    if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
        raise FileFormatError(path, "its storage keys are not a list of texts")
    if len(set(keys)) != len(keys) or set(keys) != set(storages):
        raise FileFormatError(path, "its storage keys are not those that its pickle refers to")
    starts = _read_starts([storages[key] for key in keys], stream, reader.position, size_bytes, path)
    views = group_views(named_views(pickle.value, path) if is_little_endian else ())
    spans: list[Section] = []
    for key, (start, end) in starts.items():
        spans += cut_storage(start, end, views.get(key, ()))
    return FilePlan("torch", cover_file(size_bytes, spans))


def _is_little_endian(facts: object, path: Path) -> bool:
    found = [value for key, value in facts.pairs if key == "little_endian"] if isinstance(facts, Mapping) else []
    if len(found) != 1 or not isinstance(found[0], bool):
        raise FileFormatError(path, "does not say its byte order")
    return found[0]


def _read_starts(
    storages: list[Storage], stream: BinaryIO, start: int, size_bytes: int, path: Path
) -> dict[str, tuple[int, int]]:
    """Return where each storage's elements lie."""
    reader = BoundedReader(stream, start, size_bytes, path, "storages")
    found = {}
    for storage in storages:
        count = reader.read_unsigned(8)
        if count != storage.count:
            wanted = f"its pickle says {storage.count}"
            raise FileFormatError(path, f"its storage {shown(storage.key)} has {count} elements, {wanted}")
        begin = reader.position
        reader.skip(count * storage.item_size_bytes)
        found[storage.key] = (begin, reader.position)
    return found
