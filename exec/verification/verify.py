"""Verify a run: check the ledger, the stored bytes, and commits by computing them again.

The verdict says apart what was checked: the log (signatures, tree, chain), the artifacts (the stored bytes that are
needed), the computation (which steps), and of a run that names a parent whether it begins with a state of that run.
What can't be had or read is failed; it never counts as verified.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from samebits.cas import Digest, Store
from samebits.exec.author import author_key
from samebits.exec.devices.protocol import Device
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import RunError, one_line
from samebits.exec.machine import Progress
from samebits.exec.places.run_objects import check_steps
from samebits.exec.places.run_places import RunPlace, StorePlace
from samebits.exec.running.ledger_wait import Notice
from samebits.exec.verification.claim import segment_roots
from samebits.exec.verification.computing import Computation, compute_apart, compute_here
from samebits.exec.verification.drawing import draw
from samebits.exec.verification.parentage import parentage_part
from samebits.exec.verification.segment_task import OUR_ERRORS, failed
from samebits.exec.verification.selection import (
    SampleRequest,
    Selected,
    Selection,
    StepRange,
    select_all,
    select_numbers,
    select_steps,
)
from samebits.exec.verification.verdict import DIFFERENT, FAILED, SAME, Drawn, Part, SegmentResult, Verdict
from samebits.exec.verification.verdict_log import VerdictLog, keep_checkpoint, verdict_log_directory
from samebits.exec.verification.verdict_parts import Outcome, artifacts_part, computation_part, log_failed, make_verdict
from samebits.exec.verification.wanted_objects import WantedObjects
from samebits.ledger import (
    AuditError,
    ChainError,
    NoteFormatError,
    ProofError,
    RunChain,
    SignatureError,
    SigningKey,
    TileError,
    VerdictBody,
)

__all__ = ["DIFFERENT", "FAILED", "SAME", "Verdict", "verify"]

# what says that a log is not what it should be; other errors say that there is none, or that it can't be reached
_LOG_DAMAGE: Final = (AuditError, ChainError, NoteFormatError, ProofError, SignatureError, TileError)


@dataclass(frozen=True, slots=True)
class _Request:
    """What the caller asked for."""

    run: Digest
    store: Store
    place: RunPlace
    device: str
    opened: Device | None  # None: the workers of a cluster have theirs
    selection: Selection | None
    jobs: int
    scheduler: str | None
    progress: Progress | None


def verify(
    run: Digest | str,
    store: Store,
    *,
    device: str = "numpy",
    source: Store | RunPlace | None = None,
    partial: bool = False,
    progress: Progress | None = None,
    key: SigningKey | None = None,
    selection: Selection | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    ledger: Path | None = None,
    sign: bool = True,
    notice: Notice | None = None,
) -> Verdict:
    """Compute steps of a run again and compare every commit; the signed verdict goes into a ledger.

    `selection`: a `StepRange`, or a `SampleRequest`, which draws segments; without one, everything. `jobs`: so many
    processes (a program that asks for them guards its main module as multiprocessing says); `scheduler`: the address
    of a Dask scheduler, whose workers are trusted with the result. `key` signs; without one the store's author does.
    `ledger`: the folder of another log, or of a store with one, than the store's own. Without `sign` nothing is signed.
    `notice` is told, in one line, when another process has that ledger locked and is waited for.
    `source` is another store, or any other place, whose ledger holds the run and from which missing objects are fetched
    by hash. A run that stops before its job's last step is refused unless `partial`, or the steps named are there.

    What is damaged, missing or malformed gives a verdict of "failed", which is not signed. Raises LedgerError,
    CasError, DeviceError or RunError where there is no such run, place, device or ledger, or where the run can't meet
    the request.
    """
    started = time.perf_counter()
    address = _check_arguments(run, store, jobs, selection, sign=sign)
    place = _as_place(source, store)
    opened = open_device(device) if scheduler is None else None
    request = _Request(address, store, place, device, opened, selection, jobs, scheduler, progress)
    try:
        found = place.find(address)
    except _LOG_DAMAGE as error:
        verdict = log_failed(address, one_line(error), device)
        return replace(verdict, seconds=time.perf_counter() - started)
    _check_complete(found.chain, selection, partial=partial)
    with ExitStack() as stack:
        signer: VerdictLog | None = None
        if sign:  # what can't be used fails here, not after the replay
            directory = verdict_log_directory(store, ledger)
            signer = stack.enter_context(closing(VerdictLog(directory, key or author_key(store), notice)))
        wanted = WantedObjects(store, place.remote)
        parentage = parentage_part(place, store, found.chain, wanted)
        outcome = _examine(request, found.chain, wanted, signer)
        verdict = make_verdict(found, wanted, outcome, parentage, device if opened is None else opened.name)
        if signer is not None and verdict.verdict != FAILED:
            if verdict.drawn is not None:
                keep_checkpoint(store.get_blob(verdict.drawn.sample.checkpoint), ledger)
            verdict = replace(verdict, entry=_sign(verdict, found.chain, signer), ledger=signer.origin)
    return replace(verdict, seconds=time.perf_counter() - started)


def _check_arguments(run: object, store: object, jobs: object, selection: object, *, sign: bool) -> Digest:
    if not isinstance(store, Store):
        raise TypeError(f"want a Store, got {type(store).__name__}")
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise RunError(f"jobs {jobs!r} is not a positive integer")
    if selection is not None and not isinstance(selection, Selection):
        raise TypeError(f"selection: want a StepRange or a SampleRequest, got {type(selection).__name__}")
    if isinstance(selection, SampleRequest) and not selection.beacon and not sign:
        raise RunError("a draw without a beacon is announced in a ledger: it can't go without signing")
    if isinstance(run, str):
        return Digest.parse(run)
    if not isinstance(run, Digest):
        raise TypeError(f"run: want an address, got {type(run).__name__}")
    return run


def _as_place(source: Store | RunPlace | None, store: Store) -> RunPlace:
    match source:
        case None:
            return StorePlace(store, is_own=True)
        case Store():
            return StorePlace(source)
        case _ if hasattr(source, "remote"):
            return source
        case _:
            raise TypeError(f"source: want a Store or a place, got {type(source).__name__}")


def _check_complete(chain: RunChain, selection: Selection | None, *, partial: bool) -> None:
    if not chain.segments:
        raise RunError(f"run {chain.run_address} has no finished segment yet")
    if isinstance(selection, StepRange):
        select_steps(chain, selection)  # raises for steps that are not there
        partial = partial or selection.stop is not None
    if not chain.is_complete and not partial:
        stop, steps = chain.next_step, chain.body.steps
        raise RunError(f"run {chain.run_address} stops after {stop} of {steps} steps; --partial verifies what is there")


def _examine(request: _Request, chain: RunChain, wanted: WantedObjects, signer: VerdictLog | None) -> Outcome:
    """Fetch what is needed, check it, and compute."""
    try:
        spec = check_steps(request.place, request.store, chain.body)  # before anything large is fetched
        is_forged = spec.init is None and chain.segments[0].body.state_in != spec.state
    except RunError as error:
        return Outcome(artifacts_part(wanted), Part(FAILED, one_line(error)))
    except OUR_ERRORS as error:
        wanted.lacking[chain.job] = one_line(error)
    else:
        wanted.fetch([chain.job])
        wanted.check([chain.job])
    if wanted.lacking:
        return Outcome(artifacts_part(wanted), Part(FAILED, "nothing was replayed: the job can't be had"))
    if is_forged:  # by what is signed alone: whether the false state can be had does not matter
        first = chain.segments[0].body
        results = [SegmentResult(0, first.first_step, first.stop_step, DIFFERENT, first.first_step)]
        return Outcome(artifacts_part(wanted), computation_part(results, request.device), results)
    selected, drawn = _select(request, chain, signer)
    roots = list(dict.fromkeys(root for one in selected for root in segment_roots(one.body)))
    wanted.fetch(roots)
    wanted.check(roots)
    present = [root for root in (chain.job, *roots) if request.store.has(root)]
    with request.store.holding(present):
        results = _compute(request, chain, wanted, selected, every_one=drawn is not None)
    return Outcome(artifacts_part(wanted), computation_part(results, request.device), results, drawn)


def _select(request: _Request, chain: RunChain, signer: VerdictLog | None) -> tuple[list[Selected], Drawn | None]:
    match request.selection:
        case None:
            return select_all(chain), None
        case StepRange() as steps:
            return select_steps(chain, steps), None
        case SampleRequest() as sample:
            drawn = draw(sample, chain, request.place, signer, request.store)
            return select_numbers(chain, drawn.sample.segments), drawn


def _compute(
    request: _Request, chain: RunChain, wanted: WantedObjects, selected: Sequence[Selected], *, every_one: bool
) -> list[SegmentResult]:
    """Return a result for each selected segment; those that lack an object failed."""
    lacking: list[SegmentResult] = []
    whole: list[Selected] = []
    for one in selected:
        reasons = [wanted.lacking[root] for root in segment_roots(one.body) if root in wanted.lacking]
        if reasons:
            lacking.append(failed(one, reasons[0], time.perf_counter(), request.device))
        else:
            whole.append(one)
    computation = Computation(chain.body, request.store, whole, every_one, request.progress)
    results: list[SegmentResult] = []
    if request.scheduler is None and request.jobs == 1:
        assert request.opened is not None
        results = compute_here(computation, request.opened)
    elif whole:
        source = () if request.place.remote is None else (request.place.name,)
        results = compute_apart(computation, request.device, request.jobs, request.scheduler, source)
    return sorted([*results, *lacking], key=lambda result: result.number)


def _sign(verdict: Verdict, chain: RunChain, signer: VerdictLog) -> Digest:
    """Sign what was found for the steps that were looked at; where not all is known, for one segment that differs."""
    results = verdict.segments
    if any(one.result == FAILED for one in results):
        results = tuple(one for one in results if one.result == DIFFERENT)[:1]
    whole = verdict.drawn is not None and len(results) == len(verdict.segments)
    first, last = (0, verdict.segments_total - 1) if whole else (results[0].number, results[-1].number)
    stop = chain.segments[last].body.stop_step if whole else results[-1].stop_step
    different = [one.first_different_step for one in results if one.first_different_step is not None]
    body = VerdictBody(
        verdict.run,
        chain.segments[first].body.first_step,
        stop,
        DIFFERENT if different else SAME,
        min(different, default=None),
        verdict.device,
        verdict.drawn.sample if whole and verdict.drawn is not None else None,
    )
    return signer.append_verdict(chain.segments[last].address, body)
