"""conv_general_dilated bit for bit against exact rationals, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.kernels import convolution
from samebits.kernels.dot import dot_general
from samebits.kernels.errors import OpError
from samebits.kernels.reference import apply
from tests.kernels.convolution_cases import BY_HAND, Case, case, contents, random_case
from tests.kernels.float_samples import bits_of, from_bits, sample
from tests.kernels.oracle_convolution import convolve

NAN = 0x7FC00000


def convolved(lhs: Any, rhs: Any, which: Case) -> Any:
    """Return the reference's result."""
    return apply("conv_general_dilated", lhs, rhs, **which.how.attributes())


def check(which: Case, lhs: Any, rhs: Any, name: str) -> None:
    """Compare with the oracle."""
    unsigned = np.dtype(f"<u{lhs.dtype.itemsize}")
    wanted, shape = convolve(lhs.view(unsigned), rhs.view(unsigned), name, which.how)
    got = convolved(lhs, rhs, which)
    assert got.shape == shape
    assert np.ravel(bits_of(got)).tolist() == wanted, which


@pytest.mark.parametrize("name", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("label", BY_HAND)
def test_convolution_equals_the_definition(label: str, name: str) -> None:
    rng = np.random.default_rng(len(label))
    for kind in ("ordinary", "subnormal", "wide", ""):
        check(BY_HAND[label], *contents(BY_HAND[label], name, rng, kind), name)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(["f32", "bf16", "f16"]))
def test_convolution_is_the_definition_for_any_attributes(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    which = random_case(rng)
    check(which, *contents(which, name, rng), name)


def test_convolution_has_an_exponent_for_each_sample_and_group() -> None:
    which = case((2, 4, 5), (4, 2, 2), feature_groups=2)
    lhs, rhs = sample("ordinary", which.lhs, "f32", 1), sample("ordinary", which.rhs, "f32", 2)
    wanted = bits_of(convolved(lhs, rhs, which))
    lhs[1, 2:] *= np.float32(2.0**40)  # sample 1, group 1 alone
    rhs[0] *= np.float32(2.0**-30)
    got = convolved(lhs, rhs, which)
    assert bits_of(got[0, 1:]) == wanted[0][1:]
    assert bits_of(got[1, 1]) == wanted[1][1]
    assert bits_of(got[1, 2:] * np.float32(2.0**-40)) == wanted[1][2:]
    assert bits_of(got[:, 0] * np.float32(2.0**30)) == [wanted[0][0], wanted[1][0]]


def test_convolution_takes_the_exponent_from_elements_that_no_window_reads() -> None:
    which = case((1, 1, 4), (1, 1, 2), None, ((0, -2),))
    rhs = np.ones((1, 1, 2), np.float32)
    lhs = np.array([[[1.0, 2.0**-20, 0.0, 2.0**20]]], np.float32)
    assert convolved(lhs, rhs, which).tolist() == [[[1.0]]]
    lhs[..., 3] = 0
    assert convolved(lhs, rhs, which).tolist() == [[[1.0 + 2.0**-20]]]


@pytest.mark.parametrize("bad", [0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001])
def test_convolution_spreads_nan_over_sample_group_and_filter_only(bad: int) -> None:
    which = case((2, 4, 3, 3), (4, 2, 2, 2), None, ((-1, 0), (0, 0)), feature_groups=2)
    lhs, rhs = sample("ordinary", which.lhs, "f32", 1), sample("ordinary", which.rhs, "f32", 2)
    rhs[1] = 0
    clean_lhs, clean_rhs = lhs.copy(), rhs.copy()
    lhs[1, 0, 0, 0] = from_bits(bad, "f32")  # in the row that is cropped
    rhs[3, 0, 1, 1] = from_bits(bad, "f32")
    clean_lhs[1, 0, 0, 0] = clean_rhs[3, 0, 1, 1] = 0
    wanted = convolved(clean_lhs, clean_rhs, which)
    wanted[1, :2] = wanted[:, 3] = from_bits(NAN, "f32")
    assert bits_of(convolved(lhs, rhs, which)) == bits_of(wanted)


def test_convolution_gives_plus_zero_for_zero_samples_and_filters() -> None:
    which = case((2, 2, 4), (2, 2, 2), None, ((1, 0),))
    lhs, rhs = sample("ordinary", which.lhs, "f32", 1), sample("ordinary", which.rhs, "f32", 2)
    lhs[0], rhs[1] = -0.0, -0.0
    got = bits_of(convolved(lhs, rhs, which))
    assert got[0] == [[0] * 4] * 2
    assert got[1][1] == [0] * 4


@pytest.mark.parametrize("k", [511, 512, 513, 4097])
@pytest.mark.parametrize("kind", ["largest", "ordinary", "cancelling"])
def test_convolution_of_one_window_is_a_dot_product_with_grid_columns(k: int, kind: str) -> None:
    lhs, rhs = (sample(kind if kind != "largest" else "ordinary", (n, 1, k), "f32", n) for n in (2, 3))
    if kind == "largest":
        lhs[...] = rhs[...] = from_bits(0x3F7DFFFF, "f32")
        rhs[1, 0, k // 2 + 1 :] *= np.float32(-1)  # what is left is one unit, which a partial sum beyond 2^53 loses
        lhs[:, 0, 0] = rhs[:, 0, 0] = 2.0**-22
    got = convolved(lhs, rhs, case(lhs.shape, rhs.shape))
    assert bits_of(got[:, :, 0]) == bits_of(dot_general(lhs[:, 0], rhs[:, 0].T, grid="columns"))


def test_convolution_lowers_p_beyond_2_to_the_18() -> None:
    k = 2**18 + 1
    lhs, rhs = sample("ordinary", (1, 1, k), "f32", 3), sample("ordinary", (1, 1, k), "f32", 4)
    got = convolved(lhs, rhs, case(lhs.shape, rhs.shape))
    assert bits_of(got[:, :, 0]) == bits_of(dot_general(lhs[:, 0], rhs[:, 0].T, grid="columns"))


@pytest.mark.parametrize("kept", [1, 100, 1000])
def test_convolution_in_pieces_is_the_same(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    which = BY_HAND["everything"]
    lhs, rhs = contents(which, "f32", np.random.default_rng(5), "wide")
    wanted = bits_of(convolved(lhs, rhs, which))
    monkeypatch.setattr(convolution, "KEPT_ELEMENTS", kept)
    assert bits_of(convolved(lhs, rhs, which)) == wanted


@pytest.mark.parametrize("kind", ["ordinary", "wide", "any"])
def test_convolution_with_other_strides_in_memory_is_the_same(kind: str) -> None:
    which = BY_HAND["everything"]
    lhs, rhs = sample(kind, which.lhs, "f32", 1), sample(kind, which.rhs, "f32", 2)
    wanted = bits_of(convolved(lhs, rhs, which))
    assert bits_of(convolved(np.asfortranarray(lhs), rhs[..., ::-1].copy()[..., ::-1], which)) == wanted


REFUSED = [
    ((2, 3, 4), (2, 3, 2, 2), {}, "want .N, C, spatial. and .O, C/groups, window. of 1 to 3 axes"),
    ((2, 3), (2, 3), {}, "of 1 to 3 axes"),
    ((2, 3, 4), (2, 2, 2), {}, "has 3 channels, the filters f32.2,2,2. take 2 channels"),
    ((2, 4, 4), (3, 2, 2), {"feature_group_count": 2}, "3 filters do not divide into 2 groups"),
    ((2, 4, 4), (2, 4, 2), {"feature_group_count": 2}, "take 4 channels in each of 2 groups"),
    ((3, 4, 4), (2, 4, 2), {"batch_group_count": 2}, "3 samples do not divide into 2 batch groups"),
    ((4, 4, 4), (3, 4, 2), {"batch_group_count": 2}, "3 filters do not divide into 2 groups"),
    ((4, 4, 4), (4, 2, 2), {"batch_group_count": 2, "feature_group_count": 2}, "one of them 1"),
    ((4, 4, 4), (4, 4, 2), {"batch_group_count": 0}, "1 feature groups and 0 batch groups"),
    ((2, 3, 4), (2, 3, 2), {"window_strides": (1, 1)}, "window_strides .1, 1. wants a positive number for each of 1"),
    ((2, 3, 4), (2, 3, 2), {"window_strides": (0,)}, "window_strides .0. wants a positive number"),
    ((2, 3, 4), (2, 3, 2), {"lhs_dilation": (0,)}, "lhs_dilation .0. wants a positive number"),
    ((2, 3, 4), (2, 3, 2), {"rhs_dilation": (-1,)}, "rhs_dilation .-1. wants a positive number"),
    ((2, 3, 4), (2, 3, 2), {"padding": ((0, 0), (0, 0))}, "wants a pair for each of 1 spatial axes"),
    ((2, 3, 4), (2, 3, 2), {"padding": ((0, 1, 2),)}, "attribute 'padding': want at most 16 pairs"),
    ((2, 3, 4), (2, 3, 2), {"padding": "SAME"}, "attribute 'padding': want a list of pairs of integers"),
    ((2, 3, 4), (2, 3, 2), {"padding": ((2**60, 0),), "window_strides": (2**60,)}, "2.40 elements or more"),
    ((2, 3, 4), (2, 3, 2), {"precision": "low"}, "want one of highest, high"),
    ((2, 3, 4), (2, 3, 2), {"grid": "both"}, "unknown attribute 'grid'"),
]


@pytest.mark.parametrize(("lhs", "rhs", "attributes", "message"), REFUSED)
def test_convolution_refuses_what_does_not_fit(lhs: Any, rhs: Any, attributes: dict[str, Any], message: str) -> None:
    given = {"window_strides": (1,), "padding": ((0, 0),), **attributes}
    with pytest.raises(OpError, match=message):
        apply("conv_general_dilated", np.zeros(lhs, np.float32), np.zeros(rhs, np.float32), **given)


def test_convolution_refuses_other_types() -> None:
    given: dict[str, Any] = {"window_strides": (1,), "padding": ((0, 0),)}
    x = np.zeros((1, 1, 3))
    for left, right, message in ((x, x, "not defined for f64"), (x.astype("f4"), x.astype("f2"), "differ in type")):
        with pytest.raises(OpError, match=message):
            apply("conv_general_dilated", left, right, **given)


def test_convolution_dilations_default_to_one() -> None:
    lhs, rhs = sample("ordinary", (2, 3, 5), "f32", 1), sample("ordinary", (2, 3, 2), "f32", 2)
    short = apply("conv_general_dilated", lhs, rhs, window_strides=1, padding=[[1, 0]])
    assert bits_of(short) == bits_of(convolved(lhs, rhs, case(lhs.shape, rhs.shape, None, ((1, 0),))))
