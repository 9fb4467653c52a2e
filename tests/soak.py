"""A long run: memory, file descriptors and threads stay as they are. `python -m tests.soak`, or `make soak`.

A job of 64 KiB of state is run for 20,000 steps with a commit each and a checkpoint every 50, on numpy and on opencl.
Growth is that of the medians of the first and the last tenth of the samples after the warm-up.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import samebits
from samebits.exec.devices.registry import describe_device, open_device
from tests.exec.wide_job import wide_job

WARM_UP: Final = 0.25  # of all steps
SAMPLES: Final = 400
PAGE_SIZE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Samples:
    """What was seen of this process after the warm-up."""

    memory_bytes: list[int] = field(default_factory=list)  # resident, less the pages of files
    resident_bytes: list[int] = field(default_factory=list)  # with them: those of the store that were read
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def take(self) -> None:
        """Look at this process."""
        resident, shared = map(int, Path("/proc/self/statm").read_text(encoding="ascii").split()[1:3])
        self.memory_bytes.append((resident - shared) * PAGE_SIZE_BYTES)
        self.resident_bytes.append(resident * PAGE_SIZE_BYTES)
        self.descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
        self.threads.append(len(list(Path("/proc/self/task").iterdir())))


def growth(seen: list[int]) -> float:
    """Return by what part a size grew."""
    tenth = max(1, len(seen) // 10)
    first, last = (statistics.median(part) for part in (seen[:tenth], seen[-tenth:]))
    return last / first - 1


def soak(device: str, steps: int, folder: Path) -> tuple[Samples, float]:
    """Run the job; returns the samples and the seconds it took."""
    samples = Samples()

    def look(done: int, total: int, metrics: Mapping[str, float]) -> None:
        if done > WARM_UP * total and done % max(1, total // SAMPLES) == 0:
            samples.take()

    started = time.perf_counter()
    with samebits.Store(folder) as store:
        samebits.run(wide_job(steps, elements=1 << 14), store, device=device, progress=look)
    return samples, time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", action="append", help="default: numpy and opencl")
    parser.add_argument("--steps", type=int, default=20_000)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores ({platform.machine()}), {options.steps} steps, a commit each\n")
    print("| device | own memory | growth | all resident | growth | descriptors | threads | steps/s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.device or ("numpy", "opencl"):
        with tempfile.TemporaryDirectory() as folder:
            samples, seconds = soak(name, options.steps, Path(folder))
        both = (samples.memory_bytes, samples.resident_bytes)
        sizes = (f"{seen[-1] / 1e6:.1f} MB | {growth(seen):+.2%}" for seen in both)
        spans = (f"{min(seen)} .. {max(seen)}" for seen in (samples.descriptors, samples.threads))
        columns = [describe_device(open_device(name)), *sizes, *spans, f"{options.steps / seconds:.0f}"]
        print(f"| {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
