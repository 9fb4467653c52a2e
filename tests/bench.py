"""Speed, as ratios measured in one process: `make bench`. Medians of repeats; machine and versions are named.

python -m tests.bench [--device NAME] [--write]

A ratio is torch's eager time over ours on the same inputs, both sides with outputs that are already there: above 1 is
faster than torch. Ratios travel between machines better than times. --write puts the tables into kernels/BENCH.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import runpy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import samebits
from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.commits import make_commit
from samebits.exec.devices.kernel_device import KernelDevice
from samebits.exec.devices.protocol import Device
from samebits.exec.devices.registry import describe_device, open_device
from samebits.exec.machine import JobMachine
from samebits.exec.planner import plan_graph
from samebits.exec.running.runner import put_job
from samebits.kernels.reference import type_of

ROOT: Final = Path(__file__).parent.parent
TABLE: Final = ROOT / "kernels" / "BENCH.md"
REPEATS: Final = 15
BENCH_S: Final = 2.0  # at most this long for the repeats of one line

Array = np.ndarray[Any, np.dtype[Any]]


def median_s(function: Callable[[], Any]) -> float:
    """Return the median time of a call, in seconds, after two calls to warm up."""
    function()
    function()
    times: list[float] = []
    while len(times) < 3 or (len(times) < REPEATS and sum(times) < BENCH_S):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def on_device(device: Device, inputs: Mapping[str, Array], build: Callable[..., ValueRef]) -> Callable[[], None]:
    """Return a call that computes a graph of these inputs on the device and waits for it."""
    builder = GraphBuilder()
    values = [builder.input(name, type_of(array)) for name, array in inputs.items()]
    builder.output("y", build(builder, *values))
    execute = device.compile(plan_graph(builder.build()))
    uploaded = {name: device.upload(array) for name, array in inputs.items()}

    def run() -> None:
        execute(uploaded)
        if isinstance(device, KernelDevice):
            device.backend.synchronize()

    return run


class Table:
    """Collects lines: what, ours, torch's, the ratio, and what is wanted."""

    def __init__(self, title: str) -> None:
        self.lines = [f"| {title} | ours | torch | ratio | wanted |", "|---|---|---|---|---|"]
        print(f"\n{title:<44}{'ours':>10}{'torch':>10}{'ratio':>8}", flush=True)

    def add(self, what: str, ours_s: float, torch_s: float, wanted: str = "") -> None:
        """Add and print one line."""
        ratio = torch_s / ours_s
        self.lines.append(f"| {what} | {ours_s * 1e3:.2f} ms | {torch_s * 1e3:.2f} ms | {ratio:.2f} | {wanted} |")
        print(f"{what:<44}{ours_s * 1e3:>8.2f}ms{torch_s * 1e3:>8.2f}ms{ratio:>8.2f} {wanted}", flush=True)


def bench_dots(device: Device) -> Table:
    """Exact products against torch's float32 product."""
    table = Table("dot_general f32")
    rng = np.random.default_rng(0)
    shapes = [((n, n), (n, n)) for n in (64, 256, 512, 1024, 2048)] + [((64, 128, 64), (64, 64, 128))]
    for left, right in shapes:
        a, b = rng.standard_normal(left, np.float32), rng.standard_normal(right, np.float32)
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        out = torch.empty(*left[:-1], right[-1])
        plain = median_s(lambda ta=ta, tb=tb, out=out: torch.matmul(ta, tb, out=out))  # type: ignore[misc]
        for precision, grid in (("highest", "both"), ("high", "both"), ("highest", "columns")):
            options = {"precision": precision, "grid": grid}
            ours = on_device(device, {"a": a, "b": b}, lambda g, x, y, o=options: g.op("dot_general", x, y, **o))
            wanted = {"highest": "0.3", "high": "0.3"}[precision] if left[0] in (1024, 2048) else ""
            table.add(f"{'x'.join(map(str, left))} {precision}, {grid}", median_s(ours), plain, wanted)
    return table


def bench_convolutions(device: Device) -> Table:
    """Exact convolutions of windows of 3 along each axis, padded by 1, against torch's."""
    table = Table("conv_general_dilated f32")
    rng = np.random.default_rng(4)
    shapes = (
        ((64, 16, 8, 8), (32, 16, 3, 3), 1, 1),
        ((8, 64, 32, 32), (64, 64, 3, 3), 1, 1),
        ((8, 64, 32, 32), (64, 64, 3, 3), 2, 1),
        ((8, 64, 32, 32), (64, 16, 3, 3), 1, 4),
        ((8, 64, 32, 32), (64, 1, 3, 3), 1, 64),
        ((8, 256, 14, 14), (256, 256, 3, 3), 1, 1),
    )
    for lhs, rhs, stride, groups in shapes:
        x, w = rng.standard_normal(lhs, np.float32), rng.standard_normal(rhs, np.float32)
        tx, tw = torch.from_numpy(x), torch.from_numpy(w)
        plain = median_s(lambda x=tx, w=tw, s=stride, g=groups: torch.conv2d(x, w, None, s, 1, 1, g))  # type: ignore[misc]
        options = {"window_strides": (stride,) * 2, "padding": ((1, 1),) * 2, "feature_group_count": groups}
        ours = on_device(device, {"x": x, "w": w}, lambda g, a, b, o=options: g.op("conv_general_dilated", a, b, **o))
        how = f", stride {stride}" * (stride > 1) + f", {groups} groups" * (groups > 1)
        table.add(f"{'x'.join(map(str, lhs))} * {'x'.join(map(str, rhs))}{how}", median_s(ours), plain)
    return table


def gelu(g: GraphBuilder, x: ValueRef) -> ValueRef:
    """x/2 (1 + erf(x / sqrt 2)), as `torch.nn.functional.gelu` is lowered."""
    half, scale, one = (_splat(g, value, x) for value in (0.5, float(np.float32(np.sqrt(0.5))), 1.0))
    return g.op("mul", g.op("mul", x, half), g.op("add", g.op("erf", g.op("mul", x, scale)), one))


def softmax(g: GraphBuilder, x: ValueRef) -> ValueRef:
    """Softmax over the last of two axes, the maximum taken off first."""
    e = g.op("exp", g.op("sub", x, _rows(g, g.op("reduce_max", x, axes=(1,)), x)))
    return g.op("div", e, _rows(g, g.op("reduce_sum", e, axes=(1,)), x))


def layernorm(g: GraphBuilder, x: ValueRef) -> ValueRef:
    """(x - mean) / sqrt(variance + 1e-5) over the last of two axes."""
    size = _splat(g, float(x.type.shape[1]), g.op("reduce_max", x, axes=(1,)))
    mean = g.op("div", g.op("reduce_sum", x, axes=(1,)), size)
    d = g.op("sub", x, _rows(g, mean, x))
    variance = g.op("div", g.op("reduce_sum", g.op("mul", d, d), axes=(1,)), size)
    scale = g.op("rsqrt", g.op("add", variance, _splat(g, 1e-5, variance)))
    return g.op("mul", d, _rows(g, scale, x))


def chain(g: GraphBuilder, x: ValueRef, y: ValueRef) -> ValueRef:
    """Eight cheap operations, one after another."""
    v = g.op("mul", g.op("add", x, y), x)
    v = g.op("abs", g.op("max", g.op("sub", v, y), x))
    v = g.op("add", v, y)
    return g.op("min", g.op("mul", v, v), y)


def torch_chain(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
    """The same, in place wherever torch can."""
    torch.add(x, y, out=out).mul_(x).sub_(y)
    torch.maximum(out, x, out=out)
    out.abs_().add_(y)
    torch.mul(out, out, out=out)
    torch.minimum(out, y, out=out)


def _splat(g: GraphBuilder, value: float, like: ValueRef) -> ValueRef:
    scalar = g.op("constant", dtype="f32", shape=(), value=np.float32(value).tobytes())
    return g.op("broadcast_in_dim", scalar, shape=like.type.shape, broadcast_dimensions=())


def _rows(g: GraphBuilder, x: ValueRef, like: ValueRef) -> ValueRef:
    return g.op("broadcast_in_dim", x, shape=like.type.shape, broadcast_dimensions=(0,))


def bench_elementwise(device: Device) -> Table:
    """Functions, rows and sums against torch's own, all with outputs that are already there."""
    table = Table("f32")
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal(1 << 22, np.float32) for _ in range(2))
    tx, ty, out = torch.from_numpy(x), torch.from_numpy(y), torch.empty(1 << 22)
    names = {"logistic": "sigmoid"}
    for name in ("exp", "tanh", "erf", "log", "sin", "cos", "logistic", "sqrt", "expm1", "log1p", "atan"):
        v = np.abs(x) if name in ("log", "sqrt", "log1p") else x
        tv, function = torch.from_numpy(v), getattr(torch, names.get(name, name))
        ours = on_device(device, {"x": v}, lambda g, x, n=name: g.op(n, x))
        wanted = "0.2" if name in ("exp", "tanh", "erf") else ""
        table.add(f"{name}, 2^22", median_s(ours), median_s(lambda f=function, v=tv: f(v, out=out)), wanted)  # type: ignore[misc]
    plain = median_s(lambda: torch.ops.aten.gelu.out(tx, out=out))
    table.add("gelu, 2^22", median_s(on_device(device, {"x": x}, gelu)), plain, "0.2")
    plain = median_s(lambda: torch_chain(tx, ty, out))
    table.add("8 cheap ops fused, 2^22", median_s(on_device(device, {"x": x, "y": y}, chain)), plain, "1.5")
    _bench_rows(device, table)
    return table


def _bench_rows(device: Device, table: Table) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4096, 1024), np.float32)
    tx, out, sums = torch.from_numpy(x), torch.empty(4096, 1024), torch.empty(4096)
    plain = median_s(lambda: torch.softmax(tx, 1, out=out))
    table.add("softmax rows, 4096x1024", median_s(on_device(device, {"x": x}, softmax)), plain, "0.2")
    norm, mean = torch.empty_like(tx), torch.empty(4096, 1)
    scale = torch.empty(4096, 1)
    plain = median_s(
        lambda: torch.ops.aten.native_layer_norm.out(tx, [1024], None, None, 1e-5, out0=norm, out1=mean, out2=scale)
    )
    table.add("layernorm rows, 4096x1024", median_s(on_device(device, {"x": x}, layernorm)), plain, "0.3")
    ours = on_device(device, {"x": x}, lambda g, v: g.op("reduce_sum", v, axes=(1,)))
    table.add("sum rows, 4096x1024", median_s(ours), median_s(lambda: torch.sum(tx, 1, out=sums)))
    ours = on_device(device, {"x": x}, lambda g, v: g.op("reduce_sum", v, axes=(0,)))
    columns = torch.empty(1024)
    table.add("sum columns, 4096x1024", median_s(ours), median_s(lambda: torch.sum(tx, 0, out=columns)))
    long = rng.standard_normal(1 << 24, np.float32)
    tlong = torch.from_numpy(long)
    ours = on_device(device, {"x": long}, lambda g, v: g.op("reduce_sum", v, axes=(0,)))
    table.add("sum, 2^24", median_s(ours), median_s(lambda: torch.sum(tlong)), "0.3")
    _bench_scatter(device, table)


def _bench_scatter(device: Device, table: Table) -> None:
    rng = np.random.default_rng(3)
    at, updates = rng.integers(0, 1 << 16, 1 << 20), rng.standard_normal(1 << 20, np.float32)
    inputs: dict[str, Array] = {"a": np.zeros(1 << 16, np.float32), "b": at, "c": updates}
    ours = on_device(device, inputs, lambda g, x, i, u: g.op("scatter_add", x, i, u))
    target, index, source = torch.zeros(1 << 16), torch.from_numpy(at), torch.from_numpy(updates)
    table.add("scatter_add, 2^20 into 2^16", median_s(ours), median_s(lambda: target.index_add_(0, index, source)))


def bench_digits(device: Device) -> Table:
    """One training step of the digits job against the same step in eager torch, each commit hashed or not."""
    table = Table("digits step, batch 64")
    _bench_step(table, samebits.load_job(ROOT / "examples" / "digits.job"), _eager_step(), device)
    return table


def bench_gpt(device: Device) -> Table:
    """One training step of the example gpt (0.8 M parameters, 16 windows of 128) against the same in eager torch."""
    table = Table("gpt step, 2048 tokens")
    gpt: Any = runpy.run_path(str(ROOT / "examples" / "gpt.py"))
    _, _, step, _ = gpt["parts"]()
    windows = gpt["windows"]()[0][: gpt["BATCH_SIZE"]]
    _bench_step(table, gpt["job"](), lambda: step(windows), device)
    return table


def _bench_step(table: Table, job: samebits.Job, eager: Callable[[], Any], device: Device) -> None:
    with tempfile.TemporaryDirectory() as folder, samebits.Store(folder) as store:
        machine = JobMachine(put_job(job, store), store, device)
        state = machine.initial_state()

        def step() -> None:
            machine.step(0, state)

        def hashed() -> None:
            new, metrics = machine.step(0, state)
            make_commit(0, machine.download(new), metrics)

        plain = median_s(eager)
        table.add("hash off", median_s(step), plain)
        table.add("hash on (a commit every step)", median_s(hashed), plain)


def _eager_step() -> Callable[[], None]:
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.rand(64, 64) * 16, torch.randint(0, 10, (64,))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x / 16), y).backward()
        optimizer.step()

    return step


def main() -> None:
    """Print every table; with --write, put them into kernels/BENCH.md."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="opencl")
    parser.add_argument("--write", action="store_true", help="replace the device's part of kernels/BENCH.md")
    options = parser.parse_args()
    device = open_device(options.device)
    head = (
        f"{os.cpu_count()} cores ({platform.machine()}), {describe_device(device)}; torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads; {datetime.datetime.now(datetime.UTC).date()}"
    )
    print(head)
    tables = [bench(device) for bench in (bench_dots, bench_convolutions, bench_elementwise, bench_digits, bench_gpt)]
    if options.write:
        _write(options.device, head, tables)


def _write(name: str, head: str, tables: list[Table]) -> None:
    marker = f"## {name}\n"
    text = TABLE.read_text(encoding="utf-8")
    before, _, rest = text.partition(marker)
    _, following, after = rest.partition("\n## ")
    body = "\n\n".join([head, *("\n".join(table.lines) for table in tables)])
    TABLE.write_text(before.rstrip() + f"\n\n{marker}\n{body}\n" + following + after, encoding="utf-8")
    print(f"\nwritten to {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
