"""Compute steps of a run again and compare each commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from samebits.cas import Digest
from samebits.exec.commits import make_commit
from samebits.exec.machine import JobMachine, State, as_scalars

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
