"""Check the functions on many random inputs against MPFR: `make conformance` (INPUTS=n for another number).

Inputs are random bits over the whole range of f32, so every exponent is met. Prints function, inputs, mismatches.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from samebits.exec.conformance import check_device
from samebits.exec.devices.registry import DEVICES
from samebits.kernels.functions import UNARY
from samebits.kernels.reference import apply
from tests.kernels.oracle_functions import oracle

INPUTS = 1 << 18


def main() -> None:
    """Run the vectors on every device, then every function on random inputs; exit with 1 on a mismatch."""
    for name, make in DEVICES.items():
        print(f"device {name}: {check_device(make())} vectors, every bit right")
    count = int(os.environ.get("INPUTS", INPUTS))
    rng = np.random.default_rng(int(time.time()))
    wrong = 0
    print(f"{'function':<12}{'inputs':>10}{'mismatches':>12}")
    for function in UNARY:
        bits = rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32)
        actual = apply(function, bits.view(np.float32)).view(np.uint32)
        values = bits.view(np.float32).astype(np.float64).tolist()
        expected = np.array([oracle(function, value, "f32") for value in values], np.uint32)
        mismatches = int(np.count_nonzero(actual != expected))
        wrong += mismatches
        print(f"{function:<12}{count:>10}{mismatches:>12}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
