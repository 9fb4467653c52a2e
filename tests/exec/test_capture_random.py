"""Random calls of a captured step: their distributions, sites that stay where they are, and what is refused."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from blake3 import blake3  # noqa: E402
from tests.exec.captured import (  # noqa: E402
    Loss,
    capture,
    check_same_bits,
    graph_of,
    job_of,
    nodes_of,
    perceptron,
    plain_loss,
    rows,
    run_graph,
    run_job,
)
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.exec.capture.draw_calls import Draws, EagerDraws  # noqa: E402
from samebits.exec.capture.sites import Sites  # noqa: E402
from samebits.exec.capture.tensors import to_torch  # noqa: E402
from samebits.exec.draws import site_words  # noqa: E402
from samebits.exec.errors import CaptureError  # noqa: E402
from samebits.exec.job import Job  # noqa: E402
from samebits.exec.keys import step_key  # noqa: E402


def drawn(function: Callable[..., Any], t: int = 0, **inputs: Any) -> dict[str, Any]:
    """Return what a function of tensors gives in its graph, in step t of seed 0."""
    return run_graph(graph_of(function, inputs), inputs, t=t)


def sites_of(job: Job, *expected: str) -> int:
    """Assert that a job draws at the sites expected, of all that it draws at; returns how many those are."""
    constants = [dict(node.attributes) for node in nodes_of(job) if node.op == "constant"]
    found = {one["value"] for one in constants if (one["dtype"], one["shape"]) == ("u32", (2,))}
    for site in expected:
        assert site_words(site).tobytes() in found, site
    return len(found)


# Rates and scales


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("form", ["F.dropout", "nn.Dropout", "native"])
def test_dropout_has_its_rate_and_scale(p: float, form: str) -> None:
    x = torch.rand(200, 100, generator=torch.Generator().manual_seed(1)) + 0.5
    forms: dict[str, Callable[[Any], Any]] = {
        "F.dropout": lambda x: F.dropout(x, p),
        "nn.Dropout": nn.Dropout(p),
        "native": lambda x: torch.native_dropout(x, p, True)[0],
    }
    y = drawn(lambda x: {"y": forms[form](x)}, x=x)["y"]
    kept = y != 0
    assert abs(kept.mean() - (1 - p)) < 6 * np.sqrt(p * (1 - p) / x.numel())
    scale = np.float32(1) / np.float32(1 - p)
    assert np.abs(y[kept] / (x.numpy()[kept] * scale) - 1).max() < 3e-7


def test_dropout_of_whole_channels_drops_whole_channels() -> None:
    y = drawn(lambda x: {"y": F.dropout2d(x, 0.5)}, x=torch.ones(40, 50, 3, 3))["y"].reshape(2000, 9)
    assert ((y == 0).all(1) | (y == 2).all(1)).all()
    assert abs((y[:, 0] == 0).mean() - 0.5) < 6 * np.sqrt(0.25 / 2000)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = torch.randn(300, 200, generator=torch.Generator().manual_seed(1))
    y = drawn(lambda x: {"y": F.alpha_dropout(x, 0.3, training=True)}, x=x)["y"]
    assert abs(y.mean()) < 0.03
    assert abs(y.std() - 1) < 0.03
    assert not np.array_equal(y, x.numpy())


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_at_its_limits(p: float) -> None:
    y = drawn(lambda x: {"y": F.dropout(x, p)}, x=torch.full((5, 7), 3.0))["y"]
    assert (y == (0.0 if p else 3.0)).all()


CALLS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bool]]] = {
    "rand": (lambda x: torch.rand(500, 8), lambda y: abs(y.mean() - 0.5) < 0.03 and y.min() >= 0 and y.max() < 1),
    "rand_like": (torch.rand_like, lambda y: abs(y.mean() - 0.5) < 0.03),
    "randn": (lambda x: torch.randn(500, 8), lambda y: abs(y.mean()) < 0.1 and abs(y.std() - 1) < 0.07),
    "randn_like": (torch.randn_like, lambda y: abs(y.std() - 1) < 0.07),
    "randint": (lambda x: torch.randint(-2, 5, (500, 8)), lambda y: set(y.flat) == set(range(-2, 5))),
    "randint i32": (lambda x: torch.randint(3, (500, 8), dtype=torch.int32), lambda y: y.dtype == np.int32),
    "randint_like": (lambda x: torch.randint_like(x, 1, 4), lambda y: set(y.flat) == {1, 2, 3}),
    "randperm": (lambda x: torch.randperm(500), lambda y: sorted(y) == list(range(500)) and list(y) != sorted(y)),
    "bernoulli": (lambda x: torch.bernoulli(torch.full_like(x, 0.3)), lambda y: abs(y.mean() - 0.3) < 0.05),
    "bernoulli p": (lambda x: torch.bernoulli(x, 0.3), lambda y: abs(y.mean() - 0.3) < 0.05),
    "bernoulli_": (lambda x: torch.empty(500, 8).bernoulli_(0.3), lambda y: abs(y.mean() - 0.3) < 0.05),
    "normal_": (lambda x: torch.empty(500, 8).normal_(2, 0.5), lambda y: abs(y.mean() - 2) < 0.05 < y.std() < 0.55),
    "uniform_": (lambda x: torch.empty(500, 8).uniform_(-3, -1), lambda y: y.min() >= -3 and y.max() <= -1),
    "exponential_": (lambda x: torch.empty(500, 8).exponential_(4), lambda y: abs(y.mean() - 0.25) < 0.03),
    "random_": (lambda x: torch.empty(500, 8).random_(2, 4), lambda y: set(y.flat) == {2, 3}),
    "normal": (lambda x: torch.normal(1.0, 2.0, (500, 8)), lambda y: abs(y.std() - 2) < 0.2),
    "half": (lambda x: torch.randn(500, 8, dtype=torch.float16), lambda y: y.dtype == np.float16 and y.std() > 0.9),
}


@pytest.mark.parametrize("name", CALLS)
def test_random_calls_have_their_distribution_and_the_bits_of_the_eager_run(name: str) -> None:
    call, right = CALLS[name]
    x = torch.zeros(500, 8)
    found = drawn(lambda x: {"y": call(x)}, t=5, x=x)["y"]
    assert right(found)
    with EagerDraws(Draws(to_torch(step_key(0, 5)), Sites(None))):
        eager = call(x)
    if name == "exponential_":  # torch's logarithm is not correctly rounded
        assert np.abs(found / eager.numpy() - 1).max() < 1e-6
    else:
        check_same_bits({"y": found}, {"y": eager.numpy()})


# Which numbers are the same, and which are not


def share_of_equal(one: Any, other: Any) -> float:
    return float((one == other).mean())


def test_no_two_draws_share_their_numbers() -> None:
    drop = nn.Dropout(0.5)

    def both(x: Any) -> Any:
        return {"a": F.dropout(x), "b": F.dropout(x), "c": drop(x), "d": drop(x)}

    x = torch.ones(100, 100)
    masks = [*drawn(both, x=x).values(), *drawn(both, t=1, x=x).values()]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert abs(share_of_equal(one, other) - 0.5) < 0.03


def noisy(model: Any, x: Any, y: Any) -> Any:
    return F.cross_entropy(model(x + 0.1 * torch.randn_like(x)), y)


def test_runs_repeat_and_seeds_differ() -> None:
    def final(seed: int) -> Any:
        return run_job(job_of(noisy, perceptron(nn.Dropout(0.3)), seed=seed))[0]

    first, again, other = final(1), final(1), final(2)
    check_same_bits(again, first)
    assert all(share_of_equal(first[name], other[name]) < 0.2 for name in first)


def test_the_seed_of_a_job_is_not_torchs() -> None:
    torch.manual_seed(1)
    before = job_of(noisy).address
    torch.manual_seed(2)
    torch.rand(3)
    assert job_of(noisy).address == before


class Branches(nn.Module):
    """Two branches with dropout, whose order and company may change."""

    def __init__(self, swap: bool = False, more: bool = False) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Tanh(), nn.Dropout(0.5))
        self.right = nn.Sequential(nn.Tanh(), nn.Dropout(0.5))
        self.swap, self.more = swap, nn.Dropout(0.5) if more else nn.Identity()

    def forward(self, x: Any) -> Any:
        if self.swap:
            right, left = self.right(x), self.left(x)
        else:
            left, right = self.left(x), self.right(x)
        return {"left": left, "right": right, "more": self.more(left * right)}


def test_a_site_depends_on_the_module_only() -> None:
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))

    def masks(**form: bool) -> Any:
        model = Branches(**form)
        found = run_graph(graph_of(model, {"x": x}, model), {"x": x})
        return {name: found[name] for name in ("left", "right")}

    plain = masks()
    check_same_bits(masks(swap=True), plain)
    check_same_bits(masks(more=True), plain)
    check_same_bits(masks(swap=True, more=True), plain)
    assert share_of_equal(plain["left"] == 0, plain["right"] == 0) < 0.7


def test_sites_are_named_by_path_call_and_number() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Dropout(0.5)))
            self.head = nn.Linear(6, 4)

        def forward(self, x: Any) -> Any:
            return self.head(F.dropout(F.dropout(self.net(self.net(x)), 0.1), 0.1))

    torch.manual_seed(0)
    inside = ("model/net/1/0:0", "model/net#1/1/0:0", "model:0", "model:1")
    assert sites_of(job_of(model=Twice()), *inside) == 4

    def outside(model: Any, x: Any, y: Any) -> Any:
        return F.cross_entropy(F.dropout(model(x), 0.1), y) + F.cross_entropy(model(torch.rand_like(x)), y)

    assert sites_of(job_of(outside, Twice()), *inside, ":0", ":1", "model#1/net/1/0:0", "model#1:1") == 10
    assert blake3(b"model:0").digest(8) == site_words("model:0").tobytes()


def test_microbatches_draw_anew() -> None:
    """Accumulation over two equal halves is not one half twice."""

    def accumulate(model: Any, x: Any, y: Any) -> Any:
        first = F.cross_entropy(model(x[:6]), y[:6])
        second = F.cross_entropy(model(x[:6]), y[:6])
        return (first - second).abs() * 1e3 + (first + second) / 2

    job = job_of(accumulate, perceptron(nn.Dropout(0.5)))
    assert sites_of(job, "model/2:0", "model#1/2:0") == 2
    assert run_job(job, 1)[1][0]["loss"] > 10


# Modules of torch that draw


class Attending(nn.Module):
    def __init__(self, **given: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after = nn.Linear(6, 8), nn.Linear(8, 4)
        self.own = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.given = given

    def forward(self, x: Any) -> Any:
        h = self.before(x).reshape(3, 4, 8)
        return self.after(self.own(h, h, h, **self.given)[0].reshape(12, 8))


def encoder() -> Any:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
    return nn.Sequential(nn.Linear(6, 8), nn.Unflatten(0, (3, 4)), layer, nn.Flatten(0, 1), nn.Linear(8, 4))


@pytest.mark.parametrize(
    ("model", "count"),
    [(encoder, 4), (Attending, 1), (lambda: Attending(need_weights=False), 1)],
    ids=["encoder", "attention with weights", "attention"],
)
def test_modules_of_torch_drop_out_as_in_eager(model: Callable[[], Any], count: int) -> None:
    """Capture compares three steps with eager PyTorch, which draws at the same sites."""
    job = job_of(model=model())
    assert sites_of(job) == count
    loss = run_job(job, 1)[1][0]["loss"]
    assert loss != run_job(job_of(model=model().eval()), 1)[1][0]["loss"]


def test_gumbel_softmax_and_noise_on_gradients_match_eager() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = (F.gumbel_softmax(model(x), tau=0.5) * F.one_hot(y, 4)).sum(1).log().neg().mean()
        loss.backward()
        for p in model.parameters():
            p.grad.add_(0.01 * torch.randn_like(p))
        optimizer.step()
        return {"loss": loss}

    assert sites_of(capture(step, model, optimizer)) == 5


# Refusals


GENERATOR = torch.Generator()
NUMPY_RANDOM = np.random.default_rng(0)


def own_randn(model: Any, x: Any, y: Any) -> Any:
    return plain_loss(model, x + torch.randn(12, 6, generator=GENERATOR), y)  # the line: own_randn


def own_normal_(model: Any, x: Any, y: Any) -> Any:
    return plain_loss(model, x + torch.empty(12, 6).normal_(generator=GENERATOR), y)  # the line: own_normal_


def own_randperm(model: Any, x: Any, y: Any) -> Any:
    return plain_loss(model, x[torch.randperm(12, generator=GENERATOR)], y)  # the line: own_randperm


def poisson(model: Any, x: Any, y: Any) -> Any:
    return plain_loss(model, torch.poisson(x.abs()), y)  # the line: poisson


def multinomial(model: Any, x: Any, y: Any) -> Any:
    return plain_loss(model, x, torch.multinomial(torch.ones(12, 4), 1)[:, 0])  # the line: multinomial


def normal_of_tensors(model: Any, x: Any, y: Any) -> Any:
    return plain_loss(model, torch.normal(x, torch.ones_like(x)), y)  # the line: normal_of_tensors


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (own_randn, "aten.randn.generator draws from a generator of your own"),
        (own_normal_, "aten.normal_.default draws from a generator of your own"),
        (own_randperm, "aten.randperm.generator draws from a generator of your own"),
        (poisson, "aten.poisson draws from torch's hidden random generator"),
        (multinomial, "aten.multinomial draws from torch's hidden random generator"),
        (normal_of_tensors, "aten.normal draws from torch's hidden random generator"),
    ],
)
def test_what_no_key_can_give_is_refused_with_op_and_line(loss: Loss, message: str) -> None:
    with pytest.raises(CaptureError, match=re.escape(message)) as raised:
        job_of(loss)
    assert f"# the line: {loss.__name__}" in str(raised.value)


@pytest.mark.parametrize(
    "loss",
    [
        lambda model, x, y: plain_loss(model, x * NUMPY_RANDOM.random(), y),
        lambda model, x, y: plain_loss(model, x + torch.from_numpy(NUMPY_RANDOM.random((12, 6), np.float32)), y),
        lambda model, x, y: plain_loss(model, x * random.random(), y),
        lambda model, x, y: plain_loss(model, x[random.sample(range(12), 12)], y[:12]),
    ],
    ids=["numpy number", "numpy array", "python number", "python sample"],
)
def test_random_numbers_of_numpy_and_python_are_refused(loss: Loss) -> None:
    with pytest.raises(CaptureError, match="a random number"):
        job_of(loss)


def test_an_evaluation_that_draws_is_refused() -> None:
    model = perceptron(nn.Dropout(0.5))

    def evaluate(x: Any) -> Any:
        return {"mean": model(x).mean()}

    def evaluate_rightly(x: Any) -> Any:
        model.eval()
        return evaluate(x)

    held_out = {"x": rows()["x"]}
    with pytest.raises(CaptureError, match=r"call model.eval\(\) in it"):
        job_of(model=model, evaluate=evaluate, evaluation_data=held_out)
    assert sites_of(job_of(model=model, evaluate=evaluate_rightly, evaluation_data=held_out)) == 1
    assert model.training


def test_a_seed_set_in_the_step_is_refused() -> None:
    def seeded(model: Any, x: Any, y: Any) -> Any:
        torch.manual_seed(1)
        return F.cross_entropy(F.dropout(model(x)), y)

    own = torch.manual_seed
    with pytest.raises(CaptureError, match=r"it seeds torch's random generator; .*test_capture_random.py"):
        job_of(seeded)
    assert torch.manual_seed is own
