"""Weight files for the tests of the formats: put them, plan them, write small ones byte by byte."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from samebits.cas.digest import Digest
from samebits.cas.errors import FileFormatError
from samebits.cas.files import get_file, put_file
from samebits.cas.formats import FilePlan, check_plan, plan_file
from samebits.cas.store import Store
from samebits.cas.tree import get_tree


def put_and_compare(store: Store, path: Path, format_name: str) -> dict[str, Digest]:
    """Put a file, get it back, compare; return its tree of tensors."""
    stored = put_file(store, path)
    assert (stored.kind, stored.format, stored.note) == ("weights_file", format_name, "")
    assert stored.size_bytes == path.stat().st_size
    copy = path.with_name("copy")
    assert get_file(store, stored.digest, copy) == path.stat().st_size
    assert copy.read_bytes() == path.read_bytes()
    assert put_file(store, path).new_bytes == 0
    tensors = store.get_node(stored.digest).body["tensors"]
    assert isinstance(tensors, Digest)
    return get_tree(store, tensors)


def plan_bytes(data: bytes, name: str) -> FilePlan | None:
    """Plan a file of this name."""
    return plan_file(io.BytesIO(data), len(data), Path(name))


def plan_or_refuse(data: bytes, name: str) -> FilePlan | None:
    """Plan a file, check the plan or the refusal; None where it is refused or plain bytes."""
    try:
        plan = plan_bytes(data, name)
    except FileFormatError as error:
        message = str(error)
        assert message.startswith(name)
        assert message.isprintable()
        assert len(message) < 500
        return None
    if plan is not None:
        check_plan(plan, len(data), Path(name))
    return plan


def named(plan: FilePlan | None, data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return what a plan says of every tensor: dtype, shape, bytes."""
    assert plan is not None
    return {
        tensor.name: (tensor.dtype, tensor.shape, data[section.start : section.stop])
        for section in plan.sections
        for tensor in section.tensors
    }


def save_torch(value: object, **options: Any) -> bytes:
    """Return what torch.save writes."""
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def make_zip(members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def make_checkpoint(pickled: bytes, records: dict[str, bytes], **more: bytes) -> bytes:
    """Return a checkpoint with this data.pkl and these storages."""
    members = {"m/data.pkl": pickled, **{f"m/{name}": data for name, data in more.items()}}
    return make_zip(members | {f"m/data/{key}": data for key, data in records.items()})


def integer(value: int) -> bytes:
    """Return the opcodes that push an integer."""
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def text(value: str) -> bytes:
    """Return the opcodes that push a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def numbers(values: tuple[int, ...]) -> bytes:
    """Return the opcodes that push a tuple of integers."""
    return b"(" + b"".join(integer(value) for value in values) + b"t"


def tensor_code(
    key: str = "0",
    kind: str = "FloatStorage",
    count: int = 6,
    offset: int = 0,
    shape: tuple[int, ...] = (2, 3),
    strides: tuple[int, ...] = (3, 1),
) -> bytes:
    """Return the opcodes that push a tensor, as torch.save writes them."""
    storage = b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + integer(count)
    arguments = b"(" + storage + b"tQ" + integer(offset) + numbers(shape) + numbers(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"\x89ccollections\nOrderedDict\n)RtR"


def dict_pickle(items: dict[str, bytes]) -> bytes:
    """Return the pickle of a dict of values that are given as opcodes."""
    return b"\x80\x02}(" + b"".join(text(name) + code for name, code in items.items()) + b"u."
