"""`samebits log`: the ledger of a store."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from samebits.cli.entry_text import entry_fields, entry_line
from samebits.cli.lazy_group import make_group
from samebits.cli.limits import MaxSecondsOption, limited
from samebits.cli.log_cosign import cosign_command
from samebits.cli.log_export import check_export_command, export_command
from samebits.cli.log_receipt import check_command, prove_command, witness_fields
from samebits.cli.log_verdicts import verdicts_command
from samebits.cli.options import JsonOption, PolicyOption, StoreOption, load_policy, open_log, store_path
from samebits.cli.output import EXIT_BAD_INPUT, CommandError, command, print_fields, print_json, printable
from samebits.cli.trusting import TrustOption, load_trust
from samebits.ledger import LogAudit, VerifierKey
from samebits.ledger.cosigned import open_cosigned
from samebits.ledger.note import MAX_NOTE_SIZE_BYTES

_SHOWN_PROBLEMS: Final = 20
_LAST_HEAD: Final = "that was signed last on this machine"

app = make_group("The ledger: who ran what, with which result.")
app.command("verdicts")(verdicts_command)
app.command("export")(export_command)
app.command("check-export")(check_export_command)
app.command("prove")(prove_command)
app.command("check")(check_command)
app.command("cosign")(cosign_command)


@dataclass(frozen=True, slots=True)
class Audited:
    """A log that was audited, and what was found."""

    audit: LogAudit
    log_key: VerifierKey
    checkpoint: Callable[[], bytes]  # its signed note


@app.command("show")
@command
def show_command(store: StoreOption = None, trust: TrustOption = None, json: JsonOption = False) -> None:
    """Print the entries in their order, by whom they are, and the signed checkpoint over them.

    A name stands where the trust file has one for the key; otherwise the key's first characters.
    """
    log = open_log(store)
    known = load_trust(trust, store_path(store))
    entries = list(log.entries())
    if json:
        listed = [entry_fields(index, entry, known) for index, entry in enumerate(entries)]
        print_json({"origin": log.origin, "size": log.size, "checkpoint": log.checkpoint(), "entries": listed})
        return
    for index, entry in enumerate(entries):
        print(entry_line(index, entry, known))
    print(log.checkpoint(), end="")


@app.command("verify")
@command
def verify_command(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="A log published over HTTP, as by `samebits serve`.")
    ] = None,
    store: StoreOption = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A checkpoint of this log that was kept elsewhere: the log must go on from it. May be repeated.",
        ),
    ] = None,
    policy: PolicyOption = None,
    log_key: Annotated[
        str | None,
        typer.Option("--log-key", metavar="VKEY|FILE", help="With URL: the key of the log, or a file of it (log.pub)."),
    ] = None,
    max_seconds: MaxSecondsOption = None,
    json: JsonOption = False,
) -> None:
    """Check every entry, every signature, the chain of every run, the tree and the checkpoint.

    Everything is computed again from the stored bytes; large logs on all processors. The log must go on
    from the last head that its key signed on this machine, if any. With --against also from those given: no history was
    rewritten or forked; two heads of one size, signed by the log's key, are proof of a fork, and are printed.
    With a policy, the checkpoint must be of a log that it names and have the cosignatures that it requires.
    With a URL, the log that is published there is checked, and each tile against the checkpoint: of at most a million
    entries and 1 GiB. It takes about 1 KB of memory for each entry. The last head on this machine is not looked at.
    """
    rule = None if policy is None else load_policy(policy)
    given = {str(path): _read_note(path) for path in against or []}
    if url is None and log_key is not None:
        raise CommandError("--log-key goes with a URL; a store's log has its key beside it")
    if url is not None and store is not None:
        raise CommandError("--store names another log than the URL; give one of them")
    with limited(None, max_seconds):
        audited = _audit_own(store, given) if url is None else _audit_published(url, log_key, given)
    audit = audited.audit
    if audit.problems:
        _report_problems(audit)
    counts = {"entries": audit.tree_size, "runs": audit.runs, "segments": audit.segments, "verdicts": audit.verdicts}
    counts |= {name: count for name, count in {"draws": audit.draws, "traces": audit.traces}.items() if count}
    root = audit.root_hash.hex() if audit.root_hash is not None else ""
    fields: dict[str, object] = {"log": "verified", "origin": audit.origin, **counts, "root": root}
    if url is not None:
        fields |= _key_fields(audited.log_key, is_known=log_key is not None or rule is not None, as_json=json)
    if given:
        fields["goes on from"] = len(given)
    if rule is not None:
        cosigned = open_cosigned(audited.checkpoint(), rule, audited.log_key)
        if (cosigned.checkpoint.tree_size, cosigned.checkpoint.root_hash) != (audit.tree_size, audit.root_hash):
            raise CommandError("the log grew while it was verified; run it again")
        fields |= witness_fields(cosigned, as_json=json)
    print_json(fields) if json else print_fields(fields)


def _audit_own(store: Path | None, given: Mapping[str, bytes]) -> Audited:
    """Audit the log of a store, also against the last head that was signed on this machine."""
    log = open_log(store)
    head = log.last_head()
    known = given if head is None else {**given, _LAST_HEAD: head}
    audit = log.audit(workers=os.cpu_count() or 1, against=known)
    return Audited(audit, log.verifier, lambda: log.checkpoint().encode())


def _audit_published(url: str, log_key: str | None, given: Mapping[str, bytes]) -> Audited:
    from samebits.cli.log_published import audit_url  # starts slower than most commands take

    return audit_url(url, log_key, given)


def _key_fields(log_key: VerifierKey, *, is_known: bool, as_json: bool) -> dict[str, object]:
    """Return the key of a published log, and whether it is only what the server says."""
    if as_json:
        return {"log_key": log_key.vkey, "is_key_known": is_known}
    said = "" if is_known else "  (as the server says; --log-key says which it must be)"
    return {"log_key": f"{log_key.vkey}{said}"}


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
