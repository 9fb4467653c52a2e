"""pow and atan2 on a device with kernels against MPFR; every other function has few enough inputs to check them all."""

from __future__ import annotations

import numpy as np
import pytest
from tests.exec.kernel_devices import open_opencl
from tests.kernels.pairs import check_pairs, draw_pairs

from samebits.exec.conformance import apply_on
from samebits.kernels.functions import BINARY


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_round_correctly(name: str) -> None:
    device = open_opencl("cpu")
    x, y = draw_pairs(name, 100_000, np.random.default_rng(20))
    assert check_pairs(name, lambda a, b: apply_on(device, name, (a, b), {}), x, y) == []


def test_check_pairs_reports_a_wrong_bit() -> None:
    x, y = np.array([2, 3], np.float32), np.array([0.5, 2], np.float32)
    right = np.array([2**0.5, 9], np.float32)
    wrong = right.copy()
    wrong.view(np.uint32)[1] ^= 1
    assert check_pairs("pow", lambda a, b: right, x, y) == []
    (case,) = check_pairs("pow", lambda a, b: wrong, x, y)
    assert case == (0x40400000, 0x40000000, 0x41100000, 0x41100001)
