"""The version of the arithmetic contract: its number and the address of its conformance vectors.

Two implementations with one version agree on every bit. The number changes when a definition in README.md changes;
the address changes with any vector, so a release whose behaviour was changed by accident can't keep the version.
"""

from __future__ import annotations

from typing import Final

from samebits.cas.digest import hash_blob
from samebits.kernels.conformance import read_vectors_file
from samebits.kernels.errors import ArithmeticVersionError

CONTRACT_NUMBER: Final = 1
ARITHMETIC: Final = f"{CONTRACT_NUMBER}:{hash_blob(read_vectors_file())}"


def check_arithmetic(version: str) -> None:
    """Raise ArithmeticVersionError unless this package computes that version."""
    if version != ARITHMETIC:
        raise ArithmeticVersionError(version, ARITHMETIC)
