"""Compute a trace on a device: the address of every input and result, in bounded memory.

The launches run in slices, each a plan whose outputs are all of its results; what a later slice needs stays on the
device.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from samebits.cas import Digest, tensor_address, tree_address
from samebits.cas.dtype import dtype_name
from samebits.exec.commits import Commit
from samebits.exec.devices.protocol import Buffer, Device
from samebits.exec.errors import RunError
from samebits.exec.job import KEY
from samebits.exec.keys import INITIAL, step_key
from samebits.exec.machine import JobMachine, State
from samebits.exec.planner import Launch, Peak, Plan
from samebits.exec.trace import EVALUATION, INPUT, Layout, Leaf, encode_leaf
from samebits.kernels.types import TensorType
from samebits.ledger.merkle import leaf_hash, root_hash

SLICE_LAUNCHES: Final = 256
SLICE_SIZE_BYTES: Final = 256 << 20  # of results

Array = NDArray[Any]
Seen = Callable[[int, Array], None]


@dataclass(frozen=True, slots=True)
class Trace:
    """The values of a layout's leaves, by address."""

    layout: Layout
    addresses: tuple[Digest, ...]

    def leaf(self, index: int) -> bytes:
        """Return the bytes of a leaf."""
        return encode_leaf(self.layout.leaves[index].place, self.addresses[index])

    def leaf_hashes(self) -> list[bytes]:
        """Return the hash of every leaf."""
        return [leaf_hash(self.leaf(index)) for index in range(len(self.addresses))]

    def root(self) -> bytes:
        """Return the root hash."""
        return root_hash(self.leaf_hashes())


Computed = tuple[Trace, dict[int, Array]]  # a trace, and the values of some of its leaves


def trace_step(machine: JobMachine, layout: Layout, step: int, state: State, keep: Sequence[int] = ()) -> Computed:
    """Return the trace of a step from the state before it, and the values of the leaves `keep`; raises RunError."""
    inputs = {INPUT + name: value for name, value in machine.step_inputs(step, state).items()}
    inputs |= {EVALUATION + INPUT + name: value for name, value in machine.evaluation_inputs().items()}
    return compute_trace(layout, machine.device, inputs, step=step, keep=set(keep))


def trace_init(machine: JobMachine, layout: Layout, stored: Mapping[str, Digest], keep: Sequence[int] = ()) -> Computed:
    """Return the trace of the initial state, `stored` the tensors of it that no graph makes; else as `trace_step`."""
    inputs = {INPUT + KEY: machine.device.upload(step_key(machine.spec.seed, INITIAL))}
    return compute_trace(layout, machine.device, inputs, stored=stored, keep=set(keep))


def compute_trace(
    layout: Layout,
    device: Device,
    inputs: Mapping[str, Buffer],
    *,
    step: int = 0,
    stored: Mapping[str, Digest] | None = None,
    keep: Collection[int] = (),
) -> Computed:
    """Return the trace, and the values of the leaves `keep`.

    `inputs` are on the device, by place; `stored` are tensors of the initial state that no graph makes. Raises
    RunError.
    """
    addresses: list[Digest | None] = [None] * len(layout.leaves)
    scalars: dict[int, tuple[str, bytes]] = {}
    kept: dict[int, Array] = {}
    metrics = {leaf for one in layout.leaves if one.kind == "commit" for leaf in one.operands[1:]}

    def see(index: int, array: Array) -> None:
        addresses[index] = tensor_address(array)
        if index in metrics:
            scalars[index] = (dtype_name(array.dtype), array.tobytes())
        if index in keep:
            kept[index] = array

    _run(layout, device, inputs, see)
    for index, leaf in enumerate(layout.leaves):
        if leaf.kind == "state":
            made = {name: _known(addresses[o]) for name, o in zip(leaf.names, leaf.operands, strict=True)}
            addresses[index] = tree_address({**(stored or {}), **made})
        elif leaf.kind == "commit":
            values = {name: scalars[o] for name, o in zip(leaf.names, leaf.operands[1:], strict=True)}
            addresses[index] = Commit(step, _known(addresses[leaf.operands[0]]), values).address()
    return Trace(layout, tuple(map(_known, addresses))), kept


def peak_size_bytes(layout: Layout) -> int:
    """Return the most bytes that the values of a trace take at once, as `compute_trace` holds them."""
    last_use = {operand: index for index, leaf in enumerate(layout.leaves) for operand in leaf.operands}
    held = sum(_type(leaf).size_bytes for leaf in layout.leaves if leaf.kind == "input")
    peak = held
    ends: dict[int, int] = {}  # launch -> the bytes of what is not needed after it
    for index, leaf in enumerate(layout.leaves):
        if leaf.kind == "launch":
            until = last_use.get(index, -1)
            ends[until] = ends.get(until, 0) + _type(leaf).size_bytes
    for part in _slices(layout):
        held += sum(_type(layout.leaves[index]).size_bytes for index in part)
        peak = max(peak, held)
        held -= sum(size for until, size in ends.items() if until <= part[-1])
        ends = {until: size for until, size in ends.items() if until > part[-1]}
    return peak


def _known(address: Digest | None) -> Digest:
    if address is None:
        raise AssertionError("a leaf comes after its operands")
    return address


def _run(layout: Layout, device: Device, inputs: Mapping[str, Buffer], see: Seen) -> None:
    """Compute every launch and show each value once."""
    last_use = {operand: index for index, leaf in enumerate(layout.leaves) for operand in leaf.operands}
    values: dict[int, Buffer] = {}
    for index, leaf in enumerate(layout.leaves):
        if leaf.kind == "input":
            values[index] = inputs[leaf.place]
            see(index, device.download(values[index]))
    for part in _slices(layout):
        plan = _slice_plan(layout, part)
        try:
            results = device.compile(plan)({name: values[int(name)] for name, _ in plan.inputs})
        except RunError as error:
            raise RunError(f"the trace: {error}") from error
        for index in part:
            values[index] = results[str(index)]
            see(index, device.download(values[index]))
        values = {index: value for index, value in values.items() if last_use.get(index, -1) > part[-1]}


def _slices(layout: Layout) -> Iterator[list[int]]:
    """Yield the launches in parts of bounded size."""
    part: list[int] = []
    size_bytes = 0
    for index, leaf in enumerate(layout.leaves):
        if leaf.kind != "launch":
            continue
        more = _type(leaf).size_bytes
        if part and (len(part) == SLICE_LAUNCHES or size_bytes + more > SLICE_SIZE_BYTES):
            yield part
            part, size_bytes = [], 0
        part.append(index)
        size_bytes += more
    if part:
        yield part


def _slice_plan(layout: Layout, part: list[int]) -> Plan:
    """Return the plan of some launches: its inputs are the earlier values that they take, its outputs all results."""
    own = set(part)
    taken = sorted({o for index in part for o in layout.leaves[index].operands if o not in own})
    number = {leaf: value for value, leaf in enumerate([*taken, *part])}
    launches = []
    for index in part:
        launch = layout.leaves[index].launch
        if launch is None:
            raise AssertionError("a slice has launches only")
        operands = tuple(number[o] for o in layout.leaves[index].operands)
        launches.append(Launch(launch.op, operands, (number[index],), launch.attributes, (), launch.node))
    types = tuple(_type(layout.leaves[leaf]) for leaf in (*taken, *part))
    inputs = tuple((str(leaf), _type(layout.leaves[leaf])) for leaf in taken)
    outputs = tuple((str(leaf), number[leaf]) for leaf in part)
    return Plan(inputs, tuple(launches), outputs, types, Peak(sum(one.size_bytes for one in types), None))


def _type(leaf: Leaf) -> TensorType:
    if leaf.type is None:
        raise AssertionError(f"{leaf.place} is no tensor")
    return leaf.type
