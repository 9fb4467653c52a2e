"""Replay in two processes of one thread each, against one process of one thread: `python -m tests.bench_verify`.

Both sides are `samebits verify --jobs`, so starting processes and compiling is in both. The speed-up that is wanted on
two free cores is 1.6.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Final

THREADS: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT"), "1"
)
DIGITS: Final = Path(__file__).parent.parent / "examples" / "digits.job"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="numpy")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    os.environ |= THREADS  # before NumPy is loaded, here and in the processes

    import samebits
    from samebits.exec import verify as verifying
    from samebits.exec.computing import compute_apart

    # one process, too, is one that is started for it
    verifying.compute_here = lambda computation, device: compute_apart(computation, device.name, 1, None)  # type: ignore
    with tempfile.TemporaryDirectory() as folder, samebits.Store(Path(folder) / "store") as store:
        run = samebits.run(samebits.load_job(DIGITS), store, device=given.device, checkpoint_every=25)
        best = {1: float("inf"), 2: float("inf")}
        for _ in range(given.repeats):
            for jobs in best:
                started = time.perf_counter()
                verdict = samebits.verify(run.address, store, device=given.device, jobs=jobs, sign=False)
                seconds = time.perf_counter() - started
                assert verdict.verdict == "same"
                busy = sum(one.seconds for one in verdict.segments)
                best[jobs] = min(best[jobs], seconds)
                print(f"{jobs} process(es): {seconds:.2f} s, segments {busy:.2f} s, load {os.getloadavg()[0]:.1f}")
        print(f"speed-up {best[1] / best[2]:.2f} (wanted: 1.6)")


if __name__ == "__main__":
    main()
