"""The referee: computes what is disputed itself, on numpy, where a side can't or won't show the inside of a step."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from samebits.cas import CasError, Digest, Store, encode_node, tree_node
from samebits.cas.remotes import Remote
from samebits.cas.tensor import tensor_node
from samebits.cas.transfer import pull
from samebits.exec.commits import make_commit, state_address
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.dispute.evidence import Evidence
from samebits.exec.dispute.fetching import Fetcher
from samebits.exec.dispute.judge import add_batch
from samebits.exec.dispute.objects import Objects
from samebits.exec.dispute.side import Side
from samebits.exec.errors import RunError
from samebits.exec.machine import JobMachine, State
from samebits.exec.trace import Layout, initial_tree
from samebits.exec.tracing import Array, Computed, trace_init, trace_step


class Referee:
    """A job in a store of its own, which is removed in the end. Methods raise CasError, ExecError."""

    def __init__(self, job: Digest, remotes: Sequence[Remote]) -> None:
        """Fetch the whole job."""
        self._folder = tempfile.TemporaryDirectory(prefix="samebits-dispute-")
        try:
            self._store = Store(Path(self._folder.name) / "store")
            self._remotes = tuple(remotes)
            self.bytes_fetched = 0
            self.steps_computed = 0
            self._fetch(job)
            self._machine = JobMachine(job, self._store, NumpyDevice())
        except BaseException:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        """Remove the store."""
        self._store.close()
        self._folder.cleanup()

    def state(self, first: int, checkpoint: Digest | None, step: int) -> State:
        """Return the state before `step`, computed from a stored one before step `first`; None: from the job's own."""
        if checkpoint is None:
            state = self._machine.initial_state()
        else:
            self._fetch(checkpoint)
            state = self._machine.load_state(checkpoint)
        for t in range(first, step):
            state, _ = self._machine.step(t, state)
            self.steps_computed += 1
        return state

    def address(self, state: State) -> Digest:
        """Return the address of a state."""
        return state_address(self._machine.download(state))

    def commits(self, first: int, stop: int, state: State) -> list[Digest]:
        """Return the commit of each of the steps [first, stop)."""
        commits = []
        for t in range(first, stop):
            state, metrics = self._machine.step(t, state)
            commits.append(make_commit(t, self._machine.download(state), metrics).address())
            self.steps_computed += 1
        return commits

    def trace(self, layout: Layout, step: int, state: State, keep: Sequence[int] = ()) -> Computed:
        """Return the trace of a step."""
        return trace_step(self._machine, layout, step, state, keep)

    def initial_trace(self, layout: Layout, keep: Sequence[int] = ()) -> Computed:
        """Return the trace of the initial state."""
        return trace_init(self._machine, layout, initial_tree(self._store, self._machine.spec), keep)

    def evidence(self, side: Side, first: int, stop: int, state: State) -> Evidence:
        """Return what shows that the steps [first, stop), computed from this state, don't give the side's commit."""
        objects = side.objects.copy()
        add_state(objects, self._machine.download(state))
        fetcher = Fetcher(objects, self._remotes)
        spec = self._machine.spec
        for t in range(first, stop):
            add_batch(fetcher, spec, t)
        if spec.evaluation is not None and stop == spec.steps:
            for address in fetcher.tree(spec.evaluation.data):
                fetcher.tensor(address)
        self.bytes_fetched += fetcher.bytes_fetched
        after = side.commit(stop - 1)[1]
        return side.evidence("replay", objects, steps=(first, stop), after=after, **side.before(first))

    def _fetch(self, address: Digest) -> None:
        problem: CasError = RunError(f"nobody has {address}")  # type: ignore[assignment]
        for remote in self._remotes:
            try:
                self.bytes_fetched += pull(remote, self._store, [address]).size_bytes
            except CasError as error:
                problem = error
            else:
                return
        raise problem


def add_state(objects: Objects, state: dict[str, Array]) -> None:
    """Add a state with all of its tensors."""
    entries = {}
    for name, array in state.items():
        node, data = tensor_node(array)
        entries[name] = objects.add_node(encode_node(node))
        objects.add_blob(bytes(data))
    objects.add_node(encode_node(tree_node(entries)))
