"""CUDA without a GPU: sources compile with nvcc, and run on the CPU with the bits of the contract."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.exec.emulated_cuda import EmulatedCuda
from tests.exec.kernel_devices import check_same_on
from tests.exec.test_kernel_device import RandomGraph, lowered

from samebits.exec.conformance import check_device, vectors_graph
from samebits.exec.devices.cuda import CUDA_OPTIONS
from samebits.exec.devices.kernel_device import KernelDevice
from samebits.exec.planner import plan_graph
from samebits.kernels.conformance import load_vectors


def test_cuda_sources_of_every_operation_conform_on_the_cpu() -> None:
    assert check_device(KernelDevice(EmulatedCuda())) == len(load_vectors())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cuda_sources_of_random_graphs_give_the_bits_of_numpy(seed: int) -> None:
    graph = RandomGraph(seed)
    check_same_on(KernelDevice(EmulatedCuda()), graph.build.build(), graph.inputs)


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
