"""Files in, identical files out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from samebits.cas.digest import Digest
from samebits.cas.durable_files import sync_folder
from samebits.cas.errors import FileError, FileFormatError, ObjectKindError
from samebits.cas.formats import WEIGHTS_KIND, plan_file, put_planned, weights_parts
from samebits.cas.part_files import part_file
from samebits.cas.store import Store
from samebits.cas.tensor import TENSOR_KIND


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was put."""

    digest: Digest
    kind: str  # "blob" | "weights_file"
    name: str
    size_bytes: int
    new_bytes: int  # content that the store did not have before
    format: str | None = None  # of a weights file: one of formats.FORMATS
    note: str = ""  # what a reader should know of how it was stored


def put_file(store: Store, path: Path | str, *, raw: bool = False) -> StoredFile:
    """Store a file: a weights file (see `formats`) tensor by tensor, unless `raw`, and any other as a blob.

    Raises FileFormatError for a weights file that is not well-formed, FileError for one that can't be read.
    """
    path = Path(path)
    before = store.new_bytes
    with errors_named(path):
        if not path.is_file():
            raise FileError(path, "is not a file" if path.exists() else "there is no such file")
        weights = None if raw else _put_weights(store, path)
        if weights is not None:
            digest, format_name, size_bytes = weights
            return StoredFile(digest, WEIGHTS_KIND, path.name, size_bytes, store.new_bytes - before, format_name)
        digest = _put_blob(store, path)
    return StoredFile(digest, "blob", path.name, store.stat(digest).size_bytes, store.new_bytes - before)


def get_file(store: Store, digest: Digest, path: Path | str) -> int:
    """Write a stored file, verified as it is written; a file that exists is replaced only by a whole one.

    Returns its size in bytes. Raises ObjectKindError for an object that is not a file, FileError for a file that
    can't be written, and what reads raise for objects that are missing or damaged.
    """
    path = Path(path)
    refuse_inside(store, path)
    parts = _parts(store, digest)
    size_bytes = 0
    with replacing_file(path) as file:
        for part in parts:
            size_bytes += store.write_to(part, file.fileno(), size_bytes)
    return size_bytes


def read_file(store: Store, digest: Digest) -> Iterator[bytes]:
    """Return the bytes of a stored file in rows, each verified before it is given out.

    Raises ObjectKindError at once for an object that is not a file; the rows raise what `Store.read_rows` raises.
    """
    parts = _parts(store, digest)
    return (row for part in parts for row in store.read_rows(part))


def _put_blob(store: Store, path: Path) -> Digest:
    with path.open("rb") as file, store.batch(join=True):
        before = os.fstat(file.fileno())
        try:
            digest = store.put_section(file.fileno(), 0, before.st_size)
        except EOFError:
            raise FileError(path, "became shorter while it was read") from None
        if _version(path.stat()) != _version(before):
            raise FileError(path, "changed while it was read")
        return digest


def _put_weights(store: Store, path: Path) -> tuple[Digest, str, int] | None:
    """Store a weights file; returns its address, format and size, or None for a file that is none."""
    try:
        with path.open("rb") as stream, store.batch(join=True):
            before = os.fstat(stream.fileno())
            plan = plan_file(stream, before.st_size, path)
            if plan is None:
                return None
            digest = put_planned(store, path, plan)
            if _version(path.stat()) != _version(before):
                raise FileFormatError(path, "changed while it was read")
        return digest, plan.format, before.st_size
    except FileFormatError as error:
        raise FileFormatError(path, f"{error.reason} (raw=True, --raw: store it as plain bytes)") from error


def _version(stat: os.stat_result) -> tuple[int, ...]:
    """Return what a file's content can't change without."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _parts(store: Store, digest: Digest) -> list[Digest]:
    """Return the blobs that make up a file, in order."""
    if store.stat(digest).kind == "blob":
        return [digest]
    node = store.get_node(digest)
    if node.kind == WEIGHTS_KIND:
        return weights_parts(node)
    hint = f"; its elements are the blob {node.body.get('blob')!s}" if node.kind == TENSOR_KIND else ""
    raise ObjectKindError(digest, node.kind, f"a file{hint}")


def refuse_inside(store: Store, path: Path) -> None:
    """Raise FileError for a path within the store's own folder: writing there would destroy it."""
    if path.resolve().is_relative_to(store.environment.directory.resolve()):
        raise FileError(path, "is within the store itself")


@contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file in the same folder that takes the place of `path` if all goes well.

    If there is one already, the new one is synced to disk before: a crash leaves one of the two. Raises FileError for a
    path that can't be written or that is there and no regular file.
    """
    with errors_named(path):
        if path.exists() and not path.is_file():
            raise FileError(path, "it is there and not a regular file")
        with part_file(path.parent) as (part, file):
            yield file
            file.flush()
            if path.exists():
                os.fsync(file.fileno())
            file.close()  # NFS says here, at the latest, what it could not write
            part.replace(path)
        sync_folder(path.parent)


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Turn the file system's errors into FileErrors about `path`."""
    try:
        yield
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
