"""`inference_job` and `generation_job`: make a job of a PyTorch model's forward passes, or of its generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from samebits.exec.errors import JobError
from samebits.exec.extras import require_torch
from samebits.exec.job import Job
from samebits.exec.stream import IN_ORDER, Stream

if TYPE_CHECKING:
    import torch


def inference_job(
    model: torch.nn.Module,
    inputs: Mapping[str, Any],
    *,
    batch_size: int | None = None,
    outputs: Sequence[str] | None = None,
    precision: str = "highest",
    tolerance: float | None = None,
) -> Job:
    """Trace `model(**inputs)` and return the job that computes it; results are `output/NAME` of the final state.

    `inputs` maps the model's argument names to arrays or tensors with equal first sizes, the rows. With `batch_size`
    the job takes so many rows a step, in order, and the outputs of all of them are collected; the number of rows is a
    multiple of it. `outputs` says which of the model's outputs are wanted (default: all). The capture is checked once
    against eager PyTorch within `tolerance` of each output's largest value (default 1e-2; 1e-1 for "high" and half
    precision).

    Raises CaptureError, with the line, for a model that can't be captured faithfully; JobError for arguments that do
    not fit.
    """
    require_torch("capturing a model")
    from samebits.exec.capture.collection import rows_of
    from samebits.exec.capture.inference import InferenceProgram
    from samebits.exec.capture.tensors import to_torch
    from samebits.exec.capture.trace import guarded
    from samebits.exec.capture.training import Options, make_job

    arrays = rows_of("inputs", inputs)
    rows = next(iter(arrays.values())).shape[0]
    size = rows if batch_size is None else batch_size
    stream = Stream(size, 0, IN_ORDER)
    stream.check_rows(rows)
    if rows % size:
        raise JobError(f"{rows} rows are not a multiple of batch_size {size}")
    first = {name: to_torch(array[:size]) for name, array in arrays.items()}
    program = guarded(lambda: InferenceProgram(model, first, rows, outputs))
    options = Options(stream, rows // size, 0, precision, tolerance=tolerance, checked_steps=1)
    return make_job(program, arrays, options)


def generation_job(
    model: Any,
    prompt: Any,
    *,
    new_tokens: int,
    stop_token: int | None = None,
    pad_token: int = 0,
    precision: str = "highest",
    tolerance: float | None = None,
) -> Job:
    """Return the job in which a causal language model of `transformers` continues each row of `prompt` greedily.

    `prompt`: (rows, length) token numbers, without padding. Each step handles one position, so the job has length +
    new_tokens - 1 steps; the tokens are `output/tokens` (rows, length + new_tokens) of the final state. After
    `stop_token` a row goes on with `pad_token`. `precision` and `tolerance` as of `inference_job`; raises as it does.
    """
    require_torch("capturing a model")
    from samebits.exec.capture.collection import rows_of
    from samebits.exec.capture.generation import PROMPT, GenerationProgram
    from samebits.exec.capture.tensors import to_torch
    from samebits.exec.capture.trace import guarded
    from samebits.exec.capture.training import Options, make_job

    if isinstance(new_tokens, bool) or not isinstance(new_tokens, int) or new_tokens < 1:
        raise JobError(f"new_tokens {new_tokens!r} is not a positive integer")
    array = np.asarray(rows_of("prompt", {PROMPT: prompt})[PROMPT], np.int64)
    if array.ndim != 2 or array.shape[1] < 1:
        raise JobError(f"the prompt is {list(array.shape)}, want (rows, length) with a length of 1 or more")
    tokens = to_torch(array)
    program = guarded(lambda: GenerationProgram(model, tokens, new_tokens, stop_token, pad_token))
    stream = Stream(array.shape[0], 0, IN_ORDER)
    options = Options(stream, program.steps, 0, precision, tolerance=tolerance)
    return make_job(program, {PROMPT: array}, options)
