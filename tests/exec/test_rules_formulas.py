"""Lowering rules of activations, losses, element-wise functions, divisions and products against eager PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from tests.exec.lowered import check_like_eager, lowered, tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.exec.errors import CaptureError  # noqa: E402

I64 = torch.int64
INF, NAN = float("inf"), float("nan")
X, T = tensor((5, 6)) * 3, tensor((5, 6), seed=1)
EDGES = torch.tensor([0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 0.5, -0.5, 20.5, -30.0, 100.0, -100.0])
SPECIAL = torch.tensor([0.0, -0.0, 1.5, -2.5, 3.0, -7.0, INF, -INF, NAN, 1e-40, -3e38, 2.0**60])

ACTIVATIONS: dict[str, Any] = {
    **{name: getattr(F, name) for name in ("elu", "celu", "selu", "softplus", "hardtanh", "relu6", "hardsigmoid")},
    **{name: getattr(F, name) for name in ("hardswish", "mish", "logsigmoid", "softsign", "tanhshrink", "softshrink")},
    **{name: getattr(F, name) for name in ("hardshrink", "relu", "leaky_relu", "silu", "gelu")},
    "elu in place": lambda x: F.elu(x * 1, 0.5, inplace=True),
    "celu of alpha": lambda x: F.celu(x, 0.7),
    "softplus of beta": lambda x: F.softplus(x, 2, 5),
    "hardtanh of limits": lambda x: F.hardtanh(x, -0.3, 2),
    "threshold": lambda x: F.threshold(x, 0.1, 20.0),
    "logit": lambda x: torch.logit(x.sigmoid() * 0.8 + 0.1, 0.15),
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
}
LOSSES: dict[str, Any] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "smooth l1": lambda x, t: (F.smooth_l1_loss(x, t), F.smooth_l1_loss(x, t, beta=0.3, reduction="sum")),
    "smooth l1 of beta 0": lambda x, t: F.smooth_l1_loss(x, t, beta=0.0, reduction="none"),
    "huber": lambda x, t: (F.huber_loss(x, t), F.huber_loss(x, t, delta=0.3, reduction="none")),
    "soft margin": lambda x, t: F.soft_margin_loss(x, t.sign().detach()),
    "binary": lambda x, t: F.binary_cross_entropy(x.sigmoid(), t.sigmoid()),
    "binary with a weight": lambda x, t: F.binary_cross_entropy(
        x.sigmoid(), (t > 0).float(), t.detach() ** 2, reduction="sum"
    ),
    "binary with logits": F.binary_cross_entropy_with_logits,
    "binary with weights": lambda x, t: F.binary_cross_entropy_with_logits(
        x, t.sigmoid().detach(), weight=t.detach().abs(), pos_weight=t[0].detach().abs()
    ),
    "kl": lambda x, t: F.kl_div(x.log_softmax(1), t.softmax(1), reduction="batchmean"),
    "kl of logs": lambda x, t: F.kl_div(x.log_softmax(1), t.log_softmax(1), reduction="sum", log_target=True),
    "poisson": lambda x, t: F.poisson_nll_loss(x, t.abs(), full=False),
    "margin ranking": lambda x, t: F.margin_ranking_loss(x, t, t.detach().sign()),
    "triplet": lambda x, t: F.triplet_margin_loss(x, t, x * t),
    "cosine": lambda x, t: F.cosine_embedding_loss(x, t, t[:, 0].detach().sign()),
    "hinge": lambda x, t: F.hinge_embedding_loss(x, t.detach().sign()),
    "soft labels": lambda x, t: F.cross_entropy(x, t.softmax(1)),
    "multilabel": lambda x, t: F.multilabel_soft_margin_loss(x, (t > 0).float()),
}
CLASSES = torch.tensor([0, 5, 2, -100, 2])
WEIGHT = tensor((6,)).abs() + 0.1
PIXELS = tensor((2, 3, 4), I64, low=0, high=6)
CROSS_ENTROPY: dict[str, Any] = {
    "plain": (lambda x, t, w: F.cross_entropy(x, t), [X, CLASSES, WEIGHT]),
    "sum": (lambda x, t, w: F.cross_entropy(x, t, reduction="sum"), [X, CLASSES, WEIGHT]),
    "none": (lambda x, t, w: F.cross_entropy(x, t, w.detach(), reduction="none"), [X, CLASSES, WEIGHT]),
    "weighted": (lambda x, t, w: F.cross_entropy(x, t, w.detach()), [X, CLASSES, WEIGHT]),
    "smoothed": (lambda x, t, w: F.cross_entropy(x, t, w.detach(), label_smoothing=0.1), [X, CLASSES, WEIGHT]),
    "ignored": (lambda x, t, w: F.cross_entropy(x, t, ignore_index=2), [X, CLASSES.abs() % 6, WEIGHT]),
    "of one row": (lambda x, t, w: F.cross_entropy(x, t, w.detach()), [X[0], torch.tensor(2), WEIGHT]),
    "of pixels": (lambda x, t, w: F.cross_entropy(x, t, w.detach()), [tensor((2, 6, 3, 4)), PIXELS, WEIGHT]),
    "of positions": (lambda x, t, w: F.cross_entropy(x, t), [tensor((2, 6, 4)), PIXELS[:, 0], WEIGHT]),
    "of pixels, none": (lambda x, t, w: F.nll_loss(x, t, reduction="none"), [tensor((2, 6, 3, 4)), PIXELS, WEIGHT]),
    "of pixels, sum": (lambda x, t, w: F.nll_loss(x, t, reduction="sum"), [tensor((2, 6, 3, 4)), PIXELS, WEIGHT]),
}
FUNCTIONS: dict[str, Any] = {
    "of one": lambda x: (x.frac(), x.exp2(), x.abs().log10(), x.sinc(), x.asinh(), (x / 20).atanh(), x.rad2deg()),
    "of more than 1": lambda x: ((x.abs() + 1.5).acosh(), x.deg2rad(), x.abs().rsqrt(), x.square(), x.expm1()),
    "power": lambda x: (x**3, x.abs() ** 0.5, x.abs() ** 1.7, 2**x, x.abs() ** x, (x.abs() + 1) ** -2, x**2.0),
    "choose": lambda x: (x.clamp(-1, 1), x.clip(min=0), torch.where(x > 0, 1.0, x), torch.where(x > 0, x, 0)),
    "logical": lambda x: (torch.where(x > 0, 1, 0), x.logical_and(x > 1), x.logical_not(), x == x, x.bool() != True),  # noqa: E712
}
for _name in ("sin", "cos", "tan", "sinh", "cosh", "atan", "erf", "erfc", "square", "exp2", "sigmoid"):
    FUNCTIONS[_name] = getattr(torch, _name)
FUNCTIONS["of small"] = lambda x: ((x / 20).asin(), (x / 20).acos())
FUNCTIONS["of positive"] = lambda x: [f(x.abs() + 0.1) for f in (torch.log2, torch.log1p, torch.log10)]
FUNCTIONS_OF_TWO: dict[str, Any] = {
    "of two": lambda x, y: (torch.atan2(x, y), torch.hypot(x, y), torch.copysign(x, y), torch.logaddexp(x, y)),
    "with logarithms": lambda x, y: torch.xlogy(x, y.abs()),
    "extremes": lambda x, y: (
        x.maximum(y),
        x.minimum(y),
        x.clamp_max(1),
        x.clamp_min(y),
        x.fmax(y),
        x.fmin(y),
        x.clamp(y, y + 1),
        x.clamp(min=y),
        x.max(y),
    ),
    "mixtures": lambda x, y: (x.lerp(y, 0.3), torch.lerp(x, y, y), x.addcmul(x, y), x.addcdiv(x, y.abs() + 1)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_and_its_gradient_match_eager(name: str) -> None:
    function = ACTIVATIONS[name]
    for x in (X, EDGES, tensor((0, 2)), tensor(())):
        check_like_eager(function, [x])
    check_like_eager(function, [X.to(torch.bfloat16)], tolerance=0.01)


def test_activations_with_parameters_match_eager() -> None:
    check_like_eager(lambda x, w: F.prelu(x, w), [tensor((3, 4, 5)), tensor((4,))])
    check_like_eager(lambda x, w: F.prelu(x, w), [X, tensor((1,))])
    check_like_eager(lambda x: (F.glu(x), F.glu(x[:4], 0)), [X])


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_its_gradients_match_eager(name: str) -> None:
    check_like_eager(LOSSES[name], [X, T])


@pytest.mark.parametrize("name", CROSS_ENTROPY)
def test_cross_entropy_and_its_gradient_match_eager(name: str) -> None:
    function, inputs = CROSS_ENTROPY[name]
    check_like_eager(function, inputs)


@pytest.mark.parametrize("name", FUNCTIONS | FUNCTIONS_OF_TWO)
def test_function_and_its_gradients_match_eager(name: str) -> None:
    inputs = [X] if name in FUNCTIONS else [X, T]
    check_like_eager((FUNCTIONS | FUNCTIONS_OF_TWO)[name], inputs)


def special(x: Any) -> Any:
    return (
        *(x.isinf(), x.isposinf(), x.isneginf(), x.isfinite(), x.isnan(), x.nan_to_num(), x.nan_to_num(1, 2, 3)),
        *(
            x.trunc(),
            x.floor(),
            x.ceil(),
            x.round(),
            x.sign(),
            x.signbit(),
            x.copysign(-x),
            x.heaviside(x.new_tensor(0.5)),
        ),
        *(x.isclose(x), x.fmax(x.flip(0)), x.fmin(x.flip(0)), x.clamp(-1, 1), x.double().trunc(), x.half().signbit()),
        *(x.logical_xor(x > 0), torch.xlogy(x * 0, x), x.abs().to(torch.bfloat16).nan_to_num(), F.relu(x)),
    )


def test_special_values_are_those_of_eager() -> None:
    check_like_eager(special, [SPECIAL], gradients=False, tolerance=0)
    check_like_eager(lambda x: (x.hypot(x.flip(0)), x.logaddexp(x.flip(0))), [SPECIAL], gradients=False)


def divide(x: Any, y: Any) -> Any:
    modes = [torch.div(x, y, rounding_mode=mode) for mode in ("floor", "trunc")]
    return (*modes, x // y, x % y, torch.fmod(x, y), x // 2, x % 3, 5 // y, 7 % y, x.fmod(-3), -x // y, -x % y)


DIVISORS = torch.tensor([0.1, -0.3, 1.0, 2.5, -1e-3, 7.0, INF, 1e-30, -1e5, 3.0, 0.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_float_division_is_that_of_eager(dtype: Any) -> None:
    """Remainders are exact while the quotient is finite; eager rounds each step of a floor quotient of halves."""
    a = torch.cat([SPECIAL[:11], tensor((40,)) * 100, torch.tensor([6.0, -6.0, 0.3, 1e20, 1e-44])]).to(dtype)
    pairs = torch.cartesian_prod(a, DIVISORS.to(dtype))
    x, y = pairs[:, 0].contiguous(), pairs[:, 1].contiguous()
    finite = (x / y).isfinite() | y.eq(0) | ~x.isfinite()
    check_like_eager(torch.fmod, [x[finite], y[finite]], gradients=False, tolerance=0)
    if dtype == torch.float32:
        ordinary = (x / y).abs() < 2.0**20
        check_like_eager(divide, [x[ordinary], y[ordinary]], gradients=False, tolerance=0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8])
def test_integer_division_is_that_of_eager(dtype: Any) -> None:
    x = tensor((300,), dtype, low=-128, high=128)
    y = tensor((300,), dtype, seed=1, low=1, high=9) * (2 * tensor((300,), dtype, seed=2, low=0, high=2) - 1)
    check_like_eager(lambda x, y: (*divide(x, y), x / y), [x, y], gradients=False)


def test_bits_are_those_of_eager() -> None:
    x, y = tensor((50,), I64, low=-99, high=99), tensor((50,), I64, seed=1, low=0, high=9)

    def bits(x: Any, y: Any) -> Any:
        small, flag, other = x.to(torch.uint8), x > y, y > 3
        shifts = (small >> 1, small << 1, x << 2, x >> 1, x << y, x >> y)
        named = (x.bitwise_left_shift(y), x.bitwise_right_shift(y), x.__and__(y), x.__or__(3), x.__xor__(y))
        return (*shifts, *named, x & y, x | y, x ^ y, ~x, x & 3, 3 & y, flag & other, flag | other, ~flag, flag ^ other)

    check_like_eager(bits, [x, y], gradients=False)


def test_bool_reductions_are_those_of_eager() -> None:
    def reduce(x: Any) -> Any:
        some = (x.any((0, 1)), x.all((0,)), x.any(), x.any(0), x.all(1), x.any(-1, keepdim=True), x.max(), x.amax(1))
        return (*some, x.long().sum(), x.sum(), x.sum(0), (x * 2.0).mean(), x.max(1), x.min(0), x.cumsum(0), x == x)

    check_like_eager(reduce, [tensor((3, 4), torch.bool)], gradients=False)


def products(x: Any, y: Any, z: Any) -> Any:
    vectors = (x[0] @ y, x @ y[:, 0], x[0].dot(y[:, 0]), torch.outer(x[0], y[0]), x[0].vdot(x[1]), torch.inner(x, x))
    sums = (torch.addmm(z, x, y, beta=0.5, alpha=2), torch.addmv(z[:, 0], x, y[:, 0]), torch.addr(z, x[:, 0], y[0]))
    return (*vectors, *sums, torch.einsum("ij,jk->ki", x, y), torch.kron(x, y), F.linear(x[0], y.t(), z[0]))


def batched_products(x: Any, y: Any, z: Any) -> Any:
    sums = (torch.baddbmm(z, x, y, beta=2, alpha=0.5), torch.addbmm(z[0], x, y))
    return (*sums, x @ y, x @ y[0], x[0] @ y, torch.einsum("bij,bjk->bk", x, y), x @ y[0, :, 0])


def test_products_match_eager() -> None:
    check_like_eager(products, [tensor((3, 4)), tensor((4, 5)), tensor((3, 5))])
    check_like_eager(batched_products, [tensor((2, 3, 4)), tensor((2, 4, 5)), tensor((2, 3, 5))])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.lgamma(x), "aten.lgamma has no rule: use a table"),
        (lambda x: x.cummin(0), "aten.cummin has no rule: use torch.minimum"),
        (lambda x: x.logcumsumexp(0), "aten.logcumsumexp has no rule: use log"),
        (lambda x: x.mode(0), "aten.mode has no rule: count"),
        (lambda x: torch.view_as_complex(x.reshape(-1, 2)), "aten.view_as_complex has no rule: complex numbers"),
        (lambda x: torch.cdist(x, x), "aten._cdist_forward has no rule: .*distances"),
        (lambda x: F.softmax(x.double(), 1), "softmax in float64"),
        (
            lambda x: F.multi_margin_loss(x, torch.zeros(5, dtype=I64)),
            "multi_margin_loss.* has no rule; write the loss",
        ),
    ],
)
def test_refusals_say_what_to_do(function: Any, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        lowered(function, [X])
