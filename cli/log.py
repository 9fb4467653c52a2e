"""`samebits log`: the ledger of a store."""

from __future__ import annotations

from pathlib import Path

import typer

from samebits.cli.log_cosign import cosign_command
from samebits.cli.log_export import check_export_command, export_command
from samebits.cli.log_receipt import check_command, prove_command, witness_fields
from samebits.cli.log_verdicts import verdicts_command
from samebits.cli.options import JsonOption, PolicyOption, StoreOption, load_policy, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json, readable
from samebits.cli.trusting import TrustOption, author_text, load_trust
from samebits.exec.runner import LEDGER_FOLDER
from samebits.ledger import Entry, Log, Trust, entry_address
from samebits.ledger.cosigned import open_cosigned

app = typer.Typer(help="The ledger: who ran what, with which result.", no_args_is_help=True)
app.command("verdicts")(verdicts_command)
app.command("export")(export_command)
app.command("check-export")(check_export_command)
app.command("prove")(prove_command)
app.command("check")(check_command)
app.command("cosign")(cosign_command)


def _open(store: Path | None) -> Log:
    return Log.open(store_path(store) / LEDGER_FOLDER, read_only=True)


@app.command("show")
@command
def show_command(store: StoreOption = None, trust: TrustOption = None, json: JsonOption = False) -> None:
    """Print the entries in their order, by whom they are, and the signed checkpoint over them.

    A name stands where the trust file has one for the key; otherwise the key's first characters.
    """
    log = _open(store)
    known = load_trust(trust, store_path(store))
    entries = list(log.entries())
    if json:
        listed = [_fields(index, entry, known) for index, entry in enumerate(entries)]
        print_json({"origin": log.origin, "size": log.size, "checkpoint": log.checkpoint(), "entries": listed})
        return
    for index, entry in enumerate(entries):
        body = readable(entry.body.to_body())
        shown = "  ".join(f"{name} {_short(value)}" for name, value in body.items() if value not in (None, []))
        by = author_text(known, entry.author, entry.kind)
        print(f"{index:>5}  {entry.kind:<7}  {entry_address(entry)}  by {by}  {shown}")
    print(log.checkpoint(), end="")


@app.command("verify")
@command
def verify_command(policy: PolicyOption = None, store: StoreOption = None, json: JsonOption = False) -> None:
    """Check every entry, every signature, the chain of every run, the tree and the checkpoint.

    With a policy, the checkpoint must be of a log that it names and have the cosignatures that it requires.
    """
    rule = None if policy is None else load_policy(policy)
    log = _open(store)
    audit = log.audit()
    audit.check()
    counts = {"entries": audit.tree_size, "runs": audit.runs, "segments": audit.segments, "verdicts": audit.verdicts}
    root = audit.root_hash.hex() if audit.root_hash is not None else ""
    fields: dict[str, object] = {"log": "verified", "origin": log.origin, **counts, "root": root}
    if rule is not None:
        cosigned = open_cosigned(log.checkpoint().encode(), rule, log.verifier)
        if (cosigned.checkpoint.tree_size, cosigned.checkpoint.root_hash) != (audit.tree_size, audit.root_hash):
            raise CommandError("the log grew while it was verified; run it again")
        fields |= witness_fields(cosigned, as_json=json)
    print_json(fields) if json else print_fields(fields)


def _fields(index: int, entry: Entry, known: Trust) -> dict[str, object]:
    return {
        "index": index,
        "address": str(entry_address(entry)),
        "kind": entry.kind,
        "author": entry.author.hex(),
        "author_name": known.author_name(entry.author),
        "counts": known.counts(entry.author, entry.kind),
        "prev": None if entry.prev is None else str(entry.prev),
        "body": readable(entry.body.to_body()),
    }


def _short(value: object) -> str:
    if isinstance(value, list):
        return ",".join(_short(item) for item in value)
    text = str(value)
    return text[:12] + "…" if len(text) == 64 else text
