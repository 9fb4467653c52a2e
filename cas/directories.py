"""Directories: a folder of files in, the same files out.

A stored directory is the node ``["directory", {"entries": {"config.json": <address>, "onnx/model.onnx": <address>}}]``.
Each entry is a file as `put_file` stores it: a blob or a `weights_file`. Names are those of a tree, parts between
slashes; none is the folder of another. Empty folders, permissions and times are not kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from samebits.cas.digest import Digest
from samebits.cas.durable_files import sync_folder
from samebits.cas.encoding import Value
from samebits.cas.errors import FileError, FileFormatError, NodeError
from samebits.cas.files import errors_named, put_file, read_file, refuse_inside
from samebits.cas.node import Node
from samebits.cas.part_files import part_folder
from samebits.cas.store import Store
from samebits.cas.tree import check_name

DIRECTORY_KIND: Final = "directory"
MAX_FILES: Final = 1_000_000  # and folders; links between folders can make a small one look endless


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A file of a folder that was put."""

    name: str  # within the folder
    digest: Digest
    kind: str  # "blob" | "weights_file"
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredDirectory:
    """A folder that was put."""

    digest: Digest
    name: str
    files: tuple[StoredEntry, ...]  # in the order of their names
    size_bytes: int  # of all files
    new_bytes: int  # content that the store did not have before
    notes: tuple[str, ...]  # one line for each file that was not stored as its format says


def directory_node(entries: Mapping[str, Digest]) -> Node:
    """Return the node of a directory; raises NodeError for names that a directory can't have."""
    return Node(DIRECTORY_KIND, {"entries": {**_checked_entries(entries)}})


def read_directory(node: Node) -> dict[str, Digest]:
    """Return the entries of a directory node in the order of their names; raises NodeError."""
    if node.kind != DIRECTORY_KIND:
        raise NodeError(f"not a directory but a {node.kind}")
    entries = node.body.get("entries")
    if not isinstance(entries, dict) or len(node.body) != 1:
        raise NodeError("a directory has the one field entries, a map")
    return _checked_entries(entries)


def put_directory(store: Store, path: Path | str, *, raw: bool = False) -> StoredDirectory:
    """Store every file under a folder, hidden ones too; links are followed as far as they lead to files.

    With `raw` weight files are stored as plain bytes; one that is not well-formed always is, and `notes` says so.
    Raises FileError for what can't be kept: a socket, a pipe, a device, a link to nothing or to a folder outside, a
    name that is not printable text, a folder that holds the store.
    """
    path = Path(path)
    before = store.new_bytes
    notes: list[str] = []
    with store.batch(join=True):
        files = tuple(
            _put_entry(store, name, file, raw=raw, notes=notes) for name, file in list_files(path, store.path).items()
        )
        notes += [f"{name}: an empty folder, which is not kept" for name in empty_folders(path)]
        digest = store.put_node(directory_node({file.name: file.digest for file in files}))
    size_bytes = sum(file.size_bytes for file in files)
    return StoredDirectory(digest, path.resolve().name, files, size_bytes, store.new_bytes - before, tuple(notes))


def get_directory(store: Store, digest: Digest, path: Path | str) -> int:
    """Write a stored directory as the folder `path`, verified as it is written: all of it, or nothing.

    Returns the size of all files in bytes. Raises FileError for a folder that is there and not empty, or a name that
    the file system can't have, NodeError for an object that is not a directory, and what reads raise.
    """
    refuse_inside(store, Path(path))
    entries = read_directory(store.get_node(digest))
    target = _new_folder(Path(path))
    with errors_named(target):
        try:
            with part_folder(target.parent) as part:
                size_bytes = sum(_write_entry(store, entry, part, name) for name, entry in entries.items())
                _check_names(part, entries, target)
                for folder, _, _ in os.walk(part):
                    sync_folder(Path(folder))
                part.rename(target)
        except RecursionError:
            raise FileError(target, "can't be written: it has folders too deep in each other") from None
        sync_folder(target.parent)
    return size_bytes


def list_files(root: Path, refused: Path | None = None) -> dict[str, Path]:
    """Return the files under a folder by name, in the order of names; raises FileError for what is not a file.

    `refused` is a folder that must not be among them.
    """
    with errors_named(root):
        if not root.is_dir():
            raise FileError(root, "is not a folder" if root.exists() else "there is no such folder")
        inside = root.resolve()
        found: dict[str, Path] = {}
        seen = 0
        # (prefix of its names, folder, the folders that it lies in and itself, without links)
        pending: list[tuple[str, Path, tuple[Path, ...]]] = [("", root, (inside,))]
        while pending:
            prefix, folder, above = pending.pop()
            if refused is not None and above[-1] == refused.resolve():
                raise FileError(folder, "is the store itself; keep it outside of the folder, or put the files by name")
            for path in _children(folder):
                seen += 1
                if seen > MAX_FILES:
                    raise FileError(root, f"has more than {MAX_FILES} files and folders (do links lead around in it?)")
                if path.is_file():
                    found[prefix + path.name] = path
                else:
                    pending.append((f"{prefix}{path.name}/", path, (*above, _real_folder(path, inside, above))))
    return dict(sorted(found.items(), key=lambda entry: entry[0].encode()))


def empty_folders(root: Path) -> list[str]:
    """Return the names of the folders under a folder that hold nothing at all."""
    found = [Path(folder) for folder, folders, files in os.walk(root) if not folders and not files]
    return sorted(str(folder.relative_to(root)) for folder in found if folder != root)


def _children(folder: Path) -> Iterator[Path]:
    with errors_named(folder):
        paths = sorted(folder.iterdir())
    for path in paths:
        try:
            check_name(path.name)
        except NodeError as error:
            raise FileError(path, "its name can't be stored: names are printable text") from error
        yield path


def _real_folder(path: Path, inside: Path, above: tuple[Path, ...]) -> Path:
    """Return a folder that may be walked, without links; raises FileError for everything else."""
    with errors_named(path):
        path.stat()  # says that a link leads to nothing or to itself
    if not path.is_dir():
        raise FileError(path, "is not a regular file (a pipe, a socket or a device)")
    if not path.is_symlink():
        return above[-1] / path.name
    real = path.resolve()
    if not real.is_relative_to(inside):
        raise FileError(path, f"is a link to a folder outside of {inside}; put that folder by itself")
    if real in above:
        raise FileError(path, "is a link to a folder that it lies in")
    return real


def _put_entry(store: Store, name: str, path: Path, *, raw: bool, notes: list[str]) -> StoredEntry:
    try:
        stored = put_file(store, path, raw=raw)
    except FileFormatError as error:
        reason = error.reason.partition(" (raw=")[0]  # the way out that it names is taken here
        notes.append(f"{name}: stored as plain bytes: {reason}")
        stored = put_file(store, path, raw=True)
    return StoredEntry(name, stored.digest, stored.kind, stored.size_bytes)


def _checked_entries(entries: Mapping[str, Value]) -> dict[str, Digest]:
    found: dict[str, Digest] = {}
    for name, digest in sorted(entries.items(), key=lambda entry: entry[0].encode(errors="surrogatepass")):
        if not isinstance(digest, Digest):
            raise NodeError(f"entry {name!r} of a directory is not an address")
        found[check_name(name)] = digest
    for name in found:
        parts = name.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            if folder in found:
                raise NodeError(f"{folder!r} of a directory is a file, and the folder of {name!r}")
    return found


def _new_folder(path: Path) -> Path:
    """Return where a folder can be made or an empty one replaced, absolute; raises FileError."""
    with errors_named(path):
        target = path.absolute()
        if target.exists() or target.is_symlink():
            if not target.is_dir() or target.is_symlink() or any(target.iterdir()):
                raise FileError(path, "it is there and not an empty folder")
            if target.samefile(Path.cwd()):
                raise FileError(path, "is the folder you are in; name a new one")
        return target


def _write_entry(store: Store, digest: Digest, folder: Path, name: str) -> int:
    # "C:x" or "a\b" are more than the one file that they name where a file system gives them a meaning
    if PurePath(name).parts != tuple(name.split("/")):
        raise FileError(folder / name, "can't be the name of a file on this system")
    path = folder / name
    with errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            size_bytes = sum(file.write(row) for row in read_file(store, digest))
            file.flush()
            os.fsync(file.fileno())
    return size_bytes


def _check_names(folder: Path, entries: Mapping[str, Digest], target: Path) -> None:
    """Raise FileError if the file system took two names for one, or changed one (case, Unicode forms)."""
    changed = sorted(list_files(folder).keys() ^ entries.keys())
    if changed:
        raise FileError(target, f"the file system changes the name {changed[0]!r}")
