"""`samebits log find`, `log lineage` and `log reindex`: what the index of a ledger is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from samebits.cas import Digest, Store, resolve
from samebits.cli.entry_text import entry_fields, entry_line
from samebits.cli.lineage_text import lineage_fields, lineage_lines
from samebits.cli.naming import named_address, named_author
from samebits.cli.options import JsonOption, StoreOption, open_existing_store, open_log, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json
from samebits.cli.trusting import TrustOption, load_trust
from samebits.exec.containers import find_containers
from samebits.ledger import FoundEntry, Log, Query
from samebits.ledger.search import MIN_PREFIX_LENGTH

_ADDRESS: Final = "ADDRESS"


def add_commands(app: typer.Typer) -> None:
    """Add the commands to `samebits log`."""
    app.command("find")(find_command)
    app.command("lineage")(lineage_command)
    app.command("reindex")(reindex_command)


@command
def find_command(
    store: StoreOption = None,
    job: Annotated[str | None, typer.Option(metavar=_ADDRESS, help="Entries of the runs of this job.")] = None,
    run: Annotated[
        str | None, typer.Option(metavar=_ADDRESS, help="The run's entry, its segments and the verdicts on it.")
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            metavar=_ADDRESS,
            help="Entries that name it: a run its job; a segment the states that it began and ended with, its list of "
            "commits and its kernels. Also a PIN of the store.",
        ),
    ] = None,
    inside: Annotated[
        bool,
        typer.Option(
            "--inside", help="With --artifact: it may lie inside what is named, as a tensor does in a state or a job."
        ),
    ] = False,
    author: Annotated[
        str | None, typer.Option(metavar="KEY", help="`you`, a trusted name, a verifier key, or a public key in hex.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="At or after this time, as the authors claim: 2026-11-21[T10:30[Z]] in UTC."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")] = None,
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """Find entries: which runs made or used these weights, who ran this job, what was done when.

    All that is given must hold. Of an ADDRESS or a KEY in hex the first 4 or more characters do, where they are
    unique. Entries
    of version 1 have no time, and are not found by it. Exit code 0 also if nothing is found.
    """
    log = open_log(store)
    if all(given is None for given in (job, run, artifact, author, since, until)):
        raise CommandError("say what to find: --job, --run, --artifact, --author, --since or --until")
    if inside and artifact is None:
        raise CommandError("--inside goes with --artifact")
    known = load_trust(trust, store_path(store))
    query = Query(
        job=None if job is None else named_address(log, job),
        run=None if run is None else named_address(log, run),
        author=None if author is None else named_author(log, author, known),
        since=None if since is None else _seconds(since),
        until=None if until is None else _seconds(until),
    )
    if artifact is None:
        found = log.search(query)
    else:
        with _open_store(store) as opened:
            found = _search_artifact(log, opened, query, _artifact(log, opened, artifact), inside)
    if json:
        listed = [{**entry_fields(item.index, item.entry, known), "roles": list(item.roles)} for item in found]
        print_json({"origin": log.origin, "entries": listed})
        return
    for item in found:
        print(entry_line(item.index, item.entry, known) + (f"  ({', '.join(item.roles)})" if item.roles else ""))


@command
def lineage_command(
    address: Annotated[
        str, typer.Argument(metavar=_ADDRESS, help="A state, or an entry; its first characters; a PIN of the store.")
    ],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show what made a state: runs, their jobs with code and data, and where these runs started from, to the roots.

    The steps of a run turn the state that it started from into others; that state may have come out of another run.
    Also shown: other runs of the same job, and whether they came to the same state; runs that branch off from the same
    state; the first 20 of each, once. What a job consists of is read from the store. Every entry on the way is checked,
    with its signature.
    """
    log = open_log(store)
    with _open_store(store) as opened:
        found = log.lineage(_artifact(log, opened, address))
        if json:
            print_json(lineage_fields(found, opened))
            return
        for line in lineage_lines(found, opened):
            print(line)


@command
def reindex_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Make the index of the ledger anew from its entries. It holds nothing else, and may be deleted at any time."""
    with open_log(store) as log:
        log.reindex()
        fields = {"index": "made anew", "origin": log.origin, "entries": log.size}
    print_json(fields) if json else print_fields(fields)


@contextmanager
def _open_store(store: Path | None) -> Iterator[Store | None]:
    """Open the store beside the ledger if there is one."""
    path = store_path(store)
    if not (path / "cas").exists():
        yield None
        return
    with open_existing_store(path) as opened:
        yield opened


def _artifact(log: Log, store: Store | None, text: str) -> Digest:
    """Return the address that a text names in the log, or else in the store, as PIN too."""
    if _is_hex(text):
        found = log.find_address(text)
        if found is not None:
            return found
    if store is None:
        raise CommandError(f"{text} is not in the ledger, and there is no store to look it up in")
    return resolve(store, text).digest


def _search_artifact(log: Log, store: Store | None, query: Query, wanted: Digest, inside: bool) -> list[FoundEntry]:
    """Return the entries that name an artifact, or with `inside` something of the store that contains it."""
    named = [wanted]
    if inside:
        if store is None:
            raise CommandError("--inside looks into the objects of the store, and there is none")
        named += find_containers(store, log.artifacts(), wanted)
    found: dict[int, FoundEntry] = {}
    for address in named:
        for item in log.search(replace(query, artifact=address)):
            roles = (*found[item.index].roles, *item.roles) if item.index in found else item.roles
            found[item.index] = replace(item, roles=tuple(dict.fromkeys(roles)))
    return [found[index] for index in sorted(found)]


def _seconds(text: str) -> int:
    """Return the Unix time, in seconds, that a text means."""
    try:
        time = datetime.fromisoformat(text)
        return max(0, int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, OverflowError):
        raise CommandError(f"{text} is not a time; write it as 2026-11-21 or 2026-11-21T10:30") from None


def _is_hex(text: str) -> bool:
    return len(text) >= MIN_PREFIX_LENGTH and set(text) <= set("0123456789abcdef") and len(text) <= 64
