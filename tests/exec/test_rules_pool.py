"""Lowering rules of convolution, pooling and windows against eager PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from tests.exec.lowered import check_like_eager, lowered, tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.exec.errors import CaptureError  # noqa: E402
from samebits.kernels.optable import OPS  # noqa: E402

INF, NAN = float("inf"), float("nan")
IMAGE = tensor((2, 3, 7, 9))
VOLUME = tensor((1, 2, 5, 6, 5))
LINE = tensor((2, 3, 11))
TIES = tensor((2, 3, 8, 8), torch.int64, low=0, high=3).float()
HOLES = torch.where(tensor((2, 3, 7, 9), seed=5) > 1, NAN, torch.where(IMAGE < 0.5, -INF, IMAGE))


def max_pool(*arguments: Any, **options: Any) -> Any:
    return lambda x: F.max_pool2d(x, *arguments, return_indices=True, **options)


POOLS: dict[str, Any] = {
    "max": (max_pool(2), IMAGE),
    "max that overlaps": (max_pool(3, 2, 1), IMAGE),
    "max of a rectangle": (max_pool((2, 3), (3, 1), (1, 0)), IMAGE),
    "max dilated": (max_pool(3, 1, 1, dilation=2), IMAGE),
    "max in ceil mode": (max_pool(3, 2, ceil_mode=True), tensor((2, 3, 8, 10))),
    "max of ties": (max_pool(3, 1, 1), TIES),
    "max of an image without a batch": (max_pool(2), IMAGE[0]),
    "max of a line": (lambda x: (F.max_pool1d(x, 3, 2, 1), F.max_pool1d(x, 2)), LINE),
    "max of a volume": (lambda x: F.max_pool3d(x, 3, 2, 1), VOLUME),
    "max adaptive of a volume": (lambda x: F.adaptive_max_pool3d(x, (5, 2, 1)), VOLUME),
    "max adaptive": (
        lambda x: (F.adaptive_max_pool2d(x, 4), F.adaptive_max_pool2d(x, (2, 8))),
        TIES + IMAGE[:, :, :1, :8],
    ),
    "average": (lambda x: F.avg_pool2d(x, 2), IMAGE),
    "average that tiles": (lambda x: F.avg_pool2d(x, (7, 3)), IMAGE),
    "average that overlaps": (lambda x: F.avg_pool2d(x, 3, 2, 1), IMAGE),
    "average without padding": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), IMAGE),
    "average in ceil mode": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), tensor((2, 3, 8, 10))),
    "average in ceil mode without padding": (
        lambda x: F.avg_pool2d(x, (3, 2), 2, 1, True, False),
        tensor((2, 3, 8, 10)),
    ),
    "average by a divisor": (lambda x: F.avg_pool2d(x, 3, 2, divisor_override=5), IMAGE),
    "average with gaps": (lambda x: F.avg_pool2d(x, 2, 3), IMAGE),
    "average of a line": (lambda x: F.avg_pool1d(x, 3, 2, 1), LINE),
    "average of a volume": (lambda x: F.avg_pool3d(x, 3, 2, 1), VOLUME),
    "average adaptive": (lambda x: (F.adaptive_avg_pool2d(x, 4), F.adaptive_avg_pool2d(x, (1, 2))), TIES),
    "average adaptive of a line": (lambda x: F.adaptive_avg_pool1d(x, 2), tensor((2, 3, 12))),
    "average adaptive of a volume": (lambda x: F.adaptive_avg_pool3d(x, (5, 2, 1)), VOLUME),
    "average of everything": (lambda x: F.adaptive_avg_pool2d(x, 1), IMAGE),
    "power": (lambda x: F.lp_pool2d(x, 2, 2), IMAGE.abs() + 0.1),
    "nearest": (lambda x: (F.interpolate(x, scale_factor=2), F.interpolate(x, (7, 27))), IMAGE),
    "unfold": (lambda x: F.unfold(x, (2, 3), 1, 1, (2, 1)), IMAGE),
    "unfold dilated": (lambda x: F.unfold(x, 2, 2), IMAGE),
    "reflect a volume": (lambda x: F.pad(x, (1, 2, 0, 3, 2, 0), mode="reflect"), VOLUME),
    "replicate a volume": (lambda x: F.pad(x, (1, 2, 0, 3, 2, 0), mode="replicate"), VOLUME),
    "fold": (lambda x: F.fold(x, (4, 5), (2, 3), 1, 1, (2, 1)), tensor((2, 12, 15))),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool_and_its_gradient_match_eager(name: str) -> None:
    function, x = POOLS[name]
    check_like_eager(function, [x])
    if name.startswith("max"):
        check_like_eager(function, [x], gradients=False, tolerance=0)


def test_max_pool_of_nan_and_minus_infinity_is_that_of_eager() -> None:
    check_like_eager(max_pool(3, 2, 1), [HOLES], gradients=False, tolerance=0)
    check_like_eager(max_pool(2, 1, 1), [torch.full((1, 1, 3, 3), -INF)], gradients=False, tolerance=0)


@pytest.mark.parametrize("name", ["max that overlaps", "average that overlaps", "average"])
def test_pool_in_bf16_rounds_once(name: str) -> None:
    function, x = POOLS[name]
    check_like_eager(function, [x.to(torch.bfloat16)], gradients=False, tolerance=0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: F.adaptive_avg_pool2d(x, 4), r"_adaptive_avg_pool2d of 7 elements to 4 has no rule: .*multiple"),
        (lambda x: F.adaptive_max_pool2d(x, 4), r"adaptive_max_pool2d of 7 elements to 4 has no rule"),
        (lambda x: F.interpolate(x, (10, 10)), r"upsample_nearest2d of 10 elements to 7 has no rule"),
        (lambda x: F.avg_pool2d(x.repeat(1, 1, 9, 9), 40, 1), r"a window of 1600 positions has no rule"),
    ],
)
def test_pool_refusals_say_what_does_not_fit(function: Any, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        lowered(function, [IMAGE])


def conv(rank: int, **options: Any) -> Any:
    return lambda x, w, b: (F.conv1d, F.conv2d, F.conv3d)[rank - 1](x, w, b, **options)


def conv_transpose(rank: int, **options: Any) -> Any:
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    return lambda x, w, b: function(x, w, b, **options)


def shapes(*sizes: tuple[int, ...]) -> list[Any]:
    return [tensor(size, seed=i) for i, size in enumerate(sizes)]


CONVOLUTIONS: dict[str, Any] = {
    "plain": (conv(2), shapes((2, 4, 7, 6), (6, 4, 3, 3), (6,))),
    "padded": (conv(2, padding=1), shapes((2, 4, 7, 6), (6, 4, 3, 3), (6,))),
    "strided": (conv(2, stride=2, padding=1), shapes((2, 4, 7, 6), (6, 4, 3, 3), (6,))),
    "with a rest": (conv(2, stride=(3, 2)), shapes((2, 4, 9, 8), (6, 4, 2, 3), (6,))),
    "dilated": (conv(2, padding=2, dilation=(2, 1)), shapes((2, 4, 7, 6), (6, 4, 3, 3), (6,))),
    "strided and dilated": (conv(2, stride=2, padding=(3, 2), dilation=2), shapes((2, 4, 9, 8), (6, 4, 3, 2), (6,))),
    "grouped": (conv(2, padding=1, groups=2), shapes((2, 4, 7, 6), (6, 2, 3, 3), (6,))),
    "depthwise": (conv(2, stride=2, padding=1, groups=4), shapes((2, 4, 7, 6), (8, 1, 3, 3), (8,))),
    "of one point": (conv(2, stride=2), shapes((2, 4, 7, 6), (6, 4, 1, 1), (6,))),
    "same": (lambda x, w, b: F.conv2d(x, w, b, padding="same"), shapes((2, 4, 5, 5), (6, 4, 2, 2), (6,))),
    "without a bias": (lambda x, w: F.conv2d(x, w), shapes((2, 4, 7, 6), (6, 4, 3, 3))),
    "without a batch": (conv(2, padding=1), shapes((4, 7, 6), (6, 4, 3, 3), (6,))),
    "of a line": (conv(1, stride=2, padding=2, dilation=2), shapes((2, 4, 11), (6, 4, 3), (6,))),
    "of a volume": (conv(3, padding=1, stride=(1, 2, 1)), shapes((2, 2, 4, 5, 3), (3, 2, 3, 2, 1), (3,))),
    "transposed": (conv_transpose(2), shapes((2, 4, 5, 4), (4, 3, 3, 3), (3,))),
    "transposed and strided": (
        conv_transpose(2, stride=2, padding=1, output_padding=1),
        shapes((2, 4, 5, 4), (4, 3, 3, 3), (3,)),
    ),
    "transposed with groups": (
        conv_transpose(2, stride=(2, 3), groups=2, dilation=2, padding=3, output_padding=(1, 1)),
        shapes((2, 4, 5, 4), (4, 3, 3, 2), (6,)),
    ),
    "transposed line": (conv_transpose(1, stride=3, padding=4), shapes((2, 4, 6), (4, 3, 4), (3,))),
    "transposed volume": (conv_transpose(3, stride=2), shapes((1, 2, 2, 3, 2), (2, 3, 2, 2, 2), (3,))),
}
convolves = pytest.mark.skipif("conv_general_dilated" not in OPS, reason="the op table has no conv_general_dilated")


@convolves
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_and_its_gradients_match_eager(name: str) -> None:
    function, inputs = CONVOLUTIONS[name]
    check_like_eager(function, inputs)


@convolves
def test_convolution_in_bf16_is_as_close_as_bf16_allows() -> None:
    function, inputs = CONVOLUTIONS["strided"]
    check_like_eager(function, [x.to(torch.bfloat16) for x in inputs], tolerance=0.02)


@convolves
def test_convolution_backward_gives_what_is_asked_for() -> None:
    """A frozen weight has no gradient: the mask of convolution_backward."""
    x, w, b = shapes((2, 4, 7, 6), (6, 4, 3, 3), (6,))
    check_like_eager(lambda x, b, w: F.conv2d(x, w.detach(), b), [x, b, w])
    check_like_eager(lambda w, x: F.conv2d(x.detach(), w), [w, x])
