"""Verify a run: check the ledger, the stored bytes, and every commit by computing it again.

The verdict says apart what was checked: the log (signatures, tree, chain), the artifacts (every stored byte that the
run names), the computation (which steps). Anything that can't be had or read raises; it never counts as verified.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from samebits.cas import Digest, Store, check_objects
from samebits.exec.author import author_key
from samebits.exec.claim import Claim, claim_roots, read_claim
from samebits.exec.commits import state_address
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import RunError
from samebits.exec.machine import JobMachine
from samebits.exec.replay import Replay, replay_steps
from samebits.exec.run_objects import check_steps, pull_objects
from samebits.exec.run_places import FoundRun, RunPlace, StorePlace
from samebits.exec.runner import log_directory
from samebits.exec.segments import Progress
from samebits.ledger import Entry, Log, SigningKey, VerdictBody, entry_address, sign_entry

SAME: Final[Literal["same"]] = "same"
DIFFERENT: Final[Literal["different"]] = "different"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found. `verdict` is "same" only if every commit of the steps checked was computed again.

    On which device and with which kernels the run was made is its runner's own statement in the segments; nothing here
    verifies it. `device` is the one that replayed.
    """

    run: Digest
    job: Digest
    verdict: str  # "same" | "different"
    first_different_step: int | None  # counted from 0
    commits_checked: int
    steps_checked: int
    steps: int  # of the whole job
    device: str
    final_state: Digest  # as the run claims it
    metrics: Mapping[str, float]  # of the last step that was computed, with those of the evaluation
    entry: Digest  # the signed verdict in the verifier's ledger
    run_entry: Digest  # the last entry of the run that was checked
    run_author: bytes  # public key, 32 bytes, of who made the run
    log_vkey: str  # verifier key of the log that the run was read from
    log_key_known: bool  # it is the key that was asked for, or of a log on this machine; else what the place says
    log_audited: bool  # all of the log was checked, not the run's entries alone
    objects_checked: int
    bytes_fetched: int
    seconds: float


def verify(
    run: Digest | str,
    store: Store,
    *,
    device: str = "numpy",
    source: Store | RunPlace | None = None,
    partial: bool = False,
    progress: Progress | None = None,
    key: SigningKey | None = None,
) -> Verdict:
    """Replay a run and compare every commit; the signed verdict goes into the store's own ledger.

    `key` signs it; without one the store's author does. `source` is another store, or any other place, whose ledger
    holds the run and from which missing objects are fetched by hash. A run that stops before its job's last step is
    refused unless `partial`.
    Raises LedgerError, CasError, JobError or RunError for what is missing, damaged or malformed.
    """
    started = time.perf_counter()
    address = _check_arguments(run, store)
    place = _as_place(source, store)
    opened = open_device(device)
    found = place.find(address)
    _check_complete(found, partial=partial)
    key, log = key or author_key(store), Log.open(log_directory(store))  # unusable ones fail here, not after the replay
    chain, roots = found.chain, claim_roots(found.chain)
    check_steps(place, store, chain.body)  # a job of other steps is refused before anything large is fetched
    fetched = pull_objects(place, store, roots).size_bytes
    objects, damaged = check_objects(store, roots)
    if damaged:
        raise RunError(f"object {damaged[0].digest} of the run is not intact: {damaged[0].reason}")
    with store.holding(roots):
        claim = read_claim(store, chain)
        machine = JobMachine(chain.job, store, opened)
        replay = _replay(machine, claim, progress)
    different = replay.first_different_step
    steps_checked = claim.stop_step if different is None else different + 1
    outcome = SAME if different is None else DIFFERENT
    result = VerdictBody(address, claim.first_step, claim.stop_step, outcome, different, opened.name)
    entry = _append_once(log, sign_entry(log.origin, chain.head, result, key, time=int(time.time())))
    return Verdict(
        run=address,
        job=chain.job,
        verdict=result.result,
        first_different_step=different,
        commits_checked=replay.commits_checked,
        steps_checked=steps_checked,
        steps=machine.spec.steps,
        device=opened.name,
        final_state=claim.final_state,
        metrics=replay.metrics,
        entry=entry_address(entry),
        run_entry=chain.head,
        run_author=chain.author,
        log_vkey=found.log_key.vkey,
        log_key_known=found.is_key_known,
        log_audited=found.audited,
        objects_checked=objects,
        bytes_fetched=fetched,
        seconds=time.perf_counter() - started,
    )


def _check_arguments(run: object, store: object) -> Digest:
    if not isinstance(store, Store):
        raise TypeError(f"want a Store, got {type(store).__name__}")
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


def _append_once(log: Log, entry: Entry) -> Entry:
    """Append a verdict and return it, or the one in the log by the same author that says the same."""
    assert isinstance(entry.body, VerdictBody)
    said = (entry.author, entry.prev, entry.body)
    for _, known in log.verdicts(entry.body.run):
        if (known.author, known.prev, known.body) == said:
            return known
    log.append([entry])
    return entry


def _check_complete(found: FoundRun, *, partial: bool) -> None:
    chain = found.chain
    if not chain.segments:
        raise RunError(f"run {chain.run_address} has no finished segment yet")
    if not chain.is_complete and not partial:
        stop, steps = chain.next_step, chain.body.steps
        raise RunError(f"run {chain.run_address} stops after {stop} of {steps} steps; --partial verifies what is there")


def _replay(machine: JobMachine, claim: Claim, progress: Progress | None) -> Replay:
    """Compute every step again, from the initial state that the job gives."""
    state = machine.initial_state()
    if state_address(machine.download(state)) != claim.segments[0].state_in:
        return Replay(claim.first_step, claim.stop_step, claim.first_step, 0, {})

    def done(t: int, metrics: Mapping[str, float]) -> None:
        if progress is not None:
            progress(t + 1, machine.spec.steps, metrics)

    return replay_steps(machine, state, claim.first_step, claim.stop_step, claim.commits, done)[0]
