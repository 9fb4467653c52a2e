"""Time the kernels of dot_general on the first OpenCL device beside PyTorch: python -m tests.bench_dot [threads]."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import torch

from samebits.kernels.codegen.dot import lower_dot
from samebits.kernels.codegen.program import ProgramBuilder
from samebits.kernels.codegen.view import stored
from samebits.kernels.types import TensorType
from tests.kernels.run_program import Runner

# (B, M, K, N), repeats
CASES: Final = (
    ((1, 64, 64, 128), 200),
    ((1, 128, 128, 128), 200),
    ((1, 256, 256, 256), 50),
    ((64, 128, 64, 128), 30),
    ((1, 512, 512, 512), 30),
    ((1, 1024, 1024, 1024), 11),
    ((1, 2048, 2048, 2048), 3),
    ((1, 1, 1024, 1024), 50),
)
Sizes = tuple[int, int, int, int]


def prepare(sizes: Sizes, precision: Literal["highest", "high"]) -> Runner:
    """Return the program of one product, with Gaussian operands."""
    batch, m, k, n = sizes
    builder = ProgramBuilder("cpu")
    types = [TensorType("f32", shape) for shape in ((batch, m, k), (batch, k, n), (batch, m, n))]
    a, b, out = (stored(builder.buffer(each.size_bytes), each) for each in types)
    lower_dot(builder, a, b, out, precision=precision, grid="both" if batch == 1 else "columns")
    runner = Runner(builder)
    rng = np.random.default_rng(0)
    for number in (0, 1):
        runner.write(number, rng.standard_normal(types[number].shape, np.float32))
    runner.run()
    return runner


def torch_product(sizes: Sizes) -> Callable[[], Any]:
    """Return PyTorch's product in f32 of the same sizes."""
    batch, m, k, n = sizes
    a, b, c = torch.randn(batch, m, k), torch.randn(batch, k, n), torch.empty(batch, m, n)
    if batch == 1:
        return lambda: torch.mm(a[0], b[0], out=c[0])
    return lambda: torch.bmm(a, b, out=c)


def measure(function: Callable[[], Any]) -> tuple[float, float]:
    """Return elapsed seconds and seconds of all cores' work for one call."""
    wall, work = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - work


def main() -> None:
    """Print a table: medians of the time, and the ratio PyTorch / ours of time, and of cores' work at its least."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print("(B, M, K, N)              precision   torch ms    ours ms  ratio  ratio of least work")
    for sizes, repeats in CASES:
        other = torch_product(sizes)
        other()
        for precision in ("highest", "high"):
            ours = prepare(sizes, precision)
            times = np.array([(*measure(other), *measure(ours.run)) for _ in range(repeats)])
            wall, _, our_wall, _ = np.median(times, axis=0) * 1e3
            _, work, _, our_work = times.min(axis=0)
            ratios = f"{wall / our_wall:6.2f} {work / our_work:20.2f}"
            print(f"{sizes!s:25} {precision:9} {wall:10.3f} {our_wall:10.3f} {ratios}", flush=True)


if __name__ == "__main__":
    main()
