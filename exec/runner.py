"""Run a job: execute its steps, commit to the results, store checkpoints, chain everything in the ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.cas import Digest, Store, put_tensor, put_tree
from samebits.exec.author import author_key
from samebits.exec.commits import Commit, commit_steps, commits_node, make_commit
from samebits.exec.devices.kernel_source import put_kernels
from samebits.exec.devices.protocol import Device
from samebits.exec.devices.recomputation import Recomputation, RecomputedLaunches, check_fraction
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import DeviceError, JobError, RunError
from samebits.exec.job import Job
from samebits.exec.machine import JobMachine, State
from samebits.kernels.version import check_arithmetic
from samebits.ledger import (
    Entry,
    Log,
    RunBody,
    SegmentBody,
    SigningKey,
    entry_address,
    sign_entry,
)
from samebits.ledger.merkle import leaf_hash, root_hash

Progress = Callable[[int, int, Mapping[str, float]], None]  # steps done, steps in all, metrics of the last step
NONCE_SIZE_BYTES = 16
MAX_CADENCE = 1 << 53
LEDGER_FOLDER = "ledger"


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


def run(
    job: Job | Digest | str,
    store: Store,
    *,
    device: str = "numpy",
    commit_every: int = 1,
    checkpoint_every: int = 50,
    progress: Progress | None = None,
    key: SigningKey | None = None,
    paranoid: float = 0.0,
) -> Run:
    """Run a job from its first step to its last and chain it in the store's ledger.

    Each `commit_every`-th step is committed to; each `checkpoint_every`-th step's state is stored, and ends a segment
    of the chain. Neither changes a bit of the result. The ledger hears of a run when its first segment is done; a run
    that fails later keeps the segments it has. `key` signs the entries; without one the store's author does. `paranoid`
    is the fraction of launches, 0 to 1 and chosen at random, that are computed twice. Raises JobError, GraphError,
    DeviceError (ComputationFaultError where the two results of a launch differ) or RunError.
    """
    if not isinstance(store, Store):
        raise TypeError(f"want a Store, got {type(store).__name__}")
    _check_cadence("commit_every", commit_every)
    _check_cadence("checkpoint_every", checkpoint_every)
    started = time.perf_counter()
    check_fraction("paranoid", paranoid)
    recomputation = Recomputation(paranoid) if paranoid else None
    opened = open_device(device, recomputation=recomputation)
    address = put_job(job, store)
    # a missing job is said by what reads it
    with store.holding([address]) if store.has(address) else nullcontext():
        found = _run(address, store, opened, commit_every, checkpoint_every, progress, started, key)
    return found if recomputation is None else replace(found, recomputed=recomputation.counts())


def _run(
    address: Digest,
    store: Store,
    opened: Device,
    commit_every: int,
    checkpoint_every: int,
    progress: Progress | None,
    started: float,
    key: SigningKey | None,
) -> Run:
    machine = JobMachine(address, store, opened)
    chain = ChainWriter(store, address, machine.spec.steps, commit_every, checkpoint_every, key)
    kernels = put_kernels(store, machine.kernels())
    with _saying_how_to_go_on(chain):
        state = machine.initial_state()
        state_in = machine.spec.state if machine.spec.init is None else _put_state(store, machine, state)
        commits: list[Digest] = []
        metrics: Mapping[str, float] = {}
        for first in range(0, machine.spec.steps, checkpoint_every):
            stop = min(first + checkpoint_every, machine.spec.steps)
            wanted = commit_steps(first, stop, commit_every)
            made: list[Commit] = []
            for t in range(first, stop):
                state, results = machine.step(t, state)
                if t in wanted:
                    made.append(make_commit(t, machine.download(state), results))
                    metrics = made[-1].values()
                if progress is not None:
                    progress(t + 1, machine.spec.steps, {name: float(value) for name, value in results.items()})
            state_in = chain.add_segment(
                first, stop, state_in, _put_state(store, machine, state), made, opened.name, kernels
            )
            commits += chain.last_commits
    return Run(
        address=chain.run,
        job=address,
        final_state=state_in,
        commits=tuple(commits),
        steps=machine.spec.steps,
        device=opened.name,
        seconds=time.perf_counter() - started,
        metrics=metrics,
        entry=chain.head,
    )


@contextmanager
def _saying_how_to_go_on(chain: ChainWriter) -> Iterator[None]:
    """End the message of an error of the device with what is kept of the run."""
    try:
        yield
    except DeviceError as error:
        kept = (
            f"the run is kept up to step {chain.next_step}; go on with: samebits run {chain.run} --resume"
            if chain.next_step
            else "nothing of the run is kept; start it again"
        )
        error.args = (f"{error}; {kept}",)
        raise


def _check_cadence(name: str, every: int) -> None:
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise RunError(f"{name} {every!r} is not a positive integer")
    if every >= MAX_CADENCE:
        raise RunError(f"{name} {every} is not below 2^53")


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


def log_directory(store: Store) -> Path:
    """Return where a store keeps its ledger."""
    return Path(store.path) / LEDGER_FOLDER


def _put_state(store: Store, machine: JobMachine, state: State) -> Digest:
    with store.batch():
        return put_tree(store, {name: put_tensor(store, tensor) for name, tensor in machine.download(state).items()})


class ChainWriter:
    """Appends the entries of one run to the ledger: its run entry together with the first segment."""

    def __init__(
        self,
        store: Store,
        job: Digest,
        steps: int,
        commit_every: int,
        checkpoint_every: int,
        key: SigningKey | None = None,
    ) -> None:
        self._store = store
        self._key = author_key(store) if key is None else key
        self._log = Log.open(log_directory(store))
        body = RunBody(job, os.urandom(NONCE_SIZE_BYTES), steps, commit_every, checkpoint_every)
        entry = sign_entry(self._log.origin, None, body, self._key, time=int(time.time()))
        self._pending: list[Entry] = [entry]
        self.run = self.head = entry_address(entry)
        self.next_step = 0  # up to which the ledger has the run
        self.last_commits: list[Digest] = []

    def add_segment(
        self,
        first: int,
        stop: int,
        state_in: Digest,
        state_out: Digest,
        commits: list[Commit],
        device: str,
        kernels: Sequence[Digest],
    ) -> Digest:
        """Store the commits, append the segment entry; returns the state that the next segment starts from."""
        if commits[-1].state != state_out:
            raise AssertionError("the last commit of a segment is its final state")
        with self._store.batch():
            self.last_commits = [self._store.put_node(commit.to_node()) for commit in commits]
            listed = [(commit.step, address) for commit, address in zip(commits, self.last_commits, strict=True)]
            stored = self._store.put_node(commits_node(listed))
        root = root_hash([leaf_hash(address.raw) for address in self.last_commits])
        body = SegmentBody(self.run, first, stop, state_in, state_out, stored, root, device, tuple(kernels))
        entry = sign_entry(self._log.origin, self.head, body, self._key, time=int(time.time()))
        self._log.append([*self._pending, entry])
        self._pending = []
        self.next_step = stop
        self.head = entry_address(entry)
        return state_out
