"""Check a unary f32 function of a device on all 2^32 inputs, and measure how close its values come to a boundary.

The oracle in C certifies nearly every answer with 80-bit arithmetic; MPFR settles the rest. It shares no code with the
kernels. A boundary is a real number where rounding to f32 changes over: a midpoint of two neighbours, subnormals
included. How close the values of f come to one says how accurate an evaluation must be before it is rounded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import gmpy2
import numpy as np
from numpy.typing import NDArray

from tests.kernels.long_double_oracle import MISMATCH_ROOM, SIGN, Bits, LongDoubleOracle, Mismatch, Tally, load_oracle
from tests.kernels.oracle_functions import oracle, value_of_f32, wide

BLOCK: Final = 1 << 24  # inputs given to the device at once
BLOCKS: Final = (1 << 32) // BLOCK
PIECE: Final = 1 << 22  # inputs given to one oracle thread at once
WORKERS: Final = 2
PIECES_AHEAD: Final = 16  # bounds the memory held by results that wait for the oracle

F32Array = NDArray[np.float32]
Evaluate = Callable[[F32Array], F32Array]

_WIDE = gmpy2.context(precision=300, emin=gmpy2.get_emin_min(), emax=gmpy2.get_emax_max())


@dataclass(frozen=True, slots=True)
class FunctionReport:
    """What was found over the blocks that were checked."""

    function: str
    inputs: int
    mismatches: tuple[Mismatch, ...]  # the first 100, by input bits
    mismatch_count: int
    undecided: int  # inputs that the oracle in C left to MPFR
    worst_distance_log2: float | None  # of |f(x) - boundary| / |f(x)|; None: no value within 2^-47 of a boundary
    worst_input: int | None  # f32 bits; the least, where several are as close
    seconds: float


def check_function(name: str, evaluate: Evaluate, *, blocks: Iterable[int] | None = None) -> FunctionReport:
    """Compare `evaluate` with the oracle on blocks of 2^24 consecutive bit patterns, by default on all 256.

    `evaluate` maps (n,) f32 to (n,) f32; it is called in this thread while the oracle works in others. Raises
    OracleUnavailableError, ValueError for a block, a function or a result that can't be.
    """
    start = time.monotonic()
    wanted = sorted(set(range(BLOCKS) if blocks is None else blocks))
    if wanted and not 0 <= wanted[0] <= wanted[-1] < BLOCKS:
        raise ValueError(f"blocks are 0 to {BLOCKS - 1}, not {wanted[0]} to {wanted[-1]}")
    tallies = list(_tallies(load_oracle(), name, evaluate, wanted))
    undecided = [pair for tally in tallies for pair in tally.undecided]
    settled = _settle(name, undecided)
    mismatches = [*settled, *(mismatch for tally in tallies for mismatch in tally.mismatches)]
    worst_log2, worst_input = worst_distance(name, (bits for tally in tallies for bits in tally.close))
    return FunctionReport(
        function=name,
        inputs=len(wanted) * BLOCK,
        mismatches=tuple(sorted(mismatches, key=lambda mismatch: mismatch.input_bits)[:MISMATCH_ROOM]),
        mismatch_count=len(settled) + sum(tally.mismatch_count for tally in tallies),
        undecided=len(undecided),
        worst_distance_log2=worst_log2,
        worst_input=worst_input,
        seconds=time.monotonic() - start,
    )


def _tallies(oracle_in_c: LongDoubleOracle, name: str, evaluate: Evaluate, blocks: list[int]) -> Iterator[Tally]:
    """Yield the tallies of all pieces; the device is never more than a few pieces ahead of the oracle."""
    waiting: deque[Future[Tally]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for positive_block, has_signs in _sign_pairs(blocks):
            first = positive_block * BLOCK
            results = [_evaluate_block(evaluate, first | sign) if has else None for sign, has in has_signs]
            for start in range(0, BLOCK, PIECE):
                pieces = [None if result is None else result[start : start + PIECE] for result in results]
                waiting.append(pool.submit(oracle_in_c.check_range, name, first + start, *pieces))
            while len(waiting) > PIECES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _sign_pairs(blocks: list[int]) -> Iterator[tuple[int, tuple[tuple[int, bool], tuple[int, bool]]]]:
    """Yield each block of positive inputs with which of both signs are wanted: an odd f is evaluated once for both."""
    half = BLOCKS // 2
    for block in sorted({block % half for block in blocks}):
        yield block, ((0, block in blocks), (SIGN, block + half in blocks))


def _evaluate_block(evaluate: Evaluate, first: int) -> Bits:
    inputs = np.arange(first, first + BLOCK, dtype=np.uint64).astype(np.uint32).view(np.float32)
    result = evaluate(inputs)
    if result.dtype != np.float32 or result.shape != inputs.shape:
        raise ValueError(f"the device gave {result.dtype} {result.shape}, want float32 {inputs.shape}")
    return np.ascontiguousarray(result).view(np.uint32)


def _settle(name: str, undecided: Iterable[tuple[int, int]]) -> list[Mismatch]:
    """Return those of (input bits, actual bits) that MPFR finds wrong."""
    judged = (Mismatch(bits, oracle(name, value_of_f32(bits), "f32"), actual) for bits, actual in undecided)
    return [mismatch for mismatch in judged if mismatch.expected != mismatch.actual]


def worst_distance(name: str, inputs: Iterable[int]) -> tuple[float | None, int | None]:
    """Return log2 of the least distance among inputs (f32 bits), and its input; (None, None) if none has one."""
    distances = ((distance_to_boundary(name, value_of_f32(bits)), bits) for bits in inputs)
    least, at = min(((distance, bits) for distance, bits in distances if distance is not None), default=(None, None))
    return (None if least is None else float(gmpy2.log2(least))), at


def distance_to_boundary(name: str, x: float) -> Any:
    """Return |f(x) - M| / |f(x)| for the midpoint M of the step of the f32 grid that holds f(x), to 64 bits.

    None where f(x) is M itself, a tie: it is settled by definition and not by accuracy. x is an f32 value whose f(x) is
    finite and not 0. (The midpoint of another step may be nearer, but then none is near.)
    """
    value = abs(gmpy2.mpq(*_value(name, x).as_integer_ratio()))  # exact: abs() of an mpfr would round it
    exponent = _binade(value)
    step = gmpy2.mpq(2) ** max(exponent - 23, -149)
    midpoint = (value // step + gmpy2.mpq(1, 2)) * step
    if value == midpoint:
        return None
    with gmpy2.context(precision=64):
        return gmpy2.mpfr(abs(value - midpoint) / value)


def _binade(value: Any) -> int:
    """Return e with 2^e <= value < 2^(e+1), value a positive rational."""
    guess = int(value.numerator.bit_length()) - int(value.denominator.bit_length())
    return guess if value >= gmpy2.mpq(2) ** guess else guess - 1


def _value(name: str, x: float) -> Any:
    """Return f(x) to 300 bits; its error is far below any distance that f32 arguments can give (2^-80 or so)."""
    argument = wide(x)
    match name:
        case "logistic":
            return _WIDE.div(1, _WIDE.add(1, _WIDE.exp(-argument)))
        case "reciprocal":
            return _WIDE.div(1, argument)
        case "rsqrt":
            return _WIDE.rec_sqrt(argument)
        case _:
            return getattr(_WIDE, name)(argument)
