"""Learning rates as inputs of a captured step: functions, tables and torch's schedulers, beside eager PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.exec.captured import BATCH_SIZE, ROWS, capture, open_job, perceptron, rows, run_job  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.optim import lr_scheduler as lr  # noqa: E402

from samebits.exec.errors import CaptureError  # noqa: E402
from samebits.exec.job import STEP, Job  # noqa: E402

STEPS = 20
Make = Callable[[Any], Any]


class Training:
    """A model, its optimizer and a step; with `scheduler`, one that steps inside."""

    def __init__(self, *, groups: bool = False, adam: bool = False, rate: Any = 0.1) -> None:
        self.model = perceptron()
        parts: Any = self.model.parameters()
        if groups:
            parts = [{"params": self.model[0].parameters()}, {"params": self.model[2].parameters(), "lr": 0.02}]
        kind: Any = torch.optim.AdamW if adam else torch.optim.SGD
        self.optimizer = kind(parts, lr=rate, **({} if adam else {"momentum": 0.9}))
        self.scheduler: Any = None

    def step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return {"loss": loss}

    def capture(self, schedule: Any, steps: int = STEPS) -> Job:
        return capture(self.step, self.model, self.optimizer, schedule=schedule, steps=steps)


def rates_of(job: Job) -> list[list[float]]:
    """Return what the job's schedule gives for each step."""
    schedule = open_job(job)._schedule
    assert schedule is not None
    each = (schedule({STEP: np.asarray(t, np.int64)}) for t in range(job.spec.steps))
    return [[float(one[f"rate/{i}"]) for i in range(len(one))] for one in each]


def check_like_eager(job: Job, training: Training, before: Callable[[int], Any], after: Callable[[], Any]) -> None:
    """Assert that the losses of the job are those of eager PyTorch."""
    given = rows()
    for t, metrics in enumerate(run_job(job)[1]):
        chosen = torch.from_numpy(job.spec.stream.batch(t, ROWS).copy())
        before(t)
        loss = training.step(given["x"][chosen], given["y"][chosen])["loss"].item()
        after()
        assert metrics["loss"] == pytest.approx(loss, rel=2e-5), t


SCHEDULERS: dict[str, Make] = {
    "LambdaLR": lambda o: lr.LambdaLR(o, lambda t: 0.95**t),
    "StepLR": lambda o: lr.StepLR(o, 3, 0.5),
    "CosineAnnealingLR": lambda o: lr.CosineAnnealingLR(o, STEPS),
    "OneCycleLR": lambda o: lr.OneCycleLR(o, 0.2, total_steps=STEPS, cycle_momentum=False),
    "SequentialLR": lambda o: lr.SequentialLR(o, [lr.LinearLR(o, 0.1, 1.0, 5), lr.CosineAnnealingLR(o, 15)], [5]),
    "ChainedScheduler": lambda o: lr.ChainedScheduler([lr.LinearLR(o, 0.1, 1.0, 5), lr.ExponentialLR(o, 0.9)]),
    "CyclicLR": lambda o: lr.CyclicLR(o, 0.01, 0.1, 5, cycle_momentum=False),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_torchs_schedulers_match_eager(name: str, inside: bool) -> None:
    """None of them was taken once: the eager run kept the first rate, or left the scheduler three steps on."""
    training = Training(groups=name in ("LambdaLR", "OneCycleLR"))
    scheduler = SCHEDULERS[name](training.optimizer)
    before = repr({key: value for key, value in scheduler.state_dict().items() if key != "_schedulers"})
    training.scheduler = scheduler if inside else None
    job = training.capture(scheduler, STEPS - 1)
    assert repr({key: value for key, value in scheduler.state_dict().items() if key != "_schedulers"}) == before
    seen = []

    def note(t: int) -> None:
        seen.append([group["lr"] for group in training.optimizer.param_groups])

    check_like_eager(job, training, note, (lambda: None) if inside else scheduler.step)
    assert rates_of(job) == seen
    assert len({tuple(one) for one in seen}) > 3


def test_where_a_scheduler_steps_does_not_change_the_job() -> None:
    jobs = []
    for inside in (True, False):
        training = Training()
        scheduler = lr.StepLR(training.optimizer, 2, 0.5)
        training.scheduler = scheduler if inside else None
        jobs += [training.capture(scheduler), training.capture(scheduler)]
    assert len({job.address for job in jobs}) == 1


def test_a_scheduler_that_has_stepped_goes_on_from_there() -> None:
    training = Training()
    scheduler = lr.ExponentialLR(training.optimizer, 0.5)
    training.optimizer.step()
    scheduler.step()
    assert rates_of(training.capture(scheduler, 3)) == [[0.05], [0.025], [0.0125]]
    assert scheduler.get_last_lr() == [0.05]


def in_torch(t: Any) -> Any:
    return 0.1 * torch.cos(t / 20)


def in_python(t: int) -> float:
    return 0.1 * math.cos(t / 20) if t < 10 else 0.01


def table_of_two(t: int) -> list[float]:
    return [0.1 / (1 + t // 4), 0.01]


def two_in_torch(t: Any) -> list[Any]:
    return [0.1 * torch.cos(t / 20), torch.where(t < 7, 0.02, 0.003)]


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (in_torch, lambda t: [0.1 * math.cos(t / 20)]),
        (in_python, lambda t: [in_python(t)]),
        (lambda t: 0.1 * 0.9**t, lambda t: [0.1 * 0.9**t]),
        (lambda t: 0.1, lambda t: [0.1]),
        (lambda t: [0.05], lambda t: [0.05]),
        (lambda t: 1e-3 if t else 0.1, lambda t: [1e-3 if t else 0.1]),
    ],
)
def test_functions_of_the_step_match_eager(function: Any, wanted: Callable[[int], list[float]]) -> None:
    training = Training(adam=True, rate=0.3)
    job = training.capture(function)
    assert np.allclose(rates_of(job), [wanted(t) for t in range(STEPS)], rtol=1e-6, atol=0)

    def set_rate(t: int) -> None:
        training.optimizer.param_groups[0]["lr"] = wanted(t)[0]

    check_like_eager(job, training, set_rate, lambda: None)


@pytest.mark.parametrize("function", [table_of_two, two_in_torch])
def test_two_groups_have_two_rates(function: Any) -> None:
    training = Training(groups=True)
    job = training.capture(function)
    wanted = [[float(x) for x in function(torch.tensor(t))] for t in range(STEPS)]
    assert np.allclose(rates_of(job), wanted, rtol=1e-6, atol=0)
    assert wanted[0][0] != wanted[0][1] != wanted[-1][0]

    def set_rates(t: int) -> None:
        for group, rate in zip(training.optimizer.param_groups, wanted[t], strict=True):
            group["lr"] = rate

    check_like_eager(job, training, set_rates, lambda: None)


def test_without_a_schedule_the_optimizers_own_rates_are_used() -> None:
    assert rates_of(Training(groups=True).capture(None, 2)) == [[0.1, 0.02]] * 2
    assert rates_of(Training(adam=True, rate=torch.tensor(0.25)).capture(None, 2)) == [[0.25]] * 2


def test_another_rate_leaves_the_step_graph_as_it_is() -> None:
    def job(rate: Any, schedule: Any) -> Job:
        return Training(rate=rate).capture(schedule)

    jobs = [job(0.1, None), job(0.2, None), job(0.1, in_python), job(0.1, in_torch), job(0.1, lambda t: 0.3)]
    training = Training()
    jobs.append(training.capture(lr.StepLR(training.optimizer, 3)))
    assert len({one.spec.step for one in jobs}) == 1
    assert len({one.spec.schedule for one in jobs}) == len({one.address for one in jobs}) == len(jobs)
    assert job(0.1, None).address == job(0.7, lambda t: 0.1).address


def test_the_rate_reaches_the_bits() -> None:
    """A rate of zero from step 2 on stops the parameters where two steps left them."""
    training = Training()
    job = training.capture(lambda t: 0.1 if t < 2 else 0.0, 4)
    after_two, after_four = run_job(job, 2)[0], run_job(job)[0]
    names = [name for name in after_two if name.startswith("model/")]
    assert len(names) == 4
    assert all(after_two[name].tobytes() == after_four[name].tobytes() for name in names)


# Refusals


def ungiven_inside(training: Training) -> Any:
    training.scheduler = lr.StepLR(training.optimizer, 3)
    return None


def another_inside(training: Training) -> Any:
    training.scheduler = lr.StepLR(training.optimizer, 3)
    return lr.StepLR(training.optimizer, 4)


def of_another_optimizer(training: Training) -> Any:
    return lr.StepLR(Training().optimizer, 3)


def cycling_momentum(training: Training) -> Any:
    return lr.OneCycleLR(training.optimizer, 0.2, total_steps=STEPS + 1)


def on_a_plateau(training: Training) -> Any:
    return lr.ReduceLROnPlateau(training.optimizer)


def too_few(training: Training) -> Any:
    return lr.OneCycleLR(training.optimizer, 0.2, total_steps=7, cycle_momentum=False)


def failing(t: Any) -> Any:
    return {0: 0.1}[int(t)]  # the line: failing


def of_one_group_too_many(t: Any) -> Any:
    return [0.1, 0.1]


def drawn(t: Any) -> Any:
    return torch.rand(())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (ungiven_inside, r"a learning-rate schedule \(StepLR\) that was not given; pass it as schedule="),
        (another_inside, r"a learning-rate schedule \(StepLR\) that was not given"),
        (of_another_optimizer, "belongs to another optimizer"),
        (cycling_momentum, "changes more than the learning rate; pass cycle_momentum=False"),
        (on_a_plateau, "ReduceLROnPlateau follows a metric"),
        (too_few, "ValueError: Tried to step 8 times"),
        (lambda training: failing, "the schedule fails with KeyError: 1 .*# the line: failing"),
        (lambda training: of_one_group_too_many, "nor a list of 1, one per group"),
        (lambda training: drawn, "the schedule draws random numbers"),
        (lambda training: lambda t: "fast", "the schedule gives no scalar tensor"),
        (lambda training: lambda t: None, "the schedule gives no scalar tensor"),
        (lambda training: lambda t: torch.ones(2) * t, "the schedule gives no scalar tensor"),
        (lambda training: 0.1, "not callable"),
    ],
)
def test_schedules_that_no_graph_can_follow_are_refused(make: Callable[[Training], Any], message: str) -> None:
    training = Training()
    schedule = make(training)
    with pytest.raises(CaptureError, match=message) as raised:
        training.capture(schedule)
    assert "\n" not in str(raised.value)


def set_to(training: Training) -> None:
    training.optimizer.param_groups[0]["lr"] = 0.05


def set_in_place(training: Training) -> None:
    rate = training.optimizer.param_groups[0]["lr"]
    if isinstance(rate, torch.Tensor):
        rate.mul_(0.5)


@pytest.mark.parametrize("change", [set_to, set_in_place])
@pytest.mark.parametrize("first", [True, False])
def test_a_rate_set_in_the_step_is_refused(change: Callable[[Training], None], first: bool) -> None:
    """Set before optimizer.step(), it was refused with a message about the schema of an op of ours."""
    training = Training()

    def step(x: Any, y: Any) -> Any:
        if first:
            change(training)
        found = training.step(x, y)
        if not first:
            change(training)
        return found

    with pytest.raises(CaptureError, match=r"the step sets the optimizer's lr.*as schedule="):
        capture(step, training.model, training.optimizer)


def test_a_metric_that_reads_the_rate_is_refused() -> None:
    training = Training()
    training.scheduler = lr.StepLR(training.optimizer, 1, 0.5)

    def step(x: Any, y: Any) -> Any:
        return training.step(x, y) | {"rate": torch.tensor(training.scheduler.get_last_lr()[0])}

    with pytest.raises(CaptureError, match=r"metric rate is .* in the graph"):
        capture(step, training.model, training.optimizer, schedule=training.scheduler)


def test_a_table_has_its_limit() -> None:
    with pytest.raises(CaptureError, match="write the schedule in torch operations"):
        Training().capture(in_python, 1_000_001)
    assert Training().capture(in_torch, 1_000_001).spec.steps > BATCH_SIZE
