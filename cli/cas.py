"""`samebits cas` (and the script `cas`): put files into the store and get the identical files back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from samebits.cas import Digest, get_file, put_file
from samebits.cli.options import JsonOption, StoreOption, open_existing_store, open_store, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json, printable, readable, size_text

app = typer.Typer(help="The content-addressed store: put files, get them back byte for byte.", no_args_is_help=True)

DigestArgument = Annotated[str, typer.Argument(help="An address: 64 hexadecimal characters.", metavar="DIGEST")]


@app.command("put")
@command
def put_command(
    files: Annotated[list[Path], typer.Argument(help="Files to store.", metavar="FILE...")],
    raw: Annotated[bool, typer.Option("--raw", help="Store weight files as plain bytes, not as tensors.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Store files. Safetensors files are stored tensor by tensor, so equal tensors are kept once."""
    for file in files:
        if not file.is_file():
            raise CommandError(f"{file}: no such file")
    with open_store(store) as opened:
        stored = []
        for file in files:
            one = put_file(opened, file, raw=raw)
            stored.append(one)
            if not json:
                sizes = f"{size_text(one.size_bytes)}, {size_text(one.new_bytes)} new"
                print(f"{one.digest}  {one.kind}  {printable(one.name)}  {sizes}")
    if json:
        names = ("digest", "kind", "name", "size_bytes", "new_bytes")
        print_json([{name: getattr(one, name) for name in names} for one in stored])


@app.command("get")
@command
def get_command(
    digest: DigestArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write a stored file, verified while it is written; an existing file is replaced only by a whole one."""
    address = Digest.parse(digest)
    with open_existing_store(store_path(store)) as opened:
        get_file(opened, address, output)
    fields = {"digest": digest, "file": str(output), "size_bytes": output.stat().st_size}
    print_json(fields) if json else print_fields(fields)


@app.command("show")
@command
def show_command(digest: DigestArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Say what an object is; the fields of a node."""
    address = Digest.parse(digest)
    with open_existing_store(store_path(store)) as opened:
        info = opened.stat(address)
        fields: dict[str, Any] = {"digest": info.digest, "kind": info.kind, "size_bytes": info.size_bytes}
        if info.kind == "node":
            node = opened.get_node(address)
            fields |= {"kind": node.kind, "body": readable(node.body)}
    print_json(fields) if json else print_fields(fields)


@app.command("ls")
@command
def list_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """List every object of the store."""
    with open_existing_store(store_path(store)) as opened:
        objects = list(opened.objects())
    if json:
        print_json([{"digest": one.digest, "kind": one.kind, "size_bytes": one.size_bytes} for one in objects])
        return
    for one in objects:
        print(f"{one.digest}  {one.kind:<4}  {one.size_bytes}")
