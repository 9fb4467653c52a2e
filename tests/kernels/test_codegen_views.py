"""Views against NumPy: every view operation picks the elements that NumPy picks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.kernels.codegen.view import Splat, View, collapse, contiguous_strides, stored
from samebits.kernels.types import TensorType


def picked(view: View) -> Any:
    """Return the numbers of the elements that a view shows."""
    index = np.full(view.shape, view.offset, np.int64)
    for axis, stride in enumerate(view.strides):
        along = np.arange(view.shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(view.shape))])
        index = index + along * stride
    return index


@st.composite
def chains(draw: st.DrawFn) -> tuple[View, Any]:
    """Return a view after some operations, and NumPy's array after the same."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    array = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    view = stored(0, TensorType("f32", shape))
    for _ in range(draw(st.integers(0, 5))):
        step = draw(st.sampled_from(["transpose", "reverse", "slice", "broadcast", "reshape"]))
        rank = array.ndim
        if step == "transpose":
            order = draw(st.permutations(range(rank)))
            view, array = view.transpose(order), array.transpose(order)
        elif step == "reverse" and rank:
            axis = draw(st.integers(0, rank - 1))
            view, array = view.reverse(axis), np.flip(array, axis)
        elif step == "slice":
            bounds = [(draw(st.integers(0, n)), draw(st.integers(0, n)), draw(st.integers(1, 3))) for n in array.shape]
            bounds = [(min(a, b), max(a, b), c) for a, b, c in bounds]
            view = view.slice(*zip(*bounds, strict=True)) if bounds else view.slice((), (), ())
            array = array[tuple(slice(*bound) for bound in bounds)]
        elif step == "broadcast":
            new = [draw(st.integers(0, 3)) if n == 1 else n for n in array.shape]
            view = view.broadcast([2, *new], range(1, rank + 1))
            array = np.broadcast_to(array, [2, *new])
        elif step == "reshape":
            target = [array.size] if draw(st.booleans()) else [n for n in array.shape if n != 1] + [1]
            reshaped = view.reshape(target)
            if reshaped is not None:
                view, array = reshaped, array.reshape(target)
    return view, array


@given(chains())
def test_views_pick_what_numpy_picks(chain: tuple[View, Any]) -> None:
    view, array = chain
    assert view.shape == array.shape
    if array.size:
        assert np.array_equal(picked(view), array)


@given(chains())
def test_collapse_keeps_every_element_and_merges_contiguous_axes(chain: tuple[View, Any]) -> None:
    view, array = chain
    sizes, (strides,) = collapse(view.shape, [view.strides])
    flat = View(0, "f32", sizes, strides, view.offset)
    if array.size:
        assert np.array_equal(picked(flat).reshape(-1), array.reshape(-1))
    if view.is_contiguous() and view.size > 1:
        assert sizes == (view.size,)


def test_reshape_refuses_what_strides_cannot_say() -> None:
    turned = stored(0, TensorType("f32", (3, 4))).transpose((1, 0))
    assert turned.reshape((12,)) is None
    assert turned.reshape((2, 2, 3)) is not None


def test_reshape_of_a_splat_is_free() -> None:
    view = View(Splat(b"\0\0\0\0"), "f32", (4, 3), (0, 0))
    assert view.reshape((2, 6)) == View(Splat(b"\0\0\0\0"), "f32", (2, 6), (0, 0))


@pytest.mark.parametrize(("shape", "strides"), [((), ()), ((3,), (1,)), ((2, 3, 4), (12, 4, 1)), ((2, 0), (1, 1))])
def test_contiguous_strides_follow_c_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    assert contiguous_strides(shape) == strides
