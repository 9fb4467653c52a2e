"""`samebits cas show`, `ls` and `diff`: what is in the store, what is in an object, what differs between two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from samebits.cas.contents import Content, describe, entries
from samebits.cas.diff import Diff, Difference, diff
from samebits.cas.formats import WEIGHTS_KIND
from samebits.cas.paths import resolve
from samebits.cli.options import JsonOption, NameArgument, StoreOption, open_existing_store, store_path
from samebits.cli.output import EXIT_DIFFERENT, command, print_fields, print_json, printable, readable, size_text

LETTERS = {"added": "A", "removed": "D", "changed": "M"}


@command
def show_command(name: NameArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Say what an object is; the fields of a node."""
    with open_existing_store(store_path(store)) as opened:
        info = opened.stat(resolve(opened, name).digest)
        fields: dict[str, Any] = {"digest": info.digest, "kind": info.kind, "size_bytes": info.size_bytes}
        if info.kind == "node":
            node = opened.get_node(info.digest)
            fields |= {"kind": node.kind, "body": readable(node.body)}
    print_json(fields) if json else print_fields(fields)


@command
def list_command(
    name: Annotated[
        str | None, typer.Argument(help="A tree, folder or weights file: its entries.", metavar="NAME")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List every object of the store; with a name, what that object holds."""
    if name is not None:
        _list_entries(name, store_path(store), json)
        return
    with open_existing_store(store_path(store)) as opened:
        objects = list(opened.objects())
    if json:
        print_json([{"digest": one.digest, "kind": one.kind, "size_bytes": one.size_bytes} for one in objects])
        return
    for one in objects:
        print(f"{one.digest}  {one.kind:<4}  {one.size_bytes}")


@command
def diff_command(
    before: Annotated[str, typer.Argument(help="An object, as for `get`.", metavar="A")],
    after: Annotated[str, typer.Argument(help="Another one.", metavar="B")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare addresses alone: count no elements, compare no rows.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Say which tensors and files differ between two objects, and how much they share; exit code 1 if any does."""
    with open_existing_store(store_path(store)) as opened:
        old, new = resolve(opened, before).digest, resolve(opened, after).digest
        found = diff(opened, old, new, addresses_only=quick)
    print_json(_diff_fields(found)) if json else _print_diff(found)
    if not found.same:
        raise typer.Exit(EXIT_DIFFERENT)


def _list_entries(name: str, path: Path, json: bool) -> None:
    with open_existing_store(path) as opened:
        digest = resolve(opened, name).digest
        inner = entries(opened, digest)
        listed = {name: digest} if inner is None else inner
        contents = {entry: describe(opened, held) for entry, held in listed.items()}
    if json:
        print_json([{"name": entry, **_content_fields(content)} for entry, content in contents.items()])
        return
    what = {entry: _what(content) for entry, content in contents.items()}
    width = max(map(len, what.values()), default=0)
    for entry, content in contents.items():
        print(f"{content.digest}  {what[entry]:<{width}}  {size_text(content.size_bytes):>8}  {printable(entry)}")


def _print_diff(found: Diff) -> None:
    lines = [(one, *_diff_line(one)) for one in found.differences if one.status != "equal"]
    width = max((len(shown) for _, shown, _ in lines), default=0)
    for one, shown, said in lines:
        print(f" {LETTERS[one.status]} {shown:<{width}} | {said}")
    counts = ", ".join(f"{found.count(status)} {status}" for status in ("changed", "added", "removed", "equal"))
    shared = f"{size_text(found.shared_size_bytes)} of {size_text(found.after_size_bytes)} shared"
    print(f" {counts}; {shared} ({100 * found.shared_fraction:.1f} %)")


def _diff_line(one: Difference) -> tuple[str, str]:
    """Return the name of a difference and what there is to say of it."""
    rest = any(side is not None and side.kind == WEIGHTS_KIND for side in (one.before, one.after))
    shown = printable(one.name or ("(the file)" if rest else "(the object)"))
    if one.before is None or one.after is None:
        side = one.after if one.before is None else one.before
        return shown, f"{_what(side)}  {size_text(side.size_bytes)}" if side is not None else ""
    if one.different_elements is not None:
        share = f"{100 * one.different_elements / one.after.elements:.1f} %"
        return shown, f"{_what(one.after)}  {one.different_elements} of {one.after.elements} elements ({share})"
    old, new = _what(one.before), _what(one.after)
    sizes = f"{size_text(one.before.size_bytes)} -> {size_text(one.after.size_bytes)}"
    said = f"{new}  {sizes}" if old == new else f"{old} -> {new}  {sizes}"
    return shown, said + ("  beside its tensors" if rest else "")


def _what(content: Content) -> str:
    """Return ``f32[2,3]`` for a tensor, the kind of anything else."""
    return content.kind if content.shape is None else f"{content.dtype}[{','.join(map(str, content.shape))}]"


def _content_fields(content: Content | None) -> dict[str, Any]:
    if content is None:
        return {}
    return {
        "digest": content.digest,
        "kind": content.kind,
        "dtype": content.dtype,
        "shape": None if content.shape is None else list(content.shape),
        "size_bytes": content.size_bytes,
    }


def _diff_fields(found: Diff) -> dict[str, Any]:
    sizes = ("before_size_bytes", "after_size_bytes", "shared_blob_size_bytes", "shared_size_bytes", "shared_fraction")
    return {
        "before": found.before,
        "after": found.after,
        "same": found.same,
        "counts": {status: found.count(status) for status in ("changed", "added", "removed", "equal")},
        **{name: getattr(found, name) for name in sizes},
        "differences": [
            {
                "name": one.name,
                "status": one.status,
                "before": _content_fields(one.before) or None,
                "after": _content_fields(one.after) or None,
                "different_elements": one.different_elements,
            }
            for one in found.differences
            if one.status != "equal"
        ],
    }
