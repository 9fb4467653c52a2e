"""`samebits key`: the user's keys, and whose entries and logs count for the user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from samebits.cli.lazy_group import make_group
from samebits.cli.options import JsonOption, StoreOption, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json, printable
from samebits.cli.trusting import TrustOption, load_verifier, trust_path
from samebits.exec.author import AUTHOR_NAME, author_key_path
from samebits.exec.ledger_folder import LEDGER_FOLDER
from samebits.ledger import KeyFileError, SigningKey, Trust, TrustedKey, VerifierKey
from samebits.ledger.keyfile import find_key, store_key
from samebits.ledger.keys import is_key_name
from samebits.ledger.logkey import ORIGIN_PREFIX, PUBLIC_NAME, load_log_verifier
from samebits.ledger.trust import ROLES, is_log_key
from samebits.ledger.trust_edits import add_trusted, remove_trusted

app = make_group("Your keys, and whose logs, runs and verdicts count for you.")


@app.command("new")
@command
def new_command(
    name: Annotated[str, typer.Option("--name", help="What the key is called, for example alice.example.")] = (
        AUTHOR_NAME
    ),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to. Default: the store's author key.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Make an author's key, which signs runs and verdicts. A key that exists is never overwritten.

    A store without one makes its own on its first run. One in another file is used with --key FILE.
    """
    if not is_key_name(name) or name.startswith(ORIGIN_PREFIX):
        raise CommandError(f"{name!r} cannot name an author's key: no space, no plus, not a log's")
    path = output if output is not None else author_key_path(store_path(store))
    made = SigningKey.generate(name)
    if os.path.lexists(path) or store_key(path, made) != made:
        raise KeyFileError(path, "there is one already; a key is never overwritten")
    fields = {"author_vkey": made.vkey, "author_key_file": str(path)}
    print_json(fields) if json else print_fields(fields)


@app.command("show")
@command
def show_command(store: StoreOption = None, trust: TrustOption = None, json: JsonOption = False) -> None:
    """Print the public halves of the store's two keys, and where the files are; nothing private."""
    directory = store_path(store)
    ledger, author_file = directory / LEDGER_FOLDER, author_key_path(directory)
    log = load_log_verifier(ledger) if (ledger / PUBLIC_NAME).exists() else None
    author = find_key(author_file)
    fields = {
        "log_vkey": None if log is None else log.vkey,
        "author_vkey": None if author is None else author.vkey,
        "log_pub_file": None if log is None else str(ledger / PUBLIC_NAME),
        "author_key_file": None if author is None else str(author_file),
        "trust_file": str(trust_path(trust)),
    }
    if json:
        print_json(fields)
    else:
        print_fields({name: "none yet" if value is None else value for name, value in fields.items()})


@app.command("trust")
@command
def trust_command(
    vkey: Annotated[
        str | None,
        typer.Argument(help="A verifier key, as `key show` prints it, or a file of it (log.pub).", metavar="VKEY|FILE"),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option("--as", metavar="ROLE", help=f"One of {', '.join(ROLES)}. Default: by its name."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The name to show. Default: the key's own.")] = "",
    listed: Annotated[bool, typer.Option("--list", help="List who is trusted.")] = False,
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """Let the runs and verdicts of an author, or a log, count; or list whose do.

    author: runs and verdicts; author:runs, author:verdicts: those only. A key that has a line gets the new one.
    """
    path = trust_path(trust)
    if (vkey is None) != listed:
        raise CommandError("give a verifier key, or --list")
    if vkey is None:
        _print_trusted(path, Trust.load(path).keys, as_json=json)
        return
    key = _parse(vkey)
    chosen = next((known for known in ROLES if known == (role or ("log" if is_log_key(key) else "author"))), None)
    if chosen is None:
        raise CommandError(f"--as is one of {', '.join(ROLES)}")
    try:
        trusted = TrustedKey(chosen, key, name)
    except ValueError as error:
        raise CommandError(str(error)) from None
    add_trusted(path, trusted)
    _print_trusted(path, (trusted,), as_json=json)


@app.command("untrust")
@command
def untrust_command(
    wanted: Annotated[str, typer.Argument(help="A verifier key, or a name that --list shows.", metavar="VKEY|NAME")],
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """Take a key out of the trust file."""
    path = trust_path(trust)
    removed = remove_trusted(path, wanted)
    if json:
        _print_trusted(path, removed, as_json=True)
        return
    for key in removed:
        print(f"no longer trusted: {key.role} {printable(key.name)}")


def _parse(vkey: str) -> VerifierKey:
    if vkey.startswith("PRIVATE+KEY+"):
        raise CommandError("this is a private key; trust its public half, as `samebits key show` prints it")
    return load_verifier(vkey)


def _print_trusted(path: Path, keys: tuple[TrustedKey, ...], *, as_json: bool) -> None:
    if as_json:
        listed = [{"role": key.role, "name": key.name, "vkey": key.key.vkey} for key in keys]
        print_json({"trust_file": str(path), "keys": listed})
        return
    width = max((len(key.role) for key in keys), default=0)
    for key in keys:
        print(f"{key.role:<{width}}  {printable(key.name)}  {key.key.vkey}")
