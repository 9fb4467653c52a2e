"""Steps that the host does between kernels, on memory that it shares with the device: int8 products of a library.

The library is onnxruntime (MatMulInteger, u8 by s8) or PyTorch (torch._int_mm, s8 by s8). Without VNNI a CPU adds pairs
of u8 s8 products in 16 bits, which saturate: 2 * 255 * 128 > 2^15. Digits of 7 bits keep clear of it: 2 * 191 * 64.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from samebits.kernels.errors import KernelError

Array = npt.NDArray[Any]
# name -> step(buffers as flat writable bytes, parameters)
HostStep = Callable[[Sequence[npt.NDArray[np.uint8]], tuple[Any, ...]], None]
# writes left (B, M, K) times right (B, K, N) i8 into out (B, M, N) i32, all contiguous
Multiply = Callable[[Array, Array, Array], None]

# Terms of one i32 sum: below 2^31 even as 255 * 128 K, which u8 digits reach before the zero point is taken off.
MAX_TERMS: Final = 65535
# CPU flag -> int8 products that take no longer than one f64 product of dot_cpu.py. By multiply-adds a cycle and core,
# at best: f64 2 x 4, AVX-VNNI 2 x 32, AVX512-VNNI 2 x 64, AMX 1024; less what splitting and adding take. Not measured.
_PRODUCTS: Final = {"amx_int8": 16, "avx512_vnni": 9, "avx_vnni": 4}
# torch._int_mm falls back to plain loops (2.3 s for 1024^3) without AVX512-VNNI: github.com/pytorch/pytorch/pull/136942
_NEEDS: Final = {"torch": "avx512_vnni"}


def int8_engine() -> str | None:
    """Return the library whose int8 products pay on this CPU, or None.

    It is imported only where the CPU has instructions for it, and used only if a product of extreme digits is exact.
    """
    return choose_engine() if most_products() else None


def digit_bits() -> int:
    """Return the bits of a digit whose products this CPU's int8 instructions add exactly."""
    return 8 if most_products() else 7


def most_products() -> int:
    """Return the number of int8 products that cost no more than one f64 product on this CPU."""
    return max((count for flag, count in _PRODUCTS.items() if flag in _cpu_flags()), default=0)


def takes_unsigned(engine: str) -> bool:
    """Say whether an engine takes its left operand as u8 with zero point 128, else as s8."""
    return engine == "onnxruntime"


def shift_blocks(count: int) -> Iterator[tuple[int, int]]:
    """Yield, for each shift 0 .. 2 count - 2 of a product of numbers of so many digits, (d, n).

    Left digits d .. d + n - 1 meet right digits shift - d, shift - d - 1, ...; a block has them one after the other.
    """
    for shift in range(2 * count - 1):
        first = max(0, shift - count + 1)
        yield first, min(shift, count - 1) - first + 1


def digit_product(buffers: Sequence[npt.NDArray[np.uint8]], parameters: tuple[Any, ...]) -> None:
    """Write the i32 sums of each shift, (2 count - 1, B, M, N). buffers: left and right blocks, sums.

    parameters: engine, B, M, N, K, count. left: for each shift (B, M, n K); right: for each shift (B, n K, N).
    Raises KernelError if the library fails.
    """
    engine, batch, rows, columns, depth, count = parameters
    left, right, sums = buffers
    multiply = ENGINES[engine]()
    kind = np.uint8 if takes_unsigned(engine) else np.int8
    left_at = right_at = out_at = 0
    for _, pairs in shift_blocks(count):
        left_end, right_end = left_at + batch * rows * pairs * depth, right_at + batch * columns * pairs * depth
        out_end = out_at + 4 * batch * rows * columns
        a = left[left_at:left_end].view(kind).reshape(batch, rows, pairs * depth)
        b = right[right_at:right_end].view(np.int8).reshape(batch, pairs * depth, columns)
        out = sums[out_at:out_end].view(np.int32).reshape(batch, rows, columns)
        try:
            multiply(a, b, out)
        except Exception as error:  # each library has classes of its own
            raise KernelError(f"{engine} cannot multiply: {' '.join(str(error).split())[:200]}") from error
        left_at, right_at, out_at = left_end, right_end, out_end


@cache
def _cpu_flags() -> frozenset[str]:
    """Return what Linux says an x86 CPU can do; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


@cache
def choose_engine() -> str | None:
    flags = _cpu_flags()
    names = (name for name in ENGINES if name not in _NEEDS or _NEEDS[name] in flags)
    return next((name for name in names if find_spec(name) and is_exact(name, digit_bits())), None)


def is_exact(engine: str, bits: int) -> bool:
    """Say whether an engine loads and multiplies extreme digits of so many bits exactly."""
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1
    left, right = np.full((1, 70, 1030), least, np.int8), np.full((1, 1030, 41), least, np.int8)
    left[:, ::2] = right[:, :, ::3] = most
    sums = np.empty((1, 70, 41), np.int32)
    given = left.view(np.uint8) ^ 0x80 if takes_unsigned(engine) else left
    try:
        ENGINES[engine]()(given, right, sums)
    except Exception:  # whatever a broken installation raises: it is of no use
        return False
    return bool(np.array_equal(sums, left.astype(np.int32) @ right.astype(np.int32)))


@cache
def _load_onnxruntime() -> Multiply:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are the device's next
    session = runtime.InferenceSession(_integer_product_model(), options, providers=["CPUExecutionProvider"])

    def multiply(left: Array, right: Array, out: Array) -> None:
        binding = session.io_binding()
        binding.bind_input("a", "cpu", 0, np.uint8, left.shape, left.ctypes.data)
        binding.bind_input("b", "cpu", 0, np.int8, right.shape, right.ctypes.data)
        binding.bind_output("c", "cpu", 0, np.int32, out.shape, out.ctypes.data)
        session.run_with_iobinding(binding)

    return multiply


def _integer_product_model() -> bytes:
    """Return an ONNX model, c = MatMulInteger(a u8, b s8, zero point of a = 128), in the wire format of protobuf."""
    u8, s8, i32 = 2, 3, 6  # TensorProto.DataType
    zero = _number(2, u8) + _part(9, b"\x80") + _part(8, b"z")  # TensorProto: data_type, raw_data, name
    node = b"".join(_part(1, name) for name in (b"a", b"b", b"z")) + _part(2, b"c") + _part(4, b"MatMulInteger")
    graph = _part(1, node) + _part(2, b"g") + _part(5, zero)
    for field, name, kind in ((11, b"a", u8), (11, b"b", s8), (12, b"c", i32)):  # inputs, output
        graph += _part(field, _part(1, name) + _part(2, _part(1, _number(1, kind))))
    return _number(1, 7) + _part(8, _number(2, 13)) + _part(7, graph)  # ModelProto: ir_version, opset_import, graph


def _number(field: int, value: int) -> bytes:
    """Return a field of a message: a number below 128."""
    return bytes([field << 3, value])


def _part(field: int, value: bytes) -> bytes:
    """Return a field of a message: fewer than 128 bytes."""
    return bytes([field << 3 | 2, len(value)]) + value


@cache
def _load_torch() -> Multiply:
    torch = import_module("torch")

    def multiply(left: Array, right: Array, out: Array) -> None:
        for a, b, c in zip(left, right, out, strict=True):
            torch._int_mm(torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(c))

    return multiply


ENGINES: Final[dict[str, Callable[[], Multiply]]] = {"onnxruntime": _load_onnxruntime, "torch": _load_torch}

HOST_STEPS: Final[dict[str, HostStep]] = {"digit_product": digit_product}
