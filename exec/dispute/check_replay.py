"""Check evidence without a trace: compute whole steps again, from the state that the author signed before them."""

from __future__ import annotations

from typing import Any, Final

from numpy.typing import NDArray

from samebits.cas import Digest
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.dispute.given import GivenInputs
from samebits.exec.dispute.signed import check_commit
from samebits.exec.dispute.subject import Accusation, Subject, need
from samebits.exec.errors import EvidenceError, NotWrongError
from samebits.exec.job import KEY, STATE
from samebits.exec.machine import load_tree
from samebits.exec.planner import free_memory_bytes, size_text
from samebits.exec.trace import INPUT, Layout, init_layout, initial_tree, step_layout
from samebits.exec.tracing import compute_trace, peak_size_bytes
from samebits.kernels.reference import type_of

Array = NDArray[Any]
State = dict[str, Array]
MAX_STEPS: Final = 1 << 12  # that one file has computed again


def check_wrong_replay(subject: Subject) -> Accusation:
    """Compute steps, or the initial state, again; raises EvidenceError if the author's commit is right."""
    first, stop = need(subject.evidence.steps, "the steps")
    if first == stop == subject.run.body.first_step:
        return _initial(subject)
    if not subject.run.body.first_step <= first < stop <= subject.run.body.steps:
        raise EvidenceError(f"the run has no steps {first}:{stop}")
    if stop - first > MAX_STEPS:
        raise EvidenceError(f"{stop - first} steps to be computed again; the most is {MAX_STEPS}")
    signed = check_commit(subject.run, need(subject.evidence.after, "the commit after the steps"), stop - 1).address()
    state = _state(subject, subject.state_before(first))
    right = signed
    for t in range(first, stop):
        right, state = compute_step(subject, t, state)
    if signed == right:
        raise NotWrongError(f"the commit of step {stop - 1} is what the steps {first}:{stop} give")
    what = f"signed the commit {signed}; from the state before step {first} that the author signed comes {right}"
    return subject.accuse(stop - 1, None, what)


def compute_step(subject: Subject, step: int, state: State) -> tuple[Digest, State]:
    """Return the commit of a step, and the state after it."""
    layout = step_layout(subject.evidence.objects, subject.spec, step)
    given = GivenInputs(subject.evidence.objects, subject.spec)
    inputs = {f"{INPUT}{STATE}{name}": array for name, array in state.items()}
    for leaf in layout.leaves:
        if leaf.kind == "input" and leaf.place not in inputs:
            inputs[leaf.place] = given.value(leaf.place, step)
    made = layout.leaves[layout.last - 1]
    trace, kept = _compute(layout, inputs, step, made.operands)
    return trace, {name: kept[operand] for name, operand in zip(made.names, made.operands, strict=True)}


def _initial(subject: Subject) -> Accusation:
    signed = subject.state_before(subject.run.body.first_step)
    objects, spec = subject.evidence.objects, subject.spec
    inputs = {INPUT + KEY: GivenInputs(objects, spec).initial_key()}
    layout = init_layout(objects, spec)
    _check_inputs(layout, inputs)
    trace, _ = compute_trace(layout, NumpyDevice(), inputs, stored=initial_tree(objects, spec))
    right = trace.addresses[layout.last]
    if signed == right:
        raise NotWrongError("the run starts from the state that the job gives, as it should")
    return subject.accuse(None, None, f"signed that the run starts from {signed}, the job gives {right}")


def _state(subject: Subject, tree: Digest) -> State:
    objects = subject.evidence.objects
    return {name: objects.tensor(address) for name, address in load_tree(objects, tree, "state").items()}


def _compute(layout: Layout, inputs: State, step: int, keep: tuple[int, ...]) -> tuple[Digest, dict[int, Array]]:
    _check_inputs(layout, inputs)
    trace, kept = compute_trace(layout, NumpyDevice(), inputs, step=step, keep=set(keep))
    return trace.addresses[layout.last], kept


def _check_inputs(layout: Layout, inputs: State) -> None:
    """Raise EvidenceError for inputs of other types than the graph's, and for a step too large for this machine."""
    for leaf in layout.leaves:
        if leaf.kind == "input":
            if leaf.place not in inputs:
                raise EvidenceError(f"the graph takes {leaf.place}, which the job does not give")
            if type_of(inputs[leaf.place]) != leaf.type:
                raise EvidenceError(f"{leaf.place} is {type_of(inputs[leaf.place])}, want {leaf.type}")
    if peak_size_bytes(layout) > free_memory_bytes():
        raise EvidenceError(f"the step needs {size_text(peak_size_bytes(layout))}, more than this machine has free")
