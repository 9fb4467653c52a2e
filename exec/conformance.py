"""Check a device against the conformance vectors: one wrong bit and it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebits.exec.builder import GraphBuilder
from samebits.exec.devices.protocol import Device
from samebits.exec.errors import DeviceError, RunError
from samebits.exec.graph import Graph
from samebits.exec.planner import plan_graph
from samebits.kernels.conformance import Vector, load_vectors
from samebits.kernels.reference import type_of

Array = NDArray[Any]


def check_device(device: Device) -> int:
    """Run every vector on the device; returns their number, or raises DeviceError naming the first wrong bit.

    All vectors are one graph: a device with kernels compiles one program, not one for each vector.
    """
    vectors = load_vectors()
    graph, given = vectors_graph()
    try:
        execute = device.compile(plan_graph(graph))
        outputs = execute({name: device.upload(operand) for name, operand in given.items()})
    except RunError as error:
        raise DeviceError(f"device {device.name} fails on the conformance vectors: {error}") from error
    for number, vector in enumerate(vectors):
        _compare(device, vector, device.download(outputs[f"v{number:05d}"]))
    return len(vectors)


def vectors_graph() -> tuple[Graph, dict[str, Array]]:
    """Return the graph that computes every vector, and its inputs; the output of vector 7 is named v00007."""
    builder = GraphBuilder()
    given: dict[str, Array] = {}
    for number, vector in enumerate(load_vectors()):
        names = [f"v{number:05d}-{i:04d}" for i in range(len(vector.operands))]
        given |= dict(zip(names, vector.operands, strict=True))
        inputs = [builder.input(name, type_of(given[name])) for name in names]
        builder.output(f"v{number:05d}", builder.op(vector.op, *inputs, **vector.attributes))
    return builder.build(), given


def apply_on(device: Device, op: str, operands: tuple[Array, ...], attributes: dict[str, Any]) -> Array:
    """Run one operation on a device, through the same plan and launch as in a job."""
    builder = GraphBuilder()
    names = [f"operand{i:04d}" for i in range(len(operands))]
    inputs = [builder.input(name, type_of(operand)) for name, operand in zip(names, operands, strict=True)]
    builder.output("result", builder.op(op, *inputs, **attributes))
    execute = device.compile(plan_graph(builder.build()))
    outputs = execute({name: device.upload(operand) for name, operand in zip(names, operands, strict=True)})
    return device.download(outputs["result"])


def _compare(device: Device, vector: Vector, actual: Array) -> None:
    expected = vector.result
    if type_of(actual) != type_of(expected):
        raise DeviceError(f"device {device.name}: {vector.op} gave {type_of(actual)}, want {type_of(expected)}")
    wrong = np.flatnonzero(_bits(actual) != _bits(expected))
    if wrong.size:
        at = int(wrong[0])
        inputs = ", ".join(_show(operand, at) for operand in vector.operands)
        raise DeviceError(
            f"device {device.name} does not conform: {vector.op}({inputs}) at element {at} "
            f"gave {_bits(actual)[at]:#x}, the contract demands {_bits(expected)[at]:#x}"
        )


def _bits(array: Array) -> NDArray[Any]:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.dtype(f"u{flat.dtype.itemsize}"))


def _show(operand: Array, at: int) -> str:
    bits = _bits(operand)
    return f"{bits[at]:#x}" if bits.size > at and bits.size > 1 else str(type_of(operand))
