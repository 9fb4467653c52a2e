"""What people write in training steps: captured and equal to eager PyTorch for ten steps, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from tests.exec.captured import ROWS, capture, perceptron, rows, run_job  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.exec.errors import CaptureError  # noqa: E402
from samebits.exec.job import Job  # noqa: E402

Step = Callable[..., Any]  # of model, optimizer, x, y
STEPS = 10


def sgd(model: Any) -> Any:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def captured(step: Step, model: Any, optimizer: Any) -> tuple[Job, Callable[[Any, Any], Any]]:
    def bound(x: Any, y: Any) -> Any:
        return step(model, optimizer, x, y)

    return capture(bound, model, optimizer, steps=STEPS), bound


def check_like_eager(step: Step, model: Any, optimizer: Any = None, tolerance: float = 3e-5) -> None:
    """Capture a step; assert that ten of it give the metrics and the final weights and buffers of eager PyTorch."""
    job, eager = captured(step, model, sgd(model) if optimizer is None else optimizer)
    state, metrics = run_job(job)
    given = rows()
    for t, found in enumerate(metrics):
        chosen = torch.from_numpy(job.spec.stream.batch(t, ROWS).copy())
        wanted = {name: value.item() for name, value in eager(given["x"][chosen], given["y"][chosen]).items()}
        assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted, rel=tolerance), t
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        right = tensor.detach().double().numpy()
        assert abs(state[f"model/{name}"].astype(float) - right).max() <= 10 * tolerance * max(abs(right).max(), 0.1), (
            name
        )


def ordinary(loss_of: Callable[[Any, Any, Any], Any]) -> Step:
    """Return the usual step around a loss of model, x and y."""

    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    return step


def plain(model: Any, x: Any, y: Any) -> Any:
    return F.cross_entropy(model(x), y)


def between(change: Callable[[Any, Any], Any], after: Callable[[Any], Any] = lambda model: None) -> Step:
    """Return the usual step with a call between backward and the optimizer's step, and one after that."""

    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = plain(model, x, y)
        loss.backward()
        found = change(model, optimizer)
        optimizer.step()
        after(model)
        return {"loss": loss} | ({"norm": found} if isinstance(found, torch.Tensor) else {})

    return step


def autocast(model: Any, x: Any, y: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return plain(model, x, y)


def for_each_gradient(model: Any, change: Callable[[Any], Any]) -> None:
    for p in model.parameters():
        change(p.grad)


def two_losses(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    optimizer.zero_grad()
    scores = model(x)
    first, second = F.cross_entropy(scores, y), scores.pow(2).mean()
    first.backward(retain_graph=True)
    second.backward()
    optimizer.step()
    return {"first": first, "second": second, "right": (scores.argmax(1) == y).sum()}


def own_sgd(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss = plain(model, x, y)
    with torch.no_grad():
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p.sub_(0.1 * g)
    return {"loss": loss}


def gradients_by_hand(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss = plain(model, x, y)
    for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
        p.grad = g
    optimizer.step()
    return {"loss": loss}


def zeroed_by(clear: Callable[[Any], Any]) -> Step:
    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        clear(model)
        loss = plain(model, x, y)
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    return step


def clear_each(model: Any) -> None:
    for p in model.parameters():
        p.grad = None


def stepped_twice(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    for _ in range(2):
        found = ordinary(plain)(model, optimizer, x, y)
    return found


def accumulated(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    optimizer.zero_grad()
    total = torch.zeros(())
    for a, b in zip(x.chunk(3), y.chunk(3), strict=True):
        loss = plain(model, a, b) / 3
        loss.backward()
        total = total + loss.detach()
    optimizer.step()
    return {"loss": total}


def with_penalty(model: Any, x: Any, y: Any) -> Any:
    """A gradient penalty: the gradient of a gradient."""
    leaf = x.clone().requires_grad_()
    loss = plain(model, leaf, y)
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    return loss + gradient.pow(2).sum()


def hooked(model: Any, x: Any, y: Any) -> Any:
    scores = model(x)
    scores.register_hook(lambda gradient: gradient * 0.5)
    return F.cross_entropy(scores, y)


STEPS_OF: dict[str, Step] = {
    "label smoothing": ordinary(lambda m, x, y: F.cross_entropy(m(x), y, label_smoothing=0.1)),
    "class weights": ordinary(lambda m, x, y: F.cross_entropy(m(x), y, weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))),
    "soft targets": ordinary(lambda m, x, y: F.cross_entropy(m(x), F.one_hot(y, 4).float())),
    "clip by norm": between(lambda m, o: nn.utils.clip_grad_norm_(m.parameters(), 0.1)),
    "clip by largest": between(lambda m, o: nn.utils.clip_grad_norm_(m.parameters(), 0.1, norm_type=float("inf"))),
    "clip by value": between(lambda m, o: nn.utils.clip_grad_value_(m.parameters(), 0.01)),
    "gradients scaled": between(lambda m, o: for_each_gradient(m, lambda g: g.mul_(0.5))),
    "decay by hand": between(lambda m, o: None, lambda m: [p.data.mul_(0.99) for p in m.parameters()] and None),
    "two losses": two_losses,
    "own sgd": own_sgd,
    "gradients by hand": gradients_by_hand,
    "model.zero_grad": zeroed_by(lambda m: m.zero_grad()),
    "zero in place": zeroed_by(lambda m: m.zero_grad(set_to_none=False)),
    "p.grad = None": zeroed_by(clear_each),
    "two optimizer steps": stepped_twice,
    "accumulation": accumulated,
    "gradient penalty": ordinary(with_penalty),
    "tensor hook": ordinary(hooked),
    "einsum": ordinary(lambda m, x, y: plain(m, x, y) + 0.01 * torch.einsum("bi,bj->ij", x, m(x)).pow(2).mean()),
    "vmap": ordinary(lambda m, x, y: F.cross_entropy(torch.vmap(m)(x), y)),
    "to(device)": ordinary(lambda m, x, y: plain(m, x.to("cpu", non_blocking=True), y)),
    "str of a tensor": ordinary(lambda m, x, y: (lambda loss: (str(loss), loss)[1])(plain(m, x, y))),
}


@pytest.mark.parametrize("name", STEPS_OF)
def test_ordinary_steps_match_eager(name: str) -> None:
    check_like_eager(STEPS_OF[name], perceptron())


class Averaged(nn.Module):
    """A perceptron with a running average of its weights in buffers, and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.net = perceptron()
        for i, p in enumerate(self.net.parameters()):
            self.register_buffer(f"mean{i}", p.detach().clone())
        self.count: Any
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def follow(self) -> None:
        with torch.no_grad():
            self.count += 1
            for i, p in enumerate(self.net.parameters()):
                getattr(self, f"mean{i}").lerp_(p, 0.1)


class Tied(nn.Module):
    """An embedding that is also the last layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.before, self.head = nn.Embedding(4, 8), nn.Linear(6, 8), nn.Linear(8, 4, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Any, y: Any) -> Any:
        return self.head(torch.relu(self.before(x)) + self.tokens((y + 1) % 4))


def net(*modules: Any) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(*modules)


def hooked_model() -> Any:
    model = perceptron()
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    model[1].register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 0.5,))
    return model


MODELS: dict[str, tuple[Callable[[], Any], Step]] = {
    "weights averaged in buffers": (Averaged, between(lambda m, o: None, lambda m: m.follow())),
    "tied weights": (Tied, ordinary(lambda m, x, y: F.cross_entropy(m(x, y), y))),
    "relu in place": (lambda: net(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 4)), ordinary(plain)),
    "batch norm": (lambda: net(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)), ordinary(plain)),
    "module hooks": (hooked_model, ordinary(plain)),
    "weight norm": (
        lambda: net(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Linear(8, 4)),
        ordinary(plain),
    ),
    "spectral norm": (
        lambda: net(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8)), nn.Linear(8, 4)),
        ordinary(plain),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_ordinary_models_match_eager(name: str) -> None:
    make, step = MODELS[name]
    check_like_eager(step, make())


@pytest.mark.parametrize("given", ["trained only", "all"])
def test_frozen_parameters_stay(given: str) -> None:
    model = perceptron()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    chosen = [p for p in model.parameters() if p.requires_grad or given == "all"]
    check_like_eager(ordinary(plain), model, torch.optim.AdamW(chosen, lr=0.01), tolerance=1e-4)
    assert torch.equal(model[0].weight, before)


def test_parameters_that_get_no_gradient_stay() -> None:
    model = nn.ModuleDict({"used": perceptron(), "unused": nn.Linear(3, 3)})
    check_like_eager(
        ordinary(lambda m, x, y: plain(m["used"], x, y)), model, torch.optim.Adam(model.parameters(), 0.01), 1e-4
    )


HALVES: dict[str, tuple[Any, Callable[[Any, Any, Any], Any]]] = {
    "autocast": (torch.float32, autocast),
    "bfloat16": (torch.bfloat16, lambda m, x, y: F.cross_entropy(m(x.bfloat16()).float(), y)),
    "half": (torch.float16, lambda m, x, y: F.cross_entropy(m(x.half()).float(), y)),
}


@pytest.mark.parametrize("name", HALVES)
def test_mixed_and_half_precision_train(name: str) -> None:
    """Capture compares three steps within a tenth of each change; ten steps stay close in the loss."""
    dtype, loss = HALVES[name]
    model = perceptron().to(dtype)
    job, eager = captured(ordinary(loss), model, sgd(model))
    given = rows()
    for t, found in enumerate(run_job(job)[1]):
        chosen = torch.from_numpy(job.spec.stream.batch(t, ROWS).copy())
        assert float(found["loss"]) == pytest.approx(
            float(eager(given["x"][chosen], given["y"][chosen])["loss"]), rel=0.02
        )


# Refusals


def compiled(model: Any, x: Any, y: Any) -> Any:
    return plain(torch.compile(model), x, y)


def scaler() -> Step:
    scale = torch.amp.GradScaler("cpu", init_scale=128.0)

    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = plain(model, x, y)
        scale.scale(loss).backward()
        scale.step(optimizer)
        scale.update()
        return {"loss": loss}

    return step


def closure(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": optimizer.step(lambda: ordinary(plain)(model, optimizer, x, y)["loss"])}


def gives_item(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": ordinary(plain)(model, optimizer, x, y)["loss"].item()}


REFUSED: dict[str, tuple[Step, str]] = {
    "torch.compile": (ordinary(compiled), "as it was before torch.compile"),
    "GradScaler": (scaler(), "_amp_foreach_non_finite_check_and_unscale has no lowering rule"),
    "clip with foreach": (
        between(lambda m, o: nn.utils.clip_grad_norm_(m.parameters(), 0.1, foreach=True)),
        "_foreach_norm has no lowering rule",
    ),
    "clip, finite only": (
        between(lambda m, o: nn.utils.clip_grad_norm_(m.parameters(), 0.1, error_if_nonfinite=True)),
        "Python value of a tensor",
    ),
    "closure": (closure, "call loss.backward\\(\\) before it"),
    "loss.item()": (gives_item, "keep it a tensor"),
    "print(loss.item())": (
        ordinary(lambda m, x, y: (print(plain(m, x, y).item()), plain(m, x, y))[1]),
        "Python value of a tensor",
    ),
    "numpy()": (ordinary(lambda m, x, y: plain(m, x, y) * float(x.numpy().mean())), r"\.numpy\(\) is not supported"),
    "boolean index": (ordinary(lambda m, x, y: F.cross_entropy(m(x)[y > 0], y[y > 0])), "nonzero"),
    "complex numbers": (ordinary(lambda m, x, y: torch.fft.rfft(m(x)).abs().mean()), "_fft_r2c has no lowering rule"),
    "one_hot without classes": (
        ordinary(lambda m, x, y: plain(m, x, F.one_hot(y).float())),
        "Python value of a tensor",
    ),
    "a loss alone": (lambda m, o, x, y: ordinary(plain)(m, o, x, y)["loss"], "dictionary of scalar tensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_steps_that_no_graph_can_hold_are_refused_in_one_line(name: str) -> None:
    step, message = REFUSED[name]
    model = perceptron()
    with pytest.raises(CaptureError, match=message) as raised:
        captured(step, model, sgd(model))
    assert "\n" not in str(raised.value)


def sparse() -> Any:
    return net(nn.Embedding(4, 8, sparse=True), nn.Linear(8, 4))


def renormed() -> Any:
    return net(nn.Embedding(4, 8, max_norm=1.0), nn.Linear(8, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (sparse, "_sparse_coo_tensor_with_dims_and_tensors has no lowering rule"),
        (renormed, "embedding_renorm has no lowering rule"),
        (lambda: net(nn.Embedding(4, 8), nn.Linear(8, 4)).double(), "not defined for f64"),
        (
            lambda: net(nn.Embedding(4, 8), nn.BatchNorm1d(8, momentum=None), nn.Linear(8, 4)),
            "Python value of a tensor",
        ),
    ],
)
def test_models_that_no_graph_can_hold_are_refused(make: Callable[[], Any], message: str) -> None:
    model = make()
    with pytest.raises(CaptureError, match=message):
        captured(ordinary(lambda m, x, y: plain(m, y, y)), model, sgd(model))


def test_two_optimizers_are_refused() -> None:
    model = perceptron()
    other = torch.optim.SGD(model[2].parameters(), lr=0.1)
    step = between(lambda m, o: other.step())
    with pytest.raises(CaptureError, match="one optimizer with several parameter groups"):
        captured(step, model, torch.optim.SGD(model[0].parameters(), lr=0.1))
