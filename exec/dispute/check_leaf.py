"""Check one leaf of a signed trace: the input that it has to be, or the one operation that it comes from."""

from __future__ import annotations

from samebits.cas import Digest, tensor_address, tree_address
from samebits.cas.tree import read_tree
from samebits.exec.commits import Commit
from samebits.exec.dispute.given import GivenInputs
from samebits.exec.dispute.subject import Accusation, Subject, need
from samebits.exec.errors import EvidenceError, NotWrongError
from samebits.exec.job import STATE
from samebits.exec.planner import free_memory_bytes, size_text
from samebits.exec.trace import INPUT, Leaf, initial_tree
from samebits.kernels.reference import apply, type_of
from samebits.kernels.types import TensorType


def check_wrong_leaf(subject: Subject) -> Accusation:
    """Compute one leaf again from those before it in the same trace; raises EvidenceError if it is right."""
    index = need(subject.evidence.leaf, "the number of the leaf")
    layout = subject.layout
    if subject.trace.level == "steps":
        raise EvidenceError("a trace of steps has no operations")
    if subject.trace.leaves != len(layout.leaves):
        raise EvidenceError("the trace has another number of leaves than the job gives")
    if index >= len(layout.leaves):
        raise EvidenceError(f"the trace has no leaf {index}")
    leaf = layout.leaves[index]
    place, signed = subject.leaf(index)
    if place != leaf.place:
        return subject.accuse(subject.step, leaf.place, f"signed another place there, {place[:80]!r}")
    right = _compute(subject, leaf)
    if signed == right:
        raise NotWrongError(f"{leaf.place} is {signed}, as it should be")
    name = leaf.launch.op if leaf.launch is not None else leaf.kind
    return subject.accuse(subject.step, leaf.place, f"signed {signed} as the result of {name}, it is {right}")


def _compute(subject: Subject, leaf: Leaf) -> Digest:
    operands = [subject.operand(operand) for operand in leaf.operands]
    match leaf.kind:
        case "input":
            return _input(subject, leaf)
        case "launch":
            return _launch(subject, leaf, operands)
        case "state":
            stored = initial_tree(subject.evidence.objects, subject.spec) if subject.trace.level == "init" else {}
            return tree_address({**stored, **dict(zip(leaf.names, operands, strict=True))})
        case _:
            return _commit(subject, leaf, operands)


def _input(subject: Subject, leaf: Leaf) -> Digest:
    """Return what an input has to be: of the author's own state before the step, of the job's data, key and rates."""
    objects = subject.evidence.objects
    given = GivenInputs(objects, subject.spec)
    if subject.trace.level == "init":
        return tensor_address(given.initial_key())
    step = subject.trace.first_step
    name = leaf.place.removeprefix(INPUT)
    if name.startswith(STATE):
        state = read_tree(objects.get_node(subject.state_before(step)))
        if name.removeprefix(STATE) not in state:
            raise EvidenceError(f"the state before step {step} has no {name}")
        return state[name.removeprefix(STATE)]
    if given.is_held_out(leaf.place):
        return given.held_out(leaf.place)
    return tensor_address(given.value(leaf.place, step))


def _launch(subject: Subject, leaf: Leaf, operands: list[Digest]) -> Digest:
    """Return the result of one operation on the values that the author signed as its operands."""
    launch, result = leaf.launch, leaf.type
    if launch is None or result is None:
        raise AssertionError("a launch has an operation and a type")
    wanted = [_type(subject, operand) for operand in leaf.operands]
    needed = result.size_bytes + sum(tensor.size_bytes for tensor in wanted)
    if needed > free_memory_bytes():
        raise EvidenceError(f"{launch.op} needs {size_text(needed)}, more than this machine has free")
    arrays = [subject.evidence.objects.tensor(operand) for operand in operands]
    for array, tensor, operand in zip(arrays, wanted, leaf.operands, strict=True):
        if type_of(array) != tensor:
            place = subject.layout.leaves[operand].place
            raise EvidenceError(f"{place} is {type_of(array)}, want {tensor}: that leaf is wrong, not this one")
    return tensor_address(apply(launch.op, *arrays, **launch.attributes))


def _type(subject: Subject, index: int) -> TensorType:
    tensor = subject.layout.leaves[index].type
    if tensor is None:
        raise AssertionError("an operand of an operation is a tensor")
    return tensor


def _commit(subject: Subject, leaf: Leaf, operands: list[Digest]) -> Digest:
    """Return the commit of the state and the metrics that the author signed in the same trace."""
    state, *metrics = operands
    scalars = {}
    for name, address in zip(leaf.names, metrics, strict=True):
        array = subject.evidence.objects.tensor(address)
        if array.shape != ():
            raise EvidenceError(f"metric {name} is no scalar: that leaf is wrong, not this one")
        scalars[name] = (type_of(array).dtype, array.tobytes())
    return Commit(subject.trace.first_step, state, scalars).address()
