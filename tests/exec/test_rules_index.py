"""Lowering rules of indexing, movement, sorting and creation: equal to eager PyTorch element by element."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from tests.exec.lowered import check_like_eager, lowered, run, tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.exec.errors import CaptureError, RunError  # noqa: E402
from samebits.kernels.errors import OpError  # noqa: E402

aten = torch.ops.aten
I64, NAN = torch.int64, float("nan")
X = tensor((5, 6))
Y = tensor((4, 5, 6))
ROWS, COLUMNS = torch.tensor([0, 3, -1]), torch.tensor([[1, 2, 1], [0, -6, 5]])
PICKED = tensor((5, 3), I64, low=0, high=6)
DISTINCT = torch.tensor([[0, 2, 4], [1, 0, 3], [5, 4, 3], [0, 1, 2], [3, 2, 1]])


def write_slices(x: Any, v: Any) -> Any:
    x = x.clone()
    x[:, 1:4] = v
    x[:, 0] = 0
    x[0, ::2] = 1.0
    x[1] = x[2]
    x[3:, 1::2] = v[3:] * 2
    x[-1, -1] += 3
    return x


INDEXING: dict[str, Any] = {
    "index": (lambda x, i: (x[i], x[:, i], x[i, i], x[None, :, i]), [X, ROWS]),
    "index between": (lambda y, i: (y[:, i], y[:, i, i], y[i, :, i], y[..., i]), [Y, torch.tensor([0, 3, -2])]),
    "index by matrices": (lambda x, i: (x[i % 5], x[:, i], x[i % 5, i], x[i[:1] % 5, i[:, :1]]), [X, COLUMNS]),
    "index by none": (lambda x, i: (x[i], x[:, i]), [X, torch.zeros(0, dtype=I64)]),
    "index by i32": (lambda x, i: x[i], [X, ROWS.int()]),
    "index_put": (lambda x, i, v: x.index_put((i,), v), [X, torch.tensor([0, -2]), tensor((2, 6))]),
    "index_put inside": (lambda y, i, v: put(y, i, v), [Y, torch.tensor([0, 3]), tensor((4, 2, 6))]),
    "index_put apart": (lambda y, i, v: put_apart(y, i, v), [Y, torch.tensor([0, 3]), tensor((2, 5))]),
    "index_put accumulate": (
        lambda x, i, v: x.index_put((i,), v, accumulate=True),
        [X, torch.tensor([0, 2, 0]), tensor((3, 6))],
    ),
    "index_put of a mask": (lambda x: put(x, (x > 0,), 2.0), [X]),
    "gather": (lambda x, i: (x.gather(1, i), x.gather(0, i[:4, :2] % 5), x.take_along_dim(i, 1)), [X, PICKED]),
    "gather of a scalar": (lambda x, i: x.gather(0, i), [tensor(()), torch.tensor(0)]),
    "scatter": (lambda x, i, v: x.scatter(1, i, v), [X, DISTINCT, tensor((5, 3))]),
    "scatter of less": (lambda x, i, v: x.scatter(1, i[:3, :2], v.detach()), [X, DISTINCT, tensor((5, 3))]),
    "scatter of a number": (lambda x, i: x.scatter(1, i, 2.0), [X, PICKED]),
    "scatter_add": (lambda x, i, v: (x.scatter_add(1, i, v), x.scatter_add(0, i % 5, v)), [X, PICKED, tensor((5, 3))]),
    "scatter reduce": (
        lambda x, i, v: (x.scatter_reduce(0, i % 5, v, "sum"), x.scatter_reduce(1, i, v, "sum")),
        [X, PICKED, tensor((5, 3))],
    ),
    "index_select": (lambda x, i: (x.index_select(1, i), x.index_select(0, i)), [X, torch.tensor([1, 4, 1])]),
    "index_add": (
        lambda x, i, v: (x.index_add(1, i, v), x.index_add(1, i, v, alpha=2)),
        [X, torch.tensor([1, 4, 1]), tensor((5, 3))],
    ),
    "index_copy": (lambda x, i, v: x.index_copy(1, i, v), [X, torch.tensor([1, 4, 2]), tensor((5, 3))]),
    "index_fill": (lambda x, i: (x.index_fill(0, i, 1.5), x.index_fill(1, i, 0)), [X, torch.tensor([1, 4, 1])]),
    "take": (lambda x, i: torch.take(x, i), [X, COLUMNS]),
    "put": (lambda x, i, v: x.put(i, v), [X, torch.tensor([3, 29, -2]), tensor((3,))]),
    "slices": (write_slices, [X, tensor((5, 3))]),
    "select_scatter": (lambda x, v: (x.select_scatter(v, 0, -2), x.slice_scatter(x[:2], 0, 3)), [X, tensor((6,))]),
    "masked_fill": (lambda x, v: (x.masked_fill(x > 0, v), x.masked_fill(x > 0, -1e9)), [X, tensor(())]),
    "one_hot": (lambda i: F.one_hot(i, 7), [tensor((5,), I64, low=0)]),
    "index unchecked": (lambda x, i: (aten._unsafe_index(x, [i]), aten._unsafe_index_put(x, [i], x[:3])), [X, ROWS]),
    "index_put inside torch": (lambda x, i: aten._index_put_impl(x, [i], x[:3]), [X, ROWS]),
    "extreme": (lambda x: (x.argmax(), x.argmax(1), x.argmin(0, True), x.argmin(-1)), [X]),
    "embedding": (lambda i, w: F.embedding(i, w), [tensor((2, 3), I64, low=0), tensor((5, 3))]),
}


def put(x: Any, i: Any, v: Any) -> Any:
    x = x.clone()
    if isinstance(i, tuple):
        x[i] = v
    else:
        x[:, i] = v
    return x


def put_apart(x: Any, i: Any, v: Any) -> Any:
    x = x.clone()
    x[i, :, i] = v
    return x


IMAGE = tensor((2, 3, 5, 6))
MOVEMENT: dict[str, Any] = {
    "pad": (lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, -1, -2, 3), value=3), F.pad(x, (-1, -1))), [X]),
    "pad an integer": (lambda x: F.pad(x.int(), (1, 1), value=-7), [X]),
    "pad away": (lambda x: (F.pad(x, (-4, 3)), F.pad(x, (3, -4))), [X]),
    "reflect": (lambda x: (F.pad(x, (1, 3, 2, 0), mode="reflect"), F.pad(x[0], (2, 5), mode="reflect")), [IMAGE]),
    "replicate": (lambda x: (F.pad(x, (1, 3, 2, 0), mode="replicate"), F.pad(x[0], (7, 1), mode="replicate")), [IMAGE]),
    "repeat": (lambda x: (x.repeat(2, 3), x.repeat(2, 1, 1), x.tile(2), x.expand(2, 5, 6), x.repeat(0, 1)), [X]),
    "repeat_interleave": (lambda x: (x.repeat_interleave(2, 1), x.expand_as(x)), [X]),
    "unbind": (lambda x: (x.unbind(1), x.chunk(4, 1), x.tensor_split(3, 1), x.split((2, 3), 0), x.unbind()), [X]),
    "roll": (lambda x: (x.roll(1), x.roll((1, -2), (0, 1)), x.roll(7, -1), x.roll(0, 0)), [X]),
    "turn": (
        lambda x: (x.rot90(), x.rot90(2), x.rot90(-1), x.flip(0, 1), x.movedim(0, 1), x.mT, x.swapaxes(0, 1)),
        [X],
    ),
    "triangle": (lambda x: (x.triu(), x.tril(1), x.triu(-2), x.tril(-9), (x > 0).tril()), [Y]),
    "diagonal": (lambda x: (x.diagonal(), x.diagonal(1), x.diagonal(-2), x.diag(2), x[:, :5].diagonal(5)), [X]),
    "diagonal of some axes": (lambda y: (y.diagonal(1, 0, 2), y.diagonal(-1, 2, 1), y.diagonal(9)), [Y]),
    "diag_embed": (lambda x: (torch.diag_embed(x), torch.diag_embed(x, 2), torch.diag_embed(x, -1, 0, 2)), [X]),
    "fill a diagonal": (lambda x: x.diagonal_scatter(x[0, :4] * 2, 2), [X]),
    "unfold": (lambda y: (y.unfold(1, 3, 2), y.unfold(0, 4, 1), y.unfold(2, 2, 3), y.unfold(-1, 1, 1)), [Y]),
    "pixel_shuffle": (lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2)), [tensor((2, 8, 4, 6))]),
    "step": (lambda x: (x[1:, ::2], x[::3, -1], x[4:2], x[..., 1:-1:2]), [X]),
    "view": (
        lambda x: (x.ravel(), x.unflatten(1, (2, 3)), x.view(torch.int32), x.t().reshape(-1), x[None].squeeze()),
        [X],
    ),
    "cumsum of integers": (lambda x: ((x > 0).cumsum(0), (x * 9).int().cumsum(1), (x * 9).int().sum()), [X]),
    "tril of nothing": (lambda x: (x.tril(), x.flip(0), x.repeat(2, 1)), [tensor((0, 3))]),
}
ADDING = ("index_put accumulate", "scatter_add", "scatter reduce", "index_add", "slices")
SORTING: dict[str, Any] = {
    "topk": (lambda x: (x.topk(2), x.topk(2, 0, largest=False)), [X]),
    "sort": (lambda x: (x.sort(1), x.sort(0, descending=True), x.sort(dim=-1, stable=True), x.msort()), [X]),
    "argsort": (lambda x: (x.argsort(1), x.argsort(0, descending=True)), [X]),
    "sort integers": (lambda x: x.sort(dim=0, stable=True), [tensor((5, 9), I64)]),
    "kth": (lambda x: (x.kthvalue(2), x.kthvalue(3, 0, True), x.median(1), x.median()), [X]),
    "sort NaN": (lambda x: (x.sort().values, x.median(), x.topk(2), x.median(0)), [torch.where(X > 1, NAN, X)[1]]),
    "bucketize": (lambda x, b: search(x, b.sort().values), [X, tensor((4,))]),
    "searchsorted rows": (lambda x, b: torch.searchsorted(b.sort().values.detach(), x.detach()), [X, tensor((5, 4))]),
}


def search(x: Any, b: Any) -> Any:
    x, b = x.detach(), b.detach()
    where = (torch.bucketize(x, b), torch.bucketize(b, b, right=True), torch.searchsorted(b, b, side="left"))
    return (*where, torch.bucketize((x - 1).sqrt(), b, out_int32=True))


def make(x: Any) -> Any:
    return (
        *(torch.arange(0, 1, 0.1), torch.arange(5.0), torch.arange(1, 7, 2), torch.arange(7, 1, -2), torch.arange(3)),
        *(torch.full_like(x, 2), torch.eye(3), torch.eye(2, 4), torch.scalar_tensor(2.0), x.new_full((2,), 3.0)),
        *(torch.zeros(3, dtype=torch.bool), torch.ones_like(x), torch.tril_indices(3, 4), torch.triu_indices(3, 3, 1)),
        *(torch.tensor([1.0, 2.0]), torch.tensor(3.0), x.new_zeros(2), torch.meshgrid(x[0], x[0], indexing="ij")),
        *(torch.empty_strided((2, 3), (3, 1)).fill_(1.0), x.new_empty((2,)).zero_(), torch.empty_like(x).copy_(x)),
        *(torch.linspace(0, 1, 1), torch.full((2,), 7), torch.arange(0, 4, 0.5, dtype=torch.bfloat16)),
        *(x.double(), x.half(), x.bfloat16(), x.int(), x.bool(), (x * x).to(torch.uint8), x.to(torch.int16)),
    )


@pytest.mark.parametrize("name", INDEXING | MOVEMENT | SORTING)
def test_moved_elements_are_those_of_eager(name: str) -> None:
    """Forward results are equal; gradients add up to three values, in another order, and agree to 1e-6."""
    function, inputs = (INDEXING | MOVEMENT | SORTING)[name]
    check_like_eager(function, inputs, gradients=False, tolerance=1e-6 if name in ADDING else 0)
    check_like_eager(function, inputs, tolerance=1e-6)


def test_tensors_made_of_numbers_are_those_of_eager() -> None:
    check_like_eager(make, [X], gradients=False, tolerance=0)
    check_like_eager(lambda x: (torch.linspace(0, 1, 7), torch.linspace(3, -2, 10)), [X], gradients=False)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x, i: x[i], [X, torch.tensor([0, 5])]),
        (lambda x, i: x[:, i], [X, torch.tensor([-7])]),
        (lambda x, i: x[i, i], [X, torch.tensor([5])]),
        (lambda x, i: x.gather(1, i), [X, torch.tensor([[6]])]),
        (lambda x, i: x.gather(1, i), [X, torch.tensor([[-1]])]),
        (lambda x, i: x.scatter_add(0, i, x), [X, torch.tensor([[5]])]),
        (lambda x, i: x.index_select(0, i), [X, torch.tensor([-1])]),
    ],
)
def test_index_outside_stops_the_run(function: Any, inputs: Any) -> None:
    graph, arrays = lowered(function, inputs)
    with pytest.raises((RunError, OpError), match=r"index -1 is outside"):
        run(graph, arrays)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x, i: x.index_put((i,), x[:2]), [X, torch.tensor([3, 3])]),
        (lambda x, i: x.index_put((i,), x[:2]), [X, torch.tensor([-1, 4])]),
        (lambda x, i: x.scatter(0, i, x), [X, torch.tensor([[1], [1]])]),
        (lambda x, i: x.index_copy(0, i, x[:2]), [X, torch.tensor([2, 2])]),
    ],
)
def test_writing_one_place_twice_stops_the_run(function: Any, inputs: Any) -> None:
    graph, arrays = lowered(function, inputs)
    with pytest.raises((RunError, OpError), match="occurs twice"):
        run(graph, arrays)


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (lambda x: put(x, (x > 0,), x.new_ones(30)), [X], "boolean mask .* use torch.where"),
        (lambda x: x.scatter_reduce(0, (x > 0).long(), x, "amax"), [X], "scatter_reduce with reduce='amax'"),
        (lambda x: x.cummax(0), [X], "aten.cummax has no rule: use torch.maximum"),
        (lambda x: x.masked_scatter(x > 0, x), [X], "aten.masked_scatter has no rule: .*torch.where"),
        (lambda x: torch.bucketize(x, torch.arange(2000.0)), [X], "2000 boundaries has no rule"),
        (lambda x: x.erfinv(), [X], "aten.erfinv has no rule"),
        (lambda x: torch.as_strided(x, (2,), (1,)), [X], "aten.as_strided has no lowering rule"),
    ],
)
def test_refusals_say_what_to_do(function: Any, inputs: Any, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        lowered(function, inputs)
