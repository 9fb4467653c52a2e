"""CUDA without a GPU: sources compile with nvcc, and run on the CPU with the bits of the contract."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exec.emulated_cuda import EmulatedCuda
from tests.exec.kernel_devices import check_same_on
from tests.exec.test_kernel_device import RandomGraph, lowered
from tests.kernels.float_samples import sample

from samebits.exec.builder import GraphBuilder
from samebits.exec.conformance import check_device, vectors_graph
from samebits.exec.devices.cuda import CUDA_OPTIONS
from samebits.exec.devices.kernel_device import KernelDevice
from samebits.exec.planner import plan_graph
from samebits.kernels.codegen import convolution_gpu
from samebits.kernels.conformance import load_vectors
from samebits.kernels.reference import type_of


def test_cuda_sources_of_every_operation_conform_on_the_cpu() -> None:
    assert check_device(KernelDevice(EmulatedCuda())) == len(load_vectors())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cuda_sources_of_random_graphs_give_the_bits_of_numpy(seed: int) -> None:
    graph = RandomGraph(seed)
    check_same_on(KernelDevice(EmulatedCuda()), graph.build.build(), graph.inputs)


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_products_of_digits_on_matrix_units_give_the_bits_of_numpy(precision: str) -> None:
    rng = np.random.default_rng(5)
    build = GraphBuilder()
    inputs: dict[str, Any] = {}
    for number, (grid, (m, k, n)) in enumerate(
        (("both", (33, 40, 65)), ("columns", (64, 32, 32)), ("rows", (32, 65, 70)))
    ):
        for side, shape in (("a", (2, m, k)), ("b", (2, k, n))):
            x = rng.standard_normal(shape, np.float32) * np.exp2(rng.integers(-9, 9, shape)).astype(np.float32)
            x[0, 1, :3] = (np.inf, -0.0, 2.0**-149)
            inputs[f"{side}{number}"] = x
        a, b = (build.input(f"{side}{number}", type_of(inputs[f"{side}{number}"])) for side in "ab")
        build.output(f"y{number}", build.op("dot_general", a, b, precision=precision, grid=grid))
    device = KernelDevice(EmulatedCuda())
    (source,) = device.compile(plan_graph(build.build())).kernels
    assert source.text.count("mma_s8(s[") == 3
    check_same_on(device, build.build(), inputs)


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_convolutions_of_digits_on_matrix_units_give_the_bits_of_numpy(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = GraphBuilder()
    inputs: dict[str, Any] = {}
    options: dict[str, Any] = {"precision": precision, "padding": ((1, 0), (-1, 2))}
    for number, (lhs, rhs, groups) in enumerate((((2, 5, 6, 7), (33, 5, 4, 2), 1), ((2, 16, 5, 9), (64, 8, 3, 2), 2))):
        operands = []
        for side, shape in (("x", lhs), ("w", rhs)):
            x = sample("wide" if number else "ordinary", shape, "f32", number)
            x[1, 0, :2, 0] = (np.inf if side == "x" else -0.0, 2.0**-149)
            inputs[f"{side}{number}"] = x
            operands.append(build.input(f"{side}{number}", type_of(x)))
        made = build.op("conv_general_dilated", *operands, window_strides=(1, 2), feature_group_count=groups, **options)
        build.output(f"y{number}", made)
    device = KernelDevice(EmulatedCuda())
    (source,) = device.compile(plan_graph(build.build())).kernels
    assert source.text.count("mma_s8(s[") == 2
    check_same_on(device, build.build(), inputs)
    monkeypatch.setattr(convolution_gpu, "MAX_DIGITS_BYTES", 1000)  # windows too large to lay out
    (source,) = device.compile(plan_graph(build.build())).kernels
    assert "mma_s8(s[" not in source.text


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_cuda_sources_of_every_operation_compile_with_nvcc(architecture: str, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc to compile CUDA sources")
    graph, _ = vectors_graph()
    assert {launch.op for launch in plan_graph(graph).launches}
    source = tmp_path / "kernels.cu"
    source.write_text(lowered(graph, "gpu").program.source)
    flags = [flag for flag in CUDA_OPTIONS if flag != "-O3"]
    command = [
        nvcc,
        *flags,
        "-Xptxas",
        "-O0",
        f"-arch={architecture}",
        "-cubin",
        "-o",
        str(tmp_path / "k.cubin"),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
