"""The side of a run whose store and author's key are on this machine: it computes traces, signs them, and answers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from samebits.cas import CasError, Digest, Store, encode_node, tensor_address, tree_node
from samebits.cas.remotes import StoreRemote
from samebits.exec.commits import make_commit
from samebits.exec.devices.registry import open_device
from samebits.exec.dispute.prover import StoredProver
from samebits.exec.dispute.signed import LeafProof, Proof
from samebits.exec.errors import CannotTraceError, RunError
from samebits.exec.ledger_folder import log_directory
from samebits.exec.machine import JobMachine, State
from samebits.exec.trace import init_layout, initial_tree, step_layout, steps_layout
from samebits.exec.tracing import Computed, Trace, trace_init, trace_step
from samebits.ledger import ChainSegment, Log, RunChain, SigningKey, TraceBody, encode_entry, entry_address, sign_entry
from samebits.ledger.bodies import TraceLevel
from samebits.ledger.merkle import inclusion_proof, root_hash, split_point
from samebits.ledger.search import Query

_KEPT_TRACES: Final = 4
MAX_TRACED_STEPS: Final = 1 << 16  # of one trace of the level `steps`
MAX_TRACES: Final = 1000  # of one run, signed by one process
MAX_VALUES: Final = 256  # that are asked for at once


@dataclass(frozen=True, slots=True)
class _Made:
    entry: bytes
    trace: Trace
    hashes: list[bytes]  # of the leaves
    body: TraceBody
    commits: list[bytes]  # encoded, of a trace of steps


class LocalProver(StoredProver):
    """Answers for a run of a store. One question at a time computes; threads may share it."""

    def __init__(
        self,
        store: Store,
        chain: RunChain,
        key: SigningKey | None,
        *,
        device: str = "numpy",
        machine: JobMachine | None = None,
    ) -> None:
        """`key` has to be the author's; without it, or with another, no trace is signed."""
        why = "there is no key here" if key is None else "the key here is not that of the run's author"
        super().__init__(str(store.path), chain, StoreRemote(store), why)
        self._store = store
        self._key = key if key is not None and key.public == chain.author else None
        self._device = device
        self._machine = machine
        self._made: OrderedDict[Digest, _Made] = OrderedDict()
        self._state: tuple[int, State] | None = None  # before this step
        self._lock = threading.Lock()
        self._traces = 0  # computed so far

    def commit(self, step: int, trace: Digest | None = None) -> tuple[bytes, Proof]:
        """Return the encoded commit of a step, and its proof in a segment or a trace of the level `steps`."""
        if trace is None:
            return super().commit(step)
        made = self._known(trace)
        index = step - made.body.first_step
        if not 0 <= index < len(made.commits):
            raise RunError(f"the trace has no commit of step {step}")
        return made.commits[index], inclusion_proof(made.hashes, index)

    def state(self, step: int) -> bytes:
        """Return the encoded tree of the state before a step, computed if it is not stored."""
        if self._key is None:
            return super().state(step)
        with self._lock:
            state = self._open().download(self._before(step))
        return encode_node(tree_node({name: tensor_address(array) for name, array in state.items()}))

    def trace(self, level: TraceLevel, first: int, stop: int) -> bytes:
        """Compute a trace, sign it, and append it to the log; one of the last few is returned as it was made."""
        if self._key is None:
            return super().trace(level, first, stop)
        with self._lock:
            for address, made in self._made.items():
                if (made.body.level, made.body.first_step, made.body.stop_step) == (level, first, stop):
                    self._made.move_to_end(address)
                    return made.entry
            self._check_range(level, first, stop)
            self._traces += 1
            commits: list[bytes] = []
            trace = self._compute(level, first, stop, (), commits)[0]
            hashes = trace.leaf_hashes()
            body = TraceBody(self.chain.run_address, first, stop, level, len(hashes), root_hash(hashes))
            with Log.open(log_directory(self._store)) as log:
                entry = next((e.entry for e in log.search(Query(run=body.run)) if e.entry.body == body), None)
                if entry is None:
                    entry = sign_entry(
                        log.origin, self._segment_of(first).address, body, self._key, time=int(time.time())
                    )
                    log.append([entry])
            encoded = encode_entry(entry)
            self._made[entry_address(entry)] = _Made(encoded, trace, hashes, body, commits)
            if len(self._made) > _KEPT_TRACES:
                self._made.popitem(last=False)
            return encoded

    def children(self, trace: Digest, first: int, stop: int) -> tuple[bytes, bytes]:
        """Return the two hashes below the one over the leaves [first, stop) of a trace."""
        hashes = self._known(trace).hashes
        if not 0 <= first < stop - 1 < len(hashes):
            raise RunError(f"the trace of {len(hashes)} leaves has none over {first}:{stop}")
        middle = first + split_point(stop - first)
        return root_hash(hashes[first:middle]), root_hash(hashes[middle:stop])

    def leaf(self, trace: Digest, index: int) -> LeafProof:
        """Return a leaf of a trace."""
        made = self._known(trace)
        if not 0 <= index < len(made.hashes):
            raise RunError(f"the trace of {len(made.hashes)} leaves has no leaf {index}")
        return LeafProof(made.trace.leaf(index), inclusion_proof(made.hashes, index))

    def values(self, trace: Digest, indexes: Sequence[int]) -> list[bytes]:
        """Compute the step again, and return the elements of tensors that leaves name."""
        made = self._known(trace)
        if len(indexes) > MAX_VALUES:
            raise RunError(f"{len(indexes)} values at once; the most is {MAX_VALUES}")
        with self._lock:
            body = made.body
            _, kept = self._compute(body.level, body.first_step, body.stop_step, indexes, [])
        absent = [index for index in indexes if index not in kept]
        if absent:
            raise RunError(f"leaf {absent[0]} is no tensor")
        return [kept[index].tobytes() for index in indexes]

    def _check_range(self, level: TraceLevel, first: int, stop: int) -> None:
        """Refuse what no dispute needs: each trace is an entry of the log for good."""
        if self._traces == MAX_TRACES:
            raise CannotTraceError(f"{self.name} has signed {MAX_TRACES} traces of this run")
        segment, every = self._segment_of(first).body, self.chain.body.commit_every
        if level == "steps":
            start = max(first // every * every, segment.first_step)
            wanted = (start, min(first // every * every + every, segment.stop_step))
        else:
            start = self.chain.body.first_step if level == "init" else first
            wanted = (start, start + 1)
        if (first, stop) != wanted:
            raise RunError(f"no trace of the level {level} is over the steps {first}:{stop}")

    def _known(self, trace: Digest) -> _Made:
        if trace not in self._made:
            raise RunError(f"trace {trace} was not asked for, or too long ago")
        return self._made[trace]

    def _segment_of(self, step: int) -> ChainSegment:
        for segment in self.chain.segments:
            if segment.body.first_step <= step < segment.body.stop_step:
                return segment
        raise RunError(f"the run has no step {step}")

    def _compute(self, level: TraceLevel, first: int, stop: int, keep: Sequence[int], commits: list[bytes]) -> Computed:
        machine = self._open()
        if level == "steps":
            return self._commits(machine, first, stop, commits), {}
        if level == "init":
            stored = initial_tree(self._store, machine.spec)
            return trace_init(machine, init_layout(self._store, machine.spec), stored, keep)
        return trace_step(machine, step_layout(self._store, machine.spec, first), first, self._before(first), keep)

    def _commits(self, machine: JobMachine, first: int, stop: int, commits: list[bytes]) -> Trace:
        if stop - first > MAX_TRACED_STEPS:
            raise CannotTraceError(f"a trace of {stop - first} steps; the most is {MAX_TRACED_STEPS}")
        state, addresses = self._before(first), []
        for t in range(first, stop):
            state, metrics = machine.step(t, state)
            commit = make_commit(t, machine.download(state), metrics)
            commits.append(encode_node(commit.to_node()))
            addresses.append(commit.address())
        return Trace(steps_layout(first, stop), tuple(addresses))

    def _before(self, step: int) -> State:
        """Return the state before a step, computed from the checkpoint that its segment starts with."""
        machine, segment = self._open(), self._segment_of(step).body
        if self._state is not None and segment.first_step <= self._state[0] <= step:
            first, state = self._state
        else:
            first, state = segment.first_step, machine.load_state(segment.state_in)
        for t in range(first, step):
            state, _ = machine.step(t, state)
        self._state = (step, state)
        return state

    def _open(self) -> JobMachine:
        if self._machine is None:
            try:
                self._machine = JobMachine(self.chain.job, self._store, open_device(self._device))
            except CasError as error:
                raise CannotTraceError(f"{self.name} can't trace: {error}") from error
        return self._machine
