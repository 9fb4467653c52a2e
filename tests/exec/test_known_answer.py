"""The shipped job's final state is one address, whatever BLAS, thread count or vector units the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# examples/digits.job after its 500 steps: weights and momentum, as every machine must find them
FINAL_STATE = "e1e3c5efe1a5b373fd38cb146b30c043f13d6d62f4f720586024651a37897443"
JOB = Path(__file__).parents[2] / "examples" / "digits.job"
SCRIPT = (
    "import sys, tempfile, samebits\n"
    "job = samebits.load_job(sys.argv[1])\n"
    "with tempfile.TemporaryDirectory() as folder, samebits.Store(folder) as store:\n"
    "    print(samebits.run(job, store, commit_every=100, checkpoint_every=250).final_state)\n"
)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512_SKX"},
        {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4", "PYTHONHASHSEED": "7"},
    ],
    ids=lambda environment: " ".join(f"{k}={v}" for k, v in environment.items()) or "as it is",
)
def test_digits_job_ends_in_the_known_state(environment: dict[str, str]) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(JOB)]
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == FINAL_STATE
