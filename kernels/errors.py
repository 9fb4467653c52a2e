"""Errors of the arithmetic: an operation applied to what it isn't defined for."""

from __future__ import annotations

from samebits.cas.errors import PicklableError


class KernelError(PicklableError):
    """Root of every error that `samebits.kernels` raises."""


class UnknownOpError(KernelError):
    """The op table has no operation of this name."""

    def __init__(self, name: object) -> None:
        self.name = name
        super().__init__(f"unknown operation {name!r}")


class OpError(KernelError):
    """Operands or attributes that an operation isn't defined for."""

    def __init__(self, op: str, reason: str) -> None:
        self.op = op
        self.reason = reason
        super().__init__(f"{op}: {reason}")


class ArithmeticVersionError(KernelError):
    """A job was made for another version of the arithmetic contract."""

    def __init__(self, wanted: str, actual: str) -> None:
        self.wanted = wanted
        self.actual = actual
        super().__init__(
            f"the job wants arithmetic {wanted}, this samebits computes {actual}; use a release that has it"
        )


class VectorsError(KernelError):
    """The conformance vectors that come with the package are damaged."""
