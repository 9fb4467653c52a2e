"""The same bits come out whatever BLAS kernel, thread count or vector width NumPy finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "machine_digest.py"
CONFIG: Any = np.show_config(mode="dicts")
VECTORS = " ".join(CONFIG["SIMD Extensions"].get("found", []))  # what NumPy would use here beyond its baseline
SETTINGS = ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")

# Every machine gives this digest. A change of the contract changes it; a change of an engine must not.
WANTED = "90ddb37648cec89664521a934327c505b6709a8734cc8b88743ea47d1558dbf8"


@pytest.mark.parametrize(
    ("threads", "core", "disabled"),
    [("1", "Prescott", VECTORS), ("2", "Haswell", ""), ("1", "Sandybridge", ""), ("2", "Nehalem", VECTORS)],
)
def test_kernels_give_the_same_bits_on_any_machine(threads: str, core: str, disabled: str) -> None:
    environment = {key: text for key, text in os.environ.items() if key not in SETTINGS}
    environment |= {"OPENBLAS_NUM_THREADS": threads, "OPENBLAS_CORETYPE": core}
    if disabled:
        environment["NPY_DISABLE_CPU_FEATURES"] = disabled
    command = [sys.executable, "-W", "error::RuntimeWarning", str(SCRIPT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == WANTED
