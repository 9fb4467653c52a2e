"""Capture: faithful, reproducible, or refused with the op and the user's own line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.exec.captured import open_job  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.exec.capture import rules  # noqa: E402
from samebits.exec.errors import CaptureError, JobError, RunError  # noqa: E402
from samebits.exec.job import BATCH, Job  # noqa: E402
from samebits.exec.machine import as_scalars  # noqa: E402
from samebits.exec.training import training_job  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTSIDE = torch.ones(4)
OTHER_MODEL = nn.Linear(4, 4)
MakeOptimizer = Callable[[Any], Any]


def digits() -> tuple[Any, Any]:
    with np.load(EXAMPLES / "digits.npz") as file:
        return torch.from_numpy(file["images"]), torch.from_numpy(file["labels"]).long()


def perceptron() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def capture(
    step: Callable[..., Any], optimizer: MakeOptimizer = sgd, model: Any = None
) -> tuple[Job, Callable[..., Any]]:
    """Capture `step(model, optimizer, x, y)`; also return it as eager PyTorch, bound to the same model."""
    model = perceptron() if model is None else model
    bound = optimizer(model.parameters())
    images, labels = digits()

    def user_step(x: Any, y: Any) -> Any:
        return step(model, bound, x, y)

    job = training_job(
        user_step, model=model, optimizer=bound, data={"x": images / 16, "y": labels}, batch_size=64, steps=60, seed=1
    )
    return job, user_step


def train(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return {"loss": loss}


class Replay:
    """A captured job on the numpy device, on batches of the test's own."""

    def __init__(self, job: Job) -> None:
        self._machine, self._t = open_job(job), 0
        self.state = self._machine.initial_state()

    def step(self, x: Any, y: Any) -> dict[str, float]:
        batch = {BATCH + "x": x.numpy(), BATCH + "y": y.numpy()}
        with patch.object(self._machine, "_batch", lambda t: batch):
            self.state, metrics = self._machine.step(self._t, self.state)
        self._t += 1
        return as_scalars(metrics)


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": sgd,
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "SGD foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True, maximize=False),
    "Adam": lambda p: torch.optim.Adam(p, lr=3e-3, weight_decay=0.01),
    "Adam amsgrad": lambda p: torch.optim.Adam(p, lr=3e-3, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=3e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=3e-3),
    "RMSprop centered": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, centered=True, weight_decay=0.01),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, lr_decay=0.01, initial_accumulator_value=0.1),
    "AdamW groups": lambda p: torch.optim.AdamW(
        [{"params": list(p)[:2], "weight_decay": 0.1}], lr=3e-3, betas=(0.8, 0.95)
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_training_matches_eager_for_50_steps(name: str) -> None:
    job, eager = capture(train, OPTIMIZERS[name])
    images, labels = digits()
    replay = Replay(job)
    worst = 0.0
    for t in range(50):
        rows = torch.from_numpy(job.spec.stream.batch(t, len(labels)).copy())
        loss = eager(images[rows] / 16, labels[rows])["loss"].item()
        worst = max(worst, abs(replay.step(images[rows] / 16, labels[rows])["loss"] - loss) / abs(loss))
    assert worst <= 1e-4


def test_captured_training_goes_on_from_an_optimizer_that_has_stepped() -> None:
    model = perceptron()
    images, labels = digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(7):
        train(model, optimizer, images[:64] / 16, labels[:64])
    job, eager = capture(train, lambda _: optimizer, model)
    replay = Replay(job)
    for _ in range(5):
        loss = eager(images[:64] / 16, labels[:64])["loss"].item()
        assert replay.step(images[:64] / 16, labels[:64])["loss"] == pytest.approx(loss, rel=1e-5)


def mixed(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """Touch many rules at once."""
    optimizer.zero_grad()
    h = model(x)
    target = torch.where(y[:, None] == torch.arange(10), 1.0, 0.0)
    loss = ((h.softmax(1) - target) ** 2).mean() + 0.1 * F.gelu(h).mean() + F.silu(h[:, 2:5]).sum() * 1e-3
    loss = loss + F.leaky_relu(torch.cat([h, -h], 1)).mean() + F.mse_loss(torch.sigmoid(h), target)
    loss = loss + (1 + h.abs()).clamp(max=2.0).sqrt().mean() + torch.log1p(h.exp()).amax(1).mean()
    loss.backward()
    optimizer.step()
    return {"loss": loss, "top": h.max(), "share": (h.argmax(1) == y).float().mean()}


def test_captured_step_with_many_ops_matches_eager() -> None:
    job, eager = capture(mixed)
    images, labels = digits()
    replay = Replay(job)
    for t in range(10):
        x, y = images[64 * t : 64 * t + 64] / 16, labels[64 * t : 64 * t + 64]
        expected = {name: value.item() for name, value in eager(x, y).items()}
        assert replay.step(x, y) == pytest.approx(expected, rel=1e-4)


def zero_last(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return {"loss": loss}


def zero_in_place(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    optimizer.zero_grad(set_to_none=False)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return {"loss": loss}


def test_place_of_zero_grad_does_not_change_the_job() -> None:
    assert capture(train)[0].address == capture(zero_last)[0].address
    capture(zero_in_place)


def test_order_of_independent_statements_does_not_change_the_job() -> None:
    def one(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        a = model(x)
        b = x.mean()
        return {"p": a.mean(), "q": b}

    def other(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        b = x.mean()
        a = model(x)
        return {"q": b, "p": a.mean()}

    assert capture(one)[0].address == capture(other)[0].address


def test_capture_leaves_model_and_optimizer_as_they_were() -> None:
    model = perceptron()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    capture(train, lambda _: optimizer, model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert type(optimizer).step is torch.optim.AdamW.step
    assert "step" not in optimizer.__dict__
    assert optimizer.param_groups[0]["params"][0] is model[0].weight
    assert not optimizer.state


def branch(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss = F.cross_entropy(model(x), y)
    if loss > 1.0:  # the line: branch
        loss = loss * 2
    return {"loss": loss}


def item(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss = F.cross_entropy(model(x), y)
    return {"loss": loss * loss.item()}  # the line: item


def unknown_op(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": torch.linalg.det(x[:4, :4])}  # the line: unknown_op


def closed_over(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": (x[:, :4] * OUTSIDE).mean()}  # the line: closed_over


def other_model(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": OTHER_MODEL(x[:, :4]).mean()}  # the line: other_model


def own_generator(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    generator = torch.Generator()
    return {"loss": (x + torch.randn(64, 64, generator=generator)).mean()}  # the line: own_generator


def hidden_random(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": torch.poisson(x).mean()}  # the line: hidden_random


def write_input(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    x.mul_(2)  # the line: write_input
    return {"loss": x.mean()}


def write_view_of_input(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    x[0].mul_(2)  # the line: write_view_of_input
    return {"loss": x.mean()}


def refused_by_its_rule(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": x.cummax(0).values.mean()}  # the line: refused_by_its_rule


def undefined(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": undefined_name}  # type: ignore[name-defined]  # noqa: F821  # the line: undefined


def wrong_shape(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": model(x[:, :3]).mean()}  # the line: wrong_shape


def uninitialised(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": (torch.empty(4) + x[0, :4]).mean()}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (branch, "Python value of a tensor"),
        (item, "Python value of a tensor"),
        (unknown_op, "aten._linalg_det has no lowering rule"),
        (closed_over, "reads a tensor \\(4,\\) from outside"),
        (other_model, "from outside"),
        (own_generator, "generator of your own"),
        (hidden_random, "aten.poisson draws from torch's hidden random generator"),
        (write_input, "aten.mul writes into an input"),
        (write_view_of_input, "aten.mul writes into an input"),
        (refused_by_its_rule, "aten.cummax has no rule: use torch.maximum"),
        (undefined, "undefined_name"),
        (wrong_shape, "\\[64, 3\\]"),
    ],
)
def test_capture_refuses_with_the_op_and_the_users_line(step: Callable[..., Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message) as raised:
        capture(step)
    text = str(raised.value)
    assert f"# the line: {step.__name__}" in text, text
    assert "test_capture.py:" in text
    assert "\n" not in text


def keeps_gradients(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return {"loss": loss}


def changes_rate(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    optimizer.param_groups[0]["lr"] *= 0.9
    return train(model, optimizer, x, y)


COUNTER = [0.0]


def counts_in_python(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    COUNTER[0] += 1
    return {"loss": x.mean() * COUNTER[0]}


def replaces_parameter(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    model[0].bias = nn.Parameter(model[0].bias * 2)
    return {"loss": model(x).mean()}


def second_optimizer(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    other = torch.optim.SGD(model[2].parameters(), lr=0.1)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    other.step()
    return {"loss": loss}


def swallows_refusal(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    try:
        loss = x.mean() if x.mean() > 0 else y.sum()
    except Exception:
        loss = x.mean() * 2
    return {"loss": loss}


def unfreezes(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss = model(x).mean()
    model[0].bias.requires_grad_(False)
    return {"loss": loss}


KEPT: list[Any] = [0.0]


def keeps_a_tensor(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss = x.mean() + KEPT[0]
    KEPT[0] = loss.detach()
    return {"loss": loss}


CALLS = [0]


def changes_after_a_while(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    CALLS[0] += 1
    return {"loss": x.mean() * (1.0 if CALLS[0] < 100 else 0.5)}


def advances_schedule(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30)
    result = train(model, optimizer, x, y)
    schedule.step()
    return result


def gives_nothing(model: Any, optimizer: Any, x: Any, y: Any) -> None:
    train(model, optimizer, x, y)


def gives_a_vector(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    return {"loss": x.mean(0)}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (keeps_gradients, "zero_grad"),
        (changes_rate, "sets the optimizer's lr"),
        (counts_in_python, "traced a second time, the step gives another graph"),
        (replaces_parameter, "in the place of the parameter 0.bias"),
        (second_optimizer, "another optimizer \\(SGD\\)"),
        (swallows_refusal, "Python value of a tensor"),
        (unfreezes, "changes requires_grad of the parameter 0.bias"),
        (keeps_a_tensor, "keeps a tensor from one call to the next"),
        (changes_after_a_while, "changes Python state \\(step.step.CALLS\\[0\\] from"),
        (advances_schedule, "schedule"),
        (gives_nothing, "dictionary of scalar tensors"),
        (gives_a_vector, "'loss' is not a scalar"),
        (uninitialised, "memory that nothing has written"),
    ],
)
def test_capture_refuses_what_would_not_be_faithful(step: Callable[..., Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        capture(step)


def test_capture_sees_what_bypasses_the_swapped_parameters() -> None:
    model = perceptron()
    closed_over_list = list(model.parameters())

    def clips(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        for parameter in closed_over_list:
            if parameter.grad is not None:
                parameter.grad.mul_(0.1)
        optimizer.step()
        return {"loss": loss}

    with pytest.raises(CaptureError, match="eager PyTorch"):
        capture(clips, sgd, model)


def test_capture_refuses_hooks_shared_memory_and_old_gradients() -> None:
    model = perceptron()
    handle = model[0].weight.register_hook(lambda gradient: gradient * 0.1)
    with pytest.raises(CaptureError, match=r"0.weight has a gradient hook"):
        capture(train, sgd, model)
    handle.remove()
    model.register_buffer("alias", model[0].weight.detach())
    with pytest.raises(CaptureError, match="share memory"):
        capture(train, sgd, model)
    model = perceptron()
    model(torch.ones(1, 64)).sum().backward()
    with pytest.raises(CaptureError, match="gradients that were there before"):
        capture(zero_last, sgd, model)
    capture(train, sgd, model)


def test_capture_refuses_an_optimizer_whose_step_was_replaced() -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.step = lambda closure=None: None
    with pytest.raises(CaptureError, match="step was replaced"):
        capture(train, lambda _: optimizer, model)


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (lambda x: {"m": x.mean() * np.random.default_rng().random()}, "traced a second time, the evaluation"),
        (lambda x: {"m": (x * 30 - 100).to(torch.uint8).float().mean()}, "metric m is .* in the graph"),
        (lambda x: {"m": x.mean() if x.sum() > 0 else x.sum()}, "Python value of a tensor"),
    ],
)
def test_evaluation_is_checked_as_a_step_is(evaluate: Any, message: str) -> None:
    model = perceptron()
    optimizer = sgd(model.parameters())
    images, labels = digits()
    with pytest.raises(CaptureError, match=message):
        training_job(
            lambda x, y: train(model, optimizer, x, y),
            model=model,
            optimizer=optimizer,
            data={"x": images / 16, "y": labels},
            batch_size=64,
            steps=2,
            evaluate=evaluate,
            evaluation_data={"x": images / 16},
        )


@pytest.mark.parametrize("op", ["aten.tanh_backward", "aten.nll_loss_backward", "aten.mm", "aten.sum"])
def test_capture_with_a_wrong_rule_is_refused_by_the_check_against_eager(
    monkeypatch: pytest.MonkeyPatch, op: str
) -> None:
    right = rules.RULES[op]

    def wrong(low: Any, *arguments: Any, **options: Any) -> Any:
        result = right(low, *arguments, **options)
        return low.op("mul", result, low.full(1.05, result.type.dtype, result.type.shape))

    monkeypatch.setitem(rules.RULES, op, wrong)
    for optimizer in (sgd, OPTIMIZERS["AdamW"]):
        with pytest.raises(CaptureError, match=r"state/.* differs from eager PyTorch by 0\.[0-3]"):
            capture(train, optimizer)


def test_capture_refuses_a_rule_that_gives_another_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules.RULES, "aten.tanh", lambda low, x: low.cast(x, "bf16"))
    with pytest.raises(CaptureError, match=r"aten.tanh gives bf16\[64,32\] here, torch f32\[64,32\]"):
        capture(train)


@pytest.mark.parametrize("label", [10, -1, 2**40])
def test_a_label_outside_the_classes_stops_the_run(label: int) -> None:
    job, _ = capture(train)
    images, labels = digits()
    wrong = labels[:64].clone()
    wrong[5] = label
    with pytest.raises(RunError, match="index -1 is outside"):
        Replay(job).step(images[:64] / 16, wrong)


def test_capture_takes_half_precision_models() -> None:
    model = perceptron().to(torch.bfloat16)

    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        return train(model, optimizer, x.to(torch.bfloat16), y)

    job, _ = capture(step, sgd, model)
    assert {node.body["dtype"] for node in job.nodes.values() if node.kind == "tensor"} == {"bf16", "f32", "i64"}


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda p: torch.optim.Rprop(p), "Rprop has no rule"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5), "dampening"),
        (lambda p: torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), "not in the model"),
    ],
)
def test_capture_refuses_optimizers_without_a_rule(optimizer: MakeOptimizer, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        capture(train, optimizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 5000}, "rows"),
        ({"steps": 0}, "steps"),
        ({"seed": -1}, "seed"),
        ({"precision": "low"}, "precision"),
        ({"data": {}}, "empty"),
        ({"data": {"x": np.zeros((4, 64), np.float32), "y": np.zeros(3, np.int64)}}, "differ in their numbers of rows"),
        ({"data": {"x": np.float32(1)}}, "scalar"),
        ({"evaluation_data": {"x": np.zeros(3)}}, "without evaluate"),
    ],
)
def test_training_job_refuses_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    model = perceptron()
    images, labels = digits()
    optimizer = sgd(model.parameters())
    given: dict[str, Any] = {"data": {"x": images / 16, "y": labels}, "batch_size": 64, "steps": 3, **changes}
    with pytest.raises(JobError, match=message):
        training_job(lambda x, y: train(model, optimizer, x, y), model=model, optimizer=optimizer, **given)


def test_capture_gives_one_address_in_every_process() -> None:
    script = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('digits', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.job().address)\n"
    )
    addresses = set()
    for seed in ("0", "1", "12345"):
        command = [sys.executable, "-c", script, str(EXAMPLES / "digits.py")]
        environment = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1" if seed == "1" else "2"}
        found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        addresses.add(found.stdout.strip())
    assert len(addresses) == 1


def test_digits_job_without_tensors_is_under_10_kB(tmp_path: Path) -> None:
    from samebits.exec.job_file import save_job

    job, _ = capture(train, OPTIMIZERS["AdamW"])
    assert save_job(job, tmp_path / "job") < 10_000
