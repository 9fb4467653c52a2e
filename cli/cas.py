"""`samebits cas` (and the script `cas`): files, folders and tensors into the store and out of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from samebits.cas import Store, StoredFile, get_file, put_file
from samebits.cas.contents import node_or_none
from samebits.cas.directories import DIRECTORY_KIND, StoredDirectory, get_directory, put_directory
from samebits.cas.export import FORMATS, export, file_format
from samebits.cas.files import read_file
from samebits.cas.paths import Resolved, resolve
from samebits.cas.pins import kept_name
from samebits.cas.tensor import TENSOR_KIND
from samebits.cas.transfer import Progress as ByteReport
from samebits.cas.tree import TREE_KIND
from samebits.cli.cas_archive import cas_pack_command, cas_unpack_command
from samebits.cli.cas_show import diff_command, list_command, show_command
from samebits.cli.cas_store import (
    check_pin,
    compact_command,
    fsck_command,
    gc_command,
    pin_command,
    pins_command,
    set_pin,
    unpin_command,
)
from samebits.cli.lazy_group import make_group
from samebits.cli.options import (
    ForceOption,
    JsonOption,
    NameArgument,
    StoreOption,
    open_existing_store,
    open_store,
    store_path,
)
from samebits.cli.output import CommandError, command, print_fields, print_json, printable, size_text, stderr
from samebits.cli.progress import byte_progress
from samebits.cli.remotes import clone_command, pull_command, push_command

app = make_group("The content-addressed store: put files, get them back byte for byte.")
app.command("show")(show_command)
app.command("ls")(list_command)
app.command("diff")(diff_command)
app.command("pin")(pin_command)
app.command("unpin")(unpin_command)
app.command("pins")(pins_command)
app.command("gc")(gc_command)
app.command("compact")(compact_command)
app.command("fsck")(fsck_command)
app.command("push")(push_command)
app.command("pull")(pull_command)
app.command("clone")(clone_command)
app.command("pack")(cas_pack_command)
app.command("unpack")(cas_unpack_command)

STDOUT = Path("-")


@app.command("put")
@command
def put_command(
    files: Annotated[list[Path], typer.Argument(help="Files and folders to store.", metavar="FILE...")],
    raw: Annotated[bool, typer.Option("--raw", help="Store weight files as plain bytes, not as tensors.")] = False,
    pin: Annotated[
        str | None, typer.Option("--pin", metavar="NAME", help="Pin it (only one) under this name, not kept/ADDRESS.")
    ] = None,
    force: ForceOption = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Store files and whole folders. Weight files are stored tensor by tensor, so equal tensors are kept once.

    Each is pinned, so that it stays until `cas unpin` and `cas gc`.
    """
    if pin is not None and len(files) != 1:
        raise CommandError("--pin names one file or folder; give only one")
    for file in files:
        if not file.is_file() and not file.is_dir():
            raise CommandError(f"{file}: {'not a regular file' if file.exists() else 'no such file or folder'}")
    with open_store(store) as opened:
        stored = []
        for file in files:
            put = put_directory if file.is_dir() else put_file
            total, taken = _size_bytes(file), 0
            with byte_progress(f"put {printable(file.name)}") as report:

                def watch(size_bytes: int, report: ByteReport = report, total: int = total) -> None:
                    nonlocal taken
                    taken += size_bytes
                    report(min(taken, total), total)

                with opened.watching(watch):
                    done = put(opened, file, raw=raw)
            name = kept_name(done.digest) if pin is None else pin
            check_pin(opened, name, done.digest, force=force)
            set_pin(opened, name, done.digest)
            stored.append(_put_fields(done))
            if not json:
                _print_put(stored[-1])
    if json:
        print_json(stored)


@app.command("get")
@command
def get_command(
    name: NameArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The file or folder to write; - is stdout.")
    ],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write a stored file, folder or tensor, verified while it is written; a file is replaced only by a whole one.

    A tensor is written as .npy, .npz or .safetensors, as the file's suffix says.
    """
    if output == STDOUT:
        if json:
            raise CommandError("--json and -o - both want stdout")
        _print_file(store, name)
        return
    with open_existing_store(store_path(store)) as opened:
        found = resolve(opened, name)
        size_bytes = _get(opened, found, output)
    fields = {"digest": found.digest, "file": str(output), "size_bytes": size_bytes}
    print_json(fields) if json else print_fields(fields)


@app.command("cat")
@command
def cat_command(name: NameArgument, store: StoreOption = None) -> None:
    """Print the bytes of a stored file, verified row by row."""
    _print_file(store, name)


@app.command("export")
@command
def export_command(
    name: NameArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help=f"{', '.join(FORMATS)}. Default: what the suffix says."),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write the tensors of a tree, a weights file or a folder, or one tensor, into a new file."""
    if form is not None and form not in FORMATS:
        raise CommandError(f"unknown format {form!r} (known: {', '.join(FORMATS)})")
    chosen = file_format(output if form is None else Path(f"_.{form}"))
    with open_existing_store(store_path(store)) as opened:
        found = resolve(opened, name)
        wrote = export(opened, found.digest, output, chosen, name=found.name or "tensor")
    if wrote.left_out_bytes:
        stderr.print(f"{size_text(wrote.left_out_bytes)} of the weight files are in no tensor and were left out")
    fields = {
        "digest": found.digest,
        "file": str(output),
        "tensors": wrote.tensors,
        "size_bytes": wrote.size_bytes,
        "left_out_bytes": wrote.left_out_bytes,
    }
    print_json(fields) if json else print_fields(fields)


def _size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files of a folder, as far as can be seen; only to show progress."""
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.stat().st_size for file in files)


def _put_fields(stored: StoredFile | StoredDirectory) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "digest": stored.digest,
        "kind": DIRECTORY_KIND if isinstance(stored, StoredDirectory) else stored.kind,
        "name": stored.name,
        "size_bytes": stored.size_bytes,
        "new_bytes": stored.new_bytes,
    }
    if isinstance(stored, StoredDirectory):
        fields |= {"files": len(stored.files), "notes": list(stored.notes)}
    return fields


def _print_put(fields: dict[str, Any]) -> None:
    sizes = f"{size_text(fields['size_bytes'])}, {size_text(fields['new_bytes'])} new"
    files = f"{fields['files']} files, " if "files" in fields else ""
    print(f"{fields['digest']}  {fields['kind']}  {printable(fields['name'])}  {files}{sizes}")
    for note in fields.get("notes", ()):
        stderr.print(printable(note))


def _get(store: Store, found: Resolved, output: Path) -> int:
    """Write what was found as what it is; returns its size in bytes."""
    node = node_or_none(store, found.digest)
    if node is not None and node.kind == DIRECTORY_KIND:
        return get_directory(store, found.digest, output)
    if node is not None and node.kind == TENSOR_KIND:
        return export(store, found.digest, output, name=found.name or "tensor").size_bytes
    if node is not None and node.kind == TREE_KIND:
        raise CommandError(f"{found.digest} is a tree; `cas export` writes its tensors into a file")
    return get_file(store, found.digest, output)


def _print_file(store: Path | None, name: str) -> None:
    with open_existing_store(store_path(store)) as opened:
        for row in read_file(opened, resolve(opened, name).digest):
            sys.stdout.buffer.write(row)
        sys.stdout.buffer.flush()
