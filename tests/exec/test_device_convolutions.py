"""Convolutions on an OpenCL device, in both layouts, bit for bit as on the numpy device: borders, views, gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from tests.exec.kernel_devices import LAYOUTS, check_same, open_opencl, run_on
from tests.kernels.convolution_cases import Case, case
from tests.kernels.float_samples import from_bits, sample

from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.errors import RunError
from samebits.kernels.codegen.lowering import MAX_ELEMENTS
from samebits.kernels.codegen.program import Layout
from samebits.kernels.reference import type_of

ONE = ((1, 1), (1, 1))
# filters around the widths of panels, windows around panels, rows and tiles, terms around partial sums
BORDERS = [
    *(case((1, 2, 3, 11), (filters, 2, 2, 3), None, ONE) for filters in (1, 2, 3, 4, 5, 6, 7)),
    *(case((1, 1, n + 2), (9, 1, 3)) for n in (1, 7, 8, 9, 63, 64, 65, 129)),
    *(case((3, k, 5), (7, k, 1), padding=((1, 0),)) for k in (511, 512, 513)),
    case((2, 128, 9, 9), (101, 128, 3, 3), None, ONE),  # several tiles of both sides, three partial sums
    case((1, 3, 70, 40), (13, 3, 3, 3), (2, 1), ONE, None, (1, 2)),
    case((6, 64, 2, 2), (70, 64, 2, 2), None, ONE, (2, 1)),
    case((5, 12, 9, 10), (12, 1, 3, 3), None, ONE, feature_groups=12),
    case((12, 3, 8, 9), (8, 3, 8, 9), None, ((1, 2), (2, 0)), batch_groups=4),
    case((2, 2, 5, 6, 10), (5, 2, 2, 3, 3), (1, 2, 1), (*ONE, (1, 0))),
    case((300, 1, 1, 1), (1, 1, 1, 1)),  # each window another sample
    case((2, 1, 40, 40), (1, 1, 1, 1), None, ((0, 0), (-3, 1))),
    case((2, 3, 9, 300), (6, 3, 2, 2), precision="high"),
]


class Convolutions:
    """A graph of convolutions and its inputs."""

    def __init__(self) -> None:
        self.build = GraphBuilder()
        self.inputs: dict[str, Any] = {}
        self._outputs = 0

    def operand(self, x: Any) -> ValueRef:
        """Return a new input that holds x."""
        name = f"x{len(self.inputs):04d}"
        self.inputs[name] = x
        return self.build.input(name, type_of(x))

    def add(self, lhs: ValueRef, rhs: ValueRef, which: Case) -> None:
        """Add a convolution, whose result is an output."""
        made = self.build.op("conv_general_dilated", lhs, rhs, **which.how.attributes())
        self.build.output(f"y{self._outputs:04d}", made)
        self._outputs += 1

    def add_arrays(self, which: Case, operands: Iterable[Any]) -> None:
        """Add a convolution of new inputs."""
        lhs, rhs = (self.operand(x) for x in operands)
        self.add(lhs, rhs, which)

    def check(self, layout: Layout) -> None:
        """Compare with the numpy device."""
        check_same(self.build.build(), self.inputs, layout)


def special(shape: tuple[int, ...], name: str, seed: int) -> Any:
    """Return elements with a NaN, an infinity, tiny values and -0 among them."""
    x = sample("ordinary", shape, name, seed)
    rng = np.random.default_rng(seed)
    for value in (np.nan, -np.inf, 2.0**-24, -0.0):
        x[tuple(int(rng.integers(n)) for n in shape)] = np.float32(value).astype(x.dtype)
    return x


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions_at_borders_have_the_bits_of_numpy(layout: Layout) -> None:
    graph = Convolutions()
    for number, which in enumerate(BORDERS if layout == "cpu" else BORDERS[1::2]):
        for kind in ("ordinary", "cancelling", "wide"):
            graph.add_arrays(which, (sample(kind, shape, "f32", number) for shape in (which.lhs, which.rhs)))
        graph.add_arrays(which, (special(shape, "f32", number) for shape in (which.lhs, which.rhs)))
    graph.check(layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions_sum_exactly_beyond_2_to_the_53(layout: Layout) -> None:
    graph = Convolutions()
    which = case((2, 1200, 3, 4), (7, 1200, 2, 2), None, ((0, 0), (1, 0)))
    for flipped in (False, True):
        lhs, rhs = (np.full(shape, from_bits(0x3F7DFFFF, "f32")) for shape in (which.lhs, which.rhs))
        if flipped:
            rhs[:, 600:] *= np.float32(-1)
            lhs[:, 0] = rhs[:, 0] = 2.0**-22
            lhs[:, -1] = 0
        graph.add_arrays(which, (lhs, rhs))
    graph.check(layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["f32", "bf16"])
def test_convolutions_of_views_have_the_bits_of_numpy(layout: Layout, name: str) -> None:
    graph = Convolutions()
    build = graph.build

    def turned(x: ValueRef, permutation: tuple[int, ...], *axes: int) -> ValueRef:
        x = build.op("transpose", x, permutation=permutation)
        for axis in axes:
            x = build.op("rev", x, axis=axis)
        return x

    x, w = (graph.operand(special(shape, name, 3)) for shape in ((3, 9, 10, 4), (3, 2, 4, 6)))
    plain = case((3, 4, 9, 10), (6, 4, 3, 2), (2, 1), ONE)
    graph.add(turned(x, (0, 3, 1, 2)), turned(w, (3, 2, 0, 1)), plain)  # NHWC, HWIO
    graph.add(turned(x, (0, 3, 1, 2), 1, 3), turned(w, (3, 2, 0, 1), 0, 2, 3), plain)
    # the gradients of a convolution: of its input (filters reversed and transposed), of its filters (axes swapped)
    y, f, g = (graph.operand(special(s, name, 4)) for s in ((3, 4, 9, 8), (6, 4, 3, 3), (3, 6, 5, 4)))
    back = case((3, 6, 5, 4), (4, 6, 3, 3), None, ((1, 1), (1, 2)), (2, 2))
    graph.add(g, turned(f, (1, 0, 2, 3), 2, 3), back)
    swapped = case((4, 3, 9, 8), (6, 3, 5, 4), None, ((1, 1), (1, 0)), None, (2, 2))
    graph.add(turned(y, (1, 0, 2, 3)), turned(g, (1, 0, 2, 3)), swapped)
    # operands that repeat one element or row, and a slice
    one = build.op(
        "broadcast_in_dim", graph.operand(special((9, 1), name, 5)), shape=(3, 4, 9, 10), broadcast_dimensions=(2, 3)
    )
    cut = build.op("slice", y, start_indices=(1, 0, 2, 1), limit_indices=(3, 4, 9, 8), strides=(1, 1, 1, 3))
    graph.add(one, turned(w, (3, 2, 0, 1)), plain)
    graph.add(cut, f, case((2, 4, 7, 3), (6, 4, 3, 3), None, ONE))
    graph.check(layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolution_lowers_p_beyond_2_to_the_18(layout: Layout) -> None:
    graph = Convolutions()
    k = 2**18 + 1
    which = case((2, 1, k), (1, 1, k), None, ((1, 0),))
    graph.add_arrays(which, (sample("ordinary", shape, "f32", 8) for shape in (which.lhs, which.rhs)))
    graph.check(layout)


def test_convolution_refuses_padding_beyond_what_kernels_count() -> None:
    graph = Convolutions()
    which = case((1, 1, 2), (1, 1, 1), (MAX_ELEMENTS,), ((0, MAX_ELEMENTS),))
    graph.add_arrays(which, (np.ones(shape, np.float32) for shape in (which.lhs, which.rhs)))
    with pytest.raises(RunError, match=r"conv_general_dilated: f32.1,1,2. padded to .* more than 2.31 - 1 elements"):
        run_on(open_opencl("cpu"), graph.build.build(), graph.inputs)
