"""Replay in two processes of one thread each, against one process of one thread: `python -m tests.bench_verify`.

Starting the processes and compiling in each is in the time. The speed-up that is wanted on two free cores is 1.6. Where
the cores are not free, the processor time says what it would be: that of this process, which is alone with it, and half
of what the two have used.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

THREADS: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT"), "1"
)
DIGITS: Final = Path(__file__).parent.parent / "examples" / "digits.job"


def used_s(who: int) -> float:
    """Return the processor time that this process, or its children that have ended, have used."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="numpy")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    os.environ |= THREADS  # before NumPy is loaded, here and in the processes

    import samebits

    digits = samebits.load_job(DIGITS)
    job = replace(digits, spec=replace(digits.spec, steps=given.steps))
    with tempfile.TemporaryDirectory() as folder, samebits.Store(Path(folder) / "store") as store:
        run = samebits.run(job, store, device=given.device, checkpoint_every=given.steps // 40)
        elapsed: dict[int, list[float]] = {1: [], 2: []}
        alone: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(given.repeats):
            for jobs in elapsed:
                here, there = used_s(resource.RUSAGE_SELF), used_s(resource.RUSAGE_CHILDREN)
                started = time.perf_counter()
                verdict = samebits.verify(run.address, store, device=given.device, jobs=jobs, sign=False)
                elapsed[jobs].append(time.perf_counter() - started)
                assert verdict.verdict == "same"
                here, there = used_s(resource.RUSAGE_SELF) - here, used_s(resource.RUSAGE_CHILDREN) - there
                alone[jobs].append(here + there / jobs)
                said = f"{elapsed[jobs][-1]:.2f} s; processor time {here:.2f} s here, {there:.2f} s in processes"
                print(f"{jobs} process(es): {said}; load {os.getloadavg()[0]:.1f}", flush=True)
        by_clock, by_processor = (min(times[1]) / min(times[2]) for times in (elapsed, alone))
        print(f"speed-up {by_clock:.2f} (wanted: 1.6); by processor time {by_processor:.2f}")


if __name__ == "__main__":
    main()
