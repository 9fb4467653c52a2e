"""`samebits pull` and `push`, `pack` and `unpack`: a run with all that it needs, to and from other machines."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from samebits.cas import open_remote
from samebits.cli.cas_archive import ArchiveArgument, ArchiveOption
from samebits.cli.limits import MaxMemoryOption, MaxSecondsOption, limited
from samebits.cli.options import JsonOption, StoreOption, open_store, store_path
from samebits.cli.output import CommandError, command, print_fields, print_json, size_text
from samebits.cli.places import (
    LogKeyOption,
    OwnRunArgument,
    PlaceOption,
    RunArgument,
    own_run,
    parse_log_key,
    run_and_place,
)
from samebits.cli.progress import byte_progress
from samebits.cli.remotes import RemoteArgument
from samebits.cli.trusting import TrustOption, author_text, load_trust
from samebits.exec.places.archive_place import ArchivePlace, pack_run
from samebits.exec.places.place_opening import open_run_place
from samebits.exec.places.publishing import push_run
from samebits.exec.places.take_home import TakenRun, take_home
from samebits.ledger import Trust

_SAID: Final = {"new": "new here", "grew": "more than was here", "known": "no more than was here"}


@command
def pull_command(
    run: RunArgument,
    source: PlaceOption = None,
    log_key: LogKeyOption = None,
    store: StoreOption = None,
    trust: TrustOption = None,
    max_memory: MaxMemoryOption = None,
    max_seconds: MaxSecondsOption = None,
    json: JsonOption = False,
) -> None:
    """Take a run home: its entries with their proofs, its job, data, checkpoints, commits and kernels.

    Every byte is verified, and nothing is believed about the computation: `samebits verify RUN` does that, then without
    a network. What was interrupted goes on where it was. The run is pinned as runs/RUN. A run that went on since it was
    taken home is brought up to date; one whose author signed another history for it is refused.
    """
    address, place = run_and_place(run, source)
    if place is None:
        raise CommandError("say where the run is: `samebits pull PLACE/RUN`, or --from PLACE")
    known, key = load_trust(trust, store_path(store)), parse_log_key(log_key)
    with limited(max_memory, max_seconds), open_store(store) as opened, contextlib.ExitStack() as stack:
        found = stack.enter_context(open_run_place(place, opened, log_key=key))
        taken = take_home(found, address, opened, progress=stack.enter_context(byte_progress("pull")))
    _report(taken, known, {"from": place}, is_key_given=key is not None, as_json=json)


@command
def push_command(
    run: OwnRunArgument, remote: RemoteArgument, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Copy a run with all that it needs to a remote that lacks it, from where `verify` and `pull` take it.

    It is pinned there as runs/RUN, in place of an earlier part of the same run.
    """
    address = own_run(run)
    with open_store(store) as opened, contextlib.ExitStack() as stack:
        there = stack.enter_context(contextlib.closing(open_remote(remote, create=True, writable=True)))
        report = push_run(address, opened, there, progress=stack.enter_context(byte_progress("push")))
    fields = {"run": address, "to": remote, "objects": report.objects, "bytes": report.size_bytes}
    if json:
        print_json(fields)
        return
    print_fields({**fields, "bytes": size_text(report.size_bytes), "next": f"samebits verify {remote}/{address}"})


@command
def pack_command(
    run: OwnRunArgument, output: ArchiveOption, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Write a run with all that it needs into one file, a CAR (content-addressed archive, version 1)."""
    address = own_run(run)
    with open_store(store) as opened, byte_progress("pack") as progress:
        packed = pack_run(address, opened, output, progress=progress)
    fields: dict[str, Any] = {
        "run": address,
        "file": str(output),
        "objects": packed.objects,
        "bytes": packed.size_bytes,
    }
    if json:
        print_json(fields)
        return
    print_fields({**fields, "bytes": size_text(packed.size_bytes), "next": f"samebits unpack {output}"})


@command
def unpack_command(
    file: ArchiveArgument,
    log_key: LogKeyOption = None,
    store: StoreOption = None,
    trust: TrustOption = None,
    max_memory: MaxMemoryOption = None,
    max_seconds: MaxSecondsOption = None,
    json: JsonOption = False,
) -> None:
    """Take a run home from an archive, as `samebits pull` does from another machine; every object is verified."""
    known, key = load_trust(trust, store_path(store)), parse_log_key(log_key)
    with limited(max_memory, max_seconds), open_store(store) as opened:
        with byte_progress("unpack") as progress:
            place = ArchivePlace(file, opened, key, progress)
            archived = place.archived
        taken = take_home(place, place.run(), opened)
    more = {"from": str(file), "objects": archived.objects, "bytes": archived.new_bytes}
    _report(taken, known, more, is_key_given=key is not None, as_json=json)


def _report(taken: TakenRun, trust: Trust, more: dict[str, Any], *, is_key_given: bool, as_json: bool) -> None:
    """Print what came; `more` replaces what is said of it here."""
    chain = taken.chain
    fields: dict[str, Any] = {
        "run": chain.run_address,
        "from": "",
        "job": chain.job,
        "first_step": chain.body.first_step,
        "next_step": chain.next_step,
        "steps": chain.body.steps,
        "segments": len(chain.segments),
        "run_author": chain.author.hex(),
        "log_vkey": taken.log_key.vkey,
        "news": taken.news,
        "objects": taken.objects,
        "bytes": taken.bytes_fetched,
        **more,
    }
    name, log_name = trust.author_name(chain.author), trust.log_name(taken.log_key.vkey)
    if as_json:
        print_json({**fields, "run_author_name": name, "log_name": log_name})
        return
    print_fields(
        {
            "run": chain.run_address,
            "from": fields["from"],
            "run by": chain.author.hex() if name is None else author_text(trust, chain.author, "run"),
            "log": f"{taken.log_key.vkey} ({_known_as(log_name, is_key_given=is_key_given)})",
            "job": chain.job,
            "steps": f"{chain.body.first_step} to {chain.next_step} of {chain.body.steps}, {_SAID[taken.news]}",
            "brought": f"{fields['objects']} objects, {size_text(fields['bytes'])} new",
            "next": f"samebits verify {chain.run_address}" + ("" if chain.is_complete else " --partial"),
        }
    )


def _known_as(log_name: str | None, *, is_key_given: bool) -> str:
    if log_name is not None:
        return f"{log_name}, trusted"
    return "the key that was asked for" if is_key_given else "as the place says; compare it with --log-key"
