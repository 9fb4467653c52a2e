"""Verify a run: check the ledger, the stored bytes, and every commit by computing it again.

The verdict says apart what was checked: the log (signatures, tree, chain), the artifacts (every stored byte that the
run names), the computation (which steps). Anything that can't be had or read raises; it never counts as verified.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from samebits.cas import Digest, Store, check_objects
from samebits.cas.remotes import StoreRemote
from samebits.cas.transfer import pull
from samebits.exec.commits import Commit, commit_steps, make_commit, read_commits, state_address
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import RunError
from samebits.exec.machine import JobMachine, as_scalars, load_spec
from samebits.exec.runner import Progress, author_key, log_directory
from samebits.ledger import (
    Entry,
    EntryNotFoundError,
    Log,
    RunBody,
    RunChain,
    SegmentBody,
    VerdictBody,
    entry_address,
    sign_entry,
)
from samebits.ledger.merkle import leaf_hash, root_hash

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
    objects_checked: int
    bytes_fetched: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the run's entries and stored commits say."""

    body: RunBody
    segments: Sequence[SegmentBody]
    commits: Mapping[int, Digest]  # step -> address of its commit


def verify(
    run: Digest | str,
    store: Store,
    *,
    device: str = "numpy",
    source: Store | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> Verdict:
    """Replay a run and compare every commit; the signed verdict goes into the store's own ledger.

    `source` is another store, whose ledger holds the run and from which missing objects are fetched by hash. A run
    that stops before its job's last step is refused unless `partial`. Raises LedgerError, CasError, JobError or
    RunError for what is missing, damaged or malformed.
    """
    started = time.perf_counter()
    address = _check_arguments(run, store, source)
    opened = open_device(device)
    chain = _read_chain(address, source or store, partial=partial)
    key, log = author_key(store), Log.open(log_directory(store))  # unusable ones fail here, not after the replay
    body, segments = chain.body, [segment.body for segment in chain.segments]
    roots = [body.job, *(d for s in segments for d in (s.state_in, s.state_out, s.commits, *s.kernels))]
    _check_steps(body, store, source)
    fetched = 0 if source is None else pull(StoreRemote(source), store, roots).size_bytes
    objects, damaged = check_objects(store, roots)
    if damaged:
        raise RunError(f"object {damaged[0].digest} of the run is not intact: {damaged[0].reason}")
    with store.holding(roots):
        claim = _Claim(body, segments, _read_claimed_commits(store, body, segments))
        machine = JobMachine(body.job, store, opened)
        different, checked, metrics = _replay(machine, claim, progress)
    steps_checked = segments[-1].stop_step if different is None else different + 1
    outcome = SAME if different is None else DIFFERENT
    result = VerdictBody(address, 0, segments[-1].stop_step, outcome, different, opened.name)
    entry = sign_entry(log.origin, chain.head, result, key)
    _append_once(log, entry)
    return Verdict(
        run=address,
        job=body.job,
        verdict=result.result,
        first_different_step=different,
        commits_checked=checked,
        steps_checked=steps_checked,
        steps=machine.spec.steps,
        device=opened.name,
        final_state=segments[-1].state_out,
        metrics=metrics,
        entry=entry_address(entry),
        run_entry=chain.head,
        objects_checked=objects,
        bytes_fetched=fetched,
        seconds=time.perf_counter() - started,
    )


def _check_arguments(run: object, store: object, source: object) -> Digest:
    if not isinstance(store, Store):
        raise TypeError(f"want a Store, got {type(store).__name__}")
    if source is not None and not isinstance(source, Store):
        raise TypeError(f"source: want a Store, got {type(source).__name__}")
    if isinstance(run, str):
        return Digest.parse(run)
    if not isinstance(run, Digest):
        raise TypeError(f"run: want an address, got {type(run).__name__}")
    return run


def _check_steps(body: RunBody, store: Store, source: Store | None) -> None:
    """Raise RunError unless the run has the steps of its job; every later count is bounded by them."""
    spec = load_spec(body.job, store if source is None or store.has(body.job) else source)
    if body.steps != spec.steps:
        raise RunError(f"the run says that its job has {body.steps} steps, it has {spec.steps}")


def _append_once(log: Log, entry: Entry) -> None:
    """Append a verdict, unless the same verdict already stands in the log."""
    try:
        log.find(entry_address(entry))
    except EntryNotFoundError:
        log.append([entry])


def _read_chain(run: Digest, source: Store, *, partial: bool) -> RunChain:
    log = Log.open(log_directory(source), read_only=True)
    log.audit().check()
    chain = log.chain(run)
    if not chain.segments:
        raise RunError(f"run {run} has no finished segment yet")
    if not chain.is_complete and not partial:
        stop, steps = chain.next_step, chain.body.steps
        raise RunError(f"run {run} stops after {stop} of {steps} steps; --partial verifies what is there")
    return chain


def _read_claimed_commits(store: Store, body: RunBody, segments: Sequence[SegmentBody]) -> dict[int, Digest]:
    """Return the commits that the run claims; raises RunError if a list isn't the one that was signed."""
    claimed: dict[int, Digest] = {}
    for segment in segments:
        listed = read_commits(store.get_node(segment.commits))
        wanted = commit_steps(segment.first_step, segment.stop_step, body.commit_every)
        if len(listed) != len(wanted) or any(step != due for (step, _), due in zip(listed, wanted, strict=True)):
            raise RunError(f"segment {segment.first_step}:{segment.stop_step} does not list the commits of its cadence")
        if root_hash([leaf_hash(commit.raw) for _, commit in listed]) != segment.commits_root:
            raise RunError(
                f"the commits of segment {segment.first_step}:{segment.stop_step} do not have the signed root"
            )
        last = Commit.from_node(store.get_node(listed[-1][1]))
        if last.state != segment.state_out:
            raise RunError(
                f"segment {segment.first_step}:{segment.stop_step} ends in another state than its last commit"
            )
        claimed |= dict(listed)
    return claimed


def _replay(machine: JobMachine, claim: _Claim, progress: Progress | None) -> tuple[int | None, int, dict[str, float]]:
    """Compute every step again; returns the first step that differs, the number of equal commits, the last metrics."""
    state = machine.initial_state()
    if state_address(machine.download(state)) != claim.segments[0].state_in:
        return 0, 0, {}
    checked = 0
    scalars: dict[str, float] = {}
    for t in range(claim.segments[-1].stop_step):
        state, metrics = machine.step(t, state)
        scalars = as_scalars(metrics)
        if progress is not None:
            progress(t + 1, machine.spec.steps, scalars)
        if t in claim.commits:
            commit = make_commit(t, machine.download(state), metrics)
            if commit.address() != claim.commits[t]:
                return t, checked, scalars
            checked += 1
    return None, checked, scalars
