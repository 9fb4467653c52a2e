"""Devices: conformance at opening, plans, and running out of range."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exec.kernel_devices import open_opencl

from samebits.exec import conformance
from samebits.exec.builder import GraphBuilder
from samebits.exec.canonical import graph_address
from samebits.exec.conformance import check_device
from samebits.exec.devices import passed
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.protocol import Executable
from samebits.exec.devices.registry import DEVICES, make_device, open_device
from samebits.exec.errors import DeviceError, RunError
from samebits.exec.planner import Plan, plan_graph
from samebits.kernels.codegen import library, lowering
from samebits.kernels.codegen.program import Kernel
from samebits.kernels.conformance import load_vectors
from samebits.kernels.optable import OPS
from samebits.kernels.types import TensorType


class FlippingDevice(NumpyDevice):
    """Computes one operation wrongly, by one bit of its last element."""

    name = "flipping"

    def __init__(self, op: str) -> None:
        self._op = op

    def compile(self, plan: Plan) -> Executable:
        right = super().compile(plan)
        made_by = {launch.results[0]: launch.op for launch in plan.launches}
        flipped = [name for name, value in plan.outputs if made_by.get(value) == self._op]

        class Wrong:
            kernels = ()

            def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
                outputs = right(inputs)
                for name in flipped:
                    wrong = np.ascontiguousarray(outputs[name]).copy()
                    wrong.reshape(-1).view(np.uint8)[-wrong.dtype.itemsize :][:1] ^= 1
                    outputs[name] = wrong
                return outputs

        return Wrong()


@pytest.mark.parametrize("name", DEVICES)
def test_open_device_runs_every_vector(name: str) -> None:
    try:
        device = make_device(name)
    except DeviceError as error:
        pytest.skip(str(error))
    assert check_device(device) == len(load_vectors())


@pytest.mark.parametrize("name", ["", "gpu", "numpy:0", "opencl:", "opencl:-1", "opencl:99", "cuda:٣", None])
def test_open_device_refuses_unknown_names(name: Any) -> None:
    with pytest.raises(DeviceError, match="device") as raised:
        open_device(name)
    assert "\n" not in str(raised.value)


def test_open_device_remembers_who_passed_and_checks_again_when_kernels_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend = open_opencl("cpu").backend
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not passed.has_passed(backend)
    passed.remember_passed(backend)
    assert passed.has_passed(backend)
    monkeypatch.setattr(passed, "_kernels_digest", lambda: "another")
    assert not passed.has_passed(backend)


@pytest.mark.parametrize("name", ["PYOPENCL_BUILD_OPTIONS", "POCL_EXTRA_BUILD_FLAGS"])
def test_open_device_refuses_compiler_options_from_outside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_opencl("cpu")  # skips where there is none
    monkeypatch.setenv(name, "-cl-fast-relaxed-math")
    with pytest.raises(DeviceError, match=f"device opencl: the variable {name} changes how kernels are compiled"):
        open_device("opencl")


def test_open_device_refuses_opencl_in_a_forked_child() -> None:
    open_opencl("cpu")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            open_device("opencl")
        except DeviceError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert b"used before this process was forked" in os.read(read, 1000)
    os.close(read)


def test_check_device_refuses_kernels_with_one_wrong_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    right = library.program_text
    assert "0x7FFFu + (bits" in right([Kernel("k", "", ("numbers.h",))])
    few = [vector for vector in load_vectors() if vector.op == "add" and vector.result.dtype == "bfloat16"]
    monkeypatch.setattr(conformance, "load_vectors", lambda: few)
    monkeypatch.setattr(
        lowering, "program_text", lambda kernels: right(kernels).replace("0x7FFFu + (bits", "0x7FFEu + (bits")
    )
    with pytest.raises(DeviceError, match=r"device opencl does not conform: .* gave .* the contract demands"):
        check_device(open_opencl("cpu"))


def test_vectors_cover_every_operation() -> None:
    assert {vector.op for vector in load_vectors()} == set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_check_device_refuses_one_wrong_bit_in_any_operation(op: str) -> None:
    with pytest.raises(DeviceError, match=f"flipping does not conform: {op}\\(") as raised:
        check_device(FlippingDevice(op))
    assert "the contract demands" in str(raised.value)


def test_plan_releases_each_value_after_its_last_use_and_keeps_outputs() -> None:
    build = GraphBuilder()
    a = build.input("a", TensorType("f32", (2,)))
    b = build.op("neg", a)
    c = build.op("abs", b)
    build.output("c", c)
    build.output("d", build.op("add", c, b))
    plan = plan_graph(build.build())
    assert [launch.op for launch in plan.launches] == ["neg", "abs", "add"]
    assert [launch.release for launch in plan.launches] == [(), (), (1,)]


def test_plan_lays_calls_out_inline_and_says_where_a_launch_stands() -> None:
    inner = GraphBuilder()
    x = inner.input("x", TensorType("f32", (2,)))
    inner.output("y", inner.op("neg", x))
    inner.output("z", x)
    callee = inner.build()
    build = GraphBuilder()
    a = build.input("a", TensorType("f32", (2,)))
    first = build.call(graph_address(callee), callee, [build.op("abs", a)])
    build.output("r", build.op("add", first["y"], first["z"]))
    plan = plan_graph(build.build(), {graph_address(callee): callee})
    assert [(launch.op, launch.node) for launch in plan.launches] == [("abs", "0"), ("neg", "1/0"), ("add", "2")]
    result = NumpyDevice().compile(plan)({"a": np.array([1, -2], np.float32)})["r"]
    assert result.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_stops_the_run_and_is_named(index: int) -> None:
    build = GraphBuilder()
    rows = build.input("rows", TensorType("f32", (3,)))
    build.output("y", build.op("gather", rows, build.input("i", TensorType("i64", (1,)))))
    execute = NumpyDevice().compile(plan_graph(build.build()))
    with pytest.raises(RunError, match=rf"node 0: gather: index {index} is outside 0..2"):
        execute({"rows": np.zeros(3, np.float32), "i": np.array([index])})


def test_numpy_alone_does_not_import_the_generators_of_kernels() -> None:
    """They made every command that may compute start 0.2 s later."""
    program = (
        "import sys; from samebits.exec.devices.registry import describe_device, open_device; "
        "describe_device(open_device('numpy')); print('samebits.kernels.codegen.lowering' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
