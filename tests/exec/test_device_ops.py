"""Every operation of the op table: an OpenCL device, in both layouts, gives the bits of the numpy device."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.exec.kernel_devices import LAYOUTS, check_same
from tests.exec.operands import cases

from samebits.exec.builder import GraphBuilder
from samebits.kernels.codegen.program import Layout
from samebits.kernels.optable import OPS
from samebits.kernels.reference import type_of

EXAMPLES = int(os.environ.get("EXAMPLES", 1))  # a program is compiled for each: seconds


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPS)
@settings(max_examples=EXAMPLES, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
@given(seed=st.integers(1 << 20, 1 << 30))
def test_device_gives_the_bits_of_numpy(op: str, layout: Layout, seed: int) -> None:
    build, count = GraphBuilder(), 0
    inputs: dict[str, Any] = {}
    for case in cases(op, seed):
        names = [f"in{count:04d}-{i:02d}" for i in range(len(case.operands))]
        inputs |= dict(zip(names, case.operands, strict=True))
        operands = [build.input(name, type_of(inputs[name])) for name in names]
        build.output(f"out{count:04d}", build.op(op, *operands, **case.attributes))
        count += 1
    assert count
    check_same(build.build(), inputs, layout)
