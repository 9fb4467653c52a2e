"""conv_general_dilated against PyTorch: the convolutions of 1 to 3 axes, and both gradients as convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from samebits.kernels.reference import apply

FORWARD = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)


@dataclass(frozen=True)
class Layer:
    """A convolution as PyTorch has it; the same stride, padding and dilation along each axis."""

    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def axes(self) -> int:
        """Return the number of spatial axes."""
        return len(self.lhs) - 2


LAYERS = (
    Layer((4, 6, 17), (8, 6, 5), stride=2, padding=3),
    Layer((3, 4, 20), (6, 2, 3), padding=2, dilation=3, groups=2),
    Layer((4, 8, 9, 11), (12, 8, 3, 3), padding=1),
    Layer((2, 8, 12, 13), (6, 8, 4, 3), stride=2, padding=2),
    Layer((2, 6, 13, 11), (9, 2, 3, 2), stride=2, padding=1, dilation=2, groups=3),
    Layer((3, 5, 8, 8), (10, 1, 3, 3), padding=1, groups=5),
    Layer((2, 4, 6, 7, 5), (6, 4, 3, 3, 2), stride=2, padding=1),
    Layer((2, 4, 5, 6, 7), (4, 2, 2, 3, 3), padding=1, dilation=2, groups=2),
)


def check(got: Any, wanted: torch.Tensor) -> None:
    """Compare with a result in f64: within 1e-5 of its largest value."""
    right = wanted.detach().numpy()
    assert got.shape == right.shape
    assert np.abs(got - right).max() <= 1e-5 * np.abs(right).max()


def convolved(
    lhs: Any, rhs: Any, stride: int, padding: Any, lhs_dilation: int, rhs_dilation: int, **groups: int
) -> Any:
    """Return our convolution, with one stride and one dilation for all axes."""
    axes = lhs.ndim - 2
    return apply(
        "conv_general_dilated",
        lhs,
        rhs,
        window_strides=(stride,) * axes,
        padding=padding,
        lhs_dilation=(lhs_dilation,) * axes,
        rhs_dilation=(rhs_dilation,) * axes,
        **groups,
    )


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_convolution_and_gradients_are_those_of_torch(layer: Layer) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, np.float32) for shape in (layer.lhs, layer.rhs))
    tx, tw = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, w))
    plain: Any = FORWARD[layer.axes - 1]
    ty = plain(tx, tw, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    ends = ((layer.padding, layer.padding),) * layer.axes
    check(convolved(x, w, layer.stride, ends, 1, layer.dilation, feature_group_count=layer.groups), ty)
    g = rng.standard_normal(ty.shape).astype(np.float32)
    ty.backward(torch.from_numpy(g).double())
    assert tx.grad is not None
    assert tw.grad is not None
    check(input_gradient(layer, w, g), tx.grad)
    check(weight_gradient(layer, x, g), tw.grad)


def input_gradient(layer: Layer, w: Any, g: Any) -> Any:
    """Convolve the dilated gradient with the filters, reversed and transposed within each group."""
    filters, channels, *window = w.shape
    grouped = w.reshape(layer.groups, filters // layer.groups, channels, *window).swapaxes(1, 2)
    turned = np.flip(
        grouped.reshape(layer.groups * channels, filters // layer.groups, *window), tuple(range(2, w.ndim))
    )
    ends = []
    for n, k, out in zip(layer.lhs[2:], window, g.shape[2:], strict=True):
        low = (k - 1) * layer.dilation - layer.padding
        ends.append((low, n - 1 + (k - 1) * layer.dilation - (out - 1) * layer.stride - low))
    return convolved(g, turned, 1, ends, layer.stride, layer.dilation, feature_group_count=layer.groups)


def weight_gradient(layer: Layer, x: Any, g: Any) -> Any:
    """Convolve with samples and channels swapped: the groups of channels become groups of samples."""
    ends = []
    for n, k, out in zip(layer.lhs[2:], layer.rhs[2:], g.shape[2:], strict=True):
        high = (out - 1) * layer.stride + (k - 1) * layer.dilation - (n - 1) - layer.padding
        ends.append((layer.padding, high))
    lhs, rhs = (np.swapaxes(v, 0, 1) for v in (x, g))
    result = convolved(lhs, rhs, layer.dilation, ends, 1, layer.stride, batch_group_count=layer.groups)
    return np.swapaxes(result, 0, 1)
