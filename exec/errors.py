"""Errors of graphs, jobs, capture, devices and replay."""

from __future__ import annotations

from collections.abc import Sequence

from samebits.cas.errors import PicklableError


class ExecError(PicklableError):
    """Root of every error that `samebits.exec` raises."""


class GraphError(ExecError):
    """A graph that is malformed, or not in canonical form."""


class JobError(ExecError):
    """A job, or a job file, that is malformed or lacks something it needs."""


class CaptureError(ExecError):
    """A training step that can't be captured faithfully: what it does, and where in the user's code."""

    def __init__(self, reason: str, where: str | None = None) -> None:
        self.reason = reason
        self.where = where  # "file.py:12: source text" of the user's own line
        super().__init__(f"cannot capture: {reason}" + (f" (at {where})" if where else ""))


class DeviceError(ExecError):
    """A device that is unknown, missing, or computes other bits than the contract."""


class ComputationFaultError(DeviceError):
    """A device that computed one launch twice from the same memory and got different bits."""

    def __init__(
        self, device: str, kernel: str, operations: Sequence[str], different_bytes: int, size_bytes: int
    ) -> None:
        self.device = device
        self.kernel = kernel
        self.operations = tuple(operations)  # "node 3/7 (add)" for each that the kernel computes
        self.different_bytes = different_bytes
        self.size_bytes = size_bytes
        super().__init__(
            f"device {device} computes wrongly: {', '.join(operations)}, computed twice from the same memory by "
            f"{kernel}, gave results that differ in {different_bytes} of {size_bytes} bytes"
        )


class RunError(ExecError):
    """A run that can't be started, found or verified."""


class EvidenceError(ExecError):
    """Evidence that proves nothing: malformed, unsigned, or not wrong at all."""


class NotWrongError(EvidenceError):
    """Evidence that was computed again in full: what it is held against is right."""


class NoAnswerError(ExecError):
    """A side of a dispute that did not answer in time."""


class BadAnswerError(ExecError):
    """A side of a dispute whose answer does not verify."""


class CannotTraceError(ExecError):
    """A side of a dispute that can't sign what is asked of it: no key, no job, or nobody there to compute."""


def one_line(error: BaseException) -> str:
    """Return the text of somebody else's error as one line of bounded length."""
    return " ".join(str(error).split())[:400]
