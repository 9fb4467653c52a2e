"""`samebits cas pin`, `unpin`, `pins`, `gc`, `compact` and `fsck`: what a store keeps, and whether it is intact."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Annotated

import typer

from samebits.cas import Digest, Store, compact, fsck, quarantine
from samebits.cas.fsck import LEVELS, FsckReport, Level, Problem
from samebits.cas.gc import GRACE_S
from samebits.cas.paths import resolve
from samebits.cas.remotes import open_remote
from samebits.cas.transfer import pull
from samebits.cli.options import (
    ForceOption,
    JsonOption,
    NameArgument,
    StoreOption,
    open_existing_store,
    open_store,
    store_path,
)
from samebits.cli.output import (
    EXIT_DIFFERENT,
    CommandError,
    command,
    print_fields,
    print_json,
    printable,
    size_text,
    stderr,
)
from samebits.cli.progress import byte_progress, count_progress

_HOUR_S = 3600.0
_SHOWN_REFERRERS = 3


@command
def pin_command(
    pin: Annotated[str, typer.Argument(help="The name to give.", metavar="PIN")],
    name: NameArgument,
    force: ForceOption = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Give an object a name; it stays in the store, with all that it refers to, as long as it has one."""
    with Store(store_path(store), create=False) as opened:
        digest = resolve(opened, name).digest
        check_pin(opened, pin, digest, force=force)
        set_pin(opened, pin, digest)
    fields = {"pin": pin, "digest": digest}
    print_json(fields) if json else print_fields(fields)


@command
def unpin_command(
    names: Annotated[list[str], typer.Argument(help="Pins, or addresses: all pins of them.", metavar="PIN...")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take names away. What nothing else needs is removed by the next `cas gc` after the grace time."""
    with Store(store_path(store), create=False) as opened:
        pins = opened.scan_pins()
        gone: dict[str, Digest | None] = {}
        for name in names:
            found: dict[str, Digest | None] = {}
            found |= {pin: digest for pin, digest in pins.whole.items() if name in (pin, str(digest))}
            found |= {pin: None for pin in pins.malformed if name == pin}
            if not found:
                raise CommandError(f"there is no pin {name!r}, and none of an object with this address")
            gone |= found
        for pin in gone:
            opened.unpin(pin)
    _print_pins(gone, json=json)


@command
def pins_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """List the pins: names, and what they keep in the store."""
    with open_existing_store(store_path(store)) as opened:
        _print_pins(opened.pins(), json=json)


@command
def gc_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    grace: Annotated[
        float, typer.Option("--grace", metavar="HOURS", help="Keep what was put within this time.")
    ] = GRACE_S / _HOUR_S,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Remove what no pin, no entry of the ledger, no running process and no recent put needs.

    The space is used again by later puts; `cas compact` gives it back to the file system.
    """
    from samebits.exec.retention import collect_store  # starts slower than most commands take

    if not 0 <= grace < 1e6:
        raise CommandError(f"--grace {grace:g} is not a number of hours")
    with Store(store_path(store), create=False) as opened, count_progress("gc") as progress:
        report = collect_store(opened, grace_s=grace * _HOUR_S, dry_run=dry_run, progress=progress)
    if json:
        counts = {name: getattr(report, name) for name in ("objects", "rows", "size_bytes", "kept_objects")}
        print_json({"dry_run": dry_run, **counts})
        return
    verb = "would remove" if dry_run else "removed"
    removed = f"{report.objects} objects, {report.rows} rows, {size_text(report.size_bytes)}"
    print(f"{verb} {removed}; {report.kept_objects} objects stay (what was put in the last {grace:g} hours too)")


@command
def compact_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Give the space of what was removed back to the file system. Nobody may use the store meanwhile."""
    report = compact(store_path(store))
    before, after = report.before_size_bytes, report.after_size_bytes
    if json:
        print_json({"before_size_bytes": before, "after_size_bytes": after})
        return
    print(f"{size_text(before)} before, {size_text(after)} now")


@command
def fsck_command(
    level: Annotated[
        str, typer.Option("--level", metavar="LEVEL", help="index, presence, or full, which rehashes everything.")
    ] = "full",
    repair: Annotated[bool, typer.Option("--repair", help="Set aside what is damaged, and fetch it again.")] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="REMOTE", help="Where --repair fetches from: see `cas pull`.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Check a store: say what is damaged or missing, and who needs it. Exit code 1 if anything is."""
    wanted = _level(level)
    if repair != (source is not None):
        raise CommandError("--repair needs --from REMOTE, and --from needs --repair")
    if source is None:
        with open_existing_store(store_path(store)) as opened:
            report, fetched = _check(opened, wanted), 0
    else:
        with closing(open_remote(source)) as there, open_store(store) as opened:
            report, fetched = _check(opened, wanted), 0
            if report.problems:
                absent = set(there.missing([problem.digest for problem in report.problems]))
                lost = quarantine(opened, [problem for problem in report.problems if problem.digest not in absent])
                if absent:
                    stderr.print(f"{len(absent)} objects stay as they are: {there.name} does not have them")
                with byte_progress("fetch") as progress:
                    fetched = pull(there, opened, lost, progress=progress).objects
                report = _check(opened, wanted)
    _print_report(report, fetched, json=json)
    if report.problems or report.malformed_pins:
        raise typer.Exit(EXIT_DIFFERENT)


def check_pin(store: Store, name: str, digest: Digest, *, force: bool) -> None:
    """Raise CommandError for a pin that names another object, unless `force`."""
    pinned = store.pins().get(name)
    if pinned is not None and pinned != digest and not force:
        raise CommandError(f"pin {name} names {pinned} already; --force moves it")


def set_pin(store: Store, name: str, digest: Digest) -> None:
    """Give an object a name; raises CommandError for one that can't be."""
    try:
        store.pin(name, digest)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _level(text: str) -> Level:
    for level in LEVELS:
        if level == text:
            return level
    raise CommandError(f"unknown level {text!r} (known: {', '.join(LEVELS)})")


def _check(store: Store, level: Level) -> FsckReport:
    from samebits.exec.retention import ledger_roots  # starts slower than most commands take

    with count_progress("fsck") as progress:
        return fsck(store, level, ledger_roots(store), lambda done, total: progress("objects", done, total))


def _print_report(report: FsckReport, fetched: int, *, json: bool) -> None:
    counts = {name: getattr(report, name) for name in ("level", "objects", "rows", "size_bytes")}
    if json:
        names = ("digest", "reason", "is_missing", "referred_by")
        problems = [{name: getattr(problem, name) for name in names} for problem in report.problems]
        more = {"malformed_pins": list(report.malformed_pins), "loose": list(report.loose)}
        print_json({**counts, "fetched_objects": fetched, "problems": problems, **more})
        return
    for problem in report.problems:
        print(_line(problem))
    for line in report.malformed_pins:
        print(printable(f"damaged  {line}"))
    for line in report.loose:
        stderr.print(printable(line))
    if fetched:
        print(f"fetched {fetched} objects")
    wrong = [f"{len(report.problems)} objects damaged or missing"] if report.problems else []
    wrong += [f"{len(report.malformed_pins)} pins malformed"] if report.malformed_pins else []
    found = ", ".join(wrong) or "no damage"
    print(f"{report.level}: {report.objects} objects, {report.rows} rows, {size_text(report.size_bytes)}; {found}")


def _line(problem: Problem) -> str:
    needed = ", ".join(printable(name) for name in problem.referred_by[:_SHOWN_REFERRERS])
    more = len(problem.referred_by) - _SHOWN_REFERRERS
    needed += f" and {more} more" if more > 0 else ""
    word = "missing" if problem.is_missing else "damaged"
    reason = "" if problem.is_missing else f": {printable(problem.reason)}"
    return f"{word}  {problem.digest}{reason}" + (f"  (needed by {needed})" if needed else "")


def _print_pins(pins: Mapping[str, Digest | None], *, json: bool) -> None:
    """Print names and what they keep; None: nothing that can be told, of a malformed pin."""
    if json:
        print_json(dict(pins))
        return
    for name, digest in pins.items():
        print(f"{'malformed' if digest is None else digest}  {printable(name)}")
