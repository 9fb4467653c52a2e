"""Forms of a captured job: functional steps, initial weights from a recipe, models without values, tolerances."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.exec.captured import capture, check_same_bits, open_job, ordinary_step, perceptron, rows, run_job  # noqa: E402
from tests.exec.kernel_devices import open_opencl  # noqa: E402
from torch import nn  # noqa: E402
from torch.func import functional_call, grad_and_value  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import samebits  # noqa: E402
from samebits.cas import Digest, Store, put_tensor, put_tree  # noqa: E402
from samebits.exec.capture import rules  # noqa: E402
from samebits.exec.commits import make_commit  # noqa: E402
from samebits.exec.devices.registry import open_device  # noqa: E402
from samebits.exec.errors import CaptureError, ExecError, JobError  # noqa: E402
from samebits.exec.job import CHECKED, Check, Job  # noqa: E402
from samebits.exec.machine import JobMachine  # noqa: E402
from samebits.exec.running.runner import ChainWriter, put_job  # noqa: E402
from samebits.exec.training import training_job  # noqa: E402

Pair = namedtuple("Pair", "a b")


def functional_job(step: Callable[..., Any], state: Any, **given: Any) -> Job:
    usual: dict[str, Any] = {"data": rows(), "batch_size": 12, "steps": 3}
    return training_job(step, state=state, **(usual | given))


def object_job(**given: Any) -> Job:
    """Return the job of a perceptron with dropout, trained by SGD with momentum."""
    model = perceptron(nn.Dropout(0.2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return capture(ordinary_step(model, optimizer), model, optimizer, **given)


# Functional steps


def nested_state() -> Any:
    parameters = {name: p.detach().clone() for name, p in perceptron().named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in parameters.items()}
    return {"parameters": parameters, "velocity": velocity, "counts": [torch.zeros((), dtype=torch.int64)]}


MODEL = perceptron()


def functional_step(state: Any, x: Any, y: Any, rate: Any = 0.1) -> Any:
    """SGD with momentum, in torch.func."""

    def loss_of(parameters: Any) -> Any:
        return F.cross_entropy(functional_call(MODEL, parameters, (x,)), y)

    gradients, loss = grad_and_value(loss_of)(state["parameters"])
    velocity = {name: 0.9 * state["velocity"][name] + g for name, g in gradients.items()}
    new = {name: p - rate * velocity[name] for name, p in state["parameters"].items()}
    return {"velocity": velocity, "parameters": new, "counts": [state["counts"][0] + 1]}, {"loss": loss}


def plain_losses(rates: Callable[[int], float], job: Job) -> list[float]:
    """Train the same model by SGD in eager PyTorch on the job's batches."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    found, given = [], rows()
    for t in range(job.spec.steps):
        chosen = torch.from_numpy(job.spec.stream.batch(t, 48).copy())
        optimizer.param_groups[0]["lr"] = rates(t)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(given["x"][chosen]), given["y"][chosen])
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (None, lambda t: 0.1),
        (lambda t: 0.1 if t < 5 else 0.02, lambda t: 0.1 if t < 5 else 0.02),
        (lambda t: 0.2 / (1 + t), lambda t: 0.2 / (1 + t)),
    ],
)
def test_a_functional_step_trains_as_eager_pytorch(schedule: Any, rates: Callable[[int], float]) -> None:
    job = functional_job(functional_step, nested_state(), steps=10, schedule=schedule)
    state, metrics = run_job(job)
    assert [float(one["loss"]) for one in metrics] == pytest.approx(plain_losses(rates, job), rel=1e-5)
    assert state["counts/0"] == 10
    assert sorted(state)[:2] == ["counts/0", "parameters/0.bias"]
    assert (job.spec.schedule is None) == (schedule is None)


@pytest.mark.parametrize("wrap", [lambda *x: list(x), lambda *x: x, Pair], ids=["list", "tuple", "named tuple"])
def test_a_state_may_be_any_tree(wrap: Any) -> None:
    job = functional_job(
        lambda s, x, y: (wrap(s[0] + x.mean(), s[1]), {"m": s[0]}), wrap(torch.ones(()), torch.zeros(2))
    )
    assert run_job(job, 1)[1][0]["m"] == 1


def test_a_functional_step_may_write_its_state_in_place() -> None:
    def in_place(s: Any, x: Any, y: Any) -> Any:
        s["a"] += x.mean()
        return s, {"m": x.mean()}

    state = {"a": torch.zeros(())}
    job = functional_job(in_place, state)
    assert state["a"] == 0
    pure = functional_job(lambda s, x, y: ({"a": s["a"] + x.mean()}, {"m": x.mean()}), state)
    assert job.spec.step == pure.spec.step


ONE = {"a": torch.ones(2)}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda s, x, y: s, r"returns \(state, metrics\)"),
        (lambda s, x, y: [s, {"m": x.mean()}], r"returns \(state, metrics\)"),
        (lambda s, x, y: (s, {"m": x.mean()}, 1), r"returns \(state, metrics\)"),
        (lambda s, x, y: ({}, {"m": x.mean()}), "of another form than it takes: they differ in a"),
        (lambda s, x, y: ({**s, "b": s["a"]}, {"m": x.mean()}), "they differ in b"),
        (lambda s, x, y: ({"a": [s["a"]]}, {"m": x.mean()}), "they differ in a"),
        (lambda s, x, y: ({"a": None}, {"m": x.mean()}), "state 'a' is a NoneType"),
        (lambda s, x, y: ({"a": 3.0}, {"m": x.mean()}), "state 'a' is a float"),
        (lambda s, x, y: ({"a": s["a"].double()}, {"m": x.mean()}), r"state/a is f32\[2\] before .* f64\[2\] after"),
        (lambda s, x, y: ({"a": s["a"][:1]}, {"m": x.mean()}), r"state/a is f32\[2\] before .* f32\[1\] after"),
        (lambda s, x, y: (s, {"m": x}), "metric 'm' is not a scalar tensor"),
        (lambda s, x, y: (s, {"m": 3.0}), "metric 'm' is not a scalar tensor"),
        (lambda s, x, y: (s, {}), "dictionary of scalar tensors"),
        (lambda s, x, y: (s, x.mean()), "dictionary of scalar tensors"),
        (lambda s, x, y, z: (s, {"m": x.mean()}), "missing 1 required positional argument: 'z'"),
    ],
)
def test_malformed_functional_steps_are_refused(step: Callable[..., Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        functional_job(step, ONE)


def passes(s: Any, **given: Any) -> Any:
    return s, {"m": given["x"].mean()}


@pytest.mark.parametrize(
    ("state", "given", "message"),
    [
        ({"a": 3}, {}, "state 'a' is a int"),
        ({"a": {"b": torch.ones(1)}, "a/b": torch.ones(1)}, {}, "occurs twice"),
        (torch.ones(1), {}, "want named tensors"),
        (ONE, {"model": perceptron()}, "either model and optimizer, or state"),
        (ONE, {"init": perceptron}, "init gives the weights of a model; a functional step has none"),
        (ONE, {"evaluate": lambda x: {"m": x.mean()}, "evaluation_data": {"x": torch.ones(2)}}, "needs a model"),
        (ONE, {"data": {"x": torch.ones(24), "rate": torch.ones(24)}, "schedule": lambda t: 0.1}, "argument rate"),
        (
            ONE,
            {"schedule": torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)]), 1)},
            "no optimizer; give a function",
        ),
    ],
)
def test_arguments_that_do_not_fit_a_functional_step_are_refused(state: Any, given: Any, message: str) -> None:
    with pytest.raises(ExecError, match=message):
        functional_job(passes, state, **given)


# Initial weights


def fresh() -> Any:
    return nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Dropout(0.2), nn.Linear(16, 4))


def job_with_init(init: Any = fresh, *, meta: bool = False, **given: Any) -> Job:
    with torch.device("meta" if meta else "cpu"):
        model = fresh()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return capture(ordinary_step(model, optimizer), model, optimizer, **({"init": init} | given))


def initial(job: Job) -> Any:
    machine = open_job(job)
    return machine.download(machine.initial_state())


def test_initial_weights_follow_from_the_seed() -> None:
    first, again, other = (job_with_init(seed=seed) for seed in (1, 1, 2))
    assert first.address == again.address
    assert first.spec.init == other.spec.init
    one, two = initial(first), initial(other)
    check_same_bits(one, initial(again))
    limit = 1 / np.sqrt(6)
    for name in ("model/0.weight", "model/0.bias", "model/3.weight"):
        assert not np.array_equal(one[name], two[name]), name
    assert np.abs(one["model/0.weight"]).max() < limit
    assert abs(one["model/0.weight"].std() - limit / np.sqrt(3)) < 0.04
    assert (one["model/1.weight"] == 1).all()
    assert (one["optimizer/0.weight/exp_avg"] == 0).all()


@pytest.mark.parametrize("meta", [False, True])
def test_a_job_with_init_holds_no_weights(meta: bool) -> None:
    """The model's own values, or their absence, change nothing but what the job says of its check."""
    job = job_with_init(meta=meta)
    assert job.nodes[job.spec.state].body["entries"] == {}
    blobs = {name for name, node in job.nodes.items() if node.kind == "tensor"}
    assert len(blobs) == 2  # x and y
    assert job.spec.check == Check(done=not meta)
    assert dataclasses.replace(job.spec, check=CHECKED) == job_with_init().spec


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (
            lambda: nn.Sequential(nn.Linear(6, 17), nn.LayerNorm(17), nn.Dropout(), nn.Linear(17, 4)),
            "0.weight as f32.17,6",
        ),
        (lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(), nn.Linear(16, 4)), "differs .* in 1.bias"),
        (lambda: nn.Sequential(*fresh(), nn.BatchNorm1d(4)), "differs from the one trained in 4.bias"),
        (lambda: None, "init returns a NoneType"),
        (fresh(), "init is a model; want a function"),
        (lambda: fresh()[0].missing, "missing"),
        (lambda: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_an_init_that_does_not_fit_is_refused(init: Any, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        job_with_init(init, meta=True)


def test_a_model_without_values_needs_an_init() -> None:
    with pytest.raises(JobError, match=r"model/0.bias is on the meta device|model/0.weight is on the meta device"):
        job_with_init(None, meta=True)


def test_a_model_without_values_may_be_evaluated() -> None:
    model = fresh().to("meta")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    step = ordinary_step(model, optimizer)

    def evaluate(x: Any, y: Any) -> Any:
        return {"right": (model.eval()(x).argmax(1) == y).float().mean()}

    job = capture(step, model, optimizer, init=fresh, steps=60, evaluate=evaluate, evaluation_data=rows())
    metrics = run_job(job)[1]
    assert metrics[-1]["evaluation/right"] > 0.5
    assert metrics[-1]["loss"] < metrics[0]["loss"]


def test_a_run_from_an_init_on_numpy_verifies_on_opencl(store: Store, other: Store) -> None:
    open_opencl("cpu")
    job = job_with_init(seed=5, schedule=lambda t: 0.01 if t < 2 else 0.001)
    run = samebits.run(job, store, checkpoint_every=2)
    verdict = samebits.verify(run.address, other, source=store, device="opencl")
    assert (verdict.verdict, verdict.commits_checked) == ("same", 3)


@pytest.mark.parametrize("used", [True, False])
def test_verify_finds_another_initial_state(store: Store, other: Store, used: bool) -> None:
    """Also where it is only claimed, and the steps were computed from the right one."""
    job = job_with_init()
    machine = JobMachine(put_job(job, store), store, open_device("numpy"))
    state = machine.initial_state()
    weight = np.array(state["model/0.weight"])
    weight[0, 0] = np.nextafter(weight[0, 0], np.float32(9))
    wrong = {**state, "model/0.weight": weight}
    state = wrong if used else state
    chain = ChainWriter(store, job.address, 3, 1, 3)
    made = []
    for t in range(3):
        state, metrics = machine.step(t, state)
        made.append(make_commit(t, machine.download(state), metrics))
    chain.add_segment(0, 3, _put(store, wrong), _put(store, state), made, "numpy", ())
    verdict = samebits.verify(chain.run, other, source=store)
    assert (verdict.verdict, verdict.first_different_step) == ("different", 0)


def _put(store: Store, state: Any) -> Digest:
    return put_tree(store, {name: put_tensor(store, np.asarray(value)) for name, value in state.items()})


# Tolerances


def test_a_looser_tolerance_is_in_the_job_and_shown(tmp_path: Path) -> None:
    jobs = {tolerance: object_job(tolerance=tolerance) for tolerance in (None, 1e-3, 1e-2, 0.5)}
    assert [job.spec.check for job in jobs.values()] == [CHECKED] * 3 + [Check(tolerance=0.5)]
    assert len({job.address for job in jobs.values()}) == 2
    samebits.save_job(jobs[0.5], tmp_path / "loose.job")
    samebits.save_job(jobs[None], tmp_path / "usual.job")
    assert samebits.load_job(tmp_path / "loose.job").spec == jobs[0.5].spec
    for name, text in (
        ("loose", "compared with eager PyTorch within 0.5 only"),
        ("usual", "compared with eager PyTorch\n"),
    ):
        command = [sys.executable, "-m", "samebits.cli", "job", "show", str(tmp_path / f"{name}.job")]
        assert text in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_tolerance_loose_for_the_evaluation_alone_is_in_the_job() -> None:
    """A step in bfloat16 may differ by 0.1, its evaluation in float32 by 0.01 only."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def half_loss(model: Any, x: Any, y: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(x), y)

    def evaluate(x: Any, y: Any) -> Any:
        return {"loss": F.cross_entropy(model(x), y)}

    def check(**given: Any) -> Check:
        return capture(ordinary_step(model, optimizer, half_loss), model, optimizer, tolerance=0.05, **given).spec.check

    assert check() == CHECKED
    assert check(evaluate=evaluate, evaluation_data=rows()) == Check(tolerance=0.05)


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), float("inf"), True, "0.1"])
def test_tolerances_that_check_nothing_are_refused(tolerance: Any) -> None:
    with pytest.raises(JobError, match=r"tolerance .* is not a positive number"):
        object_job(tolerance=tolerance)


@pytest.mark.parametrize(("factor", "tolerance", "refused"), [(1.05, None, True), (1.05, 0.3, False), (2.0, 0.3, True)])
def test_a_wrong_rule_is_refused_by_name_of_the_worst_tensor(
    monkeypatch: pytest.MonkeyPatch, factor: float, tolerance: Any, refused: bool
) -> None:
    right = rules.RULES["aten.gelu_backward"]

    def wrong(low: Any, *arguments: Any, **options: Any) -> Any:
        result = right(low, *arguments, **options)
        return low.op("mul", result, low.full(factor, result.type.dtype, result.type.shape))

    def job() -> Job:
        model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return {"loss": loss}

        return capture(step, model, optimizer, tolerance=tolerance)

    assert job().spec.check == (CHECKED if tolerance is None else Check(tolerance=tolerance))
    monkeypatch.setitem(rules.RULES, "aten.gelu_backward", wrong)
    if refused:
        with pytest.raises(CaptureError, match=r"state/model/0\.(weight|bias) differs from eager PyTorch by"):
            job()
    else:
        job()
