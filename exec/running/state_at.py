"""The state of a run after some of its steps: as stored, or computed again and compared with the run's commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from samebits.cas import CasError, Digest, Store
from samebits.exec.errors import JobError, RunError
from samebits.exec.machine import JobMachine, State, load_tensors
from samebits.exec.running.ledger_wait import Notice
from samebits.exec.verification.claim import read_segment_commits
from samebits.exec.verification.replay import initial_address, replay_steps
from samebits.kernels.reference import type_of
from samebits.kernels.types import TensorType
from samebits.ledger import RunChain

Fetch = Callable[[Iterable[Digest]], object]  # brings objects into the store from where the run is


def stored_state(
    store: Store, chain: RunChain, step: int, types: Mapping[str, TensorType], *, fetch: Fetch
) -> Digest | None:
    """Return the address of the state of a run before `step`; None unless that is stored, or can be fetched, whole.

    `types`: those of the tensors of the job's state by name.
    """
    at, stored = next(_checkpoints(chain, step), (None, None))
    if at != step or stored is None:
        return None
    try:
        fetch([stored])
        tensors = load_tensors(store, stored, "state")
    except (JobError, CasError):
        return None
    return stored if {name: type_of(tensor) for name, tensor in tensors.items()} == types else None


def state_at(
    machine: JobMachine,
    store: Store,
    chain: RunChain,
    step: int,
    *,
    fetch: Fetch | None = None,
    notice: Notice | None = None,
) -> State:
    """Return the state of a run before `step`, on the device of the machine, which is that of the run's job.

    Where it is not stored, it is computed from the last one that is. Raises RunError if the run has not come that far,
    or if this machine computes other commits than the run's; JobError or CasError for what is missing.
    """
    check_step(chain, step)
    state, at = _nearest(machine, chain, step, fetch)
    if at == step:
        return state
    if notice is not None:
        notice(f"the state at step {step} is not stored: computing steps {at} to {step} again")
    commits = _commits(store, chain, at, step, fetch)
    state = _replay(machine, chain, state, at, step, commits)
    if step - 1 not in commits:  # the next commit tells whether it is right
        _replay(machine, chain, dict(state), step, min(t for t in commits if t >= step) + 1, commits)
    return state


def check_step(chain: RunChain, step: int) -> None:
    """Raise RunError unless a run has a state before a step."""
    if not chain.body.first_step <= step <= chain.next_step:
        reached = f"{chain.body.first_step} .. {chain.next_step}"
        raise RunError(f"run {chain.run_address} has no state at step {step}; it has those of {reached}")


def _nearest(machine: JobMachine, chain: RunChain, step: int, fetch: Fetch | None) -> tuple[State, int]:
    """Return the last state up to a step that can be had, and the step that it stands before."""
    problems: list[Exception] = []
    for at, stored in _checkpoints(chain, step):
        try:
            if fetch is not None:
                fetch([stored])
            return machine.load_state(stored), at
        except (JobError, CasError) as error:
            problems.append(error)
    state = machine.initial_state()
    if chain.segments and initial_address(machine, state) != chain.segments[0].body.state_in:
        raise problems[0] if problems else AssertionError("a run with segments has checkpoints")
    return state, chain.body.first_step


def _checkpoints(chain: RunChain, step: int) -> Iterator[tuple[int, Digest]]:
    """Yield the states that the entries of a run name, up to a step, the last one first."""
    for segment in reversed(chain.segments):
        if segment.body.stop_step <= step:
            yield segment.body.stop_step, segment.body.state_out
    if chain.segments:
        yield chain.segments[0].body.first_step, chain.segments[0].body.state_in


def _commits(store: Store, chain: RunChain, first: int, stop: int, fetch: Fetch | None) -> Mapping[int, Digest]:
    """Return the commits of the segments that the steps [first, stop) are in."""
    segments = [one.body for one in chain.segments if one.body.first_step < stop and one.body.stop_step > first]
    if fetch is not None:
        fetch(one.commits for one in segments)
    return {step: commit for one in segments for step, commit in read_segment_commits(store, chain.body, one)}


def _replay(
    machine: JobMachine, chain: RunChain, state: State, first: int, stop: int, commits: Mapping[int, Digest]
) -> State:
    replay, state = replay_steps(machine, state, first, stop, commits)
    if replay.first_different_step is not None:
        raise RunError(
            f"step {replay.first_different_step} of run {chain.run_address} gives another commit here than the run's; "
            "`samebits verify` finds out who is wrong"
        )
    return state
