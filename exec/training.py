"""`training_job`: make a job of an ordinary PyTorch training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from samebits.exec.errors import JobError
from samebits.exec.extras import require_torch
from samebits.exec.job import Job
from samebits.exec.stream import Stream

if TYPE_CHECKING:
    import torch


def training_job(
    step: Callable[..., Any],
    *,
    model: torch.nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    state: Any = None,
    data: Mapping[str, Any],
    batch_size: int,
    steps: int,
    seed: int = 0,
    schedule: Any = None,
    init: Callable[[], torch.nn.Module] | None = None,
    precision: str = "highest",
    evaluate: Callable[..., Mapping[str, torch.Tensor]] | None = None,
    evaluation_data: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> Job:
    """Trace `step` once and return the job that runs it `steps` times.

    `step(**batch)` is ordinary PyTorch: optimizer.zero_grad(); loss = ...; loss.backward(); optimizer.step();
    return {"loss": loss}. `data` maps the step's argument names to tensors or arrays with equal first sizes, the
    rows; each step gets `batch_size` of them, drawn as `samebits.exec.stream` states. Dropout and other random calls
    draw from `seed`, the step's number and the place of the call (`samebits.exec.draws`).

    `schedule` gives the learning rate of step t: a function of t, in torch operations on a 0-d tensor or in plain
    Python, or a torch.optim.lr_scheduler; without it the optimizer's own. `init` returns a new model: the initial
    weights then follow from `seed`, and the job holds the recipe instead of the weights. Instead of `model` and
    `optimizer`, a functional step takes `state`, a tree of tensors: `step(state, **batch)` returns (state, metrics),
    and has the argument `rate` if there is a schedule. `evaluate(**evaluation_data)` returns scalar metrics of the
    final model. `precision` ("highest" or "high") is that of every matrix product.

    The captured step is checked once against eager PyTorch: no state tensor's change may differ by more than
    `tolerance` of its size (default 1e-2; 1e-1 for "high" and half precision); a looser tolerance is written in the
    job, and so is that a model on the meta device, which has no values, was not checked.

    Raises CaptureError, with the user's own line, for a step that can't be captured faithfully; JobError for
    arguments that do not fit.
    """
    require_torch("capturing a script")
    from samebits.exec.capture.training import Options, make_job, make_program

    options = Options(Stream(batch_size, seed), steps, seed, precision, schedule, tolerance)
    if evaluate is None and evaluation_data is not None:
        raise JobError("evaluation_data is given without evaluate")
    program = make_program(step, model, optimizer, state, schedule)
    evaluation = None if evaluate is None else (evaluate, evaluation_data or {})
    return make_job(program, data, options, optimizer=optimizer, init=init, evaluation=evaluation)
