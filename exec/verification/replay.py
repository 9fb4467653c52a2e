"""Compute steps of a run again and compare each commit: a segment from its stored state, or steps in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from samebits.cas import Digest, Store
from samebits.exec.commits import make_commit, state_address
from samebits.exec.machine import JobMachine, State, as_scalars
from samebits.exec.verification.claim import read_segment_commits
from samebits.exec.verification.selection import Selected
from samebits.ledger import RunBody

StepDone = Callable[[int, Mapping[str, float]], None]  # the step that is done, its metrics


@dataclass(frozen=True, slots=True)
class Replay:
    """What came out for the steps [first_step, stop_step)."""

    first_step: int
    stop_step: int
    first_different_step: int | None  # counted from 0; None: every commit is the same
    commits_checked: int  # equal ones
    metrics: Mapping[str, float]  # of the last step that was computed


def replay_steps(
    machine: JobMachine,
    state: State,
    first: int,
    stop: int,
    commits: Mapping[int, Digest],
    done: StepDone | None = None,
) -> tuple[Replay, State]:
    """Compute the steps [first, stop) from a state; stops behind the first commit that differs.

    Returns what came out, and the state on the device, for the steps that follow.
    """
    checked = 0
    scalars: Mapping[str, float] = {}
    for t in range(first, stop):
        state, metrics = machine.step(t, state)
        scalars = as_scalars(metrics)
        if done is not None:
            done(t, scalars)
        if t in commits:
            if make_commit(t, machine.download(state), metrics).address() != commits[t]:
                return Replay(first, stop, t, checked, scalars), state
            checked += 1
    return Replay(first, stop, None, checked, scalars), state


def replay_segment(
    machine: JobMachine,
    store: Store,
    run: RunBody,
    selected: Selected,
    state: State | None = None,
    done: StepDone | None = None,
) -> tuple[Replay, State]:
    """Compute a segment, or its first steps, again and compare each commit.

    `state` is that before its first step, where the caller has computed it; else it is the job's own initial state, or
    the stored one, by the address that the segment names. Raises RunError, JobError or CasError for what is missing or
    malformed.
    """
    segment = selected.body
    commits = read_segment_commits(store, run, segment)
    if state is None and selected.number == 0:
        state = machine.initial_state()
        if initial_address(machine, state) != segment.state_in:
            return Replay(segment.first_step, selected.stop_step, segment.first_step, 0, {}), state
    elif state is None:
        state = machine.load_state(segment.state_in)
    return replay_steps(machine, state, segment.first_step, selected.stop_step, dict(commits), done)


def initial_address(machine: JobMachine, state: State) -> Digest:
    """Return the address of the job's initial state, which is on the device."""
    return machine.spec.state if machine.spec.init is None else state_address(machine.download(state))
