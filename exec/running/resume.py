"""Go on with a run that stopped: its next segment follows the last one that is in the ledger."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from functools import partial

from samebits.cas import Digest, Store
from samebits.exec.author import author_key
from samebits.exec.commits import Commit
from samebits.exec.devices.kernel_source import put_kernels
from samebits.exec.devices.protocol import Device
from samebits.exec.devices.recomputation import make_recomputation
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import RunError
from samebits.exec.ledger_folder import log_directory
from samebits.exec.machine import JobMachine, Progress
from samebits.exec.running.ledger_wait import Notice, wait_for_ledger
from samebits.exec.running.run_lock import running
from samebits.exec.running.runner import Run, said_to_be_resumable
from samebits.exec.running.segment_writer import SegmentWriter
from samebits.exec.running.segments import Cadence, Start, compute_segments, put_state
from samebits.exec.running.state_at import state_at
from samebits.exec.verification.claim import check_job_steps, read_claim
from samebits.ledger import Log, Query, RunBody, RunChain, SigningKey


def resume_run(
    run: Digest,
    store: Store,
    commit_every: int | None = None,
    checkpoint_every: int | None = None,
    *,
    device: str = "numpy",
    progress: Progress | None = None,
    key: SigningKey | None = None,
    notice: Notice | None = None,
    paranoid: float = 0.0,
) -> Run:
    """Go on with a run of this store's ledger to its last step; one that is complete is returned as it is.

    The cadence is the run's own, and another one is refused; the device may be another one. A last state that is
    missing is computed again from an earlier one and compared with the run's commits. Raises RunError for a run that
    is not in the ledger, of another author, or being computed by another process; else as `run`.
    """
    started = time.perf_counter()
    recomputation = make_recomputation(paranoid)
    signer = author_key(store) if key is None else key
    with running(store, run), closing(_open_log(store, notice)) as log:
        chain = log.find_chain(run)
        if chain is None:
            elsewhere = "`samebits run --from PLACE/RUN@STEP` goes on from a run in another ledger"
            raise RunError(f"run {run} is not in the ledger of {store.path}; {elsewhere}")
        if chain.is_complete:
            return _result(store, chain, 0.0)
        if chain.author != signer.public:
            raise RunError(f"run {run} is by {chain.author.hex()}; only that key goes on with it (--key FILE)")
        _check_cadence(chain.body, commit_every, checkpoint_every)
        writer = SegmentWriter.after(store, log, signer, chain)
        with store.holding([chain.job]), said_to_be_resumable(writer, chain.next_step):
            _compute_rest(store, chain, writer, open_device(device, recomputation=recomputation), progress, notice)
        found = _result(store, log.chain(run), time.perf_counter() - started)
    return found if recomputation is None else replace(found, recomputed=recomputation.counts())


def unfinished_run(
    job: Digest, store: Store, *, key: SigningKey | None = None, notice: Notice | None = None
) -> Digest | None:
    """Return the latest run of a job by this author, in this store's ledger, that has steps to do; None if none has."""
    if not log_directory(store).exists():
        return None
    author = (author_key(store) if key is None else key).public
    with closing(_open_log(store, notice)) as log:
        found = log.search(Query(artifact=job, author=author))
        runs = [one.address for one in found if isinstance(one.entry.body, RunBody)]
        return next((run for run in reversed(runs) if not log.chain(run).is_complete), None)


def is_run(address: Digest, store: Store, notice: Notice | None = None) -> bool:
    """Return whether an address is that of a run in this store's ledger."""
    if not log_directory(store).exists():
        return False
    with closing(_open_log(store, notice)) as log:
        return log.find_chain(address) is not None


def _open_log(store: Store, notice: Notice | None) -> Log:
    """Open the ledger for writing: what a crash left signed, but not published, counts too."""
    wait_for_ledger(log_directory(store), notice)
    return Log.open(log_directory(store))


def _check_cadence(body: RunBody, commit_every: int | None, checkpoint_every: int | None) -> None:
    own = (body.commit_every, body.checkpoint_every)
    if (commit_every or own[0], checkpoint_every or own[1]) != own:
        raise RunError(
            f"the run commits to every {own[0]} and stores every {own[1]} steps (--commit-every, --checkpoint-every), "
            "which can't change; leave them out"
        )


def _compute_rest(
    store: Store,
    chain: RunChain,
    writer: SegmentWriter,
    opened: Device,
    progress: Progress | None,
    notice: Notice | None,
) -> None:
    machine = JobMachine(chain.job, store, opened)
    body = chain.body
    check_job_steps(body, machine.spec, run=f"run {writer.run}")
    read_claim(store, chain)  # what is lost of the run is said before anything is computed
    state = state_at(machine, store, chain, chain.next_step, notice=notice)
    start = Start(chain.next_step, state, put_state(store, machine.download(state)))  # it may have been lost
    del state
    cadence = Cadence(body.commit_every, body.checkpoint_every)
    kernels = put_kernels(store, machine.kernels())
    wait = partial(wait_for_ledger, log_directory(store), notice)
    compute_segments(machine, store, writer, start, cadence, opened.name, kernels, progress, wait)


def _result(store: Store, chain: RunChain, seconds: float) -> Run:
    """Return what a complete run left behind, as its entries and commits say."""
    claim = read_claim(store, chain)
    last = chain.segments[-1]
    final = Commit.from_node(store.get_node(claim.commits[claim.stop_step - 1]))
    return Run(
        address=chain.run_address,
        job=chain.job,
        final_state=claim.final_state,
        commits=tuple(claim.commits.values()),
        steps=chain.body.steps,
        device=last.body.device,
        seconds=seconds,
        metrics=final.values(),
        entry=last.address,
        first_step=chain.body.first_step,
        parent=chain.body.parent,
    )
