"""`samebits log verdicts`: what verifiers said about a run, and whose word counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from samebits.cas import Digest
from samebits.cli.naming import named_address
from samebits.cli.options import JsonOption, StoreOption, store_path
from samebits.cli.output import CommandError, command, print_json, printable
from samebits.cli.trusting import TrustOption, author_text, load_trust
from samebits.exec.runner import LEDGER_FOLDER
from samebits.ledger import Entry, Log, RunNotFoundError, Trust, VerdictBody, entry_address


@dataclass(frozen=True, slots=True)
class _Found:
    """A verdict in the log."""

    index: int
    entry: Entry
    body: VerdictBody
    counts: bool
    by_runner: bool  # its author is the run's


@command
def verdicts_command(
    run: Annotated[str, typer.Argument(help="Address of the run.", metavar="RUN")],
    store: StoreOption = None,
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """List the verdicts on a run, those that count first: by you, and by whom the trust file names.

    A verdict that does not count is signed all the same, but by a key that anyone may have made.
    """
    directory = store_path(store)
    known = load_trust(trust, directory)
    log = Log.open(directory / LEDGER_FOLDER, read_only=True)
    address = named_address(log, run)
    found = _find(log, address, known)
    if not found and not _has_run(log, address):
        raise CommandError(f"neither run {address} nor a verdict on it is in this log")
    counting = [one for one in found if one.counts]
    if json:
        print_json(
            {
                "run": address,
                "verdicts": [_fields(one, known) for one in found],
                "counting": len(counting),
                "counting_authors": len({one.entry.author for one in counting}),
                "same": sum(one.body.result == "same" for one in counting),
                "different": sum(one.body.result == "different" for one in counting),
            }
        )
        return
    for one in found:
        print(_line(one, known))
    print(_summary(len(found), counting))


def _has_run(log: Log, address: Digest) -> bool:
    try:
        log.chain(address)
    except RunNotFoundError:
        return False
    return True


def _find(log: Log, run: Digest, trust: Trust) -> list[_Found]:
    """Return the verdicts on a run, signatures verified, those that count first, else in the log's order."""
    runner = log.chain(run).author if _has_run(log, run) else None
    found = []
    for index, entry in log.verdicts(run):
        assert isinstance(entry.body, VerdictBody)
        counts = trust.counts(entry.author, "verdict")
        found.append(_Found(index, entry, entry.body, counts, entry.author == runner))
    return sorted(found, key=lambda one: (not one.counts, one.index))


def _line(one: _Found, trust: Trust) -> str:
    body = one.body
    result = "same" if body.result == "same" else f"different from step {body.first_different_step}"
    by = author_text(trust, one.entry.author, "verdict") + (" (who ran it)" if one.by_runner else "")
    mark = "counts " if one.counts else "unknown"
    steps = f"steps {body.first_step}:{body.stop_step}"
    return f"{one.index:>5}  {mark}  {result}  {steps}  by {by}  on {printable(body.device)}"


def _summary(total: int, counting: list[_Found]) -> str:
    same = sum(one.body.result == "same" for one in counting)
    authors = len({one.entry.author for one in counting})
    different = len(counting) - same
    return f"{len(counting)} of {total} verdicts count (authors: {authors}): {same} same, {different} different"


def _fields(one: _Found, trust: Trust) -> dict[str, object]:
    return {
        "index": one.index,
        "address": entry_address(one.entry),
        "counts": one.counts,
        "author": one.entry.author.hex(),
        "author_name": trust.author_name(one.entry.author),
        "by_runner": one.by_runner,
        "result": one.body.result,
        "first_different_step": one.body.first_different_step,
        "first_step": one.body.first_step,
        "stop_step": one.body.stop_step,
        "device": one.body.device,
    }
