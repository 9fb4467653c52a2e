"""PyTorch checkpoints as `torch.save` writes them: a zip archive of `data.pkl` and one stored member a storage.

    model/data.pkl    the object; storages are persistent ids ("storage", torch.FloatStorage, "0", "cpu", 12)
    model/byteorder   "little" or "big"; files of old versions lack it
    model/data/0      the elements of storage "0"

Source: torch/serialization.py (_save, _load), caffe2/serialize/inline_container.h.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.errors import FileFormatError
from samebits.cas.formats.bounded_reader import BoundedReader
from samebits.cas.formats.pickle_reader import MAX_PICKLE_SIZE_BYTES, read_pickle
from samebits.cas.formats.plan import FilePlan, Section, cover_file, shown
from samebits.cas.formats.torch_names import ALLOWED
from samebits.cas.formats.torch_objects import NamedView, Storage, named_views, read_storages
from samebits.cas.formats.torch_sections import cut_storage, group_views
from samebits.cas.formats.zip_sections import ZipMember, read_zip

_PICKLE: Final = "data.pkl"
_BYTE_ORDERS: Final = {b"little": True, b"big": False}


def plan_torch_zip(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan | None:
    """Return the plan of a checkpoint, or None for a zip archive that is none (TorchScript has `code/`).

    Raises FileFormatError for an archive or a pickle that contradicts itself, or that needs more than plain weights.
    """
    members = {member.name: member for member in read_zip(stream, size_bytes, path)}
    prefix = _find_prefix(members)
    if prefix is None:
        return None
    data_prefix = f"{prefix}/data/"
    records = {name.removeprefix(data_prefix): found for name, found in members.items() if name.startswith(data_prefix)}
    views = _read_views(stream, members, prefix, records, path)
    spans: list[Section] = []
    for key, record in records.items():
        spans += cut_storage(record.start, record.stop, views.get(key, ()))
    return FilePlan("torch", cover_file(size_bytes, spans))


def _find_prefix(members: dict[str, ZipMember]) -> str | None:
    """Return the folder that has the one data.pkl, or None if this is no checkpoint."""
    prefixes = [name.removesuffix(f"/{_PICKLE}") for name in members if name.endswith(f"/{_PICKLE}")]
    prefixes = [prefix for prefix in prefixes if "/" not in prefix]
    if len(prefixes) != 1 or any(name.startswith(f"{prefixes[0]}/code/") for name in members):
        return None
    return prefixes[0]


def _read_views(
    stream: BinaryIO, members: dict[str, ZipMember], prefix: str, records: dict[str, ZipMember], path: Path
) -> dict[str, list[NamedView]]:
    """Return the named views of each storage."""
    member = members[f"{prefix}/{_PICKLE}"]
    if not member.is_plain:
        raise FileFormatError(path, f"its {_PICKLE} is compressed or encrypted; torch.save stores it as it is")
    if member.stop - member.start > MAX_PICKLE_SIZE_BYTES:
        raise FileFormatError(path, f"its {_PICKLE} has more than {MAX_PICKLE_SIZE_BYTES} bytes")
    reader = BoundedReader(stream, member.start, member.stop, path, _PICKLE)
    pickle = read_pickle(reader, ALLOWED)
    if reader.position != member.stop:
        raise reader.error(f"goes on behind its end, at {reader.position}")
    for storage in read_storages(pickle, path).values():
        _check_record(storage, records.get(storage.key), path)
    views = named_views(pickle.value, path)
    if not _is_little_endian(stream, members.get(f"{prefix}/byteorder"), path):
        return {}
    return group_views(view for view in views if records[view.key].is_plain)


def _check_record(storage: Storage, record: ZipMember | None, path: Path) -> None:
    if record is None:
        raise FileFormatError(path, f"lacks the storage {shown(storage.key)} that its {_PICKLE} refers to")
    found, wanted = record.stop - record.start, storage.count * storage.item_size_bytes
    if record.is_plain and found != wanted:
        raise FileFormatError(path, f"its storage {shown(storage.key)} has {found} bytes, {_PICKLE} says {wanted}")


def _is_little_endian(stream: BinaryIO, member: ZipMember | None, path: Path) -> bool:
    if member is None:
        return True
    reader = BoundedReader(stream, member.start, member.stop, path, "byteorder")
    order = reader.read(min(16, member.stop - member.start))
    if not member.is_plain or order not in _BYTE_ORDERS:
        raise FileFormatError(path, f"its byteorder is {order!r}, not little or big")
    return _BYTE_ORDERS[order]
