"""`samebits cas push`, `pull` and `clone`: move objects between the store and a remote."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from samebits.cas import Digest
from samebits.cas.paths import is_prefix, only_address, resolve
from samebits.cas.pins import kept_name
from samebits.cas.remotes import Remote, open_remote
from samebits.cas.transfer import TransferReport, clone, pull, push
from samebits.cli.cas_store import check_pin, set_pin
from samebits.cli.options import ForceOption, JsonOption, StoreOption, open_existing_store, open_store, store_path
from samebits.cli.output import CommandError, command, print_json, printable, size_text
from samebits.cli.progress import byte_progress

_REMOTE_HELP = "A directory, another store, http(s)://HOST/PATH or s3://BUCKET/PREFIX."
RemoteArgument = Annotated[str, typer.Argument(help=_REMOTE_HELP, metavar="REMOTE")]
RootsArgument = Annotated[
    list[str],
    typer.Argument(
        help="Addresses (of what is pinned, their first 8 or more characters too), or names of pins.",
        metavar="ADDRESS...",
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="An S3 service other than AWS. Default: AWS_ENDPOINT_URL."),
]
PinOption = Annotated[
    str | None,
    typer.Option(
        "--pin",
        metavar="NAME",
        help="Pin the address (only one) under this name; default: its own pin's, or kept/ADDRESS.",
    ),
]


@command
def push_command(
    remote: RemoteArgument,
    addresses: RootsArgument,
    pin: PinOption = None,
    endpoint: EndpointOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Copy objects, with all that they refer to, to a remote that lacks them, and pin them there."""
    with open_existing_store(store_path(store)) as opened:
        roots = [resolve(opened, text).digest for text in addresses]
        _check_pin(pin, roots)
        with closing(open_remote(remote, create=True, writable=True, endpoint=endpoint)) as there:
            with byte_progress("push") as progress:
                report = push(opened, there, roots, progress=progress)
            ours = opened.pins()
            for text, root in zip(addresses, roots, strict=True):
                _pin_there(there, _pin_name(pin, text, root, ours), root)
    _print_report("pushed", report, {"pin": pin} if pin else {}, json=json)


@command
def pull_command(
    remote: RemoteArgument,
    addresses: RootsArgument,
    pin: PinOption = None,
    force: ForceOption = False,
    endpoint: EndpointOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Copy objects, with all that they refer to, from a remote; every byte is verified. They are pinned here."""
    with ExitStack() as stack:
        there = stack.enter_context(closing(open_remote(remote, endpoint=endpoint)))
        named = any(not _is_address(text) for text in addresses)
        theirs = there.pins() if named else {}
        roots = _find_roots(addresses, theirs, there.name)
        _check_pin(pin, roots)
        names = [_pin_name(pin, text, root, theirs) for text, root in zip(addresses, roots, strict=True)]
        opened = stack.enter_context(open_store(store))  # not made for a name that is wrong
        for name, root in zip(names, roots, strict=True):
            check_pin(opened, name, root, force=force)
        with byte_progress("pull") as progress:
            report = pull(there, opened, roots, progress=progress)
        for name, root in zip(names, roots, strict=True):
            set_pin(opened, name, root)
    _print_report("pulled", report, {"roots": [str(root) for root in roots]}, json=json)


@command
def clone_command(
    remote: RemoteArgument,
    directory: Annotated[
        Path | None, typer.Argument(help="The store to clone into. Default: --store.", metavar="[DIR]")
    ] = None,
    endpoint: EndpointOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Copy everything that a remote has pinned, pins included."""
    with closing(open_remote(remote, endpoint=endpoint)) as there, open_store(directory or store) as opened:
        pins = there.pins()
        with byte_progress("clone") as progress:
            report = clone(there, opened, progress=progress)
    _print_report("cloned", report, {"pins": {name: str(digest) for name, digest in pins.items()}}, json=json)


def _pin_name(given: str | None, text: str, root: Digest, pins: Mapping[str, Digest]) -> str:
    """Return the pin to set for what `text` named: the one given, the pin that it was named by, or kept/ADDRESS."""
    if given is not None:
        return given
    return text if pins.get(text) == root else kept_name(root)


def _is_address(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def _find_roots(texts: list[str], pins: Mapping[str, Digest], remote: str) -> list[Digest]:
    """Return the addresses that the user named: by themselves, by pins of a remote, or by how pinned ones begin."""
    return [_find_root(text, pins, remote) for text in texts]


def _find_root(text: str, pins: Mapping[str, Digest], remote: str) -> Digest:
    if _is_address(text):
        return Digest.parse(text)
    if text in pins:
        return pins[text]
    if is_prefix(text):
        found = sorted({str(digest) for digest in pins.values() if str(digest).startswith(text)})
        return only_address(text, text, [Digest.parse(one) for one in found], f"that {remote} has pinned")
    wanted = "an address (64 hexadecimal characters), nor the first 8 or more of one that is pinned"
    raise CommandError(f"{text!r} is neither {wanted}, nor the name of a pin")


def _check_pin(pin: str | None, roots: list[Digest]) -> None:
    if pin is not None and len(roots) != 1:
        raise CommandError("--pin names one address; give only one")


def _pin_there(remote: Remote, name: str, digest: Digest) -> None:
    try:
        remote.write_pin(name, digest)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _print_report(done: str, report: TransferReport, more: Mapping[str, object], *, json: bool) -> None:
    if json:
        print_json({**dataclasses.asdict(report), **more})
        return
    sizes = f"{report.objects} objects, {report.rows} rows, {size_text(report.size_bytes)}"
    print(f"{done} {sizes}; {report.skipped_objects} objects and {report.skipped_rows} rows were there already")
    pins = more.get("pins")
    for name, digest in pins.items() if isinstance(pins, dict) else ():
        print(f"{digest}  {printable(name)}")
