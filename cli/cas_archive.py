"""`samebits cas pack` and `unpack`: an object with all that it refers to as one CAR file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samebits.cas.car import Archived, car_root, read_car, write_car
from samebits.cas.paths import resolve
from samebits.cas.pins import kept_name
from samebits.cli.cas_store import check_pin, set_pin
from samebits.cli.options import (
    ForceOption,
    JsonOption,
    NameArgument,
    StoreOption,
    open_existing_store,
    open_store,
    store_path,
)
from samebits.cli.output import command, print_fields, print_json, size_text
from samebits.cli.progress import byte_progress

ArchiveArgument = Annotated[Path, typer.Argument(help="An archive that `pack` wrote.", metavar="FILE.car")]
ArchiveOption = Annotated[Path, typer.Option("-o", "--output", metavar="FILE.car", help="The archive to write.")]


@command
def cas_pack_command(
    name: NameArgument, output: ArchiveOption, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Write an object with all that it refers to into one file, a CAR (content-addressed archive, version 1)."""
    with open_existing_store(store_path(store)) as opened, byte_progress("pack") as progress:
        packed = write_car(opened, resolve(opened, name).digest, output, progress=progress)
    _print(packed, {"file": str(output)}, packed.size_bytes, json=json)


@command
def cas_unpack_command(
    file: ArchiveArgument,
    pin: Annotated[
        str | None, typer.Option("--pin", metavar="NAME", help="Pin it under this name, not kept/ADDRESS.")
    ] = None,
    force: ForceOption = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Put the objects of an archive into the store, each verified against its address; the root is pinned."""
    root = car_root(file)
    name = kept_name(root) if pin is None else pin
    with open_store(store) as opened:
        check_pin(opened, name, root, force=force)
        with byte_progress("unpack") as progress:
            archived = read_car(file, opened, progress=progress)
        set_pin(opened, name, root)
    _print(archived, {"pin": name}, archived.new_bytes, json=json)


def _print(archived: Archived, more: dict[str, str], size_bytes: int, *, json: bool) -> None:
    fields = {"digest": archived.root, **more, "objects": archived.objects}
    if json:
        print_json({**fields, "bytes": size_bytes})
        return
    print_fields({**fields, "bytes": size_text(size_bytes)})
