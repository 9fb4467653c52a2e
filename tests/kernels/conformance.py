"""Check a device on every input of every function: `make conformance`.

python -m tests.kernels.conformance [--device NAME] [--functions a,b,...] [--blocks N] [--write]

First the conformance vectors on every device that this machine has, then each unary function on all 2^32 f32 inputs and
all bf16 and f16 inputs of the one device, and pow and atan2 on a million pairs. Exits with 1 on a wrong bit.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.exec.builder import GraphBuilder
from samebits.exec.conformance import apply_on, check_device
from samebits.exec.devices.kernel_device import KernelDevice
from samebits.exec.devices.protocol import Device, Executable
from samebits.exec.devices.registry import DEVICES, make_device, open_device
from samebits.exec.errors import DeviceError
from samebits.exec.planner import plan_graph
from samebits.kernels.functions import BINARY, UNARY
from samebits.kernels.reference import type_of
from samebits.kernels.types import TensorType
from tests.kernels.conformance_table import Row, write_rows
from tests.kernels.exhaustive import BLOCKS, FunctionReport, check_function
from tests.kernels.float_samples import from_bits
from tests.kernels.long_double_oracle import OracleUnavailableError, load_oracle
from tests.kernels.oracle_functions import oracle
from tests.kernels.pairs import check_pairs, draw_pairs

Array = NDArray[Any]

# --blocks N takes the first N of these, each 2^24 bit patterns: the first has 1/2 <= x < 2, all exponents follow soon.
BLOCK_ORDER: Final = tuple((0x3F + 83 * i) % BLOCKS for i in range(BLOCKS))
PAIRS: Final = 1_000_000
LAYOUT: Final = "{:<11}{:>12}{:>12}{:>9}{:>7}{:>6}{:>11}  {:<12}{:>9}"


def on_device(device: Device, name: str) -> Callable[[Array], Array]:
    """Return a function as the device computes it in a job; it is compiled once for each operand type."""
    compiled: dict[TensorType, Executable] = {}

    def evaluate(x: Array) -> Array:
        operand_type = type_of(x)
        if operand_type not in compiled:
            builder = GraphBuilder()
            builder.output("y", builder.op(name, builder.input("x", operand_type)))
            compiled[operand_type] = device.compile(plan_graph(builder.build()))
        return device.download(compiled[operand_type]({"x": device.upload(x)})["y"])

    return evaluate


def on_pairs(device: Device, name: str) -> Callable[[Array, Array], Array]:
    """Return a function of two arguments as the device computes it in a job."""
    return lambda x, y: apply_on(device, name, (x, y), {})


def check_pairs_of(device: Device, name: str) -> tuple[Row, bool]:
    """Check a function of two arguments against MPFR, print its line, and return its row and whether it was right."""
    started = time.perf_counter()
    x, y = draw_pairs(name, PAIRS, np.random.default_rng())
    wrong = check_pairs(name, on_pairs(device, name), x, y)
    row = Row(
        function=name,
        inputs=f"{x.size} pairs",
        mismatches=str(len(wrong)),
        to_mpfr=str(x.size),
        bf16_mismatches="",
        f16_mismatches="",
        device=describe_device(device),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        worst_distance_log2="",
        at_input="",
    )
    cells = (row.inputs, row.mismatches, row.to_mpfr, "", "", "", "", f"{time.perf_counter() - started:.1f}")
    print(LAYOUT.format(name, *cells), flush=True)
    for case in wrong[:3]:
        print("  f32 {:#010x}, {:#010x}: want {:#010x}, got {:#010x}".format(*case), flush=True)
    return row, not wrong


def check_halves(device: Device, name: str, dtype: str) -> list[tuple[int, int, int]]:
    """Return (input bits, expected, actual) of every input of bf16 or f16 whose result is wrong."""
    inputs = from_bits(np.arange(1 << 16), dtype)
    actual = on_device(device, name)(inputs).view(np.uint16).tolist()
    with np.errstate(invalid="ignore"):  # signalling NaN
        values = inputs.astype(np.float32).astype(np.float64).tolist()
    judged = ((bits, oracle(name, value, dtype), actual[bits]) for bits, value in enumerate(values))
    return [case for case in judged if case[1] != case[2]]


def describe_device(device: Device) -> str:
    """Return the device with its driver, in one line and without the bars of a table."""
    if isinstance(device, KernelDevice):
        return f"{device.name}: {device.backend.describe()}".replace("|", "/")
    return f"{device.name} {np.__version__}"


def check_one(device: Device, name: str, blocks: tuple[int, ...]) -> tuple[Row, bool]:
    """Check one function on one device, print its line, and return its row and whether all bits were right."""
    report = check_function(name, on_device(device, name), blocks=blocks)
    halves = {dtype: check_halves(device, name, dtype) for dtype in ("bf16", "f16")}
    row = Row(
        function=name,
        inputs=str(report.inputs),
        mismatches=str(report.mismatch_count),
        to_mpfr=str(report.undecided),
        bf16_mismatches=str(len(halves["bf16"])),
        f16_mismatches=str(len(halves["f16"])),
        device=describe_device(device),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        worst_distance_log2="" if report.worst_distance_log2 is None else f"{report.worst_distance_log2:.2f}",
        at_input="" if report.worst_input is None else f"0x{report.worst_input:08X}",
    )
    counts = (row.inputs, row.mismatches, row.to_mpfr, row.bf16_mismatches, row.f16_mismatches)
    print(LAYOUT.format(name, *counts, row.worst_distance_log2, row.at_input, f"{report.seconds:.1f}"), flush=True)
    _print_wrong(report, halves)
    return row, not (report.mismatch_count or halves["bf16"] or halves["f16"])


def _print_wrong(report: FunctionReport, halves: dict[str, list[tuple[int, int, int]]]) -> None:
    shown = 3
    for case in report.mismatches[:shown]:
        print(f"  f32 {case.input_bits:#010x}: {case.actual:#010x}, want {case.expected:#010x}", flush=True)
    for dtype, cases in halves.items():
        for bits, expected, actual in cases[:shown]:
            print(f"  {dtype} {bits:#06x}: {actual:#06x}, want {expected:#06x}", flush=True)


def check_vectors() -> bool:
    """Run the conformance vectors on every device that can be had here; returns whether all of them conform."""
    right = True
    for name in DEVICES:
        try:
            device = make_device(name)
        except DeviceError as error:
            print(f"device {name}: not available: {error}")
            continue
        try:
            print(f"device {name}: {check_device(device)} vectors, every bit right")
        except DeviceError as error:
            print(error)
            right = False
    return right


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return device, functions (a list), blocks and write; exits with 2 for what can't be."""
    parser = argparse.ArgumentParser(prog="tests.kernels.conformance", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="numpy", help=f"{', '.join(DEVICES)}, opencl:N, cuda:N")
    parser.add_argument(
        "--functions", default=",".join((*UNARY, *BINARY)), help="names, with commas between; default: all"
    )
    parser.add_argument("--blocks", type=int, default=BLOCKS, help=f"of 2^24 inputs each; default: all {BLOCKS}")
    parser.add_argument("--write", action="store_true", help="merge the rows into kernels/CONFORMANCE.md")
    options = parser.parse_args(arguments)
    options.functions = options.functions.split(",")
    if unknown := sorted(set(options.functions) - {*UNARY, *BINARY}):
        parser.error(f"unknown functions: {', '.join(unknown)} (known: {', '.join((*UNARY, *BINARY))})")
    if options.device.partition(":")[0] not in DEVICES:
        parser.error(f"unknown device {options.device} (known: {', '.join(DEVICES)})")
    if not 1 <= options.blocks <= BLOCKS:
        parser.error(f"--blocks: 1 to {BLOCKS}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run it all; returns 1 if a bit is wrong, 2 if the oracle can't run here."""
    options = parse_arguments(arguments)
    right = check_vectors()
    try:
        load_oracle()
        device = open_device(options.device)
    except (OracleUnavailableError, DeviceError) as error:
        print(f"no exhaustive check: {error}")
        return 1 if not right else 2
    print(f"{describe_device(device)}: {options.blocks} of {BLOCKS} blocks of f32, all of bf16 and f16")
    print(LAYOUT.format("function", "inputs", "mismatches", "to MPFR", "bf16", "f16", "worst log2", "at", "seconds"))
    for name in options.functions:
        if name in BINARY:
            row, function_is_right = check_pairs_of(device, name)
        else:
            row, function_is_right = check_one(device, name, BLOCK_ORDER[: options.blocks])
        right = right and function_is_right
        if options.write:  # at once: what was checked is kept if a later function is interrupted
            write_rows([row])
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
