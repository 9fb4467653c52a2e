"""`samebits log verdicts`: what verifiers said about a run, and whose word counts."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from samebits.cas import Digest
from samebits.cas.store import ENVIRONMENT_FOLDER
from samebits.cli.naming import named_address
from samebits.cli.options import JsonOption, StoreOption, open_existing_store, open_log, store_path
from samebits.cli.output import CommandError, command, print_json, printable
from samebits.cli.trusting import TrustOption, author_text, load_trust
from samebits.exec.verification.sample_check import SampleCheck, SampleChecker
from samebits.ledger import DrawBody, Entry, Log, Trust, VerdictBody, entry_address


@dataclass(frozen=True, slots=True)
class _Found:
    """A verdict in the log."""

    index: int
    entry: Entry
    body: VerdictBody
    counts: bool
    by_runner: bool  # its author is the run's
    sample: SampleCheck | None  # of its draw; None: every segment of its steps was computed


@command
def verdicts_command(
    run: Annotated[str, typer.Argument(help="Address of the run.", metavar="RUN")],
    store: StoreOption = None,
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """List the verdicts on a run, those that count first: by you, and by whom the trust file names.

    A verdict that does not count is signed all the same, but by a key that anyone may have made. One of "same" on a
    sample counts only if its draw can be checked: announced in this log before, and these segments and no others.
    """
    directory = store_path(store)
    known = load_trust(trust, directory)
    log = open_log(store)
    address = named_address(log, run)
    with contextlib.ExitStack() as stack:
        objects = stack.enter_context(open_existing_store(directory)) if _has_store(directory) else None
        checker = SampleChecker(log, address, objects, known.log_keys)
        chain = log.find_chain(address)
        found = _find(log, address, None if chain is None else chain.author, known, checker)
    silent = checker.unreported()
    if not found and not silent and chain is None:
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
                "unreported_draws": [_draw_fields(index, entry, known) for index, entry in silent],
            }
        )
        return
    for one in found:
        print(_line(one, known))
    for index, entry in silent:
        print(_draw_line(index, entry, known))
    print(_summary(len(found), counting))


def _has_store(directory: Path) -> bool:
    return (directory / ENVIRONMENT_FOLDER).is_dir()


def _find(log: Log, run: Digest, runner: bytes | None, trust: Trust, checker: SampleChecker) -> list[_Found]:
    """Return the verdicts on a run, signatures verified, those that count first, else in the log's order.

    `runner`: the key of who ran it, None if the run is in another log.
    """
    found = []
    for index, entry in log.verdicts(run):
        assert isinstance(entry.body, VerdictBody)
        sample = checker.check(index, entry)
        counts = trust.counts(entry.author, "verdict") and _is_believed(
            entry.body, sample, is_own=entry.author == trust.own
        )
        found.append(_Found(index, entry, entry.body, counts, entry.author == runner, sample))
    return sorted(found, key=lambda one: (not one.counts, one.index))


def _is_believed(body: VerdictBody, sample: SampleCheck | None, *, is_own: bool) -> bool:
    """Say whether a draw counts: one that can't be checked for the user's own, who drew it, only.

    A difference is one however its segment was chosen.
    """
    if sample is None or body.result == "different":
        return True
    return sample.status == "fits" or (is_own and sample.status == "unknown")


def _line(one: _Found, trust: Trust) -> str:
    body = one.body
    result = "same" if body.result == "same" else f"different from step {body.first_different_step}"
    by = author_text(trust, one.entry.author, "verdict") + (" (who ran it)" if one.by_runner else "")
    mark = "counts " if one.counts else "unknown" if one.sample is None else "doubted"
    steps = f"steps {body.first_step}:{body.stop_step}"
    return f"{one.index:>5}  {mark}  {result}  {steps}  by {by}  on {printable(body.device)}{_sample_text(one)}"


def _sample_text(one: _Found) -> str:
    if one.sample is None or one.body.sample is None:
        return ""
    said = {"fits": "the draw is right", "wrong": "THE DRAW IS WRONG", "unknown": "the draw can't be checked"}
    reason = f": {printable(one.sample.reason)}" if one.sample.reason else ""
    beacon = one.body.sample.beacon
    by = f" by beacon {beacon.hex()}" if beacon else ""
    return f"  sample of {len(one.body.sample.segments)} segments{by}, {said[one.sample.status]}{reason}"


def _draw_line(index: int, entry: Entry, trust: Trust) -> str:
    assert isinstance(entry.body, DrawBody)
    by = author_text(trust, entry.author, "verdict")
    return (
        f"{index:>5}  draw of {entry.body.sample} of {entry.body.segments} segments  by {by}  announced, never reported"
    )


def _draw_fields(index: int, entry: Entry, trust: Trust) -> dict[str, object]:
    assert isinstance(entry.body, DrawBody)
    return {
        "index": index,
        "address": entry_address(entry),
        "author": entry.author.hex(),
        "author_name": trust.author_name(entry.author),
        "segments_total": entry.body.segments,
        "sample": entry.body.sample,
    }


def _summary(total: int, counting: list[_Found]) -> str:
    same = sum(one.body.result == "same" for one in counting)
    authors = len({one.entry.author for one in counting})
    different = len(counting) - same
    samples = sum(one.sample is not None and one.body.result == "same" for one in counting)
    of_samples = f" ({samples} of them on samples)" if samples else ""
    count = f"{len(counting)} of {total} verdicts count (authors: {authors})"
    return f"{count}: {same} same{of_samples}, {different} different"


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
        "sample": None if one.body.sample is None else list(one.body.sample.segments),
        "beacon": None if one.body.sample is None else one.body.sample.beacon.hex(),
        "draw": None if one.sample is None else one.sample.status,
        "draw_reason": "" if one.sample is None else one.sample.reason,
    }
