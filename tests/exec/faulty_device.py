"""Devices that fail, for tests: PoCL and numpy with bits that flip now and then, PoCL that is lost in the middle."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.exec.kernel_devices import open_opencl

from samebits.cli import samebits_main
from samebits.exec.devices import numpy_device, registry
from samebits.exec.devices.opencl import OpenclBackend, list_opencl_devices
from samebits.exec.errors import DeviceError
from samebits.kernels.codegen.program import Layout
from samebits.kernels.reference import evaluate


@dataclass(frozen=True)
class Flip:
    """A bit that was flipped in the result of a launch, counted from 0."""

    launch: int
    kernel: str  # or the operation, on numpy
    again: bool  # the launch before was the same: a recomputation


class Flipper:
    """Says which launches to spoil: each with a probability, or those of given numbers."""

    def __init__(self, rate: float = 0.0, seed: int = 0, at: Sequence[int] = ()) -> None:
        self.random = Random(seed)
        self.flips: list[Flip] = []
        self.launches = 0
        self._rate = rate
        self._at = frozenset(at)
        self.begin()

    def begin(self) -> None:
        """Take what is launched next for no recomputation."""
        self._last: object = None

    def strikes(self, launched: object) -> bool:
        """Count a launch and say whether to spoil it. launched: one object for each step of a program."""
        self._again, self._last = launched is self._last, launched
        self.launches += 1
        return self.random.random() < self._rate or self.launches - 1 in self._at

    def flip(self, data: np.ndarray[Any, Any], changed: Any, kernel: str) -> None:
        """Flip a bit of one of the bytes at `changed`."""
        data[changed[self.random.randrange(changed.size)]] ^= np.uint8(1 << self.random.randrange(8))
        self.flips.append(Flip(self.launches - 1, kernel, self._again))


class FlippingBackend(OpenclBackend):
    """PoCL, with a flipped bit in what some launches and host steps have changed in memory."""

    def __init__(self, flipper: Flipper, layout: Layout | None = None) -> None:
        super().__init__(list_opencl_devices()[0], layout=layout)
        self.flipper = flipper

    def launch(self, kernel: Any, buffers: Sequence[Any], items: int, group: int) -> None:
        """Launch a kernel, perhaps spoil one of the bytes that it changed."""
        strikes = self.flipper.strikes(kernel)
        before = [self._contents(buffer) for buffer in buffers] if strikes else []
        super().launch(kernel, buffers, items, group)
        if strikes:
            after = [self._contents(buffer) for buffer in buffers]
            changed = [np.flatnonzero(a != b) for a, b in zip(before, after, strict=True)]
            touched = [number for number, places in enumerate(changed) if places.size]
            if touched:  # else it wrote what was there already
                number = self.flipper.random.choice(touched)
                self.flipper.flip(after[number], changed[number], kernel.function_name)
                self.upload(buffers[number], after[number])

    @contextmanager
    def on_host(self, buffers: Sequence[Any], sizes: Sequence[int]) -> Iterator[list[Any]]:
        """Map buffers, perhaps spoil one of the bytes that the host changed."""
        strikes = self.flipper.strikes(buffers[-1])
        with super().on_host(buffers, sizes) as arrays:
            before = arrays[-1].copy()
            yield arrays
            changed = np.flatnonzero(before != arrays[-1])
            if strikes and changed.size:
                self.flipper.flip(arrays[-1], changed, "host")

    def _contents(self, buffer: Any) -> np.ndarray[Any, Any]:
        data = np.empty(buffer.size, np.uint8)
        self.download(buffer, data)
        return data


class LostBackend(OpenclBackend):
    """PoCL that is gone after so many launches: from then on every call fails."""

    def __init__(self, launches: int) -> None:
        super().__init__(list_opencl_devices()[0])
        self.left = launches

    def _check(self, what: str) -> None:
        if self.left < 0:
            raise DeviceError(f"device opencl: {what}: clWaitForEvents failed: DEVICE_NOT_AVAILABLE")

    def allocate(self, size_bytes: int) -> Any:
        """Allocate, while the device is there."""
        self._check("allocate")
        return super().allocate(size_bytes)

    def upload(self, buffer: Any, data: Any) -> None:
        """Upload, while the device is there."""
        self._check("upload")
        super().upload(buffer, data)

    def download(self, buffer: Any, data: Any) -> None:
        """Download, while the device is there."""
        self._check("download")
        super().download(buffer, data)

    def synchronize(self) -> None:
        """Wait, while the device is there."""
        self._check("synchronize")
        super().synchronize()

    def launch(self, kernel: Any, buffers: Sequence[Any], items: int, group: int) -> None:
        """Launch, while the device is there; this may be the last."""
        self.left -= 1
        self._check("launch")
        super().launch(kernel, buffers, items, group)


def install(patch: pytest.MonkeyPatch, backend: OpenclBackend) -> None:
    """Make a backend the device `opencl`, one that has passed the conformance vectors."""
    patch.setattr(registry, "_open_backend", lambda kind, number: backend)
    patch.setattr(registry, "has_passed", lambda backend: True)


def flip_opencl(patch: pytest.MonkeyPatch, flipper: Flipper, layout: Layout | None = None) -> None:
    """Let the device `opencl` flip bits; skips the test if there is none."""
    open_opencl("cpu")
    install(patch, FlippingBackend(flipper, layout))


def flip_numpy(patch: pytest.MonkeyPatch, flipper: Flipper) -> None:
    """Let the device `numpy` flip bits; it counts as one that has passed the conformance vectors."""

    def spoiled(op: str, operands: Any, attributes: Any) -> Any:
        result = np.asarray(evaluate(op, operands, attributes))
        if flipper.strikes(attributes) and result.nbytes:
            result = np.array(result, order="C")
            flipper.flip(result.reshape(-1).view(np.uint8), np.arange(result.nbytes), op)
        return result

    patch.setattr(numpy_device, "evaluate", spoiled)
    patch.setattr(registry, "check_and_remember", lambda device: 0)


def flip_main() -> None:
    """Run `samebits ARGUMENTS` on an opencl device that computes one launch wrongly: LAUNCH ARGUMENTS."""
    install(pytest.MonkeyPatch(), FlippingBackend(Flipper(at=[int(sys.argv.pop(1))])))
    samebits_main.main()


def main() -> None:
    """Run `samebits ARGUMENTS` on an opencl device that is lost after so many launches: LAUNCHES ARGUMENTS."""
    install(pytest.MonkeyPatch(), LostBackend(int(sys.argv.pop(1))))
    samebits_main.main()


if __name__ == "__main__":
    main()
