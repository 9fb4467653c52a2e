"""Run a job: execute its steps, commit to the results, store checkpoints, chain everything in the ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from samebits.cas import Digest, Store
from samebits.exec.author import author_key
from samebits.exec.commits import read_commits
from samebits.exec.devices.kernel_source import put_kernels
from samebits.exec.devices.protocol import Device
from samebits.exec.devices.recomputation import RecomputedLaunches, make_recomputation
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import DeviceError, JobError, RunError
from samebits.exec.job import Job
from samebits.exec.ledger_folder import log_directory
from samebits.exec.machine import JobMachine, Progress
from samebits.exec.running.ledger_wait import Notice, wait_for_ledger
from samebits.exec.running.run_lock import running
from samebits.exec.running.segment_writer import SegmentWriter
from samebits.exec.running.segments import Cadence, Start, compute_segments, put_state
from samebits.kernels.version import check_arithmetic
from samebits.ledger import Log, RunBody, SigningKey, entry_address, sign_entry

NONCE_SIZE_BYTES = 16
MAX_CADENCE = 1 << 53
COMMIT_EVERY, CHECKPOINT_EVERY = 1, 50  # steps, where nobody says otherwise


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind. Addresses are those of store and ledger."""

    address: Digest  # the run entry: job, runner's key, nonce, cadence
    job: Digest
    final_state: Digest  # tree of tensors
    commits: tuple[Digest, ...]
    steps: int
    device: str
    seconds: float
    metrics: Mapping[str, float]  # of the last step, with those of the evaluation
    entry: Digest  # the last segment entry
    recomputed: RecomputedLaunches | None = None  # None: the run was not asked to
    first_step: int = 0  # the step that the job begins with
    parent: Digest | None = None  # the run whose state at first_step this one goes on from


def run(
    job: Job | Digest | str,
    store: Store,
    *,
    device: str = "numpy",
    commit_every: int = COMMIT_EVERY,
    checkpoint_every: int = CHECKPOINT_EVERY,
    progress: Progress | None = None,
    key: SigningKey | None = None,
    paranoid: float = 0.0,
    parent: Digest | None = None,
    notice: Notice | None = None,
) -> Run:
    """Run a job from its first step to its last and chain it in the store's ledger.

    Each `commit_every`-th step is committed to; each `checkpoint_every`-th step's state is stored, and ends a segment
    of the chain. Neither changes a bit of the result. The ledger hears of a run when its first segment is done; a run
    that fails later keeps the segments it has (`resume.py` goes on with it). `key` signs the entries; without one the
    store's author does. `paranoid` is the fraction of launches, 0 to 1 and chosen at random, that are computed twice.
    `parent` is the run whose state the job begins with (`fork.py`). `notice` is told, from another thread, what a long
    wait is for. Raises JobError, GraphError, DeviceError (ComputationFaultError where the two results of a launch
    differ) or RunError.
    """
    if not isinstance(store, Store):
        raise TypeError(f"want a Store, got {type(store).__name__}")
    cadence = Cadence(*map(_check_cadence, ("commit_every", "checkpoint_every"), (commit_every, checkpoint_every)))
    started = time.perf_counter()
    recomputation = make_recomputation(paranoid)
    opened = open_device(device, recomputation=recomputation)
    address = put_job(job, store)
    # a missing job is said by what reads it
    with store.holding([address]) if store.has(address) else nullcontext():
        found = _run(address, store, opened, cadence, progress, started, key, parent, notice)
    return found if recomputation is None else replace(found, recomputed=recomputation.counts())


def _run(
    address: Digest,
    store: Store,
    opened: Device,
    cadence: Cadence,
    progress: Progress | None,
    started: float,
    key: SigningKey | None,
    parent: Digest | None,
    notice: Notice | None,
) -> Run:
    machine = JobMachine(address, store, opened)
    spec, every = machine.spec, (cadence.commit_every, cadence.checkpoint_every)
    wait_for_ledger(log_directory(store), notice)
    chain = ChainWriter(store, address, spec.steps, *every, key, first_step=spec.first_step, parent=parent)
    with closing(chain), running(store, chain.run), said_to_be_resumable(chain):
        kernels = put_kernels(store, machine.kernels())
        state = machine.initial_state()
        stored = spec.state if spec.init is None else put_state(store, machine.download(state))
        start = Start(spec.first_step, state, stored)
        wait = partial(wait_for_ledger, log_directory(store), notice)
        del state
        done = compute_segments(machine, store, chain, start, cadence, opened.name, kernels, progress, wait)
    return Run(
        address=chain.run,
        job=address,
        final_state=done.final_state,
        commits=tuple(c for listed in done.lists for _, c in read_commits(store.get_node(listed))),
        steps=spec.steps,
        device=opened.name,
        seconds=time.perf_counter() - started,
        metrics=done.metrics,
        entry=chain.head,
        first_step=spec.first_step,
        parent=parent,
    )


@contextmanager
def said_to_be_resumable(chain: SegmentWriter, next_step: int | None = None) -> Iterator[None]:
    """Note on whatever ends a run early how to go on with it; `next_step`: where it stood in the ledger before."""
    try:
        yield
    except BaseException as error:
        reached = next_step if chain.next_step is None else chain.next_step
        if reached is not None:
            error.add_note(f"kept: all steps before {reached}; to go on: samebits run {chain.run} --resume")
        elif isinstance(error, DeviceError):
            error.add_note("nothing of the run is kept; start it again")
        raise


def _check_cadence(name: str, every: int) -> int:
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise RunError(f"{name} {every!r} is not a positive integer")
    if every >= MAX_CADENCE:
        raise RunError(f"{name} {every} is not below 2^53")
    return every


def put_job(job: Job | Digest | str, store: Store) -> Digest:
    """Store a job and the objects it brings along; returns its address.

    A job for another version of the arithmetic is refused before anything is stored.
    """
    if isinstance(job, str):
        job = Digest.parse(job)
    if isinstance(job, Digest):
        return job
    if not isinstance(job, Job):
        raise JobError(f"not a job: {type(job).__name__}")
    check_arithmetic(job.spec.arithmetic)
    with store.batch():
        for data in job.blobs.values():
            store.put_blob(data)
        for node in job.all_nodes().values():
            store.put_node(node)
    return job.address


class ChainWriter(SegmentWriter):
    """Begins a run: its run entry is appended together with the first segment."""

    def __init__(
        self,
        store: Store,
        job: Digest,
        steps: int,
        commit_every: int,
        checkpoint_every: int,
        key: SigningKey | None = None,
        *,
        first_step: int = 0,
        parent: Digest | None = None,
    ) -> None:
        key = author_key(store) if key is None else key
        log = Log.open(log_directory(store))
        nonce = os.urandom(NONCE_SIZE_BYTES)
        body = RunBody(job, nonce, steps, commit_every, checkpoint_every, first_step, parent)
        entry = sign_entry(log.origin, None, body, key, time=int(time.time()))
        address = entry_address(entry)
        super().__init__(store, log, key, address, address, [entry])
