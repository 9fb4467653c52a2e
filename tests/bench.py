"""Speed, as ratios measured in one process: `make bench`. Medians of repeats; the machine is named.

Ratios travel between machines better than times. Wanted: dot_general highest 1024 >= 0.15 of NumPy's float32 product;
the digits run (500 steps, each committed) under 20 s on 2 cores.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import samebits
from samebits.kernels.reference import apply

EXAMPLES = Path(__file__).parent.parent / "examples"


def median_s(function: Callable[[], Any], repeats: int = 9) -> float:
    """Return the median time of a call, in seconds, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def bench_dots() -> None:
    """Exact products against NumPy's float32 product."""
    rng = np.random.default_rng(0)
    print(f"{'dot_general f32':<34}{'ours':>10}{'numpy @':>10}{'ratio':>8}")
    for n in (64, 256, 512, 1024, 2048):
        a, b = (rng.standard_normal((n, n), np.float32) for _ in range(2))
        plain = median_s(lambda a=a, b=b: a @ b)  # type: ignore[misc]
        for precision, grid in (("highest", "both"), ("highest", "columns"), ("high", "both")):
            options = {"precision": precision, "grid": grid}
            ours = median_s(lambda a=a, b=b, o=options: apply("dot_general", a, b, **o))  # type: ignore[misc]
            print(f"{n:>5} {precision:<8} {grid:<18}{ours * 1e3:>9.2f}ms{plain * 1e3:>8.2f}ms{plain / ours:>8.2f}")


def bench_functions() -> None:
    """Correctly rounded functions and sums against NumPy's own."""
    x = np.random.default_rng(1).uniform(0.01, 5, 1 << 20).astype(np.float32)
    print(f"\n{'2^20 f32':<34}{'ours':>10}{'numpy':>10}{'ratio':>8}")
    pairs: dict[str, Callable[[Any], Any]] = {
        **{name: getattr(np, name) for name in ("exp", "log", "tanh", "sin", "expm1", "log1p", "sqrt")},
        "reduce_sum": lambda v: v.sum(dtype=np.float32),
    }
    for name, plain in pairs.items():
        attributes = {"axes": (0,)} if name == "reduce_sum" else {}
        ours = median_s(lambda n=name, a=attributes: apply(n, x, **a))  # type: ignore[misc]
        numpy_s = median_s(lambda p=plain: p(x))  # type: ignore[misc]
        print(f"{name:<34}{ours * 1e3:>9.2f}ms{numpy_s * 1e3:>8.2f}ms{numpy_s / ours:>8.2f}")
    for name in ("erf", "logistic", "rsqrt"):
        ours = median_s(lambda n=name: apply(n, x))  # type: ignore[misc]
        print(f"{name:<34}{ours * 1e3:>9.2f}ms")


def bench_digits() -> None:
    """The digits job: run with every step committed, then verified."""
    job = samebits.load_job(EXAMPLES / "digits.job")
    with tempfile.TemporaryDirectory() as folder, samebits.Store(folder) as store:
        run = samebits.run(job, store)
        verdict = samebits.verify(run.address, store)
    print(
        f"\ndigits: {run.steps} steps in {run.seconds:.1f} s, verified ({verdict.verdict}) in {verdict.seconds:.1f} s"
    )


def main() -> None:
    """Print every table."""
    print(f"{platform.processor() or platform.machine()}, {platform.system()}, numpy {np.__version__}\n")
    bench_dots()
    bench_functions()
    bench_digits()


if __name__ == "__main__":
    main()
