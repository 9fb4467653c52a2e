"""Devices with kernels: fusion, views, memory and errors, on whole graphs."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.exec.kernel_devices import LAYOUTS, check_same, check_same_on, open_opencl, run_on
from tests.exec.operands import values

from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.devices.kernel_device import KernelDevice, Pool, lower_plan
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.opencl import OpenclBackend, list_opencl_devices
from samebits.exec.errors import RunError
from samebits.exec.graph import Graph
from samebits.exec.planner import plan_graph
from samebits.kernels.codegen import dot_digits, host
from samebits.kernels.codegen.lowering import Lowered
from samebits.kernels.codegen.program import HostCall, Layout
from samebits.kernels.errors import KernelError
from samebits.kernels.types import TensorType

F32 = "f32"


def lowered(graph: Graph, layout: Layout = "cpu", int8_engine: str | None = None) -> Lowered:
    """Return the program of a graph."""
    return lower_plan(plan_graph(graph), layout, int8_engine)


class RandomGraph:
    """Grows a graph from random operations on random earlier values."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.build = GraphBuilder()
        self.values: list[ValueRef] = []
        self.inputs: dict[str, Any] = {}
        for i in range(3):
            shape = tuple(int(n) for n in self.rng.choice([1, 3, 4, 33, 65], int(self.rng.integers(1, 4))))
            dtype = str(self.rng.choice(["f32", "f32", "bf16", "i32"]))
            self.inputs[f"x{i}"] = values(self.rng, dtype, shape)
            self.values.append(self.build.input(f"x{i}", TensorType(dtype, shape)))
        for _ in range(int(self.rng.integers(4, 22))):
            self.values.append(self._grow(self.values[int(self.rng.integers(len(self.values)))]))
        for i, k in enumerate(self.rng.choice(len(self.values), 4)):
            self.build.output(f"y{i}", self.values[int(k)])

    def _grow(self, x: ValueRef) -> ValueRef:
        rng, build, shape = self.rng, self.build, x.type.shape
        numbers = x.type.dtype != "bool"
        match int(rng.integers(9 if numbers else 3)):
            case 0:
                return build.op("transpose", x, permutation=tuple(int(i) for i in rng.permutation(len(shape))))
            case 1:
                return build.op("reshape", x, new_sizes=(x.type.size,) if rng.random() < 0.5 else (1, *shape[::-1]))
            case 2:
                if x.type.size > 1 << 14 or len(shape) > 3:
                    return build.op(
                        "slice", x, start_indices=(0,) * len(shape), limit_indices=shape, strides=(3,) * len(shape)
                    )
                return build.op(
                    "broadcast_in_dim", x, shape=(2, *shape), broadcast_dimensions=tuple(range(1, len(shape) + 1))
                )
            case 3 | 4 | 5:
                same = [v for v in self.values if v.type == x.type]
                other = same[int(rng.integers(len(same)))]
                return build.op(str(rng.choice(["add", "sub", "mul", "max", "min"])), x, other)
            case 6:
                if not shape:
                    return build.op("neg", x)
                return build.op(str(rng.choice(["reduce_sum", "reduce_max"])), x, axes=(int(rng.integers(len(shape))),))
            case 7:
                other = build.op(str(rng.choice(["abs", "neg"])), x)
                return build.op("select_n", build.op("lt", x, other), x, other)
            case _:
                if len(shape) != 2 or x.type.dtype == "i32":
                    return build.op("sign", x)
                return build.op("dot_general", x, build.op("transpose", x, permutation=(1, 0)))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 30))
def test_random_graphs_give_the_bits_of_numpy(layout: Layout, seed: int) -> None:
    graph = RandomGraph(seed)
    check_same(graph.build.build(), graph.inputs, layout)


def test_lower_fuses_a_chain_into_one_kernel() -> None:
    build = GraphBuilder()
    tensor = TensorType(F32, (128, 64))
    x, bias = build.input("x", tensor), build.input("bias", TensorType(F32, (64,)))
    v = build.op("add", x, build.op("broadcast_in_dim", bias, shape=(128, 64), broadcast_dimensions=(1,)))
    zero = build.op("constant", dtype=F32, shape=(), value=bytes(4))
    v = build.op("max", v, build.op("broadcast_in_dim", zero, shape=(128, 64), broadcast_dimensions=()))
    v = build.op("convert_element_type", build.op("exp", build.op("neg", v)), new_dtype="bf16")
    build.output("y", v)
    program = lowered(build.build()).program
    assert len(program.steps) == len(program.kernels) == 1
    assert sum(program.sizes) == 128 * 64 * 6 + 64 * 4  # inputs and output, no intermediate


@pytest.mark.parametrize("layout", LAYOUTS)
def test_top_k_gives_the_greatest_and_where_they_stand(layout: Layout) -> None:
    build = GraphBuilder()
    x = build.input("x", TensorType(F32, (3, 70)))
    for name, value in zip(("values", "places"), build.top_k(x, 3), strict=True):
        build.output(name, value)
    given_x = np.random.default_rng(4).standard_normal((3, 70)).astype(np.float32)
    given_x[1, 5], given_x[2, 60] = np.nan, np.inf
    found = run_on(open_opencl(layout), build.build(), {"x": given_x})
    assert found["places"][0].tolist() == np.argsort(-given_x[0], kind="stable")[:3].tolist()
    assert (found["places"][1, 0], found["places"][2, 0]) == (5, 60)
    assert np.array_equal(np.take_along_axis(given_x, found["places"], 1), found["values"], equal_nan=True)
    check_same(build.build(), {"x": given_x}, layout)


def test_lower_gives_equal_graphs_equal_sources() -> None:
    assert lowered(RandomGraph(7).build.build()) == lowered(RandomGraph(7).build.build())


def test_memory_of_a_chain_of_products_is_reused() -> None:
    build = GraphBuilder()
    v = x = build.input("x", TensorType(F32, (64, 64)))
    for _ in range(12):
        v = build.op("reduce_sum", build.op("dot_general", v, x), axes=())
    build.output("y", v)
    one = lowered(build.build()).program
    assert sum(one.sizes) < 12 * 64 * 64 * 4 * 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_that_are_inputs_constants_or_views_are_copies(layout: Layout) -> None:
    build = GraphBuilder()
    x = build.input("x", TensorType(F32, (3, 2)))
    for name in ("a", "b"):
        build.output(name, x)
    turned = build.op("transpose", x, permutation=(1, 0))
    total = build.op("add", turned, turned)
    for name, value in (("c", turned), ("d", total), ("e", total), ("f", build.op("reshape", total, new_sizes=(6,)))):
        build.output(name, value)
    build.output("g", build.op("constant", dtype="u8", shape=(3,), value=b"\1\2\3"))
    build.output("h", build.op("iota", dtype="i64", shape=(2, 3), dimension=1))
    check_same(build.build(), {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}, layout)


def test_outputs_outlive_the_next_run() -> None:
    build = GraphBuilder()
    x = build.input("x", TensorType(F32, (1000,)))
    build.output("x", build.op("add", x, x))
    device = open_opencl("cpu")
    execute = device.compile(plan_graph(build.build()))
    kept = [execute({"x": device.upload(np.full(1000, i, np.float32))}) for i in range(5)]
    state = {"x": device.upload(np.ones(1000, np.float32))}
    for _ in range(10):
        state = execute(state)
    assert [float(device.download(out["x"])[7]) for out in kept] == [0, 2, 4, 6, 8]
    assert np.array_equal(device.download(state["x"]), np.full(1000, 1024, np.float32))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("rows", "count", "width"), [(1, 4, 1), (2, 9, 1), (1, 4, 3), (3, 41, 2), (1, 1, 1)])
def test_scatter_add_of_few_updates_reads_no_memory_it_has_not_written(
    rows: int, count: int, width: int, layout: Layout
) -> None:
    build = GraphBuilder()  # regression: fewer items than copies of the sums left some copies uncleared
    x, at = build.input("x", TensorType(F32, (rows, width))), build.input("at", TensorType("i64", (count,)))
    build.output("y", build.op("scatter_add", x, at, build.input("up", TensorType(F32, (count, width)))))
    rng = np.random.default_rng(0)
    inputs = {"x": values(rng, F32, (rows, width)), "at": rng.integers(0, rows, count)}
    check_same(build.build(), inputs | {"up": rng.standard_normal((count, width)).astype(np.float32)}, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scatter_refuses_an_index_that_occurs_twice(layout: Layout) -> None:
    build = GraphBuilder()
    x, at = build.input("x", TensorType(F32, (5, 2))), build.input("at", TensorType("i64", (3,)))
    build.output("y", build.op("scatter", x, at, build.input("up", TensorType(F32, (3, 2)))))
    inputs = {"x": np.ones((5, 2), np.float32), "at": np.array([4, 0, 4]), "up": np.zeros((3, 2), np.float32)}
    for device in (NumpyDevice(), open_opencl(layout)):
        with pytest.raises(RunError, match="node 0: scatter: index 4 occurs twice"):
            run_on(device, build.build(), inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [-1, 5, 1 << 40])
@pytest.mark.parametrize("op", ["gather", "scatter_add", "scatter"])
def test_an_index_out_of_range_is_named_and_nothing_is_returned(op: str, bad: int, layout: Layout) -> None:
    build = GraphBuilder()
    x = build.input("x", TensorType(F32, (5, 2)))
    at = build.input("at", TensorType("i64", (3,)))
    operands = [x, at] if op == "gather" else [x, at, build.input("up", TensorType(F32, (3, 2)))]
    build.output("y", build.op(op, *operands))
    inputs = {"x": np.ones((5, 2), np.float32), "at": np.array([0, bad, 4]), "up": np.ones((3, 2), np.float32)}
    given_inputs = {name: inputs[name] for name, _ in build.build().inputs}
    messages = []
    for device in (NumpyDevice(), open_opencl(layout)):
        with pytest.raises(RunError) as raised:
            run_on(device, build.build(), given_inputs)
        messages.append(str(raised.value))
    assert messages[0] == messages[1] == f"node 0: {op}: index {bad} is outside 0..4"


def test_compile_refuses_what_the_device_has_no_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    build = GraphBuilder()
    build.output("y", build.op("iota", dtype="f32", shape=(1 << 20,), dimension=0))
    device = open_opencl("cpu")
    monkeypatch.setattr(device.backend, "free_bytes", lambda: 1 << 20)
    with pytest.raises(RunError, match=r"a graph needs buffers of 4\.2 MB, device opencl has 1\.0 MB free"):
        device.compile(plan_graph(build.build()))


def products_of_digits(monkeypatch: pytest.MonkeyPatch, engine: str) -> KernelDevice:
    """Return a device that multiplies digits, of 7 bits unless the CPU has VNNI, for products of every size."""
    pytest.importorskip(engine)
    open_opencl("cpu")  # skips if there is none
    backend = OpenclBackend(list_opencl_devices()[0], layout="cpu")
    backend.int8_engine = engine
    for name, value in (("LEAST_WORK", 1), ("LEAST_SIDE", 1), ("most_products", lambda: 16)):
        monkeypatch.setattr(dot_digits, name, value)
    return KernelDevice(backend)


def test_dot_through_an_int8_library(monkeypatch: pytest.MonkeyPatch) -> None:
    device = products_of_digits(monkeypatch, "onnxruntime")
    assert "int8 products by onnxruntime" in device.backend.describe()
    build = GraphBuilder()
    x, w = build.input("x", TensorType(F32, (2, 33, 70))), build.input("w", TensorType(F32, (2, 70, 65)))
    numbers, attributes = (((2,), (1,)), ((0,), (0,))), {"precision": "highest", "grid": "both"}
    hidden = build.op("tanh", build.op("dot_general", x, w, dimension_numbers=numbers, **attributes))
    back = build.op("transpose", w, permutation=(0, 2, 1))
    build.output("y", build.op("dot_general", hidden, back, dimension_numbers=numbers, **attributes))
    rng = np.random.default_rng(4)
    inputs = {"x": values(rng, F32, (2, 33, 70)), "w": rng.standard_normal((2, 70, 65), np.float32)}
    steps = lowered(build.build(), int8_engine="onnxruntime").program.steps
    assert sum(isinstance(step, HostCall) for step in steps) == 2
    for _ in range(2):  # the second time with buffers that hold the first's
        check_same_on(device, build.build(), inputs)


def test_a_library_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device = products_of_digits(monkeypatch, "onnxruntime")

    def fail(left: Any, right: Any, out: Any) -> None:
        raise MemoryError("no memory")

    monkeypatch.setitem(host.ENGINES, "onnxruntime", lambda: fail)
    build = GraphBuilder()
    x = build.input("x", TensorType(F32, (3, 3)))
    numbers = (((1,), (0,)), ((), ()))
    build.output("y", build.op("dot_general", x, x, dimension_numbers=numbers, precision="high", grid="rows"))
    with pytest.raises(RunError, match="node 0: onnxruntime cannot multiply: no memory"):
        run_on(device, build.build(), {"x": np.ones((3, 3), np.float32)})


@pytest.mark.parametrize("op", ["gather", "scatter", "scatter_add"])
def test_an_unsigned_index_out_of_range_is_named_as_it_is(op: str) -> None:
    build = GraphBuilder()
    x, at = build.input("x", TensorType(F32, (3, 1))), build.input("at", TensorType("u64", (2,)))
    rest = [] if op == "gather" else [build.input("up", TensorType(F32, (2, 1)))]
    build.output("y", build.op(op, x, at, *rest))
    inputs = {"x": np.ones((3, 1), np.float32), "at": np.array([2, (1 << 64) - 1], np.uint64)}
    inputs |= {"up": np.ones((2, 1), np.float32)} if rest else {}
    for device in (NumpyDevice(), open_opencl("cpu")):
        with pytest.raises(RunError, match=r"index 18446744073709551615 is outside 0\.\.2"):
            run_on(device, build.build(), inputs)


def test_scatter_names_a_bad_index_before_one_that_occurs_twice() -> None:
    build = GraphBuilder()
    x, at = build.input("x", TensorType(F32, (3,))), build.input("at", TensorType("i32", (3,)))
    build.output("y", build.op("scatter", x, at, build.input("up", TensorType(F32, (3,)))))
    inputs = {"x": np.ones(3, np.float32), "at": np.array([1, 1, 9], np.int32), "up": np.ones(3, np.float32)}
    for device in (NumpyDevice(), open_opencl("cpu")):
        with pytest.raises(RunError, match=r"index 9 is outside 0\.\.2"):
            run_on(device, build.build(), inputs)


def test_threads_share_a_device() -> None:
    build = GraphBuilder()
    v = build.input("x", TensorType(F32, (65,)))
    for _ in range(4):
        v = build.op("cumsum", build.op("abs", v), axis=0)
    build.output("y", v)
    device = open_opencl("cpu")
    execute = device.compile(plan_graph(build.build()))
    rng = np.random.default_rng(0)
    given_x = [rng.standard_normal(65).astype(np.float32) for _ in range(2)]
    wanted = [run_on(NumpyDevice(), build.build(), {"x": x})["y"] for x in given_x]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            found = list(
                pool.map(lambda i: device.download(execute({"x": device.upload(given_x[i % 2])})["y"]), range(200))
            )
    finally:
        sys.setswitchinterval(interval)
    assert all(np.array_equal(y, wanted[i % 2]) for i, y in enumerate(found))


def test_a_kernel_has_no_more_parameters_than_opencl_guarantees() -> None:
    build = GraphBuilder()
    v = build.input("x", TensorType(F32, (9,)))
    for i in range(300):
        v = build.op("add", v, v)
        build.output(f"y{i:03d}", v)
    assert max(len(step.buffers) for step in lowered(build.build()).program.steps) <= 128


def test_lower_refuses_tensors_that_loops_cannot_count() -> None:
    build = GraphBuilder()
    build.output("y", build.op("iota", dtype="u8", shape=(1 << 31,), dimension=0))
    with pytest.raises(KernelError, match="tensors of up to"):
        lowered(build.build())


def test_a_freed_buffer_is_used_again_and_too_many_are_let_go() -> None:
    pool = Pool(open_opencl("cpu").backend)
    first = pool.take(1000)
    kept = first.buffer
    del first
    assert pool.take(900).buffer is kept
    for size in range(8):
        pool.take((100 + size) << 20)  # each is freed at once
    assert pool._free_bytes <= 256 << 20


def test_compile_reports_its_kernel_source() -> None:
    build = GraphBuilder()
    x = build.input("x", TensorType(F32, (4,)))
    build.output("y", build.op("exp", x))
    device = open_opencl("cpu")
    assert isinstance(device, KernelDevice)
    (source,) = device.compile(plan_graph(build.build())).kernels
    assert source.language == "opencl"
    assert "KERNEL void" in source.text
    assert source.to_node() == device.compile(plan_graph(build.build())).kernels[0].to_node()
