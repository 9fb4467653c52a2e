"""Every engine of dot_general gives the same bits, digits through int8 libraries included; and when they are chosen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samebits.cas.dtype import numpy_dtype
from samebits.kernels.codegen import host
from samebits.kernels.codegen.dot import lower_dot
from samebits.kernels.codegen.dot_digits import digit_count, lower_float_digits, suits_digits
from samebits.kernels.codegen.program import HostCall, Layout, ProgramBuilder
from samebits.kernels.codegen.view import stored
from samebits.kernels.types import TensorType
from tests.kernels.dot_products import Case, float_contents, product_of

Array = npt.NDArray[Any]
P = {"highest": 22, "high": 15}
# (layout, int8 library, bits of its digits); "plain" is NumPy's integer product, which tries the digits by themselves
Engine = tuple[Layout, str | None, int | None]
KERNELS: tuple[Engine, ...] = (("cpu", None, None), ("gpu", None, None))
DIGITS: tuple[Engine, ...] = (
    ("cpu", "plain", 7),
    ("cpu", "plain", 8),
    ("cpu", "onnxruntime", 7),
    ("cpu", "onnxruntime", 8),
    ("cpu", "torch", 7),
    ("cpu", "torch", 8),
)
CASES = [
    Case((1, 1, 1, 1)),
    Case((1, 17, 63, 65)),
    Case((2, 15, 65, 64), "transposed", "rows", "high"),
    Case((1, 33, 129, 63), "half", "columns"),
    Case((1, 130, 64, 70), "plain", "both", "high"),
    Case((3, 5, 64, 9), "cut", "both", "highest", "bf16"),
    Case((2, 16, 31, 66), "shared", "columns", "high", "f16"),
]


@pytest.fixture(autouse=True)
def plain_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer NumPy's integer product as a library."""

    def multiply(left: Array, right: Array, out: Array) -> None:
        out[...] = left.astype(np.int32) @ right.astype(np.int32)

    monkeypatch.setitem(host.ENGINES, "plain", lambda: multiply)


def why_not(library: str | None, bits: int | None) -> str | None:
    """Return why an engine can't be compared here."""
    if library is None or bits is None or library == "plain":
        return None
    if find_spec(library) is None:
        return f"{library} is not installed"
    if bits == 8 and not host.is_exact(library, bits):  # then int8_engine does not take it
        return f"{library} saturates on digits of 8 bits on this CPU"
    return None


def extreme_digits(case: Case, bits: int) -> Iterator[tuple[str, Array, Array]]:
    """Yield contents on whose grid all digits but the top one are the least or the greatest."""
    p = P[case.precision]
    count = digit_count(p, bits)
    low = sum(1 << bits * i for i in range(count - 1))
    top = 1 << bits * (count - 1)
    most = ((1 << bits - 1) - 1) * low
    least = -(1 << bits - 1) * low
    picks = [most + ((127 << p >> 7) - most) // top * top, least - ((127 << p >> 7) + least) // top * top]
    assert all(127 << p >> 8 <= abs(q) <= 127 << p >> 7 for q in picks)  # so the exponent of the line is 0
    values = np.array(picks, np.float64) / 2.0**p
    kind = numpy_dtype(case.dtype)
    left, right = case.stored_shapes()
    for a in values:
        for b in values:
            yield f"{bits} bits, all {a} and {b}", np.full(left, a).astype(kind), np.full(right, b).astype(kind)
    rng = np.random.default_rng(bits)
    yield f"{bits} bits, mixed", rng.choice(values, left).astype(kind), rng.choice(values, right).astype(kind)


@pytest.mark.parametrize("engine", [*KERNELS, *DIGITS], ids=lambda e: "-".join(str(x) for x in e if x is not None))
def test_every_engine_has_the_bits_of_the_numpy_engine(engine: Engine) -> None:
    reason = why_not(*engine[1:])
    if reason:
        pytest.skip(reason)
    for case in CASES:
        product = product_of(case, *engine)
        contents = [*float_contents(case, sum(case.sizes)), *extreme_digits(case, 7), *extreme_digits(case, 8)]
        for what, a, b in contents:
            product.check(a, b, (engine, what))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_engines_agree_on_any_floats(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from([CASES[1], CASES[2], CASES[5]]))
    kind = np.dtype(f"<u{numpy_dtype(case.dtype).itemsize}")
    contents = []
    for shape in case.stored_shapes():
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        picks = data.draw(st.lists(st.integers(0, 2 ** (8 * kind.itemsize) - 1), min_size=1, max_size=12))
        contents.append(rng.choice(np.array(picks, kind), shape).view(numpy_dtype(case.dtype)))
    for engine in (*KERNELS, *DIGITS):
        if why_not(*engine[1:]) is None:
            product_of(case, *engine).check(contents[0], contents[1], engine)


@pytest.mark.parametrize("engine", DIGITS[1:4], ids=str)
def test_digit_sums_hold_the_longest_k(engine: Engine) -> None:
    reason = why_not(*engine[1:])
    if reason:
        pytest.skip(reason)
    bits = engine[2] or 0
    depth = host.MAX_TERMS // digit_count(22, bits)
    case = Case((1, 2, depth, 3), "plain", "columns")
    for what, a, b in extreme_digits(case, bits):
        product_of(case, *engine).check(a, b, what)


def test_digit_count_is_the_least_that_holds_every_whole_number() -> None:
    assert [digit_count(p, bits) for p in (15, 22) for bits in (8, 7)] == [2, 3, 3, 4]
    for p in range(7, 23):
        for bits in (7, 8):
            reach = [((1 << bits - 1) - 1) * sum(1 << bits * i for i in range(n)) for n in range(6)]
            count = digit_count(p, bits)
            assert reach[count - 1] < 127 * 2 ** (p - 7) <= reach[count]


def test_shift_blocks_pair_every_two_digits_once() -> None:
    for count in (1, 2, 3, 4):
        pairs = [
            (d, shift - d) for shift, (first, n) in enumerate(host.shift_blocks(count)) for d in range(first, first + n)
        ]
        assert sorted(pairs) == [(d, e) for d in range(count) for e in range(count)]


def test_int8_engine_imports_no_library_where_it_cannot_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_cpu_flags", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr(host, "import_module", lambda name: pytest.fail(f"imports {name}"))
    assert host.int8_engine() is None
    assert (host.digit_bits(), host.most_products()) == (7, 0)
    assert not suits_digits(4096, 4096, 4096, 15)


def test_int8_engine_skips_a_library_that_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(left: Array, right: Array, out: Array) -> None:
        exact = left.astype(np.int32) @ right.astype(np.int32)
        out[...] = np.minimum(exact, 1030 << 13)

    def broken() -> host.Multiply:
        raise OSError("a shared library is missing")

    def plain(left: Array, right: Array, out: Array) -> None:
        out[...] = left.astype(np.int32) @ right.astype(np.int32)

    monkeypatch.setattr(host, "_cpu_flags", lambda: frozenset({"avx512_vnni"}))
    monkeypatch.setattr(host, "find_spec", lambda name: None if name == "absent" else sys)
    engines = {"absent": broken, "broken": broken, "saturating": lambda: saturating, "good": lambda: plain}
    monkeypatch.setattr(host, "ENGINES", engines)
    host.choose_engine.cache_clear()
    try:
        assert host.int8_engine() == "good"
        host.choose_engine.cache_clear()
        monkeypatch.setattr(host, "ENGINES", {"torch": lambda: plain})
        assert host.int8_engine() == "torch"
        host.choose_engine.cache_clear()
        monkeypatch.setattr(host, "_cpu_flags", lambda: frozenset({"avx_vnni"}))
        assert host.int8_engine() is None  # there torch is slow
    finally:
        host.choose_engine.cache_clear()


def test_dot_takes_digits_for_large_products_of_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_cpu_flags", lambda: frozenset({"avx512_vnni", "avx_vnni"}))

    def takes_digits(sizes: tuple[int, int, int], engine: str | None, precision: str, layout: Layout = "cpu") -> bool:
        builder = ProgramBuilder(layout, engine)
        m, k, n = sizes
        a, b, out = (
            stored(builder.buffer(4 * rows * columns), TensorType("f32", (1, rows, columns)))
            for rows, columns in ((m, k), (k, n), (m, n))
        )
        lower_dot(builder, a, b, out, precision=precision, grid="both")
        return any(isinstance(step, HostCall) for step in builder.steps)

    large = (1024, 1024, 1024)
    assert takes_digits(large, "torch", "highest")
    assert takes_digits((64, 21845, 64), "torch", "highest")
    assert takes_digits((64, 32767, 64), "torch", "high")
    assert not takes_digits(large, None, "highest")
    assert not takes_digits(large, "torch", "highest", "gpu")
    for small in ((64, 64, 64), (63, 4096, 4096), (4096, 4096, 63), (64, 21846, 64)):
        assert not takes_digits(small, "torch", "highest"), small
    monkeypatch.setattr(host, "_cpu_flags", lambda: frozenset({"avx_vnni"}))  # four products of three digits cost more
    assert not takes_digits(large, "torch", "highest")
    assert takes_digits(large, "torch", "high")


def test_digits_refuse_a_sum_that_could_overflow() -> None:
    builder = ProgramBuilder("cpu", "torch")
    a, b, out = (stored(builder.buffer(4), TensorType("f32", s)) for s in ((1, 2, 21846), (1, 21846, 2), (1, 2, 2)))
    with pytest.raises(ValueError, match="too long"):
        lower_float_digits(builder, a, b, out, p=22, grid="both", bits=8)
    assert host.MAX_TERMS * 255 * 128 < 2**31
