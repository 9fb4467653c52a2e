"""`samebits log`: the ledger of a store."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from samebits.cli.options import JsonOption, StoreOption, store_path
from samebits.cli.output import EXIT_BAD_INPUT, command, print_fields, print_json, printable, readable
from samebits.exec.runner import LEDGER_FOLDER
from samebits.ledger import Entry, Log, LogAudit, entry_address
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES

_SHOWN_PROBLEMS: Final = 20

app = typer.Typer(help="The ledger: who ran what, with which result.", no_args_is_help=True)


def open_log(store: Path | None) -> Log:
    """Open a store's log for reading; raises LedgerError."""
    return Log.open(store_path(store) / LEDGER_FOLDER, read_only=True)


@app.command("show")
@command
def show_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Print the entries in their order, and the signed checkpoint over them."""
    log = open_log(store)
    entries = list(log.entries())
    if json:
        listed = [entry_fields(index, entry) for index, entry in enumerate(entries)]
        print_json({"origin": log.origin, "size": log.size, "checkpoint": log.checkpoint(), "entries": listed})
        return
    for index, entry in enumerate(entries):
        print(entry_line(index, entry))
    print(log.checkpoint(), end="")


@app.command("verify")
@command
def verify_command(
    store: StoreOption = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A checkpoint of this log that was kept elsewhere: the log must go on from it. May be repeated.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check every entry, every signature, the chain of every run, the tree and the checkpoint.

    Everything is computed again from the stored bytes; large logs on all processors. With --against also that no
    history was rewritten or forked: two heads of one size, signed by the log's key, are proof of it, and are printed.
    """
    log = open_log(store)
    known = {str(path): _read_note(path) for path in against or []}
    audit = log.audit(workers=os.cpu_count() or 1, against=known)
    if audit.problems:
        _report_problems(audit)
    counts = {"entries": audit.tree_size, "runs": audit.runs, "segments": audit.segments, "verdicts": audit.verdicts}
    root = audit.root_hash.hex() if audit.root_hash is not None else ""
    fields = {"log": "verified", "origin": log.origin, **counts, "root": root}
    if known:
        fields["goes on from"] = len(known)
    print_json(fields) if json else print_fields(fields)


def _read_note(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_NOTE_SIZE_BYTES + 1)


def _report_problems(audit: LogAudit) -> NoReturn:
    """Print every problem on a line of its own, and the notes that prove one."""
    for problem in audit.problems[:_SHOWN_PROBLEMS]:
        print(f"samebits: {printable(str(problem))}", file=sys.stderr)
        for note in problem.notes:
            for line in note.decode(errors="replace").splitlines():
                print(f"    {printable(line)}", file=sys.stderr)
    more = len(audit.problems) - _SHOWN_PROBLEMS
    if more > 0:
        print(f"samebits: and {more} more problems", file=sys.stderr)
    raise typer.Exit(EXIT_BAD_INPUT)


def entry_fields(index: int, entry: Entry) -> dict[str, object]:
    """Return an entry as it is printed with --json."""
    return {
        "index": index,
        "address": str(entry_address(entry)),
        "kind": entry.kind,
        "author": entry.author.hex(),
        "time": entry.time,
        "prev": None if entry.prev is None else str(entry.prev),
        "body": readable(entry.body.to_body()),
    }


def entry_line(index: int, entry: Entry) -> str:
    """Return an entry as one line for people."""
    body = {name: readable(getattr(entry.body, name)) for name in entry.body.__slots__}
    shown = "  ".join(f"{name} {short_text(value)}" for name, value in body.items() if value not in (None, []))
    return f"{index:>5}  {entry.kind:<7}  {entry_address(entry)}  {shown}"


def short_text(value: object) -> str:
    """Return a value for people; an address as its beginning."""
    if isinstance(value, list):
        return ",".join(short_text(item) for item in value)
    text = str(value)
    return text[:12] + "…" if len(text) == 64 else text
