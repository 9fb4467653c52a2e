"""Compute the segments of a run: steps and commits here, checkpoints and entries in a thread beside them.

A segment is entered in the ledger when its state and its commits are durable, and after the one before it. The steps of
the next one are computed meanwhile; those of the one after that wait. So what a run holds of its past is one state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from samebits.cas import Digest, Store, put_tensor, put_tree
from samebits.exec.commits import Commit, commit_steps, make_commit
from samebits.exec.devices.protocol import Array
from samebits.exec.machine import JobMachine, Progress, State
from samebits.exec.running.background_writer import BackgroundWriter
from samebits.exec.running.segment_writer import SegmentWriter


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often a run commits to a step, and stores a state."""

    commit_every: int  # steps, >= 1
    checkpoint_every: int  # steps, >= 1


@dataclass(slots=True)
class Start:
    """Where the steps begin."""

    step: int
    state: State | None  # before that step, on the device
    stored: Digest  # its address in the store

    def take(self) -> State:
        """Return the state and forget it: whoever computes on must be the only one that holds it."""
        state, self.state = self.state, None
        if state is None:
            raise AssertionError("a state is taken once")
        return state


@dataclass(frozen=True, slots=True)
class Computed:
    """What the steps gave."""

    final_state: Digest
    lists: tuple[Digest, ...]  # the stored list of each segment's commits
    metrics: Mapping[str, float]  # of the last step


def compute_segments(
    machine: JobMachine,
    store: Store,
    chain: SegmentWriter,
    start: Start,
    cadence: Cadence,
    device: str,
    kernels: Sequence[Digest],
    progress: Progress | None,
    before_append: Callable[[Callable[[], bool]], None],
) -> Computed:
    """Compute every step from the start to the job's last one; everything is durable when this returns.

    `before_append` is called in the writing thread before each entry, with what says that it should not wait any
    longer. After an error the segments that were handed over are entered all the same, where they can be.
    """
    steps, state, state_in = machine.spec.steps, start.take(), start.stored
    lists: list[Digest] = []
    metrics: Mapping[str, float] = {}
    with BackgroundWriter() as writer:
        chain.before_append = partial(before_append, writer.interrupted.is_set)
        for first in range(start.step, steps, cadence.checkpoint_every):
            stop = min(first + cadence.checkpoint_every, steps)
            wanted = commit_steps(first, stop, cadence.commit_every)
            made: list[Commit] = []
            arrays: dict[str, Array] = {}
            for t in range(first, stop):
                writer.check()
                state, results = machine.step(t, state)
                if t in wanted:
                    arrays = machine.download(state)
                    made.append(make_commit(t, arrays, results))
                    metrics = made[-1].values()
                if progress is not None:
                    progress(t + 1, steps, {name: float(value) for name, value in results.items()})
            write = partial(_write, store, chain, first, stop, state_in, made, device, kernels, lists)
            writer.submit(partial(write, arrays))
            state_in = made[-1].state
            del arrays
        writer.wait()
    return Computed(state_in, tuple(lists), metrics)


def _write(
    store: Store,
    chain: SegmentWriter,
    first: int,
    stop: int,
    state_in: Digest,
    made: list[Commit],
    device: str,
    kernels: Sequence[Digest],
    lists: list[Digest],
    arrays: Mapping[str, Array],
) -> None:
    """Store a segment's last state and its commits, then enter it."""
    chain.add_segment(first, stop, state_in, put_state(store, arrays), made, device, kernels)
    lists.append(chain.last_list)


def put_state(store: Store, state: Mapping[str, Array]) -> Digest:
    """Store the tensors of a state and return the address of their tree."""
    with store.batch():
        return put_tree(store, {name: put_tensor(store, tensor) for name, tensor in state.items()})
