"""Lowering rules of normalisation, variances and norms against eager PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from tests.exec.lowered import check_like_eager, lowered, run, tensor, with_gradients  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.exec.errors import CaptureError  # noqa: E402

INF = float("inf")
X = tensor((3, 4, 5))
IMAGE = tensor((2, 6, 5, 3))
W4, B4, W6, B6 = tensor((4,)) + 1, tensor((4,), seed=1), tensor((6,)) + 1, tensor((6,), seed=1)
MEAN, VAR = tensor((6,), seed=2), tensor((6,), seed=3).abs() + 0.1


def batch_norm(x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
    mean, var = mean.detach().clone(), var.detach().clone()
    y = F.batch_norm(x, mean, var, w, b, True, 0.1)
    return y, mean, var, F.batch_norm(y, mean, var, w, b, True, 0.3), mean, var


def batch_norm_evaluated(x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
    return F.batch_norm(x, mean.detach(), var.detach(), w, b, False)


def batch_norm_by_other_names(x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
    x, w, b = x.detach(), w.detach(), b.detach()
    evaluated = torch.ops.aten._native_batch_norm_legit_no_training(x, w, b, mean.detach(), var.detach(), 0.1, 1e-5)
    return *torch.ops.aten._native_batch_norm_legit.no_stats(x, w, b, True, 0.1, 1e-5), evaluated[0]


NORMS: dict[str, tuple[Any, list[Any]]] = {
    "layer norm": (lambda x, w, b: F.layer_norm(x, (5,), w, b), [X, tensor((5,)), tensor((5,), seed=1)]),
    "layer norm of two axes": (lambda x, w, b: F.layer_norm(x, (4, 5), w, b), [X, tensor((4, 5)), tensor((4, 5))]),
    "layer norm without affine": (lambda x: F.layer_norm(x, (5,)), [X]),
    "layer norm without bias": (lambda x, w: F.layer_norm(x, (5,), w), [X, tensor((5,))]),
    "layer norm of an offset": (lambda x: F.layer_norm(x + 5, (5,)), [X]),
    "layer norm of nothing": (lambda x, w: F.layer_norm(x, (5,), w), [tensor((0, 5)), tensor((5,))]),
    "group norm": (lambda x, w, b: F.group_norm(x, 3, w, b), [IMAGE, W6, B6]),
    "group norm of a sequence": (lambda x, w, b: F.group_norm(x, 2, w, b), [X, W4, B4]),
    "group norm without affine": (lambda x: F.group_norm(x, 2), [IMAGE]),
    "group norm of vectors": (lambda x, w, b: F.group_norm(x, 2, w, b), [tensor((3, 6)), W6, B6]),
    "instance norm": (lambda x, w, b: F.instance_norm(x, None, None, w, b), [IMAGE, W6, B6]),
    "batch norm": (batch_norm, [IMAGE, W6, B6, MEAN, VAR]),
    "batch norm of vectors": (batch_norm, [tensor((5, 6)), W6, B6, MEAN, VAR]),
    "batch norm of volumes": (batch_norm, [tensor((2, 6, 2, 3, 2)), W6, B6, MEAN, VAR]),
    "batch norm without statistics": (lambda x: F.batch_norm(x, None, None, None, None, True), [IMAGE]),
    "batch norm without affine": (lambda x, m, v: batch_norm(x, None, None, m, v), [IMAGE, MEAN, VAR]),
    "batch norm by other names": (batch_norm_by_other_names, [IMAGE, W6, B6, MEAN, VAR]),
    "batch norm evaluated": (batch_norm_evaluated, [IMAGE, W6, B6, MEAN, VAR]),
    "rms norm": (lambda x, w: F.rms_norm(x, (5,), w, 1e-6), [X, tensor((5,))]),
    "local response norm": (lambda x: F.local_response_norm(x, 3), [IMAGE]),
}
NO_BF16 = ("local response norm", "layer norm of an offset")  # torch has none; the offset takes the digits
WEIGHT_NORM = [tensor((3, 4, 2)), tensor((3, 1, 1)).abs()]
REDUCTIONS: dict[str, Any] = {
    "var": lambda x: (x.var(), x.var(1), x.var((0, 2), keepdim=True), x.var(1, correction=0), x.var(-1, correction=2)),
    "std": lambda x: (x.std(), x.std(1), x.std((0, 2), keepdim=True), x.std(1, unbiased=False)),
    "var_mean": lambda x: (*torch.var_mean(x, 1), *torch.std_mean(x, (0, 1), keepdim=True), *torch.var_mean(x)),
    "norm": lambda x: (x.norm(), x.norm(dim=1), x.norm(1), x.norm(INF, 2), x.norm(-INF, 0), x.norm(3, (0, 1))),
    "vector_norm": lambda x: (torch.linalg.vector_norm(x, 2.5), torch.linalg.vector_norm(x, 0, 1).detach()),
    "normalize": lambda x: F.normalize(x, dim=1),
    "logsumexp": lambda x: (x.logsumexp(1), x.logsumexp((0, 2), keepdim=True), x.exp().cumsum(1).log()),
    "extremes": lambda x: (x.amax(1), x.amin((0, 2)), *torch.aminmax(x.detach()), *torch.aminmax(x.detach(), dim=1)),
    "extreme along an axis": lambda x: (x.max(1).values, x.min(-1, keepdim=True).values, x.max(), x.min()),
    "prod": lambda x: (x.prod(), x.prod(1), x.prod(-1, keepdim=True)),
    "cumprod": lambda x: x.cumprod(1),
    "count": lambda x: (x.count_nonzero(), (x > 0).count_nonzero(1), x.nansum(), x.nansum(1), x[0].trace()),
    "distance": lambda x: (torch.dist(x, x + 1), F.pairwise_distance(x[0], x[1]), F.cosine_similarity(x, x + 1, 1)),
}


@pytest.mark.parametrize("name", NORMS)
def test_norm_and_its_gradients_match_eager(name: str) -> None:
    function, inputs = NORMS[name]
    check_like_eager(function, inputs)


@pytest.mark.parametrize("name", [name for name in NORMS if name not in NO_BF16])
def test_norm_in_bf16_is_as_close_to_f32_as_bf16_allows(name: str) -> None:
    function, inputs = NORMS[name]
    check_like_eager(function, [x.to(torch.bfloat16) for x in inputs], tolerance=0.03)


def test_norm_of_bf16_rounds_once() -> None:
    """Everything before the last rounding is f32, also the statistics that torch saves in bf16 on a CPU."""
    x, w, b = (tensor(shape).to(torch.bfloat16) for shape in ((7, 33), (33,), (33,)))

    def exact(*inputs: Any) -> Any:
        return F.layer_norm(inputs[0].float(), (33,), inputs[1].float(), inputs[2].float()).to(torch.bfloat16)

    half = lowered_values(lambda *inputs: F.layer_norm(inputs[0], (33,), inputs[1], inputs[2]), [x, w, b])
    wide = lowered_values(exact, [x, w, b])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(half, wide, strict=True))


def lowered_values(function: Any, inputs: list[Any]) -> list[Any]:
    return run(*lowered(with_gradients(function, inputs), inputs))


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction_and_its_gradient_match_eager(name: str) -> None:
    check_like_eager(REDUCTIONS[name], [X])


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_variance_of_one_element_is_nan() -> None:
    check_like_eager(lambda x: (x.var(), x.std()), [tensor((1,))], gradients=False)


def test_prod_of_many_factors_is_refused() -> None:
    check_like_eager(lambda x: x.prod(), [tensor((64,))])
    with pytest.raises(CaptureError, match=r"aten.prod of 65 factors has no rule .*sum their logarithms"):
        lowered(lambda x: x.prod(), [tensor((65,))])


def test_batch_norm_that_would_write_its_statistics_unseen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.exec.capture.trace.REWRITTEN", {})
    with pytest.raises(CaptureError, match=r"aten.native_batch_norm in training updates its running statistics"):
        lowered(batch_norm, [IMAGE, W6, B6, MEAN, VAR])


def test_weight_norm_and_its_gradients_match_eager() -> None:
    check_like_eager(lambda v, g: torch._weight_norm(v, g, 0), WEIGHT_NORM)
    check_like_eager(lambda v, g: torch._weight_norm(v, g, 2), [tensor((3, 4, 2)), tensor((1, 1, 2)).abs()])
