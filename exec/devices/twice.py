"""A launch computed twice from the same memory: how a device that computes wrongly now and then is found.

Only what a launch computes is compared. A bit that flips in a copy to or from the device is not looked for, and a
device that makes the same mistake each time is one for the conformance vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from samebits.exec.devices.protocol import Array, Backend
from samebits.exec.errors import ComputationFaultError
from samebits.kernels.codegen.program import HostCall, Step


def compute_twice(
    device: str,
    step: Step,
    run: Callable[[], None],
    backend: Backend,
    buffers: Mapping[int, Any],
    sizes: Sequence[int],
    errors: int | None,
) -> None:
    """Run a step of a program, put back what it wrote over, and run it again.

    errors: the buffer in which steps report what is wrong with the job. Raises ComputationFaultError.
    """
    numbers = list(dict.fromkeys(step.buffers[position] for position in step.writes))
    unordered = {step.buffers[position] for position in step.unordered}

    def contents() -> list[Array]:
        found = [np.empty(sizes[number], np.uint8) for number in numbers]
        for number, data in zip(numbers, found, strict=True):
            backend.download(buffers[number], data)
        return found

    before = contents()
    run()
    first = contents()
    for number, data in zip(numbers, before, strict=True):
        backend.upload(buffers[number], data)
    run()
    second = contents()
    if errors in numbers and all(found[numbers.index(errors)][:4].any() for found in (first, second)):
        return  # the job's own error, which ends the run. Which of several is reported first may vary
    different = sum(
        _count_different(*(_sorted_words(data) if number in unordered else data for data in pair))
        for number, *pair in zip(numbers, first, second, strict=True)
    )
    if different:
        what = step.name if isinstance(step, HostCall) else step.kernel
        size_bytes = sum(sizes[number] for number in numbers)
        raise ComputationFaultError(device, what, [str(each) for each in step.operations], different, size_bytes)


def check_same(device: str, what: str, operation: str, first: Array, second: Array) -> None:
    """Raise ComputationFaultError if two results of an operation differ in a bit."""
    if first.shape != second.shape or first.dtype != second.dtype:
        raise AssertionError("an operation's result has one type")
    one, other = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (first, second))
    different = _count_different(one, other)
    if different:
        raise ComputationFaultError(device, what, [operation], different, one.size)


def _count_different(first: Array, second: Array) -> int:
    return int(np.count_nonzero(first != second))


def _sorted_words(data: Array) -> Array:
    """Return bytes as sorted words of 32 bits, then those that are left over."""
    whole = data.size // 4 * 4
    return np.concatenate([np.sort(data[:whole].view(np.uint32)).view(np.uint8), data[whole:]])
