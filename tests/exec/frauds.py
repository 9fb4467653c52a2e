"""Runners that lie: each computes, signs and answers for real, and does something else at one place."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from samebits.cas import Digest, Store, put_tensor, put_tree
from samebits.exec.author import author_key
from samebits.exec.commits import Commit, commit_steps, commits_node, make_commit
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.recomputation import Recomputation
from samebits.exec.dispute.local import LocalProver
from samebits.exec.job import Job
from samebits.exec.ledger_folder import log_directory
from samebits.exec.machine import JobMachine, State
from samebits.exec.planner import Launch, Plan
from samebits.exec.running.runner import put_job
from samebits.ledger import Log, RunBody, SegmentBody, entry_address, sign_entry
from samebits.ledger.merkle import leaf_hash, root_hash

Array = Any
Alter = Callable[[Launch, Array], Array]  # a launch, and its right result -> what the fraud says it is


def nudge(array: Array) -> Array:
    """Return an array with a bit of its first element turned, one that no rounding hides."""
    changed = np.array(array)
    changed.reshape(-1).view(np.uint8)[changed.itemsize - 2] ^= 0x20
    return changed


class FalseDevice:
    """The `numpy` device, some results of which are altered while `lying`."""

    name = "numpy"

    def __init__(self, alter: Alter) -> None:
        self.recomputation: Recomputation | None = None
        self._numpy = NumpyDevice()
        self._alter = alter
        self.lying = False

    def upload(self, array: Array) -> Array:
        return array

    def download(self, buffer: Array) -> Array:
        return buffer

    def compile(self, plan: Plan) -> Any:
        return _FalseExecutable(self, plan)

    def evaluate(self, launch: Launch, plan: Plan, operands: Sequence[Array]) -> Array:
        types = tuple(plan.types[value] for value in (*launch.operands, *launch.results))
        count = len(launch.operands)
        alone = replace(launch, operands=tuple(range(count)), results=(count,), release=())
        inputs = tuple((str(i), types[i]) for i in range(count))
        single = Plan(inputs, (alone,), (("y", count),), types, plan.peak)
        result = self._numpy.compile(single)({str(i): x for i, x in enumerate(operands)})["y"]
        return np.asarray(self._alter(launch, result)) if self.lying else result


class _FalseExecutable:
    kernels = ()

    def __init__(self, device: FalseDevice, plan: Plan) -> None:
        self._device, self._plan = device, plan

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        plan = self._plan
        values: dict[int, Array] = {i: inputs[name] for i, (name, _) in enumerate(plan.inputs)}
        for launch in plan.launches:
            operands = [values[o] for o in launch.operands]
            values[launch.results[0]] = self._device.evaluate(launch, plan, operands)
        return {name: values[value] for name, value in plan.outputs}


class FalseMachine(JobMachine):
    """A machine that gives a step other inputs, or whose device lies at a step."""

    def __init__(
        self,
        job: Job,
        store: Store,
        *,
        at: Callable[[int], bool] = lambda t: True,
        alter: Alter | None = None,
        inputs: Callable[[JobMachine, int, dict[str, Array]], dict[str, Array]] | None = None,
    ) -> None:
        device = NumpyDevice() if alter is None else FalseDevice(alter)
        self._lies_at, self._change = at, inputs
        super().__init__(put_job(job, store), store, device)
        if isinstance(device, FalseDevice):
            device.lying = at(-1)

    def step_inputs(self, t: int, state: State) -> dict[str, Array]:
        if isinstance(self._device, FalseDevice):
            self._device.lying = self._lies_at(t)
        inputs = super().step_inputs(t, state)
        return self._change(self, t, inputs) if self._change is not None and self._lies_at(t) else inputs

    def initial_state(self) -> State:
        if isinstance(self._device, FalseDevice):
            self._device.lying = self._lies_at(-1)
        return super().initial_state()


class Author:
    """A runner with a store of its own, who signs what `machine` computes, or says it does."""

    def __init__(
        self,
        store: Store,
        job: Job,
        machine: JobMachine | None = None,
        *,
        after_step: Callable[[int, State], State] | None = None,
        commit: Callable[[int, Commit], Commit] | None = None,
        state_out: Callable[[int, Digest], Digest] | None = None,
        first_state: State | None = None,
        every: int = 1,
        checkpoint: int = 10,
        stop: int | None = None,
    ) -> None:
        self.store, self.job = store, job
        self.machine = machine or JobMachine(put_job(job, store), store, NumpyDevice())
        self.key = author_key(store)
        steps = job.spec.steps
        state = self.machine.initial_state() if first_state is None else first_state
        state_in = self._put(state)
        with Log.open(log_directory(store)) as log:
            body = RunBody(job.address, os.urandom(16), steps, every, checkpoint)
            entries = [sign_entry(log.origin, None, body, self.key, time=1)]
            self.run = head = entry_address(entries[0])
            for first in range(0, steps if stop is None else stop, checkpoint):
                last, made = min(first + checkpoint, steps), []
                for t in range(first, last):
                    state, metrics = self.machine.step(t, state)
                    state = state if after_step is None else after_step(t, state)
                    if t in commit_steps(first, last, every):
                        one = make_commit(t, self.machine.download(state), metrics)
                        made.append(one if commit is None else commit(t, one))
                said = self._put(state) if state_out is None else state_out(last, self._put(state))
                addresses = [store.put_node(one.to_node()) for one in made]
                listed = store.put_node(commits_node((c.step, a) for c, a in zip(made, addresses, strict=True)))
                root = root_hash([leaf_hash(address.raw) for address in addresses])
                segment = SegmentBody(self.run, first, last, state_in, said, listed, root, "numpy", ())
                entries.append(sign_entry(log.origin, head, segment, self.key, time=1))
                head, state_in = entry_address(entries[-1]), said
            log.append(entries)

    def _put(self, state: State) -> Digest:
        tensors = self.machine.download(state)
        return put_tree(self.store, {name: put_tensor(self.store, tensor) for name, tensor in tensors.items()})

    def prover(self, machine: JobMachine | None = None, *, signing: bool = True) -> LocalProver:
        """Return who answers for the run: with the author's own machine, or with another story."""
        with Log.open(log_directory(self.store), read_only=True) as log:
            chain = log.chain(self.run)
        return LocalProver(self.store, chain, self.key if signing else None, machine=machine or self.machine)
