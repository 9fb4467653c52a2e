"""Tensors out of the store into new files: safetensors, `.npz` and `.npy`. Equal tensors give an identical file.

Written row by row, verified as they are read, so memory stays bounded whatever the size.
Source: https://github.com/huggingface/safetensors#format, numpy.lib.format, APPNOTE.TXT of PKWARE.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias, cast, get_args

import numpy as np

from samebits.cas.contents import Content, describe, entries, leaves, tensor_rows
from samebits.cas.digest import Digest
from samebits.cas.directories import DIRECTORY_KIND
from samebits.cas.dtype import numpy_dtype
from samebits.cas.errors import FileError, NodeError
from samebits.cas.files import refuse_inside, replacing_file
from samebits.cas.formats import WEIGHTS_KIND
from samebits.cas.formats.safetensors import MAX_HEADER_SIZE_BYTES, METADATA
from samebits.cas.store import Store
from samebits.cas.tensor import TENSOR_KIND

ExportFormat: TypeAlias = Literal["safetensors", "npz", "npy"]
FORMATS: Final[tuple[str, ...]] = get_args(ExportFormat)

# The safetensors library writes tensors by type, those with the strictest alignment first, then by name.
_SAFETENSORS_ORDER: Final = (
    "u64", "i64", "f64", "f32", "u32", "i32", "bf16", "f16", "u16", "i16", "i8", "u8", "bool",
)  # fmt: skip
_ZIP64_SIZE_BYTES: Final = 1 << 30  # from this on a member may need the large form
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_MAX_ZIP_NAME_SIZE_BYTES: Final = 60_000


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    tensors: int
    size_bytes: int  # of the file
    left_out_bytes: int  # of weight files, headers aside: types that samebits has no name for, padding, pickles


def export(
    store: Store, digest: Digest, path: Path | str, format: ExportFormat | None = None, *, name: str = "tensor"
) -> Exported:
    """Write the tensors of a tree, a weights file or a directory, or one tensor (called `name`), into a new file.

    The format follows from the file's suffix unless it is given. A file that exists is replaced only by a whole one.
    Raises FileError for tensors that the format can't hold, NodeError for an object without tensors or with things that
    are none, and what reads raise.
    """
    path = Path(path)
    refuse_inside(store, path)
    chosen = file_format(path) if format is None else format
    tensors, left_out_bytes = _collect(store, digest, name)
    if not tensors:
        raise NodeError(f"{digest} holds no tensors")
    check, write = {
        "safetensors": (_safetensors_header, _write_safetensors),
        "npz": (_check_npz, _write_npz),
        "npy": (_check_npy, _write_npy),
    }[chosen]
    check(path, tensors)  # before a file is made
    with replacing_file(path) as file:
        write(store, file, path, tensors)
        file.seek(0, 2)
        size_bytes = file.tell()
    return Exported(len(tensors), size_bytes, left_out_bytes)


def file_format(path: Path) -> ExportFormat:
    """Return the format that a file's suffix names; raises FileError."""
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        known = ", ".join(f".{known}" for known in FORMATS)
        raise FileError(path, f"tensors are written as {known}; its suffix is none of them")
    return cast(ExportFormat, suffix)


def _collect(store: Store, digest: Digest, name: str) -> tuple[dict[str, Content], int]:
    """Return the tensors by name, and how many bytes of weight files are in none of them."""
    found = describe(store, digest) if entries(store, digest) is None else None
    if found is not None:
        if found.kind != TENSOR_KIND:
            raise NodeError(f"{digest} is a {found.kind}, which holds no tensors")
        return {name: found}, 0
    node = store.get_node(digest)
    held = _leaves_of_files(store, digest) if node.kind == DIRECTORY_KIND else leaves(store, digest)
    tensors: dict[str, Content] = {}
    left_out_bytes = 0
    for entry, leaf in held.items():
        if leaf.kind == WEIGHTS_KIND:
            left_out_bytes += _left_out(store, entry, leaf)
        elif leaf.kind == TENSOR_KIND:
            tensors[entry] = leaf
        else:
            raise NodeError(f"{entry!r} of {digest} is a {leaf.kind}, not a tensor; export what holds tensors alone")
    return tensors, left_out_bytes


def _leaves_of_files(store: Store, digest: Digest) -> dict[str, Content]:
    """Return the leaves of a directory's weight files by the tensors' names, behind the files' names if they clash."""
    files: dict[str, dict[str, Content]] = {}
    for file, held in (entries(store, digest) or {}).items():
        if store.stat(held).kind == "node":
            files[file] = leaves(store, held)
    merged: dict[str, Content] = {}
    for file, held_leaves in files.items():
        for entry, leaf in held_leaves.items():
            own = entry or file  # the rest of a file has the name of the file
            if merged.setdefault(own, leaf).digest != leaf.digest:
                return {
                    f"{file}/{entry}" if entry else file: leaf
                    for file, inner in files.items()
                    for entry, leaf in inner.items()
                }
    return merged


def _left_out(store: Store, name: str, rest: Content) -> int:
    """Return the size of what is in no tensor; in a safetensors file that is only tensors, which must not get lost."""
    size_bytes = sum(store.stat(part).size_bytes for part in rest.parts[1:])
    if size_bytes and store.get_node(rest.digest).body["format"] == "safetensors":
        file = f"{name!r}" if name else f"{rest.digest}"
        reason = f"has tensors of {size_bytes} bytes whose type or name samebits lacks (F8_E4M3, ...)"
        raise NodeError(f"the weights file {file} {reason}: get the whole file")
    return size_bytes


def _safetensors_header(path: Path, tensors: Mapping[str, Content]) -> bytes:
    """Return the header as the library writes it: 8 bytes of its length, JSON, spaces up to a multiple of 8."""
    fields: dict[str, object] = {}
    start = 0
    for name, tensor in _in_file_order(tensors):
        if name == METADATA:
            raise FileError(path, f"a tensor is called {METADATA!r}, which safetensors keeps for itself: use npz")
        stop = start + tensor.size_bytes
        fields[name] = {
            "dtype": (tensor.dtype or "").upper(),
            "shape": list(tensor.shape or ()),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_SIZE_BYTES:
        raise FileError(path, f"its header would have {len(text)} bytes; the most is {MAX_HEADER_SIZE_BYTES}")
    return len(text).to_bytes(8, "little") + text


def _in_file_order(tensors: Mapping[str, Content]) -> list[tuple[str, Content]]:
    return sorted(
        tensors.items(), key=lambda entry: (_SAFETENSORS_ORDER.index(entry[1].dtype or ""), entry[0].encode())
    )


def _write_safetensors(store: Store, file: BinaryIO, path: Path, tensors: Mapping[str, Content]) -> None:
    file.write(_safetensors_header(path, tensors))
    for _, tensor in _in_file_order(tensors):
        for row in tensor_rows(store, tensor):
            file.write(row)


def _check_npy(path: Path, tensors: Mapping[str, Content]) -> None:
    if len(tensors) != 1:
        raise FileError(path, f"a .npy file holds one tensor, not {len(tensors)}: use npz, or name one of them")
    _check_numpy(path, tensors)


def _check_npz(path: Path, tensors: Mapping[str, Content]) -> None:
    _check_numpy(path, tensors)
    for name in tensors:
        if f"{name}.npy" in tensors:
            raise FileError(path, f"NumPy can't tell the tensors {name!r} and {name + '.npy'!r} apart: use safetensors")
        if len(name.encode()) > _MAX_ZIP_NAME_SIZE_BYTES:
            raise FileError(path, f"the name {name[:40]!r}... is too long for a zip file: use safetensors")


def _check_numpy(path: Path, tensors: Mapping[str, Content]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype == "bf16":
            raise FileError(path, f"tensor {name!r} is bf16, a type that NumPy's files do not have: use safetensors")


def _write_npy(store: Store, file: BinaryIO, path: Path, tensors: Mapping[str, Content]) -> None:
    for tensor in tensors.values():
        _write_array(store, file, tensor)


def _write_npz(store: Store, file: BinaryIO, path: Path, tensors: Mapping[str, Content]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, tensor in tensors.items():
            member = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
            member.create_system, member.external_attr = 3, 0o644 << 16  # the same on every system
            with archive.open(member, "w", force_zip64=tensor.size_bytes >= _ZIP64_SIZE_BYTES) as out:
                _write_array(store, cast(BinaryIO, out), tensor)


def _write_array(store: Store, file: BinaryIO, tensor: Content) -> None:
    descr = np.lib.format.dtype_to_descr(numpy_dtype(tensor.dtype or ""))
    header = {"descr": descr, "fortran_order": False, "shape": tensor.shape or ()}
    np.lib.format.write_array_header_1_0(file, header)
    for row in tensor_rows(store, tensor):
        file.write(row)
