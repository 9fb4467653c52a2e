"""Launches computed twice: faults are found and named, nothing else is, and what is missed is said."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from tests.exec.faulty_device import Flipper, FlippingBackend, flip_numpy, flip_opencl
from tests.exec.kernel_devices import LAYOUTS, open_opencl, run_on
from tests.exec.small_job import changed, make_job, step_graph

import samebits
from samebits.cas import Store
from samebits.exec.builder import GraphBuilder
from samebits.exec.conformance import check_device
from samebits.exec.devices.kernel_device import KernelDevice
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.opencl import OpenclBackend, list_opencl_devices
from samebits.exec.devices.protocol import Device
from samebits.exec.devices.recomputation import Recomputation, missed_fault_probability
from samebits.exec.errors import ComputationFaultError, RunError
from samebits.exec.graph import Graph
from samebits.exec.ledger_folder import log_directory
from samebits.exec.planner import plan_graph
from samebits.kernels.codegen import dot_digits
from samebits.kernels.codegen.program import Layout
from samebits.kernels.conformance import load_vectors
from samebits.kernels.types import TensorType
from samebits.ledger import Log

EXAMPLES = Path(__file__).parents[2] / "examples"


def paranoid_opencl(layout: Layout, fraction: float = 1, seed: int = 0) -> tuple[KernelDevice, Recomputation]:
    """Return PoCL, which computes launches twice from now on, and what counts them."""
    open_opencl(layout)
    device = KernelDevice(OpenclBackend(list_opencl_devices()[0], layout=layout))
    device.recomputation = Recomputation(fraction, seed)
    return device, device.recomputation


@pytest.mark.parametrize(
    ("rate", "fraction", "launches"),
    [*product((1e-12, 1e-4, 0.3, 0.5), (0.0, 1e-6, 0.1, 0.999), (1, 7, 16_015, 2_000_000)), (1.0, 0.25, 6)],
)
def test_missed_fault_probability_is_that_of_exact_fractions(rate: float, fraction: float, launches: int) -> None:
    found = missed_fault_probability(rate, fraction, launches)
    r, f = Fraction(rate), Fraction(fraction)
    exact = float((1 - r * f) ** launches - (1 - r) ** launches) if launches < 100 else _with_400_bits(r, f, launches)
    assert found == pytest.approx(exact, rel=1e-9, abs=1e-300)
    assert 0 <= found <= 1


def _with_400_bits(r: Fraction, f: Fraction, launches: int) -> float:
    """Return the probability in long numbers: exact powers would have millions of digits."""
    with mpmath.workprec(400):
        one, other = ((mpmath.mpf(x.numerator) / x.denominator) ** launches for x in (1 - r * f, 1 - r))
        return float(one - other)


@pytest.mark.parametrize(
    ("rate", "fraction", "launches", "wanted"),
    [(1e-4, 1, 10**9, 0), (0, 0.5, 10**9, 0), (0.5, 0.5, 0, 0), (1, 1, 5, 0), (1, 0, 5, 1), (1, 0.5, 3, 0.125)],
)
def test_missed_fault_probability_at_the_ends(rate: float, fraction: float, launches: int, wanted: float) -> None:
    assert missed_fault_probability(rate, fraction, launches) == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize("fraction", [-0.1, 1.0001, float("nan"), float("inf"), True, "1", None])
def test_run_refuses_what_is_no_fraction(store: Store, fraction: Any) -> None:
    with pytest.raises(RunError, match=r"paranoid .* is not a number between 0 and 1"):
        samebits.run(make_job(), store, paranoid=fraction)


def test_run_without_paranoia_counts_nothing(store: Store) -> None:
    assert samebits.run(make_job(), store).recomputed is None


@pytest.mark.parametrize("device", ["numpy", "opencl"])
def test_every_fault_is_found_before_its_segment_is_entered(
    device: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, stopped, again = make_job(), 0, 0
    nodes = len(plan_graph(step_graph(0.1)).launches)
    for seed in range(12):
        flipper = Flipper(0.004, seed)
        with monkeypatch.context() as patch:
            (flip_numpy if device == "numpy" else flip_opencl)(patch, flipper)
            before = Log.open(log_directory(store), read_only=True).size if stopped + again else 0
            try:
                run = samebits.run(job, store, device=device, checkpoint_every=5, paranoid=1)
            except ComputationFaultError as error:
                stopped, again = stopped + 1, again + flipper.flips[0].again
                assert len(flipper.flips) == 1  # found at once
                assert error.kernel == flipper.flips[0].kernel
                assert 1 <= error.different_bytes <= error.size_bytes
                assert 1 <= len(error.operations) <= nodes
                assert all(f"{operation}" in str(error) for operation in error.operations)
                assert str(error).startswith(("step ", "initial state")), str(error)
                assert f"device {device} computes wrongly: node " in str(error)
                assert "\n" not in str(error)
                at = int(str(error).split(":")[0].split()[1])
                grown = Log.open(log_directory(store), read_only=True).size - before if at >= 5 or before else 0
                assert grown == (0 if at < 5 else 1 + at // 5)  # a run entry and the segments before the step
            else:
                assert not flipper.flips
                assert run.recomputed is not None
                assert run.recomputed.launches == run.recomputed.recomputed > 25
    assert stopped > 6
    assert 0 < again < stopped  # in the first computation or in the second


def chain_graph() -> tuple[Graph, dict[str, Any]]:
    """Return a graph of some launches that do not fuse, and its inputs."""
    build = GraphBuilder()
    v = build.input("x", TensorType("f32", (64,)))
    for _ in range(12):
        v = build.op("cumsum", build.op("sin", v), axis=0)
    build.output("y", v)
    return build.build(), {"x": np.linspace(0.1, 1, 64, dtype=np.float32)}


@pytest.mark.parametrize("device_name", ["numpy", "opencl"])
def test_a_fraction_finds_that_share_of_faults(device_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flipper, fraction = Flipper(0.03, seed=8), 0.1
    device: Device
    if device_name == "numpy":
        flip_numpy(monkeypatch, flipper)
        device = NumpyDevice()
    else:
        open_opencl("cpu")
        device = KernelDevice(FlippingBackend(flipper))
    device.recomputation = counted = Recomputation(fraction, seed=3)
    graph, inputs = chain_graph()
    execute = device.compile(plan_graph(graph))
    found, found_again = 0, 0
    for number in range(500):
        flipper.begin()
        given = {"x": device.upload(inputs["x"] * np.float32(1 + number))}  # what is in memory already is no result
        try:
            execute(given)
        except ComputationFaultError:
            found += not flipper.flips[-1].again
            found_again += flipper.flips[-1].again
    spoiled = sum(not flip.again for flip in flipper.flips)
    assert spoiled > 120
    assert found_again == len(flipper.flips) - spoiled > 10  # the second computation of a launch: always found
    deviation = (spoiled * fraction * (1 - fraction)) ** 0.5
    assert abs(found - spoiled * fraction) < 3.5 * deviation
    counts = counted.counts()
    assert abs(counts.recomputed - counts.launches * fraction) < 3.5 * (counts.launches * 0.09) ** 0.5


def test_without_paranoia_the_bits_differ_and_verify_finds_the_step(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = samebits.run(make_job(), store)
    with monkeypatch.context() as patch:
        counter = Flipper()
        flip_opencl(patch, counter)
        assert samebits.run(make_job(), store, device="opencl").final_state == honest.final_state
    each = counter.launches // 25  # the evaluation's launches are fewer than 25
    with monkeypatch.context() as patch:
        flipper = Flipper(at=[12 * each], seed=4)
        flip_opencl(patch, flipper)
        run = samebits.run(make_job(), store, device="opencl")
    assert len(flipper.flips) == 1
    assert run.commits[11] == honest.commits[11]
    assert run.commits[12] != honest.commits[12]
    verdict = samebits.verify(run.address, store)
    assert (verdict.verdict, verdict.first_different_step) == ("different", 12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_digits_job_raises_no_false_alarm(layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = changed(samebits.load_job(EXAMPLES / "digits.job"), {"steps": 30}, [])
    quiet = Flipper()
    flip_opencl(monkeypatch, quiet, layout)
    run = samebits.run(job, store, device="opencl", checkpoint_every=10, paranoid=1)
    assert run.recomputed is not None
    assert 2 * run.recomputed.recomputed == quiet.launches > 1000
    assert samebits.verify(run.address, store).verdict == "same"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_conformance_vectors_raise_no_false_alarm(layout: Layout) -> None:
    device, counted = paranoid_opencl(layout)
    assert check_device(device) == len(load_vectors())
    assert counted.counts().recomputed == counted.counts().launches > 400


def rows_graph(rows: int, count: int, width: int) -> tuple[Graph, dict[str, Any]]:
    """Return the sum of updates of few rows, which a cpu groups by row in whatever order threads come by."""
    build = GraphBuilder()
    x, at = build.input("x", TensorType("f32", (rows, width))), build.input("at", TensorType("i64", (count,)))
    build.output("y", build.op("scatter_add", x, at, build.input("up", TensorType("f32", (count, width)))))
    rng = np.random.default_rng(0)
    inputs = {"x": rng.standard_normal((rows, width), np.float32), "at": rng.integers(0, rows, count)}
    return build.build(), inputs | {"up": rng.standard_normal((count, width), np.float32)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scratch_in_an_order_that_varies_raises_no_false_alarm(layout: Layout) -> None:
    graph, inputs = rows_graph(3, 200_000, 16)
    device, _ = paranoid_opencl(layout)
    wanted = run_on(NumpyDevice(), graph, inputs)["y"]
    for _ in range(5):
        assert run_on(device, graph, inputs)["y"].tobytes() == wanted.tobytes()


class MoodyBackend(OpenclBackend):
    """PoCL where each launch finds another one of the bad indices first, as threads may."""

    reported = 0

    def launch(self, kernel: Any, buffers: Sequence[Any], items: int, group: int) -> None:
        """Launch a kernel, and change the index that it has reported."""
        super().launch(kernel, buffers, items, group)
        if kernel.function_name.startswith("scatter_count"):
            words = np.empty(4, np.uint32)
            self.download(buffers[1], words)
            assert words[0]
            type(self).reported += 1
            words[1] = 3 + self.reported % 2
            self.upload(buffers[1], words)


def test_an_error_of_the_job_stays_the_jobs_error() -> None:
    graph, inputs = rows_graph(3, 200, 16)
    inputs["at"][[7, 70]] = 3, 4
    open_opencl("cpu")
    device = KernelDevice(MoodyBackend(list_opencl_devices()[0], layout="cpu"))
    device.recomputation = Recomputation(1)
    with pytest.raises(RunError, match=r"node 0: scatter_add: index [34] is outside 0\.\.2"):
        run_on(device, graph, inputs)
    assert MoodyBackend.reported == 2


def test_a_fault_in_a_fused_kernel_names_every_operation() -> None:
    build = GraphBuilder()
    x = build.input("x", TensorType("f32", (100,)))
    build.output("y", build.op("exp", build.op("neg", build.op("add", x, x))))
    flipper = Flipper(at=[0])
    open_opencl("cpu")
    device = KernelDevice(FlippingBackend(flipper))
    device.recomputation = Recomputation(1)
    with pytest.raises(ComputationFaultError) as raised:
        run_on(device, build.build(), {"x": np.ones(100, np.float32)})
    assert raised.value.operations == ("node 0 (add)", "node 1 (neg)", "node 2 (exp)")
    assert "node 0 (add), node 1 (neg), node 2 (exp)" in str(raised.value)
    assert (raised.value.device, raised.value.different_bytes, raised.value.size_bytes) == ("opencl", 1, 400)


def test_a_fault_of_the_host_names_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    for name, value in (("LEAST_WORK", 1), ("LEAST_SIDE", 1), ("most_products", lambda: 16)):
        monkeypatch.setattr(dot_digits, name, value)
    build = GraphBuilder()
    x = build.input("x", TensorType("f32", (33, 33)))
    numbers = (((1,), (0,)), ((), ()))
    build.output("y", build.op("dot_general", x, x, dimension_numbers=numbers, precision="highest", grid="both"))
    inputs = {"x": np.random.default_rng(1).standard_normal((33, 33), np.float32)}
    open_opencl("cpu")
    found: list[str] = []
    for launch in range(12):
        before = len(found)
        flipper = Flipper(at=[launch])
        backend = FlippingBackend(flipper, "cpu")
        backend.int8_engine = "onnxruntime"
        device = KernelDevice(backend)
        device.recomputation = Recomputation(1)
        try:
            run_on(device, build.build(), inputs)
        except ComputationFaultError as error:
            assert error.operations == ("node 0 (dot_general)",)
            found.append(error.kernel)
        assert (len(found) > before) == bool(flipper.flips)  # none where memory held the result already
    assert "digit_product" in found


def test_numpy_names_the_operation_that_gave_two_results(monkeypatch: pytest.MonkeyPatch) -> None:
    flip_numpy(monkeypatch, Flipper(at=[3]))
    device = NumpyDevice()
    device.recomputation = Recomputation(1)
    graph, inputs = chain_graph()
    with pytest.raises(ComputationFaultError, match=r"device numpy computes wrongly: node 1 \(cumsum\)"):
        device.compile(plan_graph(graph))(inputs)
