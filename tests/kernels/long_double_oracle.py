"""The oracle in C (oracle_f32.c), compiled by the system's compiler when it is first asked for."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SOURCE: Final = Path(__file__).with_name("oracle_f32.c")
FLAGS: Final = ("-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")
COMPILE_TIMEOUT_S: Final = 120
SIGN: Final = 0x80000000

# As oracle_f32.c has them.
MISMATCH_ROOM: Final = 100
ROOM: Final = 16384

Bits = NDArray[np.uint32]


class OracleUnavailableError(RuntimeError):
    """This machine can't run the oracle: no C compiler, another C library, or a shorter long double."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An input whose result is wrong, all as f32 bits."""

    input_bits: int
    expected: int
    actual: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What the oracle found in one range of inputs."""

    mismatches: tuple[Mismatch, ...]  # the first 100
    mismatch_count: int
    close: tuple[int, ...]  # input bits; values within 2^-46 of a boundary; one of a pair where f is odd or even
    undecided: tuple[tuple[int, int], ...]  # (input bits, the device's bits): neither right nor wrong yet


class _CTally(ctypes.Structure):
    """``struct tally``."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("mismatches", "close", "undecided")),
        *((name, ctypes.c_uint32 * MISMATCH_ROOM) for name in ("mismatch_input", "mismatch_expected")),
        ("mismatch_actual", ctypes.c_uint32 * MISMATCH_ROOM),
        *((name, ctypes.c_uint32 * ROOM) for name in ("close_input", "undecided_input", "undecided_actual")),
    )


class LongDoubleOracle:
    """The compiled oracle; `check_range` may run on many threads at once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._function_index = library.function_index
        self._function_index.argtypes = [ctypes.c_char_p]
        self._function_index.restype = ctypes.c_int
        self._check_range = library.check_range
        self._check_range.argtypes = [
            *(ctypes.c_int, ctypes.c_uint32, ctypes.c_uint32),
            *(ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_CTally)),
        ]
        self._check_range.restype = None

    def check_range(self, name: str, first: int, positive: Bits | None, negative: Bits | None) -> Tally:
        """Compare a device's bits with the certified ones; raises ValueError for an unknown function.

        positive: (n,) bits of f at the inputs of bits first ... first + n - 1 < 2^31; negative: the same with the sign
        bit set. Either may be left out.
        """
        index = self._function_index(name.encode())
        given = [array for array in (positive, negative) if array is not None]
        sizes = {array.shape for array in given}
        if index < 0 or len(sizes) != 1:
            raise ValueError(f"unknown function {name!r}" if index < 0 else f"shapes {sorted(sizes)}, want one")
        (count,) = sizes.pop()
        if not 0 <= first <= first + count <= SIGN or any(a.dtype != np.uint32 or not a.data.contiguous for a in given):
            raise ValueError(f"{count} bits from {first:#x}: want contiguous uint32, below 2^31")
        tally = _CTally()
        pointers = [None if array is None else array.ctypes.data for array in (positive, negative)]
        self._check_range(index, first, count, *pointers, ctypes.byref(tally))
        return _read_tally(name, tally)


@cache
def load_oracle() -> LongDoubleOracle:
    """Compile and load the oracle; raises OracleUnavailableError with one line that says what is missing."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise OracleUnavailableError("there is no C compiler (cc)")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "oracle_f32.so"
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(library), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or ["it failed"]
            raise OracleUnavailableError(f"cc {SOURCE.name}: {lines[0].rpartition('error')[2].strip(' :')}")
        # A loaded library stays in memory when its file is gone.
        return LongDoubleOracle(ctypes.CDLL(str(library)))


def _read_tally(name: str, tally: Any) -> Tally:
    if max(tally.close, tally.undecided) > ROOM:
        # Never seen; it would take a family of values beside boundaries, which then needs a certificate of its own.
        raise AssertionError(f"{name}: {tally.close} close and {tally.undecided} undecided inputs, room for {ROOM}")
    shown = min(tally.mismatches, MISMATCH_ROOM)
    columns = (tally.mismatch_input, tally.mismatch_expected, tally.mismatch_actual)
    return Tally(
        mismatches=tuple(Mismatch(*row) for row in zip(*(column[:shown] for column in columns), strict=True)),
        mismatch_count=tally.mismatches,
        close=tuple(tally.close_input[: tally.close]),
        undecided=tuple(
            zip(tally.undecided_input[: tally.undecided], tally.undecided_actual[: tally.undecided], strict=True)
        ),
    )
