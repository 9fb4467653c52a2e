"""`training_job`: make a job of an ordinary PyTorch training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from samebits.exec.errors import JobError
from samebits.exec.job import Job

if TYPE_CHECKING:
    import torch


def training_job(
    step: Callable[..., Mapping[str, torch.Tensor]],
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Mapping[str, Any],
    batch_size: int,
    steps: int,
    seed: int = 0,
    precision: str = "highest",
    evaluate: Callable[..., Mapping[str, torch.Tensor]] | None = None,
    evaluation_data: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> Job:
    """Trace `step` once and return the job that runs it `steps` times.

    `step(**batch)` is ordinary PyTorch: optimizer.zero_grad(); loss = ...; loss.backward(); optimizer.step();
    return {"loss": loss}. `data` maps the step's argument names to tensors or arrays with equal first sizes, the
    rows; each step gets `batch_size` of them, drawn as `samebits.exec.stream` states. `evaluate(**evaluation_data)`
    returns scalar metrics of the final model. `precision` ("highest" or "high") is that of every matrix product.
    The captured step is checked once against eager PyTorch: no state tensor's change may differ by more than
    `tolerance` of its size (default 1e-2; 1e-1 for "high" and half-precision models).

    Raises CaptureError, with the user's own line, for a step that can't be captured faithfully; JobError for
    arguments that do not fit.
    """
    try:
        from samebits.exec.capture.make_job import make_training_job
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise JobError("capturing a script needs PyTorch: install samebits[torch]") from error
    return make_training_job(
        step,
        model=model,
        optimizer=optimizer,
        data=data,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        precision=precision,
        evaluate=evaluate,
        evaluation_data=evaluation_data,
        tolerance=tolerance,
    )
