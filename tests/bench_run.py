"""What checkpoints cost a run, and what commits cost: `python -m tests.bench_run [--device NAME] [--steps N]`.

The example gpt is run with a commit and a checkpoint every 50 steps, which is what `samebits run` does, and with one of
each at its end; in turns, in one process. Above 1 is slower than without. The medians of the time of a step are
compared, of which the first ten of each run are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import runpy
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import samebits
from samebits.exec.devices.registry import describe_device, open_device

ROOT: Final = Path(__file__).parent.parent
WARM_UP: Final = 10  # steps


def seconds_of(job: samebits.Job, folder: Path, device: str, commit_every: int, checkpoint_every: int) -> float:
    """Return how long the steps of a run take after the warm-up, the last checkpoint among them, in seconds."""
    begun: list[float] = []

    def step(done: int, steps: int, metrics: Mapping[str, float]) -> None:
        if done == WARM_UP:
            begun.append(time.perf_counter())

    with samebits.Store(folder) as store:
        samebits.run(
            job, store, device=device, commit_every=commit_every, checkpoint_every=checkpoint_every, progress=step
        )
    return time.perf_counter() - begun[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="tests.bench_run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="opencl")
    parser.add_argument("--steps", type=int, default=210)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{describe_device(open_device(options.device))}; {options.steps} steps of examples/gpt.py")
    gpt: Any = runpy.run_path(str(ROOT / "examples" / "gpt.py"))
    whole: samebits.Job = gpt["job"]()
    job = dataclasses.replace(whole, spec=dataclasses.replace(whole.spec, steps=options.steps, evaluation=None))
    ways = {"no checkpoint": (options.steps, options.steps), "checkpoint every 50": (options.steps, 50)}
    ways["checkpoint every 50, commit every step"] = (1, 50)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way, cadence in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                times[way].append(seconds_of(job, Path(folder), options.device, *cadence))
            print(f"{way}: {times[way][-1] / (options.steps - WARM_UP) * 1e3:.1f} ms a step", flush=True)
    plain = statistics.median(times["no checkpoint"])
    print("| run | time of a step | against none |\n|---|---|---|")
    for way, taken in times.items():
        middle = statistics.median(taken)
        print(f"| {way} | {middle / (options.steps - WARM_UP) * 1e3:.1f} ms | {middle / plain:.3f} |", flush=True)


if __name__ == "__main__":
    main()
