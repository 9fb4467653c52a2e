"""The exhaustive check: it passes what is right, reports every wrong bit, and its oracle in C agrees with MPFR."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.kernels.functions import BINARY, UNARY
from tests.kernels import long_double_oracle
from tests.kernels.conformance import BLOCK_ORDER, check_halves, describe_device, on_device, parse_arguments
from tests.kernels.conformance_table import Row, format_table, merge_rows, parse_table, write_rows
from tests.kernels.exhaustive import BLOCK, check_function, distance_to_boundary, worst_distance
from tests.kernels.long_double_oracle import SIGN, LongDoubleOracle, Mismatch, OracleUnavailableError, load_oracle
from tests.kernels.oracle_functions import oracle, value_of_f32

# Where the oracle in C changes over: ends of its shortcuts and of domains, overflow, underflow, ties.
BORDERS = (
    *(0.0, 2.0**-149, 2.0**-126, 2.0**-27, 2.0**-26, 2.0**-25, 2.0**-13, 2.0**-12, 0.5, 1.0, 2.0, 5.0, 10.0545),
    *(11.0, 12.0, 20.0, 87.3365, 88.72284, 89.0, 89.416, 91.0, 103.2789, 103.97208, 105.0, 126.0, 127.0, 128.0),
    *(129.0, 149.0, 150.0, 152.0, 1.5707964, 16367173.0 * 2.0**72, 2.0**126, 2.0**127, 3.4e38, float("inf")),
)
RUN = 10

F32Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def in_c() -> LongDoubleOracle:
    """Return the oracle, or skip with the reason why it can't run here."""
    try:
        return load_oracle()
    except OracleUnavailableError as error:
        pytest.skip(f"no oracle: {error}")


def bits_of_f32(x: float) -> int:
    """Return the bits of the nearest f32."""
    return int(np.float32(x).view(np.uint32))


def on_numpy(name: str) -> Callable[[F32Array], F32Array]:
    """Return a function of the numpy device."""
    return on_device(NumpyDevice(), name)


def flipping(evaluate: Callable[[F32Array], F32Array], *inputs: int) -> Callable[[F32Array], F32Array]:
    """Return `evaluate` with the last bit of its results at these input bits flipped."""

    def wrong(x: F32Array) -> F32Array:
        bits = np.array(evaluate(x)).view(np.uint32)
        bits[np.isin(x.view(np.uint32), np.array(inputs, np.uint32))] ^= 1
        return bits.view(np.float32)

    return wrong


def mpfr_bits(name: str, first: int, count: int) -> NDArray[np.uint32]:
    """Return MPFR's results at consecutive input bits."""
    return np.array([oracle(name, value_of_f32(bits), "f32") for bits in range(first, first + count)], np.uint32)


@pytest.mark.parametrize(("name", "blocks"), [("log", [0x3F]), ("reciprocal", [0x7E, 0xFE])])
def test_check_function_passes_the_numpy_device(in_c: LongDoubleOracle, name: str, blocks: list[int]) -> None:
    report = check_function(name, on_numpy(name), blocks=blocks)
    assert (report.mismatches, report.mismatch_count, report.inputs) == ((), 0, len(blocks) * BLOCK)
    assert report.undecided < 100
    assert report.worst_distance_log2 is not None and report.worst_input is not None
    assert -60 < report.worst_distance_log2 < -46
    assert report.worst_input >> 24 in blocks


def test_check_function_reports_flipped_bits(in_c: LongDoubleOracle) -> None:
    # 0xC3160000 is -150: 2^-150 is a tie between 0 and 2^-149, which only MPFR settles.
    inputs = (0xC3160000, 0xC3000001, 0xC3FFFFFF)
    report = check_function("exp2", flipping(on_numpy("exp2"), *inputs), blocks=[0xC3])
    assert report.undecided >= 1
    assert report.mismatch_count == 3
    assert {mismatch.input_bits for mismatch in report.mismatches} == set(inputs)
    assert all(mismatch.actual == mismatch.expected ^ 1 for mismatch in report.mismatches)
    assert Mismatch(0xC3160000, 0, 1) in report.mismatches


def test_check_function_compares_both_signs_of_an_odd_function(in_c: LongDoubleOracle) -> None:
    inputs = (0x00000000, 0x80000000, 0x00000001, 0x80FFFFFF)
    report = check_function("sin", flipping(lambda x: x, *inputs), blocks=[0, 128])  # sin(x) = x after rounding
    assert [mismatch.input_bits for mismatch in report.mismatches] == sorted(inputs)


def test_check_function_counts_all_and_keeps_the_first_hundred(in_c: LongDoubleOracle) -> None:
    report = check_function("sqrt", lambda x: np.zeros_like(x), blocks=[0xFF])  # every right answer is NaN
    assert (report.mismatch_count, len(report.mismatches)) == (BLOCK, 100)
    assert report.mismatches[0] == Mismatch(0xFF000000, 0x7FC00000, 0)
    assert (report.worst_distance_log2, report.worst_input) == (None, None)


def test_check_function_compares_the_bits_of_nan(in_c: LongDoubleOracle) -> None:
    nan = np.array(0xFFC00000, np.uint32).view(np.float32)
    report = check_function("log", lambda x: np.full_like(x, nan), blocks=[0xFF])
    assert report.mismatch_count == BLOCK


def test_check_function_refuses_what_is_no_block_and_no_result(in_c: LongDoubleOracle) -> None:
    for blocks in ([256], [-1, 3]):
        with pytest.raises(ValueError, match="blocks are 0 to 255"):
            check_function("exp", lambda x: x, blocks=blocks)
    with pytest.raises(ValueError, match="unknown function"):
        check_function("gamma", lambda x: x, blocks=[0])
    with pytest.raises(ValueError, match="float64"):
        check_function("exp", lambda x: x.astype(np.float64), blocks=[0])


@pytest.mark.parametrize("name", UNARY)
def test_check_range_agrees_with_mpfr(in_c: LongDoubleOracle, name: str) -> None:
    rng = np.random.default_rng(UNARY.index(name))
    starts = [max(0, bits_of_f32(border) - RUN // 2) for border in BORDERS]
    starts += rng.integers(0, SIGN - RUN, 20000 // (2 * RUN)).tolist()
    undecided = 0
    for first in starts:
        bits = [mpfr_bits(name, first | sign, RUN) for sign in (0, SIGN)]
        tally = in_c.check_range(name, first, bits[0], bits[1])
        assert tally.mismatches == (), f"{name}: {tally.mismatches[0]}"
        undecided += len(tally.undecided)
        if first % 16 == 0:
            wrong = in_c.check_range(name, first, bits[0] ^ np.uint32(1), bits[1] ^ np.uint32(1))
            assert wrong.mismatch_count + len(wrong.undecided) == 2 * RUN
    assert undecided <= 4


def test_check_range_refuses_ranges_that_cannot_be(in_c: LongDoubleOracle) -> None:
    bits = np.zeros(8, np.uint32)
    for first, positive, negative in [
        (SIGN - 7, bits, None),
        (-1, bits, None),
        (0, bits[::2], None),
        (0, bits, bits[1:]),
    ]:
        with pytest.raises(ValueError, match="want"):
            in_c.check_range("exp", first, positive, negative)
    with pytest.raises(ValueError, match="want"):
        in_c.check_range("exp", 0, None, None)
    with pytest.raises(ValueError, match="want"):
        in_c.check_range("exp", 0, bits.astype(np.uint64), None)


def test_load_oracle_refuses_a_short_long_double(in_c: LongDoubleOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_double_oracle, "FLAGS", (*long_double_oracle.FLAGS, "-mlong-double-64"))
    with pytest.raises(OracleUnavailableError, match="mantissa of 64 bits") as caught:
        load_oracle.__wrapped__()
    assert "\n" not in str(caught.value)


def test_load_oracle_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OracleUnavailableError, match="no C compiler"):
        load_oracle.__wrapped__()


@pytest.mark.parametrize(
    ("name", "x", "distance"),
    [
        ("sqrt", 1 - 2.0**-24, 2.0**-51),  # 1 - 2^-25 - 2^-51 - ...
        ("logistic", 2.0**-23, 2.0**-69 / 24),  # 1/2 + x/4 - x^3/48
        ("exp", 2.0**-24, 2.0**-49),  # 1 + x + x^2/2
        ("cos", 2.0**-12, 2.0**-48 / 24),  # 1 - x^2/2 + x^4/24
        # 2/3 is 0xAAAAAA + 2/3 steps of 2^-24: 1/6 of a step from a midpoint
        ("reciprocal", 1.5, 2.0**-24 / 4),
    ],
)
def test_distance_to_boundary_is_exact(name: str, x: float, distance: float) -> None:
    assert float(distance_to_boundary(name, x)) == pytest.approx(distance, rel=1e-5)


def test_distance_to_boundary_knows_subnormal_steps_and_ties() -> None:
    assert distance_to_boundary("exp2", -150.0) is None
    # 2^(-150 + 2^-16) lies above the tie by about 2^-16 ln 2
    assert float(distance_to_boundary("exp2", -150 + 2.0**-16)) == pytest.approx(2.0**-16 * np.log(2), rel=1e-4)
    assert worst_distance("exp2", [bits_of_f32(-150.0)]) == (None, None)


def test_worst_distance_takes_the_least_of_equal_inputs() -> None:
    ones = [bits_of_f32((1 - 2.0**-24) * 4.0**k) for k in (3, 0, -5)]
    worst_log2, worst_input = worst_distance("sqrt", ones)
    assert worst_log2 == pytest.approx(-51, abs=1e-4)
    assert worst_input == min(ones)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_check_halves_names_the_one_wrong_result(dtype: str) -> None:
    class Wrong(NumpyDevice):
        def download(self, buffer: Any) -> Any:
            bits = np.array(buffer).view(np.uint16)
            bits[0x3C01] ^= 1
            return bits.view(buffer.dtype)

    ((bits, expected, actual),) = check_halves(Wrong(), "sqrt", dtype)
    assert (bits, actual) == (0x3C01, expected ^ 1)


def row(function: str, device: str, mismatches: int) -> Row:
    """Return a row of a table."""
    return Row(function, "16777216", str(mismatches), "3", "0", "0", device, "2026-11-21", "-51.00", "0x3F7FFFFF")


def test_table_keeps_other_rows(tmp_path: Path) -> None:
    path = tmp_path / "TABLE.md"
    write_rows([row("sqrt", "b", 0), row("exp", "b", 0)], path)
    write_rows([row("sqrt", "a", 0), row("exp", "b", 7)], path)
    rows = parse_table(path.read_text())
    assert rows == [row("exp", "b", 7), row("sqrt", "a", 0), row("sqrt", "b", 0)]
    assert path.read_text() == format_table(rows)
    assert merge_rows(rows, []) == rows


def test_parse_table_refuses_another_table() -> None:
    text = format_table([row("exp", "a", 0)])
    assert parse_table("") == []
    for bad in (text.replace("mismatches", "errors"), text + "| exp | 1 |\n"):
        with pytest.raises(ValueError, match="not the table"):
            parse_table(bad)


def test_block_order_meets_every_block_once() -> None:
    assert sorted(BLOCK_ORDER) == list(range(256))
    assert struct.unpack("<f", struct.pack("<I", BLOCK_ORDER[0] << 24))[0] == 0.5


def test_arguments_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse_arguments(["--functions", "exp,tan", "--blocks", "3", "--write"])
    assert (options.functions, options.blocks, options.write, options.device) == (["exp", "tan"], 3, True, "numpy")
    assert parse_arguments([]).functions == [*UNARY, *BINARY]
    for bad in (["--functions", "exp,gamma"], ["--blocks", "0"], ["--blocks", "257"], ["--device", "abacus"]):
        with pytest.raises(SystemExit):
            parse_arguments(bad)
    assert describe_device(NumpyDevice()) == f"numpy {np.__version__}"
